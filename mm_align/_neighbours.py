"""The guard: our four packages must be the folders beside this one, or the import says who took the name."""

import sys
from importlib.util import find_spec
from pathlib import Path

PARTS = ("vision", "video", "data_tools")


def check() -> None:
    """Raise ImportError when `vision`, `video` or `data_tools` is somebody else's module."""
    root = Path(__file__).resolve().parent.parent
    _own_scripts_last(root / "scripts")
    for part in PARTS:
        spec = find_spec(part)
        found = spec.origin if spec else None
        if found is None or Path(found).resolve().parent != root / part:
            raise ImportError(
                f"mm-align needs its own package '{part}' at {root / part}, but Python finds {found or 'nothing'}. "
                f"Rename or move that file, run from another directory, or uninstall the distribution that owns the name."
            )


def _own_scripts_last(scripts: Path) -> None:
    """Python looks first in a script's folder, and scripts/bench and scripts/proving each have a video.py."""
    own = [place for place in sys.path if place and scripts in Path(place).resolve().parents]
    sys.path[:] = [place for place in sys.path if place not in own] + own
