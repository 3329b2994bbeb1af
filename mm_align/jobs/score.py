"""`mmalign score`: the numbers of a published benchmark for a response file, with no model (unless a judge is named) and no torch."""

from __future__ import annotations

import gc
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from ..config import JobConfig, Stopped, UserError
from ..evals.official import Official, Scored, flat
from .endpoint_fields import Cache, Concurrency, PriceIn, PriceOut, Timeout, endpoint_options, tell_usage

if TYPE_CHECKING:
    from ..backends.endpoint_options import EndpointOptions
    from ..evals.judges import ModelJudge

log = logging.getLogger(__name__)


class ScoreConfig(JobConfig):
    """Which benchmark's rules, for which responses."""

    bench: str = Field(description="pope, chair, amber, ...: a published benchmark", json_schema_extra={"positional": True})
    responses: str = Field(description="file of responses (JSON, JSON lines, CSV, TSV, xlsx), or the folder of several")
    data: str | None = Field(None, description="the benchmark's folder or file; not needed where it is packaged")
    flavor: str | None = Field(None, description="rules of another evaluator (vcd, opera, lmms-eval, vlmevalkit)")
    judge_replies: str | None = Field(None, description="file of a judge's replies, for benchmarks that are judged by a model")
    judge: str | None = Field(None, description="model that judges the answers where no replies are given: any model name, an endpoint")
    ledger: str | None = Field(None, description="file that keeps what the judge said; RESPONSES.judge_replies.jsonl unless said otherwise")
    analyses: str | None = Field(None, description="file of token, lemma, tag tables, in place of a tagger")
    similarity: str | None = Field(None, description="file of word similarities, in place of word vectors")
    json_output: bool = Field(False, description="one JSON object on standard output", json_schema_extra={"flag": "json"})
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    request_cache: Cache = "off"
    price_in: PriceIn = None
    price_out: PriceOut = None
    options: dict[str, Any] = Field({}, description="further options of the benchmark")


FILES = ("judge_replies", "analyses", "similarity")


def run(config: ScoreConfig) -> int:
    """Print the numbers. Raises UserError, one sentence that names the file, and `Stopped` where the judge does not answer."""
    if config.judge is None:
        gc.disable()  # a short run that makes many small objects and few circles: a tenth of its time
    from data_tools.calls import CallFailed

    try:
        understood, scored = scored_file(config)
    except CallFailed as error:
        raise Stopped(f"the judge does not answer ({error}); what it said is kept: run the same command to continue") from error
    finally:
        gc.enable()
    log.info("read: %s", understood)  # only where there is a score: an error is one sentence
    print(json.dumps(scored.to_dict(), allow_nan=False) if config.json_output else as_text(scored))
    return 0


def scored_file(config: ScoreConfig) -> tuple[str, Scored]:
    """What the responses were understood to be, and their numbers. UserError where there are none."""
    from ..evals.scoring import official

    files = {key: getattr(config, key) for key in FILES if getattr(config, key) is not None}
    built = False
    asking = None if config.judge is None else endpoint_options(config)
    try:
        bench = official(config.bench, config.data, flavor=config.flavor, **files, **config.options)
        if asking is not None:
            bench.judge = live_judge(config, bench, asking)  # type: ignore[attr-defined]
        built = True
        answers = bench.read(config.responses)
        scored = bench.report(answers)
        if asking is not None:
            tell_usage(config, asking)
        return answers.understood, scored
    except (ValueError, OSError) as error:
        told = sentence(error)
        raise UserError(f"{config.bench}: {with_file(told, config) if built else told}") from error
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:  # a shape that no check foresaw
        log.debug("where it happened", exc_info=error)
        told = with_file(f"of a shape that {config.bench} cannot score ({error!r}); -v shows where", config)
        raise UserError(f"{config.bench}: {told}") from error


def sentence(error: ValueError | OSError) -> str:
    """An error in one line; the system's own with the path that it is about."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def with_file(told: str, config: ScoreConfig) -> str:
    """An error that names no file is about a row of the responses."""
    given = [getattr(config, key) for key in ("responses", "data", *FILES)]
    names = [Path(path).name or path for path in given if path]
    return told if any(name in told for name in names) else f"{names[0]}: {told}"


def live_judge(config: ScoreConfig, bench: Official, asking: EndpointOptions) -> ModelJudge:
    """The model `judge`, with its ledger. ValueError for a benchmark that asks none, and for replies beside it."""
    from ..backends import load_backend
    from ..evals.judges import ModelJudge
    from .evaluate.judge import shown

    if not hasattr(bench, "judge"):
        raise ValueError("its answers are not judged by a model; leave --judge out")
    if config.judge_replies is not None:
        raise ValueError("--judge and --judge-replies are given; a judge is asked where there are no replies")
    backend = load_backend(str(config.judge), endpoint=asking)
    ledger = Path(config.ledger or f"{config.responses.rstrip('/')}.judge_replies.jsonl")
    log.info("judged by %s; its replies: %s", config.judge, ledger)
    return ModelJudge(lambda samples, sampling: backend.generate(shown(samples), sampling), backend.describe(), ledger)


def as_text(scored: Scored) -> str:
    """The numbers for a terminal: which rules, one line a figure, then what has to be known."""
    figures = list(flat(scored.results))
    width = max((len(name) for name, _ in figures), default=0)
    lines = [f"{scored.benchmark}, {scored.flavor} rules ({scored.rules_version}), {scored.n} responses"]
    lines += [f"  {name:<{width}}  {value:.6g}" for name, value in figures]
    return "\n".join([*lines, *(f"note: {flag}" for flag in scored.flags)]).encode("utf-8", "backslashreplace").decode()
