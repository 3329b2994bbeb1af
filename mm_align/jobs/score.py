"""`mmalign score`: the numbers of a published benchmark for a response file, with no model and no torch."""

from __future__ import annotations

import json
import logging
from typing import Any

from pydantic import Field

from ..config import JobConfig, UserError
from ..evals.official import Scored, flat

log = logging.getLogger(__name__)


class ScoreConfig(JobConfig):
    """Which benchmark's rules, for which responses."""

    bench: str = Field(description="pope, chair, amber, ...: a published benchmark", json_schema_extra={"positional": True})
    responses: str = Field(description="file of responses (JSON, JSON lines, CSV, TSV, xlsx), or the folder of several")
    data: str | None = Field(None, description="the benchmark's folder or file; not needed where it is packaged")
    flavor: str | None = Field(None, description="rules of another evaluator (vcd, opera, lmms-eval, vlmevalkit)")
    judge_replies: str | None = Field(None, description="file of a judge's replies, for benchmarks that are judged by a model")
    analyses: str | None = Field(None, description="file of token, lemma, tag tables, in place of a tagger")
    similarity: str | None = Field(None, description="file of word similarities, in place of word vectors")
    json_output: bool = Field(False, description="one JSON object on standard output", json_schema_extra={"flag": "json"})
    options: dict[str, Any] = Field({}, description="further options of the benchmark")


def run(config: ScoreConfig) -> int:
    """Print the numbers. Raises UserError."""
    from ..evals.scoring import official

    files = {key: getattr(config, key) for key in ("judge_replies", "analyses", "similarity") if getattr(config, key) is not None}
    try:
        bench = official(config.bench, config.data, flavor=config.flavor, **files, **config.options)
        answers = bench.read(config.responses)
        scored = bench.report(answers)
    except (ValueError, OSError) as error:
        raise UserError(f"{config.bench}: {error}") from error
    log.info("read: %s", answers.understood)  # only where there is a score: an error is one sentence
    print(json.dumps(scored.to_dict(), ensure_ascii=False) if config.json_output else as_text(scored))
    return 0


def as_text(scored: Scored) -> str:
    """The numbers for a terminal: which rules, one line a figure, then what has to be known."""
    figures = list(flat(scored.results))
    width = max((len(name) for name, _ in figures), default=0)
    lines = [f"{scored.benchmark}, {scored.flavor} rules ({scored.rules_version}), {scored.n} responses"]
    lines += [f"  {name:<{width}}  {value:.6g}" for name, value in figures]
    return "\n".join([*lines, *(f"note: {flag}" for flag in scored.flags)])
