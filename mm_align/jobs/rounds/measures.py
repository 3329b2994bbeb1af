"""What is measured of a round: its model by benchmarks, its feedback by the judge's scores, and how far the model moved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..train.suites import Broken, answers, broken_pictures, suites

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.records import PreferencePair, Response, Sample

    from .config import RoundsConfig

Load = Callable[[str], "Backend"]
ANSWERS = "answers.jsonl"


def measured(config: RoundsConfig, folder: Path, model: str, load: Load) -> dict[str, float]:
    """SUITE/METRIC -> value of a model by the reported suites; in `answers.jsonl` what it says of the first pictures of the first suite."""
    from data_tools.disk.durable import write_atomic
    from data_tools.io.jsonl import dump

    found, said = figures(config.suites, load(model))
    write_atomic(folder / ANSWERS, b"".join(dump({"sample_id": r.sample_id, "text": r.text}) for r in said[: config.shown]))
    return found


def figures(described: Sequence[str | dict[str, Any]], backend: Any) -> tuple[dict[str, float], list[Response]]:
    """SUITE/METRIC -> value, and the answers to the first suite. A row whose picture cannot be decoded is unanswered."""
    from ...evals import evaluate

    found: dict[str, float] = {}
    said: list[list[Response]] = []

    def generate(samples: Sequence[Sample], sampling: Any) -> list[Response]:
        said.append(answers(backend, samples, sampling, {}))
        return said[-1]

    for name, suite in suites(list(described)).items():
        found |= {f"{name}/{metric}": value for metric, value in evaluate(suite, generate).items()}
    return found, said[0] if said else []


def judged(folder: Path) -> dict[str, Any]:
    """How the judge liked what the round's candidates say: pairs, scored answers, their mean score, the share of rejected claims."""
    from ...rlaif.files import judged_claims
    from ...rlaif.judge import rejected

    scores = [row["value"] for row in _rows(folder / "scores.jsonl")]
    claims = [float(rejected(claim)) for claim in judged_claims(folder)]
    return {
        "pairs": sum(1 for _ in _rows(folder / "pairs.jsonl")),
        "answers": len(scores),
        "score": mean(scores),
        "rejected": mean(claims),
    }


def drift(config: RoundsConfig, folder: Path, model: str, before: str, pairs: Path, load: Load) -> dict[str, float | None]:
    """How far a round moved its model, in log-probabilities of whole answers; empty where a model gives none.

    chosen, rejected: mean log pi - log pi_before of the answers in the round's first pairs. kl_step, kl_start: mean log pi - log
    pi_before (log pi_start) of answers that the model after the round draws at temperature 1, which estimates the KL divergence from
    it to the model before (the start model); kl_start_token: by the number of tokens.
    """
    from ...rlaif.logprobs import token_logprobs

    after = load(model)
    if "likelihood" not in after.faces:
        return {}
    told, drawn = first_pairs(pairs, config.drift_rows), drawn_answers(config, folder, after)
    samples = [*(pair.sample for pair in told), *(sample for sample, _ in drawn)]
    responses = [*([_said(pair.chosen), _said(pair.rejected)] for pair in told), *([response] for _, response in drawn)]
    del after  # models come one after the other: two may not fit the device
    found: dict[str, list[list[tuple[float, ...]]]] = {}
    for name in dict.fromkeys((model, before, config.model)):
        scorer: Any = load(name)
        found[name] = token_logprobs(scorer.likelihood, samples, responses)
    step, start = (_gained(found[model], found[name]) for name in (before, config.model))
    mine = slice(len(told), None)
    tokens = sum(len(row[0]) for row in found[model][mine])
    kl_start = mean([row[0] for row in start[mine]])
    return {
        "chosen": mean([row[0] for row in step[: len(told)]]),
        "rejected": mean([row[1] for row in step[: len(told)]]),
        "kl_step": mean([row[0] for row in step[mine]]),
        "kl_start": kl_start,
        "kl_start_token": kl_start * len(drawn) / tokens if kl_start is not None and tokens else None,
    }


def _gained(after: list[list[tuple[float, ...]]], before: list[list[tuple[float, ...]]]) -> list[list[float]]:
    return [[sum(a) - sum(b) for a, b in zip(*rows, strict=True)] for rows in zip(after, before, strict=True)]


def _said(text: str) -> Response:
    from data_tools.records import Response

    return Response("", "", text)


def first_pairs(path: Path, count: int) -> list[PreferencePair]:
    """The first `count` pairs whose pictures can be decoded."""
    from data_tools.io import decode
    from data_tools.preference import read_pairs
    from data_tools.records import PreferencePair

    read = (pair for pair in read_pairs(path) if isinstance(pair, PreferencePair))

    def look(sample: Sample) -> None:
        for image in sample.images:
            decode(image)

    return list(islice((pair for pair in read if not broken_pictures([pair.sample], look)), count))


def drawn_answers(config: RoundsConfig, folder: Path, backend: Any) -> list[tuple[Sample, Response]]:
    """An answer drawn at temperature 1 to each of the first prompts of the first suite (of the round's own where there is none)."""
    from data_tools.calls import Sampling

    suite = next(iter(suites(config.suites[:1]).values()), None)
    prompts = list(islice(suite.samples() if suite else own_prompts(folder), config.drift_rows))
    broken: Broken = {}
    tokens = suite.sampling.max_tokens if suite else Sampling().max_tokens
    said = answers(backend, prompts, Sampling(temperature=1.0, max_tokens=tokens, seed=config.seed), broken)
    by_id = {response.sample_id: response for response in said}
    return [(sample, by_id[sample.id]) for sample in prompts if sample.id in by_id and by_id[sample.id].text.strip()]


def own_prompts(folder: Path) -> list[Sample]:
    """The prompts that a round asked."""
    from ...rlaif.files import samples

    return list(samples(folder / "feedback"))


def _rows(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def mean(values: Sequence[float]) -> float | None:
    """Of those that are finite; None where none is."""
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None
