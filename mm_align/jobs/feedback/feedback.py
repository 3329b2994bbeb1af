"""`mmalign rlaif feedback`: pictures and questions in, preference pairs out, every stage a file that can be looked at.

Its parts: `config`, `folder` (what is done, and with which settings), `steps` (the stages), `models`,
`summary` and `report` (what came of it), `dry_run`. Each stage is a verb of its own too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError, to_yaml
from ..endpoint_costs import tell_total
from .config import FeedbackConfig
from .dry_run import dry_run
from .folder import Session, Step, session
from .models import Models

if TYPE_CHECKING:
    from data_tools.calls import Backend

__all__ = ["FeedbackConfig", "FeedbackReport", "feedback", "run"]


@dataclass(frozen=True)
class FeedbackReport:
    """What a run came to: its folder, its pairs (None after a dry run), and what report.json says."""

    out: Path
    pairs: Path | None
    summary: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int = 0


def run(config: FeedbackConfig) -> FeedbackReport:
    """Do what the config says and print what came of it. Raises UserError and `Stopped`."""
    if config.dry_run:
        for line in dry_run(config):
            print(line)
        return FeedbackReport(Path(config.out), None)
    report = feedback(config)
    tell_total(report.summary.get("endpoint"))
    print(f"pairs: {report.pairs}; report: {report.out / 'feedback.html'}")
    return report


def feedback(config: FeedbackConfig, *, backends: Mapping[str, Backend] | None = None, quiet: bool = False) -> FeedbackReport:
    """All stages in order. `backends`: models that are loaded already, by the names the config gives them; quiet: nothing is printed."""
    from data_tools.disk.durable import write_atomic

    from .summary import summarise, warn
    from .summary import write as write_summary

    check(config)
    with session(Path(config.out), Models(config, backends), update=config.update, overwrite=config.overwrite) as started:
        started.quiet = quiet
        for make in every_step(started, config):
            started.do(make())
        write_atomic(started.root / "config.yaml", to_yaml(config).encode())
        summary = summarise(started, config.judging.near)
        write_summary(started.root, summary, config)
        warn(summary)
    if config.score_reference:
        score_reference(config, started.root)
    return FeedbackReport(started.root, started.root / "pairs.jsonl", summary)


def score_reference(config: FeedbackConfig, root: Path) -> None:
    """What the answering model gives the tokens of its own pairs: the reference of training that starts from it. It has its own record
    of what is done. UserError for pairs that cannot be read."""
    from . import reference as rlaif_reference

    given = {"pairs": str(root / "pairs.jsonl"), "model": config.model, "out": str(root / "reference")}
    device = "cpu" if config.device == "cpu" else "auto"
    rlaif_reference.run(rlaif_reference.ReferenceConfig.model_validate({**given, "device": device}))


def check(config: FeedbackConfig) -> None:
    """UserError for what would only be found after hours: a model that is not named, a run that writes into its source."""
    if config.by_model() and config.divider is None:
        raise UserError(f"{' and '.join(config.by_model())}: llm, but no model is named for it: give --divider MODEL")
    if config.score_reference and config.model.startswith("openai:"):
        cure = "score later, by its weights: mmalign rlaif reference"
        raise UserError(f"--score-reference needs weights, and {config.model} is an endpoint; {cure}")
    out = Path(config.out).resolve()
    for flag, source in (("--data", config.data), ("--images", config.images)):
        if source and Path(source).exists() and (out == (given := Path(source).resolve()) or given in out.parents):
            raise UserError(f"--out {config.out} lies in {flag} {source}; choose a folder outside it")


def every_step(run: Session, config: FeedbackConfig) -> Iterator[Callable[[], Step]]:
    """The stages in order, each to be made in its turn: what it reads are the files of those before."""
    from . import steps

    yield lambda: steps.prompts_step(run, config)
    yield lambda: steps.candidates_step(run, config.candidates, config.model)
    if config.labeller == "implicit":
        yield lambda: steps.logprob_step(run, "policy", config.judge)
        yield lambda: steps.logprob_step(run, "reference", str(config.reference))
        yield lambda: steps.implicit_scores_step(run, config.implicit)
        yield lambda: steps.implicit_pairs_step(run, config.implicit)
        return
    yield lambda: steps.claims_step(run, config.claims, config.divider)
    yield lambda: steps.questions_step(run, config.asking, config.divider)
    yield lambda: steps.judge_step(run, config.judge)
    yield lambda: steps.scores_step(run, config.scores)
    yield lambda: steps.pairs_step(run, config.pairs)
