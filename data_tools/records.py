"""The nouns that land on disk: frozen dataclasses with `to_dict` / `from_dict` and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import PIL.Image

SCHEMA_VERSION = 1

Role = Literal["system", "user", "assistant"]
Action = Literal["keep", "rewrite", "drop", "quarantine"]
ParseStatus = Literal["ok", "repaired", "truncated", "no_score", "unparsable"]


@dataclass(frozen=True, slots=True)
class Image:
    """One picture: where its encoded bytes are. `pixels` is the decoded picture once somebody made it, RGB (or grey where nobody asks for
    colour), perhaps at a smaller scale; `size` then is (width, height) of the whole, upright, and `covers` the (width, height) of `pixels`
    that the picture fills, from the top left (None: all), for a scaled JPEG may end in a partial pixel. None of these is ever written."""

    path: str | None = None
    data: bytes | None = field(default=None, repr=False)
    pixels: PIL.Image.Image | None = field(default=None, compare=False, repr=False)
    size: tuple[int, int] | None = field(default=None, compare=False)
    covers: tuple[float, float] | None = field(default=None, compare=False, repr=False)

    def to_dict(self) -> dict[str, Any]:
        return {"path": self.path, "data": None if self.data is None else base64.b64encode(self.data).decode("ascii")}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Image:
        data = d.get("data")
        return cls(path=d.get("path"), data=None if data is None else base64.b64decode(data))


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a message. An image or video part stands for the sample's next picture, in order."""

    kind: Literal["text", "image", "video"]
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Part:
        return cls(**d)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `trains` says whether a language-modelling loss falls on it."""

    role: Role
    parts: tuple[Part, ...]
    trains: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {"role": self.role, "parts": [p.to_dict() for p in self.parts], "trains": self.trains}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Message:
        return cls(d["role"], tuple(Part.from_dict(p) for p in d["parts"]), d.get("trains", False))


@dataclass(frozen=True, slots=True)
class Source:
    """Where a sample was read: shard name, 0-based row in it, and which fields of `Sample.meta` were understood as what."""

    shard: str
    row: int
    format: str = "jsonl"
    caption_key: str | None = None
    image_keys: tuple[str, ...] = ()
    id_key: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"image_keys": list(self.image_keys)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Source:
        return cls(**{**d, "image_keys": tuple(d.get("image_keys", ()))})


@dataclass(frozen=True, slots=True)
class Sample:
    """One training row. `meta` is the row as it was read, every field in its order, so that unknown fields survive."""

    id: str
    messages: tuple[Message, ...] = ()
    images: tuple[Image, ...] = ()
    caption: str | None = None
    source: Source | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA_VERSION,
            "id": self.id,
            "messages": [m.to_dict() for m in self.messages],
            "images": [i.to_dict() for i in self.images],
            "caption": self.caption,
            "source": None if self.source is None else self.source.to_dict(),
            "meta": dict(self.meta),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Sample:
        return cls(
            id=d["id"],
            messages=tuple(Message.from_dict(m) for m in d.get("messages", ())),
            images=tuple(Image.from_dict(i) for i in d.get("images", ())),
            caption=d.get("caption"),
            source=None if d.get("source") is None else Source.from_dict(d["source"]),
            meta=dict(d.get("meta", {})),
        )


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that could not become a `Sample`: it goes to quarantine with this reason, never to silence."""

    source: Source
    reason: str
    detail: str = ""
    raw: str = ""  # the row as far as it could be read, as text, cut to a few thousand characters

    def to_dict(self) -> dict[str, Any]:
        return {"source": self.source.to_dict(), "reason": self.reason, "detail": self.detail, "raw": self.raw}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Rejected:
        return cls(Source.from_dict(d["source"]), d["reason"], d.get("detail", ""), d.get("raw", ""))


@dataclass(frozen=True, slots=True)
class Response:
    """What a model answered to one sample.

    `branches` holds, for each string of `Sampling.branches`, its probability among them at the point where they part
    (they sum to 1), or is empty when the model was not asked or did not pass that point. `truncated`: the answer hit
    the token limit.
    """

    id: str
    sample_id: str
    text: str
    model: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    logprob: float | None = None
    branches: Mapping[str, float] = field(default_factory=dict)
    tokens: int = 0
    truncated: bool = False

    @property
    def no_room(self) -> bool:
        """Whether the prompt left the model no room for a token. An empty answer of its own is another thing: it ended at once, or wrote
        tokens without text up to the limit."""
        return self.truncated and not self.tokens and not self.text

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Response:
        return cls(**d)


@dataclass(frozen=True, slots=True)
class Claim:
    """One checkable statement of a response, with a judge's probabilities of yes and of no."""

    response_id: str
    index: int
    text: str
    question: str = ""
    p_yes: float | None = None
    p_no: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Claim:
        return cls(**d)


@dataclass(frozen=True, slots=True)
class Score:
    """One named number about a sample or a response."""

    subject_id: str
    name: str
    value: float
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Score:
        return cls(**d)


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A preferred and a dispreferred answer to one sample; `reference` maps a reference model's name to its two log-probs."""

    sample: Sample
    chosen: str
    rejected: str
    margin: float = 0.0
    reference: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "sample": self.sample.to_dict(),
            "chosen": self.chosen,
            "rejected": self.rejected,
            "margin": self.margin,
            "reference": {k: list(v) for k, v in self.reference.items()},
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> PreferencePair:
        reference = {k: (v[0], v[1]) for k, v in d.get("reference", {}).items()}
        return cls(Sample.from_dict(d["sample"]), d["chosen"], d["rejected"], d.get("margin", 0.0), reference)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a step decided about one sample, and why.

    `text` is the caption to train on when `action` is "rewrite" (None otherwise); `proposal` is what the model offered,
    kept even when a guard or the policy refused it.
    """

    action: Action
    scores: Mapping[str, float | None] = field(default_factory=dict)
    explanations: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    proposal: str | None = None
    p_rewrite: float | None = None
    parse_status: ParseStatus | None = None
    reason: str = ""
    raw: str | None = None  # the model's reply where it could not be parsed
    flags: tuple[str, ...] = ()  # what else is worth knowing ("caption_cut", "out_of_range:overall"); never changes the action
    signals: Mapping[str, float | int | str | bool | None] = field(default_factory=dict)  # what filters told ({"image.width": 640})

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"flags": list(self.flags)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Verdict:
        return cls(**{**d, "flags": tuple(d.get("flags", ()))})
