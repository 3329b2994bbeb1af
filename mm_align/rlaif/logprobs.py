"""Log-probabilities of answers under a model that need not have written them."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.calls import Likelihood
from data_tools.records import Response, Sample


def token_logprobs(
    likelihood: Likelihood, samples: Sequence[Sample], responses: Sequence[Sequence[Response]], temperature: float = 1.0
) -> list[list[tuple[float, ...]]]:
    """Of every answer the log-probabilities of the tokens that training counts: those of its text and the one that ends the turn.

    An answer that was cut at the token limit has no end, and none is counted. () for an answer without text. Equal answers are
    scored once.
    """
    texts = [list(dict.fromkeys(r.text for r in row if r.text.strip())) for row in responses]
    asked = [i for i, row in enumerate(texts) if row]
    scored = likelihood([samples[i] for i in asked], [texts[i] for i in asked], ended=True, temperature=temperature) if asked else []
    known = {i: dict(zip(texts[i], rows, strict=True)) for i, rows in zip(asked, scored, strict=True)}
    return [[_counted(known.get(i, {}).get(r.text, ()), r) for r in row] for i, row in enumerate(responses)]


def _counted(tokens: tuple[float, ...], response: Response) -> tuple[float, ...]:
    return tokens[:-1] if response.truncated else tokens
