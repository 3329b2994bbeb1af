"""The models of a feedback run: loaded when their stage comes, one at a time, and counted while they are asked."""

from __future__ import annotations

import dataclasses
import gc
import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...backends.usage import Usage as Asked
from ...config import UserError
from ..endpoint_fields import endpoint_options

if TYPE_CHECKING:
    from data_tools.calls import Backend, Decision, Sampling
    from data_tools.records import Response, Sample

    from .config import ModelFields

log = logging.getLogger(__name__)
MOST = 32  # samples that a kill may lose
NEEDS = {"generate": "answers", "decide": "probabilities of yes and no", "likelihood": "log-probabilities of answers"}


@dataclass
class Usage:
    """What a stage asked of its model: samples shown, answers or decisions got, tokens written, seconds spent."""

    shown: int = 0
    answers: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Models:
    """Backends by the name they are asked for. `given`: such as are loaded already; they stay, others make room for the next.

    asked: counts of what the endpoints among those loaded here are asked.
    """

    def __init__(self, config: ModelFields | None = None, given: Mapping[str, Backend] | None = None) -> None:
        self.config = config
        self.given = dict(given or {})
        self.held: tuple[str, Backend] | None = None
        self.used: dict[str, Usage] = {}
        self.asked = Asked()

    def get(self, name: str, face: str, stage: str) -> Counted:
        """The backend of that name, asked for `stage`. Raises UserError where it does not offer `face`."""
        backend = self.given.get(name) or self.loaded(name)
        if face not in backend.faces:
            offered = ", ".join(sorted(backend.faces)) or "nothing"
            raise UserError(f"{name} gives no {NEEDS[face]} (`{face}`); it offers: {offered}. Choose a model that does.")
        return Counted(backend, self.used.setdefault(stage, Usage()))

    def loaded(self, name: str) -> Backend:
        """The backend itself, the only one that is held. Raises UserError where it cannot be had."""
        from ...backends import load_backend

        if self.held is None or self.held[0] != name:
            self._make_room()
            log.info("loading %s", name)
            options: dict[str, Any] = {}
            if self.config is not None:
                placed = self.config.model_dump(include={"device", "dtype", "batch_size"})
                options = {**placed, "endpoint": dataclasses.replace(endpoint_options(self.config), usage=self.asked)}
            self.held = (name, load_backend(name, **options))
        return self.held[1]

    def _make_room(self) -> None:
        """Let go of the model before, also on the device."""
        if self.held is None:
            return
        self.held = None
        gc.collect()
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


class Counted:
    """A backend whose calls are counted."""

    def __init__(self, backend: Any, usage: Usage) -> None:
        self.backend, self.usage = backend, usage

    @property
    def block(self) -> int:
        """Samples to ask about at once, which are then committed together: as many as fit one forward, within reason."""
        return max(1, min(MOST, int(getattr(self.backend, "batch_size", MOST))))

    def describe(self) -> dict[str, Any]:
        told: dict[str, Any] = self.backend.describe()
        return told

    def describe_decisions(self) -> dict[str, Any]:
        """Also how it comes to yes and no, where there are several ways. Raises Stopped where that cannot be found out now."""
        told: dict[str, Any] = getattr(self.backend, "describe_decisions", self.backend.describe)()
        return told

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        with self._timed(len(samples)):
            found: list[Response] = self.backend.generate(samples, sampling)
        self.usage.answers += len(found)
        self.usage.tokens += sum(response.tokens for response in found)
        return found

    def decide(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]:
        with self._timed(len(samples)):
            found: list[list[Decision]] = self.backend.decide(samples, questions)
        self.usage.answers += sum(map(len, found))
        self.usage.tokens += sum(map(len, found))
        return found

    def likelihood(
        self, samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]:
        with self._timed(len(samples)):
            found: list[list[tuple[float, ...]]] = self.backend.likelihood(samples, continuations, ended=ended, temperature=temperature)
        self.usage.answers += sum(map(len, found))
        self.usage.tokens += sum(len(tokens) for rows in found for tokens in rows)
        return found

    @contextmanager
    def _timed(self, shown: int) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.usage.shown += shown
            self.usage.seconds += time.monotonic() - started


def known_by(name: str) -> dict[str, str]:
    """What tells one model from another before it is loaded: its name, and of a folder the names and sizes of its files."""
    from data_tools.run.directory import fingerprint

    from ...backends.load import split_name

    folder = split_name(name)[1]
    return {"name": name, "files": fingerprint(folder)} if Path(folder).is_dir() else {"name": name}
