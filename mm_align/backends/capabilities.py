"""What an endpoint was found to offer for a model, and the user's cache folder in which that is kept for a day."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_tools.disk.durable import read_json, write_atomic

log = logging.getLogger(__name__)

FORMAT = 1  # of the stored file; another one is not read
DAY = 86_400.0  # seconds; a server may come back on the same port with another model behind the same name


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What was seen to work; None where it could not be told.

    images: black and white pictures made a difference. top_logprobs: how many of the likeliest tokens are told at most (0: none).
    verdict_ids: token ids of the spellings of yes and no whose log-probabilities the endpoint tells on demand. typed: the dialect of
    typed decisions in which it sees pictures (see `typed_decisions`). n, seed, stop, structured: the option had its effect.
    notes: what is to be said of one of them, by its name.
    """

    images: bool | None = None
    top_logprobs: int = 0
    verdict_ids: Mapping[str, tuple[int, ...]] | None = None
    typed: str | None = None
    n: bool | None = None
    seed: bool | None = None
    stop: bool | None = None
    structured: bool | None = None
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def decisions(self) -> str | None:
        """The best way to yes and no: typed decisions, then log-probabilities of given tokens, then those of the likeliest ones."""
        if self.typed:
            return self.typed
        if self.verdict_ids:
            return "logprob_token_ids"
        return "top_logprobs" if self.top_logprobs else None

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Capabilities:
        ids = d["verdict_ids"]
        return cls(**{**d, "verdict_ids": ids and {word: tuple(map(int, row)) for word, row in ids.items()}})

    def to_lines(self) -> list[str]:
        """For people: an option a line, with what is to be said of it."""
        shown = {
            "pictures": _shown(self.images, "seen", "refused"),
            "logprobs": f"of the {self.top_logprobs} likeliest tokens" if self.top_logprobs else "none",
            "logprob_token_ids": "told" if self.verdict_ids else "none",
            "typed decisions": self.typed or "none",
            "n": _shown(self.n),
            "seed": _shown(self.seed),
            "stop": _shown(self.stop),
            "structured output": _shown(self.structured),
            "yes and no by": self.decisions or "nothing: it cannot judge",
        }
        return [f"{name}: {value}" + (f" ({self.notes[name]})" if name in self.notes else "") for name, value in shown.items()]


def assumed(notes: Mapping[str, str]) -> Capabilities:
    """What most endpoints offer, of one that cannot be tried."""
    return Capabilities(top_logprobs=20, notes=notes)


def _shown(found: bool | None, yes: str = "works", no: str = "has no effect") -> str:
    return "not known" if found is None else yes if found else no


def cache_folder() -> Path:
    """mm_align in the user's cache folder ($XDG_CACHE_HOME, else ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mm_align"


def stored(url: str, model: str) -> Capabilities | None:
    """What was found within the last day; None where nothing was, or it cannot be read."""
    try:
        kept = read_json(_place(url, model)) or {}
        fresh = kept.get("format") == FORMAT and 0 <= time.time() - float(kept["found"]) < DAY
        return Capabilities.from_dict(kept["capabilities"]) if fresh else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def store(url: str, model: str, found: Capabilities) -> None:
    """Keep it for a day; a folder that cannot be written is said, and nothing else comes of it."""
    kept = {"format": FORMAT, "url": url, "model": model, "found": time.time(), "capabilities": asdict(found)}
    path = _place(url, model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(kept, indent=2).encode())
    except OSError as error:
        log.warning("what the endpoint offers cannot be kept in %s (%s); the next command finds out anew", path.parent, error)


def _place(url: str, model: str) -> Path:
    name = hashlib.sha256(f"{url}\0{model}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return cache_folder() / "endpoints" / f"{name}.json"
