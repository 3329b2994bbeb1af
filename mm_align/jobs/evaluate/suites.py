"""Which benchmarks an evaluation is of: by name, from a file of suites, or made of drawn scenes; with the options given for each."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...config import UserError, read_yaml
from .config import EvaluateConfig, by_bench

SCENES = "scenes"  # drawn into the run's folder, so that everything can be tried without data
FILE = "suites.yaml"  # what is looked for in a folder given as a benchmark
PATHS = (
    "data",
    "images",
    "image_root",
    "vocabulary",
    "judge_replies",
    "analyses",
    "similarity",
)  # options that start from the file's folder


class Entry(NamedTuple):
    """A benchmark as it was asked for. title: whose figures these are, where they are not a published benchmark's. shows: figures for
    the table, where not the benchmark's own choice."""

    name: str
    kind: str
    options: Mapping[str, Any]
    title: str = ""
    shows: Sequence[str] = ()


def entries(config: EvaluateConfig, root: Path) -> list[Entry]:
    """What `bench` names, with the options given for it. UserError for unknown and repeated names."""
    given = {flag: by_bench(flag, getattr(config, flag)) for flag in ("data", "images", "judge_replies")}
    found = [_with_options(config, entry, given) for word in config.bench for entry in _named(word, root)]
    names = [entry.name for entry in found]
    every: list[tuple[str, Mapping[str, Any]]] = [*given.items(), ("options", config.options)]
    for flag, values in every:
        if strange := [name for name in values if name not in ("", *names)]:
            raise UserError(f"{flag} of '{strange[0]}' is given, but --bench names {', '.join(names)}")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two benchmarks are called '{repeated[0]}'; give one another `name`")
    return found


def _named(word: str | dict[str, Any], root: Path) -> Iterator[Entry]:
    from ...evals import BENCHMARKS

    if not isinstance(word, str):
        yield _entry(word)
    elif word == SCENES:
        from ..scenes import suites_in

        yield from _described(suites_in(root / SCENES) / FILE)
    elif word in BENCHMARKS:
        yield Entry(word, word, {})
    elif Path(word).is_dir() or Path(word).is_file():
        yield from _described(Path(word) / FILE if Path(word).is_dir() else Path(word))
    else:
        near = difflib.get_close_matches(word, [*BENCHMARKS, SCENES], 1)
        hint = f"did you mean '{near[0]}'?" if near else "`--bench list` shows them"
        raise UserError(f"unknown benchmark '{word}', and no such file of suites; {hint}")


def _entry(given: Mapping[str, Any], title: str = "") -> Entry:
    options = dict(given)
    if "type" not in options:
        raise UserError(f"a benchmark needs a `type`; found {options}")
    kind = str(options.pop("type"))
    return Entry(str(options.pop("name", kind)), kind, options, str(options.pop("title", title)), tuple(options.pop("shows", ())))


def _described(path: Path) -> Iterator[Entry]:
    """The benchmarks of a file: `title`, `benchmarks` (type, name, options); paths start from its folder."""
    told = read_yaml(path)
    if not isinstance(told.get("benchmarks"), list):
        raise UserError(f"{path} describes no suites: expected `benchmarks`, a list, found {', '.join(told) or 'nothing'}")
    for one in told["benchmarks"]:
        entry = _entry(one, str(told.get("title", "")))
        places = {key: str(path.parent / value) for key, value in entry.options.items() if key in PATHS and isinstance(value, str)}
        yield entry._replace(options={**entry.options, **places})


def _with_options(config: EvaluateConfig, entry: Entry, given: Mapping[str, Mapping[str, str]]) -> Entry:
    from ...evals import BENCHMARKS

    known = inspect.signature(BENCHMARKS[entry.kind]).parameters if entry.kind in BENCHMARKS else {}
    more: dict[str, Any] = {"limit": config.limit} if config.limit is not None and "limit" in known else {}
    for flag, values in given.items():
        option = "image_root" if flag == "images" and "images" not in known else flag
        if entry.name in values:
            more[option] = values[entry.name]
        elif "" in values and option in known and option not in entry.options:
            more[option] = _own_folder(values[""], entry.name) if flag == "data" else values[""]
    return entry._replace(options={**entry.options, **more, **config.options.get(entry.name, {})})


def _own_folder(root: str, name: str) -> str:
    """The benchmark's folder in a folder of several, else the folder itself."""
    return str(Path(root) / name) if (Path(root) / name).is_dir() else root


def listing() -> str:
    """What there is, and what it needs."""
    from ...evals import BENCHMARKS, Official

    lines = [f"{SCENES}: drawn scenes with exact truth, four benchmarks, made in the run's folder\n    needs nothing"]
    for name, kind in sorted(BENCHMARKS.items()):
        about = inspect.getdoc(sys.modules[kind.__module__]) or ""
        told = [f"{name}: {about.splitlines()[0].rstrip('.')}", f"    needs: {kind.needs}"]
        if issubclass(kind, Official):
            told.append(f"    flavors: {', '.join(kind.flavors)}")
        lines.append("\n".join(told))
    return "\n".join([*lines, "FILE: suites in a YAML file, `title` and `benchmarks` (type, name, options); see docs/benchmarks.md"])
