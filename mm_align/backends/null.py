"""A model that answers at once with a fixed text: for tests of what surrounds a model and for measuring its speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_tools.calls import Decision, Sampling
from data_tools.records import Response, Sample

YES = Decision(1.0, 0.0)
KEEP = '{"Overall Score": "9<Overall>",'


class NullBackend:
    """Answers `reply` to everything, with even odds for branches, log-probability 0 for any continuation, `decision` to any question."""

    faces = frozenset({"generate", "likelihood", "decide"})

    def __init__(self, reply: str = KEEP, batch_size: int = 64, decision: Decision = YES) -> None:
        self.reply = reply
        self.decision = decision
        self.batch_size = batch_size

    def describe(self) -> dict[str, Any]:
        return {"model": "null", "revision": "0"}

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        settings = sampling.to_dict()
        return [self._answer(sample, j, sampling, settings) for sample in samples for j in range(sampling.n)]

    def _answer(self, sample: Sample, j: int, sampling: Sampling, settings: dict[str, Any]) -> Response:
        branches = {branch: 1 / len(sampling.branches) for branch in sampling.branches}
        text = self.reply if self.reply.startswith(sampling.prefix) else sampling.prefix + self.reply
        return Response(f"{sample.id}:{j}", sample.id, text, "null", settings, 0.0, branches, tokens=len(text.split()))

    def likelihood(
        self, samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]:
        if len(samples) != len(continuations):
            raise ValueError(f"{len(samples)} samples but {len(continuations)} lists of continuations")
        return [[(0.0,) * (1 + ended) for _ in texts] for texts in continuations]

    def decide(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]:
        if len(samples) != len(questions):
            raise ValueError(f"{len(samples)} samples but {len(questions)} lists of questions")
        return [[self.decision for _ in texts] for texts in questions]


def load(name: str, *, batch_size: int | str = "auto", **_: Any) -> NullBackend:
    """`null:` or `null:REPLY`; device, dtype and revision do not matter here."""
    return NullBackend(name or KEEP, 64 if batch_size == "auto" else int(batch_size))
