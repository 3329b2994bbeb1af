"""What the page of a tour shows of a stage, read from the files that its commands wrote; what is not there yet is said to be missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .commands import last_lines, places_of
from .config import Answers, Captions, Figure, Logged, Losses, Pictures, Rows, Said, Table

if TYPE_CHECKING:
    from data_tools.records import Image, Sample

    from .config import Stage

READ = 2000  # rows looked at for examples
CLASSES = ("raw", "dropped", "new", "gone")  # CSS classes of curves
NAMED = 12  # steps named below curves, at most
SIDE = 900  # px of a picture file


class NotThere(Exception):
    """A file that a show needs is missing or is not what it should be."""


@dataclass(frozen=True)
class Shown:
    """A show ready for the template: `type` chooses its macro, `facts` are what that one reads. missing: why there is nothing."""

    type: str
    title: str
    facts: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


class Where(NamedTuple):
    """The stage that shows, and the tour's folder."""

    stage: Stage
    root: Path

    @property
    def work(self) -> Path:
        return self.root / "work"


def shown(show: Any, where: Where) -> Shown:
    """One show of a stage."""
    try:
        return Shown(show.type, show.title, MAKERS[show.type](show, where))
    except NotThere as error:
        return Shown(show.type, show.title, missing=str(error))


def number_at(figure: Figure, work: Path) -> tuple[float | None, float | None]:
    """A figure's value and the one before; None where there is none."""
    file = work / figure.file
    before = _at(work / figure.before_file if figure.before_file else file, figure.before) if figure.before else None
    return _at(file, figure.key), before


def _at(file: Path, key: Sequence[str | int]) -> float | None:
    try:
        found: Any = _json(file)
        for part in key:
            found = found[part]
    except (NotThere, KeyError, IndexError, TypeError):
        return None
    return found if isinstance(found, int | float) else None


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotThere(f"{file.name}: {error.strerror if isinstance(error, OSError) else 'no JSON'}") from None


def _lines(file: Path) -> list[dict[str, Any]]:
    try:
        return [row for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()) if isinstance(row, dict)]
    except (OSError, ValueError) as error:
        raise NotThere(f"{file.name}: {error.strerror if isinstance(error, OSError) else 'no JSON lines'}") from None


def _rows(path: Path) -> Iterator[Sample]:
    """Readable rows, the first ones; a row without a caption is one too."""
    from data_tools.io import SourceError, list_shards, read
    from data_tools.records import Sample

    try:
        shards = list_shards(str(path))
        rows = chain.from_iterable(read(shard, caption_optional=True) for shard in shards)
        yield from (row for row in islice(rows, READ) if isinstance(row, Sample))
    except (OSError, SourceError) as error:
        raise NotThere(str(error)) from None


def _mixed(samples: Sequence[Sample], n: int) -> list[Sample]:
    """A few, the same at every start: those of the smallest hashes."""
    return sorted(samples, key=lambda sample: hashlib.sha256(sample.id.encode()).digest())[:n]


def _thumbnail(image: Image | None) -> Any:
    from data_tools.report.gallery import thumbnail

    return None if image is None else thumbnail(image)


# A function a type


def rows(show: Rows, where: Where) -> dict[str, Any]:
    """Cards of rows as they are."""
    cards = [
        {
            "id": row.id,
            "picture": _thumbnail(next(iter(row.images), None)),
            "caption": row.caption,
            "note": _plain(_inside(row.meta, show.note)) if show.note else "",
        }
        for row in _mixed(list(_rows(where.work / show.data)), show.n)
    ]
    return {"cards": cards}


def _inside(meta: Any, path: str) -> Any:
    for name in path.split("."):
        meta = meta.get(name) if isinstance(meta, Mapping) else None
    return meta


def captions(show: Captions, where: Where) -> dict[str, Any]:
    """Cards with the words that went and came."""
    from data_tools.report.diff import word_diff
    from data_tools.run.plan import RAW_CAPTION

    changed = [row for row in _rows(where.work / show.data) if str(row.meta.get(RAW_CAPTION) or row.caption) != row.caption]
    cards = []
    for row in _mixed(changed, show.n):
        before, after = word_diff(str(row.meta[RAW_CAPTION]), row.caption or "")
        cards.append({"id": row.id, "picture": _thumbnail(next(iter(row.images), None)), "before": before, "after": after})
    return {"cards": cards, "changed": len(changed)}


