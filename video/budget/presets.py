"""Laws by name: a slot for the paper's, which stays empty until somebody brings its constants and the page they stand on."""

from __future__ import annotations

from .law import Law

PRESETS: dict[str, Law | str] = {
    "paper": "the fitted constants of Opt-Visor (arXiv 2410.13694) were not at hand when this was written, and none are made up here; "
    "fit a law to runs of your own (`mmalign video fit runs.csv --out law.json`), or write the paper's into a law file",
}


def preset(name: str) -> Law:
    """The law of that name. Raises ValueError for an empty slot, and for a name that is none."""
    found = PRESETS.get(name)
    if found is None:
        raise ValueError(f"no law is called {name!r}: {', '.join(PRESETS)}, or a file")
    if isinstance(found, str):
        raise ValueError(f"the slot {name!r} is empty: {found}")
    return found
