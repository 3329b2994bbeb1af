"""What every benchmark is: samples to answer, and a score of the answers that asks no model again."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from data_tools.calls import Generate, Sampling
from data_tools.records import Response, Sample

from ..options import check_types, nearest


class Judged(NamedTuple):
    """What became of one sample: its score in [0, 1] and the group that it is reported in ("" for none)."""

    sample_id: str
    score: float
    kind: str = ""


class Benchmark(ABC):
    """Built as `Benchmark(**options)`; see `BENCHMARKS`.

    sampling: how answers are to be decoded. main: the metric that stands for the whole. lower: the metrics of which less is
    better; of all others more is. needs: what a user has to give, in words.
    """

    sampling: Sampling = Sampling(max_tokens=64)
    main: str
    lower: frozenset[str] = frozenset()
    needs: ClassVar[str] = "see docs/benchmarks.md"

    @abstractmethod
    def samples(self) -> Iterable[Sample]:
        """What to ask, with distinct ids, the same at every call: each ends where the assistant is to speak."""

    @abstractmethod
    def score(self, responses: Mapping[str, Response]) -> dict[str, float]:
        """Metrics of responses by sample id, `main` among them and always of the same names. A sample without a response counts
        as failed.

        Raises ValueError for responses to samples that the benchmark does not have.
        """

    def judged(self, responses: Mapping[str, Response]) -> Sequence[Judged]:
        """A score a sample, whose mean is `main`; none where `main` is no such mean."""
        return ()


def evaluate(benchmark: Benchmark, generate: Generate) -> dict[str, float]:
    """Ask all of a benchmark's samples at once, and score the first response to each."""
    answered: dict[str, Response] = {}
    for response in generate(list(benchmark.samples()), benchmark.sampling):
        answered.setdefault(response.sample_id, response)
    return benchmark.score(answered)


def check_known(responses: Mapping[str, Response], samples: Iterable[str]) -> None:
    """ValueError for a response whose sample is not among `samples`: it belongs to other questions."""
    if strange := sorted(set(responses) - set(samples)):
        raise ValueError(
            f"{len(strange)} responses answer no sample of this benchmark, '{strange[0]}' for one; were they made for other data?"
        )


def build_benchmark(config: Mapping[str, Any]) -> Benchmark:
    """The benchmark that {"type": ..., options} names; ValueError for an unknown type or option, with the nearest known
    one, for an option that is missing, and for a value of another type."""
    from . import BENCHMARKS  # the table imports this module

    options = {key: value for key, value in config.items() if key != "type"}
    kind = str(config.get("type"))
    if kind not in BENCHMARKS:
        raise ValueError(f"unknown benchmark '{kind}'; {nearest(kind, sorted(BENCHMARKS))}")
    known = inspect.signature(BENCHMARKS[kind]).parameters
    for option in options:
        if option not in known:
            raise ValueError(f"benchmark '{kind}' has no option '{option}'; {nearest(option, sorted(known))}")
    if lacking := [name for name, parameter in known.items() if parameter.default is parameter.empty and name not in options]:
        raise ValueError(f"benchmark '{kind}' needs `{lacking[0]}`; give it beside `type`")
    check_types(f"benchmark '{kind}'", BENCHMARKS[kind], options)
    return BENCHMARKS[kind](**options)