def answers(show: Answers, where: Where) -> dict[str, Any]:
    """Cards with what each model said."""
    said = {label: {row.get("sample_id"): row.get("text") for row in _lines(where.work / file)} for label, file in show.responses.items()}
    known = set.intersection(*(set(texts) for texts in said.values()))
    chosen = _mixed([row for row in _rows(where.work / show.rows) if row.id in known], show.n)
    return {
        "cards": [
            {
                "id": row.id,
                "picture": _thumbnail(next(iter(row.images), None)),
                "truth": _plain(row.meta.get(show.truth)) if show.truth else "",
                "said": [(label, texts[row.id]) for label, texts in said.items()],
            }
            for row in chosen
        ]
    }


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def table(show: Table, where: Where) -> dict[str, Any]:
    """The table of an evaluation."""
    told = _json(where.work / show.file)
    try:
        models = list(told["models"])
        lines = [
            _line(bench, told["titles"][bench], figure, cell, models)
            for bench, figures in told["figures"].items()
            for figure, cell in figures.items()
        ]
    except (KeyError, TypeError, AttributeError):
        raise NotThere(f"{show.file} is no table.json of `mmalign eval`") from None
    return {"models": [show.names.get(model, model) for model in models], "lines": lines, "differences": show.differences}


def _line(bench: str, title: str, figure: str, cell: dict[str, Any], models: Sequence[str]) -> dict[str, Any]:
    values = [cell["values"].get(model) or {} for model in models]
    known = [one["value"] for one in values if one.get("value") is not None]
    best = (min if cell["lower"] else max)(known, default=None)
    return {"bench": f"{title}: {bench}" if title else bench, "figure": figure, "lower": cell["lower"], "values": values, "best": best}


def losses(show: Losses, where: Where) -> dict[str, Any]:
    """Curves over steps."""
    from data_tools.report.curves import Curve, curves

    logs = {label: one if isinstance(one, Logged) else Logged(file=one, figure="loss") for label, one in show.logs.items()}
    runs = {label: _over_steps(where.work / one.file, one.figure) for label, one in logs.items()}
    steps = sorted({step for run in runs.values() for step in run})
    lines = [Curve(style, label, [run.get(step) for step in steps]) for style, (label, run) in zip(CLASSES, runs.items(), strict=False)]
    chart = curves(lines, _axis(steps), axis="step", name=show.title or "training loss")
    return {"chart": chart, "keys": [(line.style, line.label) for line in lines]}


def _axis(steps: Sequence[int]) -> list[str]:
    """A name a step; of many steps some have none, for they would lie on each other. The last has one."""
    every = max(1, -(-len(steps) // NAMED))
    return [str(step) if (len(steps) - 1 - i) % every == 0 else "" for i, step in enumerate(steps)]


def _over_steps(file: Path, figure: str) -> dict[int, float]:
    return {row["step"]: row[figure] for row in _lines(file) if figure in row and "step" in row}


def pictures(show: Pictures, where: Where) -> dict[str, Any]:
    """Picture files, scaled down where they are large."""
    return {"pictures": [(_embedded(where.work / file), text) for file, text in show.files.items()]}


def _embedded(file: Path) -> str:
    """A data URI of a PNG."""
    import base64
    import io

    import PIL.Image

    try:
        with PIL.Image.open(file) as picture:
            small = picture.convert("RGB")
    except (OSError, PIL.Image.DecompressionBombError):
        raise NotThere(f"{file.name} is not there, or no picture") from None
    small.thumbnail((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def said(show: Said, where: Where) -> dict[str, Any]:
    """The end of a command's output."""
    places = [place for group in places_of(where.stage, where.root) for place in group]
    if show.command > len(places):
        raise NotThere(f"the stage has no command {show.command}")
    place = places[show.command - 1]
    text = last_lines(place.log, show.lines)
    if not text:
        raise NotThere(f"{place.log.name} is not there")
    return {"command": place.command, "text": text.removeprefix(f"$ {place.command}").strip()}


MAKERS: dict[str, Callable[..., dict[str, Any]]] = {
    "rows": rows,
    "captions": captions,
    "answers": answers,
    "table": table,
    "losses": losses,
    "pictures": pictures,
    "said": said,
}
