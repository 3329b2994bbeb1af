"""`mmalign rlaif audit`: how often best-of-N over the candidates of a folder would take another answer, were scoring a little different."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ...config import UserError
from .config import ModelFields
from .folder import require, session
from .models import Models

if TYPE_CHECKING:
    from data_tools.calls import Likelihood
    from data_tools.records import Response, Sample

    from ...search.replay_audit import Change, Flips, Selector

FILE = "audit.json"


class AuditConfig(ModelFields):
    """Which candidates, scored by which models, under which changes."""

    folder: str = Field(
        description="folder with samples.jsonl and candidates.jsonl, as `rlaif candidates` makes it", json_schema_extra={"positional": True}
    )
    model: str = Field(description="the model after preference training")
    reference: str = Field(description="the model that it was before")
    limit: int = Field(100, ge=1, description="only the first prompts")
    temperatures: list[float] = Field([0.9, 1.1], description="of the scoring models")
    keep: float = Field(0.9, gt=0, lt=1, description="share of an answer's tokens that count in a subset")
    draws: int = Field(3, ge=0, description="subsets of the tokens that are tried")


def run(config: AuditConfig) -> dict[str, Any]:
    """Print the rates of flips and write them to audit.json, which is the report. Raises UserError."""
    from data_tools.disk.durable import to_json, write_atomic

    root = Path(config.folder)
    require(root, "samples")
    require(root, "candidates")
    with session(root, Models()) as started:
        samples, pools = pools_of(started.root, config.limit)
        scored = remembered(config, samples, pools)
        report = {"config": config.model_dump(mode="json"), **told(audit(config, samples, pools, scored), len(samples))}
        write_atomic(root / FILE, to_json(report))
    for line in lines(report):
        print(line)
    return report


def pools_of(root: Path, limit: int) -> tuple[list[Sample], list[list[Response]]]:
    """The first prompts and their candidates. UserError for a folder without prompts of several candidates."""
    from ...rlaif.files import answered

    rows = list(islice(answered(root), limit))
    if not any(len({response.text for response in pool}) > 1 for _, pool in rows):
        raise UserError(f"{root / 'candidates.jsonl'} has no prompt with two different answers, so there is nothing to choose")
    return [sample for sample, _ in rows], [pool for _, pool in rows]


def remembered(config: AuditConfig, samples: Sequence[Sample], pools: Sequence[Sequence[Response]]) -> dict[str, Likelihood]:
    """Both models' scores at every temperature, one model after the other: two may not fit the device. UserError for one without."""
    from ...rlaif.logprobs import token_logprobs
    from ...search.replay_audit import Remembered

    models = Models(config)
    known: dict[str, Likelihood] = {}
    for name in dict.fromkeys((config.model, config.reference)):
        backend: Any = models.loaded(name)
        if "likelihood" not in backend.faces:
            raise UserError(f"{name} gives no log-probabilities of answers; use a model in this process")
        known[name] = Remembered(backend.likelihood)
        for temperature in (1.0, *config.temperatures):
            token_logprobs(known[name], samples, pools, temperature)
    return known


def audit(
    config: AuditConfig, samples: Sequence[Sample], pools: Sequence[Sequence[Response]], known: Mapping[str, Likelihood]
) -> list[Flips]:
    """Flips of the implicit reward, and of the likelihoods of both models, which it is compared with."""
    from ...rewards import ImplicitReward, LikelihoodReward
    from ...search.replay_audit import changed, changes, replay_audit

    def implicit(change: Change) -> ImplicitReward:
        return ImplicitReward(*(changed(known[name], change) for name in (config.model, config.reference)), normalise=change.normalise)

    def likelihood(name: str) -> Selector:
        return lambda change: LikelihoodReward(changed(known[name], change), normalise=change.normalise)

    selectors: dict[str, Selector] = {"implicit": implicit, "likelihood": likelihood(config.model)}
    selectors |= {"likelihood of the reference": likelihood(config.reference)}
    return replay_audit(samples, pools, selectors, changes(config.temperatures, config.keep, config.draws))


def told(flips: Sequence[Flips], prompts: int) -> dict[str, Any]:
    """The rates with their 95 % intervals, and the mean of each selector."""
    from ...evals import bootstrap

    rows = [{"selector": one.selector, "change": one.change, **bootstrap([float(f) for f in one.flipped])._asdict()} for one in flips]
    names = dict.fromkeys(one.selector for one in flips)
    means = {name: sum(rates) / len(rates) for name in names if (rates := [one.rate for one in flips if one.selector == name])}
    return {"prompts": prompts, "pools": len(flips[0].flipped) if flips else 0, "flips": rows, "mean": means}


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """The result for people."""
    yield f"{report['pools']} of {report['prompts']} prompts have different answers; winners that flip:"
    for row in report["flips"]:
        yield f"  {row['selector']:<28} {row['change']:<30} {row['mean']:6.1%}  ({row['low']:.1%} to {row['high']:.1%})"
    for name, rate in report["mean"].items():
        yield f"  {name:<28} {'mean':<30} {rate:6.1%}"
