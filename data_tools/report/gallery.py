"""The rows that are shown with their pictures: a bounded, order-independent choice, with thumbnails made as late as possible."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import PIL.Image

from ..records import Image, Rejected, Sample, Verdict
from .sketches import Rank, Reservoir, hash64

THUMBNAIL_SIDE = 160  # px
CRISP_SIDE = 96  # px; pictures up to here are kept as PNG and shown enlarged without smoothing
HELD_BYTES = 1 << 16  # encoded pictures up to here wait undecoded until the report is written
TEXT_LIMIT = 600  # characters of a caption
EXPLANATION_LIMIT = 300

SIZES = {"rewritten": 24, "refused": 12, "worst": 8, "unparsable": 6, "best": 6, "dropped": 6}
REASONS = 24  # of quarantine, with examples
EXAMPLES = 3  # of each
LOW, HIGH = 5, 8  # overall scores at which a kept row counts as bad or good (the method gives 1-10, its examples are 2 and 5, and 9)


@dataclass(frozen=True, slots=True)
class Picture:
    """A thumbnail as it is embedded: encoded bytes, their media type, and its size in px."""

    media: str
    data: bytes = field(repr=False)
    width: int = 0
    height: int = 0

    @property
    def uri(self) -> str:
        return f"data:{self.media};base64,{base64.b64encode(self.data).decode('ascii')}"

    def to_dict(self) -> dict[str, Any]:
        return {"media": self.media, "data": base64.b64encode(self.data).decode("ascii"), "width": self.width, "height": self.height}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Picture:
        return cls(d["media"], base64.b64decode(d["data"]), d["width"], d["height"])


@dataclass(slots=True)
class Item:
    """One shown row. `facts` is plain JSON; the picture is made from `waiting` when somebody first looks."""

    facts: dict[str, Any]
    picture: Picture | None = None
    waiting: Image | None = None

    def resolve(self) -> Picture | None:
        if self.waiting is not None:
            self.picture, self.waiting = thumbnail(self.waiting), None
        return self.picture

    def to_dict(self) -> dict[str, Any]:
        picture = self.resolve()
        return {**self.facts, "picture": None if picture is None else picture.to_dict()}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Item:
        facts = {k: v for k, v in d.items() if k != "picture"}
        return cls(facts, None if d["picture"] is None else Picture.from_dict(d["picture"]))


def thumbnail(image: Image) -> Picture | None:
    """At most 160 px a side; PNG up to 96 px, else JPEG. None where the picture cannot be read."""
    pixels = _shrunk(image)
    if pixels is None:
        return None
    media = "image/png" if max(pixels.size) <= CRISP_SIDE else "image/jpeg"
    buffer = io.BytesIO()
    if media == "image/png":
        pixels.save(buffer, "PNG")
    else:
        pixels.save(buffer, "JPEG", quality=82)
    return Picture(media, buffer.getvalue(), *pixels.size)


def _shrunk(image: Image) -> PIL.Image.Image | None:
    pixels = image.pixels if image.pixels is not None else _decoded(image)
    if pixels is not None and max(pixels.size) > THUMBNAIL_SIDE:
        pixels = pixels.copy()
        pixels.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), PIL.Image.Resampling.LANCZOS)
    return pixels


def _decoded(image: Image) -> PIL.Image.Image | None:
    from ..io.images import BadImage, decode  # here, because pyarrow comes with `io` and most runs hand over decoded pictures

    try:
        return decode(image, max_side=THUMBNAIL_SIDE).pixels
    except BadImage:
        return None


def held(image: Image) -> tuple[Picture | None, Image | None]:
    """(picture, waiting): what is cheap to hold waits, what is large becomes a thumbnail at once."""
    if image.pixels is not None and max(image.pixels.size) <= THUMBNAIL_SIDE:
        return None, Image(pixels=image.pixels)
    if image.pixels is None and (image.data is None or len(image.data) <= HELD_BYTES):
        return None, image
    return thumbnail(image), None


def cut(text: str | None, limit: int = TEXT_LIMIT) -> str | None:
    return text if text is None or len(text) <= limit else text[:limit] + "…"


def make_item(sample: Sample, verdict: Verdict, text: str) -> Item:
    """The shown row of a judged sample; every string is cut, so that the gallery is bounded."""
    before = sample.caption or ""
    facts = {
        "shard": cut(sample.source.shard if sample.source else "", 120),
        "row": sample.source.row if sample.source else 0,
        "id": cut(sample.id, 120),
        "action": verdict.action,
        "reason": cut(verdict.reason, 200),
        "before": cut(before),
        "before_chars": len(before),
        "after": cut(text),
        "after_chars": len(text),
        "proposal": cut(verdict.proposal),
        "scores": dict(verdict.scores),
        "explanations": {k: cut(v, EXPLANATION_LIMIT) for k, v in verdict.explanations.items()},
        "p_rewrite": None if verdict.p_rewrite is None else round(verdict.p_rewrite, 4),
        "parse_status": verdict.parse_status,
        "raw": cut(verdict.raw),
        "pictures": len(sample.images),
    }
    return Item(facts, *(held(sample.images[0]) if sample.images else (None, None)))


def rejected_item(rejected: Rejected) -> Item:
    facts = {
        "shard": cut(rejected.source.shard, 120),
        "row": rejected.source.row,
        "reason": cut(rejected.reason, 200),
        "detail": cut(rejected.detail, EXPLANATION_LIMIT),
        "before": cut(rejected.raw),
        "before_chars": len(rejected.raw),
        "pictures": 0,
    }
    return Item(facts)


class Gallery:
    """Reservoirs by category, and a few examples of each reason of quarantine."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.shown: dict[str, Reservoir[Item]] = {name: Reservoir(size) for name, size in SIZES.items()}
        self.quarantine: dict[str, Reservoir[Item]] = {}

    def rank(self, shard: str, row: int, priority: float = 0.0) -> Rank:
        return (priority, hash64(f"{self.seed}\0{shard}\0{row}"), shard, row)

    def add(self, sample: Sample, verdict: Verdict, text: str, overall: float | None) -> None:
        shard, row = (sample.source.shard, sample.source.row) if sample.source else ("", 0)
        rank = self.rank(shard, row)

        def make() -> Item:
            return make_item(sample, verdict, text)

        if verdict.action == "rewrite":
            self.shown["rewritten"].offer(rank, make)
        elif verdict.action == "keep":
            self._keep(rank, verdict, overall, make)
        elif verdict.action == "drop":
            self.shown["dropped"].offer(rank, make)
        else:
            self._example(verdict.reason, rank, make)

    def _keep(self, rank: Rank, verdict: Verdict, overall: float | None, make: Any) -> None:
        if verdict.parse_status == "unparsable":
            self.shown["unparsable"].offer(rank, make)
        if verdict.proposal is not None:
            self.shown["refused"].offer(rank, make)
        if overall is not None and overall <= LOW:
            self.shown["worst"].offer((overall, *rank[1:]), make)
        elif overall is not None and overall >= HIGH:
            self.shown["best"].offer((-overall, *rank[1:]), make)

    def reject(self, rejected: Rejected) -> None:
        rank = self.rank(rejected.source.shard, rejected.source.row)
        self._example(rejected.reason, rank, lambda: rejected_item(rejected))

    def _example(self, reason: str, rank: Rank, make: Any) -> None:
        key = cut(reason, 200) or "unknown"
        if key not in self.quarantine:
            self.quarantine[key] = Reservoir(EXAMPLES)
            self._shrink()
        if key in self.quarantine:
            self.quarantine[key].offer(rank, make)

    def _shrink(self) -> None:
        """As in `KeyCounter`: the reasons of smallest hash stay, so the choice does not depend on the order."""
        while len(self.quarantine) > REASONS:
            del self.quarantine[max(self.quarantine, key=lambda k: (hash64(k), k))]

    def merge(self, other: Gallery) -> None:
        for name, reservoir in other.shown.items():
            self.shown[name].merge(reservoir)
        for reason, reservoir in other.quarantine.items():
            self.quarantine.setdefault(reason, Reservoir(EXAMPLES)).merge(reservoir)
        self._shrink()

    def to_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "shown": {name: _items(self.shown[name]) for name in SIZES},
            "quarantine": {reason: _items(self.quarantine[reason]) for reason in sorted(self.quarantine)},
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Gallery:
        out = cls(d["seed"])
        for name, items in d["shown"].items():
            out.shown[name].items = _ranked(items)
        for reason, items in d["quarantine"].items():
            out.quarantine[reason] = Reservoir(EXAMPLES)
            out.quarantine[reason].items = _ranked(items)
        return out


def _items(reservoir: Reservoir[Item]) -> list[dict[str, Any]]:
    return [{"rank": list(rank), "item": item.to_dict()} for rank, item in reservoir.items]


def _ranked(items: list[dict[str, Any]]) -> list[tuple[Rank, Item]]:
    return [((r["rank"][0], r["rank"][1], r["rank"][2], r["rank"][3]), Item.from_dict(r["item"])) for r in items]
