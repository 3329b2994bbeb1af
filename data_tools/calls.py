"""A model as an argument: what may be asked of it, with no word on how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

from .records import Response, Sample


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. `temperature` 0 is greedy. `prefix` is forced as the start of every answer (and is part of the text).

    `stop`: generation of a row ends after the token that completes one of these strings (the overhang stays).
    `branches`: strings of which exactly one is expected to start the answer; the backend reports the probability of each
    at the token where they part (see `Response.branches`), at no further cost. `beams`: above 1, beam search over so many; greedy
    and one answer only, and not every backend can.
    """

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 384
    seed: int = 0
    stop: tuple[str, ...] = ()
    prefix: str = ""
    branches: tuple[str, ...] = ()
    beams: int = 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"stop": list(self.stop), "branches": list(self.branches)}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Sampling:
        return cls(**{**d, "stop": tuple(d.get("stop", ())), "branches": tuple(d.get("branches", ()))})


class Generate(Protocol):
    """Answers for samples: `n` responses a sample, sample-major, in the order of the samples."""

    def __call__(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]: ...


class Likelihood(Protocol):
    """Token log-probabilities of given continuations; all continuations of one sample share one prefill.

    Result [i][j] holds the log-probability of each token of `continuations[i][j]` after `samples[i]`; nan where it does not fit
    the model. ended: each continuation is the assistant's whole answer, tokenised as in training, and the last log-probability is that
    of the token which ends its turn. temperature: of the distribution that is scored.
    """

    def __call__(
        self, samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]: ...


class Reward(Protocol):
    """How good answers are: result [i][j] belongs to `responses[i][j]` as an answer to `samples[i]`, more is better, nan where there is
    nothing to tell (an empty answer, one too long for the model)."""

    def __call__(self, samples: Sequence[Sample], responses: Sequence[Sequence[Response]]) -> list[list[float]]: ...


class Decision(NamedTuple):
    """Probability that the first answer token is a yes, and that it is a no.

    Each is summed over every spelling the tokenizer has (case, leading space), at temperature 1 over the whole vocabulary; what
    is missing to 1 went to other words. Both are nan where the question does not fit the model.
    """

    p_yes: float
    p_no: float


class Decide(Protocol):
    """Yes or no to questions about a sample's pictures; all questions of one sample share one prefill of what they have in common.

    Question [i][j] is asked as a conversation of its own: `samples[i]`'s pictures, then the text `questions[i][j]`. The sample's
    messages play no part. Result [i][j] belongs to it.
    """

    def __call__(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]: ...


class CallNotSupported(TypeError):
    """This backend does not offer the call that was asked of it."""


class CallFailed(RuntimeError):
    """The model did not answer, though it was asked as often as its backend allows: an endpoint that stalls, refuses or breaks.

    `again`: another time it may answer (a timeout, 429, 5xx); otherwise it never will (a row that the endpoint refuses).
    `gone`: it was found to answer nobody now, so that the failure says nothing of the row.
    """

    def __init__(self, message: str, *, again: bool = True, gone: bool = False) -> None:
        super().__init__(message)
        self.again, self.gone = again, gone


class Backend(Protocol):
    """Something that runs a model. `faces` names the calls it offers ("generate", "likelihood", "decide"); others raise `CallNotSupported`.

    A call of which one row fails for good raises `CallFailed`: ask row by row then, so that one row takes no other with it.
    """

    faces: frozenset[str]

    def describe(self) -> dict[str, Any]:
        """What goes into audits: {"model": id, "revision": commit or weights hash, ...}; no time, host or path."""
        ...

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]: ...

    def likelihood(
        self, samples: Sequence[Sample], continuations: Sequence[Sequence[str]], *, ended: bool = False, temperature: float = 1.0
    ) -> list[list[tuple[float, ...]]]: ...

    def decide(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]: ...
