"""`mmalign enhance-data`: judge every caption against its picture, rewrite the poor ones, lose no row."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from ..config import JobConfig, Stopped, UserError, load, to_yaml

if TYPE_CHECKING:
    from data_tools.aitqe import AitqeStep, Policy
    from data_tools.calls import Backend
    from data_tools.io import Shard
    from data_tools.pipeline import Plan, Progress, Summary
    from data_tools.records import Sample, Verdict
    from data_tools.shards import RunDir

log = logging.getLogger(__name__)
UNBOUND = frozenset({"source", "out", "overwrite", "dry_run"})  # may differ between the starts of one run
DRY_ROWS = 20


class GuardsConfig(JobConfig):
    """Limits that a rewrite must keep; one that does not leaves the raw caption in place (see `data_tools.aitqe.Guards`)."""

    min_ratio: float = Field(0.25, ge=0, description="shortest rewrite as a share of the raw caption's characters")
    enough_chars: int = Field(20, ge=0, description="... unless it has this many")
    max_ratio: float = Field(4.0, gt=0, description="longest rewrite as a multiple of the raw caption's characters")
    roomy_chars: int = Field(300, ge=0, description="... unless it stays within this many")
    language: str = Field("en", description='"any", "same" as the raw caption, or a code that is allowed beside it')
    max_repetition: float = Field(0.5, gt=0, le=1, description="largest repeated share of a rewrite")


class EnhanceConfig(JobConfig):
    """What to enhance, with which model, and when to rewrite."""

    source: str = Field(
        description="a JSONL, Parquet or tar file, a folder of them or of pictures, a saved dataset, or datasets:NAME",
        json_schema_extra={"positional": True},
    )
    out: str = Field(description="folder for output, quarantine and report; the same command continues an unfinished run")
    model: str = Field("tiny-aitqe", description="folder, hub id (HymanH/AITQE, any image-text model) or bundled model")
    revision: str | None = Field(None, description="commit or tag of a hub model")
    prompt: Literal["auto", "aitqe", "general"] = Field("auto", description="AITQE's own question, or one for any model")
    policy: Literal["model", "threshold", "always", "never", "score-only"] = Field("model", description="when to rewrite")
    min_overall: float = Field(7.0, ge=1, le=10, description="policy threshold: rewrite below this overall score")
    floors: dict[str, float] = Field(default_factory=dict, description="policy threshold: lowest scores of aspects, {object_detail: 4}")
    max_rewrite_fraction: float | None = Field(None, ge=0, le=1, description="rewrite at most this share of each shard, the surest first")
    mode: Literal["full", "scores", "decide"] = Field("full", description="explanations too, overall score only, decision only")
    max_tokens: int | None = Field(None, ge=1, description="longest answer; default: the prompt's (384 for AITQE)")
    guards: GuardsConfig = Field(default_factory=lambda: GuardsConfig.model_validate({}), description="limits on rewrites")
    format: Literal["jsonl", "parquet", "webdataset", "folder", "hf"] | None = Field(
        None, description="of the output; default: the source's"
    )
    caption_key: str | None = Field(None, description="field of the caption; default: caption, text, txt, conversations, messages")
    image_key: str | None = Field(None, description="field of the picture; default: image, images, jpg, png, ...")
    image_root: str | None = Field(None, description="folder that relative picture paths start from; default: the source's")
    batch_size: int | Literal["auto"] = Field("auto", description="rows in one forward, committed together")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16")
    max_pixels: int = Field(89_478_485, ge=1, description="a picture with more pixels goes to quarantine undecoded")
    on_duplicate: Literal["keep", "quarantine"] = Field("keep", description="rows whose id came before")
    limit: int | None = Field(None, ge=1, description="stop after this many rows of the source")
    seed: int = Field(0, description="of the rows that the report shows")
    trust_remote_code: bool = Field(False, description="run code that a hub model brings")
    dry_run: bool = Field(False, description=f"judge the first {DRY_ROWS} rows, show them and the cost of the rest, write nothing")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")


@dataclass(frozen=True)
class EnhanceReport:
    """What a run came to. `summary` is None after a dry run, `table` what that one shows; `fresh_rows` were judged by this call."""

    out: Path
    summary: Summary | None
    fresh_rows: int = 0
    step_seconds: float = 0.0
    seconds: float = 0.0
    table: Sequence[str] = ()
    exit_code: int = 0

    def lines(self) -> list[str]:
        """The result for people: the identity of rows, what left and why, where the report is."""
        s = self.summary
        if s is None:
            return list(self.table)
        lines = [f"{s.rows} rows in = {s.kept} kept + {s.rewritten} rewritten + {s.quarantined} quarantined"]
        if s.reasons:
            lines.append("quarantined: " + ", ".join(f"{n} {reason}" for reason, n in s.reasons.items()))
        if s.duplicates:
            lines.append(f"{s.duplicates} rows have an id that came before: " + "; ".join(s.first_duplicates[:3]))
        if self.fresh_rows:
            lines.append(f"{self.fresh_rows} rows judged in {self.seconds:.1f} s ({self.fresh_rows / self.seconds:.1f} rows/s)")
        return [*lines, f"report: {self.out / 'report.html'}"]


def enhance(source: str | Path, out: str | Path, *, backend: Backend | None = None, **options: Any) -> EnhanceReport:
    """`mmalign enhance-data SOURCE --out OUT` in Python; `options` are the fields of `EnhanceConfig`.

    `backend`: a model that is already loaded; `model` then only names it for the run's configuration.
    Raises UserError for bad input, `Stopped` when the run stopped in a state from which the same call continues.
    """
    return perform(load(EnhanceConfig, {"source": str(source), "out": str(out), **options}), backend)


def run(config: EnhanceConfig) -> EnhanceReport:
    """Do what the config says and print what came of it. Raises UserError and `Stopped` (see `enhance`)."""
    report = perform(config)
    for line in report.lines():
        print(line)
    return report


def perform(config: EnhanceConfig, backend: Backend | None = None) -> EnhanceReport:
    """`run` without printing, and with a model that may be loaded already."""
    from data_tools.io import SourceError
    from data_tools.pipeline import stopping_on_full_disk
    from data_tools.shards import RunRefused, RunStopped

    _check_options(config)
    try:
        with stopping_on_full_disk(Path(config.out)):
            shards = _shards(config)
            return _dry_run(config, shards, backend) if config.dry_run else _run(config, shards, backend)
    except (SourceError, RunRefused) as error:
        raise UserError(str(error)) from error
    except RunStopped as error:
        raise Stopped(str(error)) from error


def _run(config: EnhanceConfig, shards: Sequence[Shard], backend: Backend | None) -> EnhanceReport:
    from data_tools.io import extension
    from data_tools.shards import fingerprint, open_run

    outputs = [name for s in shards for name in (f"{s.name}{extension(config.format or s.format)}", f"quarantine/{s.name}.jsonl")]
    binding = {
        "config": config.model_dump(mode="json", exclude=set(UNBOUND)),
        "source": {shard.name: fingerprint(shard.path) for shard in shards},
    }
    with open_run(Path(config.out), binding, outputs, overwrite=config.overwrite) as run_dir:
        if run_dir.condition == "finished":
            return _already_finished(run_dir)
        return _judge_all(config, shards, run_dir, backend)


def _already_finished(run_dir: RunDir) -> EnhanceReport:
    from data_tools.pipeline import Summary

    summary = Summary.from_dict(run_dir.finished() or {})
    log.info("this run is already finished (%d rows); --overwrite starts it anew. Report: %s", summary.rows, run_dir.root / "report.html")
    return EnhanceReport(run_dir.root, summary)


def _judge_all(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, backend: Backend | None) -> EnhanceReport:
    from data_tools.pipeline import Watch
    from data_tools.pipeline import run as run_pipeline
    from data_tools.shards import write_atomic

    from .progress import shown, stop_on_signals

    if run_dir.condition == "unfinished":
        log.info("continuing the unfinished run in %s", run_dir.root)
    write_atomic(run_dir.root / "config.yaml", to_yaml(config).encode())
    with stop_on_signals() as stop:
        backend, step, plan = _ready(config, run_dir, backend)
        _refuse_taken_fields(shards, plan)
        about = _about_data(config, shards, plan, backend)
        started = time.monotonic()
        with shown(shards) as show:

            def look(progress: Progress) -> None:
                show(progress)
                _remember_batch(run_dir, backend)

            watch = Watch(stop, look)
            summary = run_pipeline(shards, plan, run_dir, watch)
    report = EnhanceReport(run_dir.root, summary, watch.fresh_rows, watch.step_seconds, time.monotonic() - started)
    _write_results(config, shards, run_dir, report, {"model": backend.describe(), "policy": step.policy.describe(), **about})
    return report


def _ready(config: EnhanceConfig, run_dir: RunDir, backend: Backend | None) -> tuple[Backend, AitqeStep, Plan]:
    """The model and what is done with it, after making sure that they are those of the run's first start."""
    earlier = run_dir.record.get("resolved", {})
    backend = backend or _load(config, earlier | run_dir.record.get("shrunk", {}))
    step = _step(config, backend)
    run_dir.bind("model", backend.describe())
    run_dir.bind("prompt", step.prompt.sha)
    resolved = earlier or _resolved(backend)
    run_dir.bind("resolved", resolved)
    return backend, step, _plan(config, step, backend, resolved["batch_size"])


def _remember_batch(run_dir: RunDir, backend: Backend) -> None:
    """When memory ran out the backend went on with fewer rows at once; a continued run then starts with as many."""
    size = getattr(backend, "batch_size", None)
    if size is not None and size < run_dir.record["resolved"]["batch_size"]:
        run_dir.remember("shrunk", {"batch_size": size})


def _check_options(config: EnhanceConfig) -> None:
    """What can be refused before a model is loaded."""
    try:
        _policy(config)
        _guards(config)
    except ValueError as error:
        raise UserError(str(error)) from error
    source, out = Path(config.source).resolve(), Path(config.out).resolve()
    if source == out or (source.is_dir() and (source in out.parents or out in source.parents)):
        raise UserError(f"--out '{config.out}' and the source '{config.source}' lie inside each other; choose a folder outside the source")


def _shards(config: EnhanceConfig) -> list[Shard]:
    from data_tools.io import list_shards

    shards = list_shards(config.source)
    log.info("%s: %d shard%s of %s", config.source, len(shards), "" if len(shards) == 1 else "s", shards[0].format)
    return shards


def _load(config: EnhanceConfig, resolved: dict[str, Any]) -> Backend:
    """The model on the device, dtype and batch size of the run's first start, or as asked."""
    from ..backends import load_backend

    log.info("loading %s", config.model)
    chosen = {key: resolved.get(key, getattr(config, key)) for key in ("batch_size", "device", "dtype")}
    _set_threads(resolved.get("threads"))
    return load_backend(config.model, revision=config.revision, trust_remote_code=config.trust_remote_code, **chosen)


def _set_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _resolved(backend: Backend) -> dict[str, Any]:
    """What "auto" came to; a continued run uses the same, so that it computes the same."""
    resolved: dict[str, Any] = {"batch_size": int(getattr(backend, "batch_size", 16))}
    model: Any = getattr(backend, "model", None)
    if model is not None and hasattr(model, "device"):
        import torch

        resolved |= {"device": str(model.device), "dtype": str(model.dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
    return resolved


def _policy(config: EnhanceConfig) -> Policy:
    from data_tools.aitqe import Policy

    return Policy(config.policy, config.min_overall, config.floors, max_rewrite_fraction=config.max_rewrite_fraction)


def _guards(config: EnhanceConfig) -> Any:
    from data_tools.aitqe import Guards

    return Guards(**config.guards.model_dump())


def _step(config: EnhanceConfig, backend: Backend) -> AitqeStep:
    from data_tools.aitqe import AITQE_PROMPT, GENERAL_PROMPT, AitqeStep
    from data_tools.calls import CallNotSupported

    kind = config.prompt if config.prompt != "auto" else _own_prompt(backend)
    likelihood = backend.likelihood if "likelihood" in backend.faces else None
    prompt = AITQE_PROMPT if kind == "aitqe" else GENERAL_PROMPT
    try:
        return AitqeStep(backend.generate, likelihood, prompt, config.mode, _policy(config), _guards(config), config.max_tokens)
    except (ValueError, CallNotSupported) as error:
        raise UserError(str(error)) from error


def _own_prompt(backend: Backend) -> str:
    """The question the model was trained on: AITQE's for models that take plain prompts, the general one for chat models."""
    processor = getattr(getattr(backend, "prompts", None), "processor", None)
    return "general" if processor is not None and getattr(processor, "prompt_style", "chat") != "plain" else "aitqe"


def _plan(config: EnhanceConfig, step: AitqeStep, backend: Backend, block_rows: int) -> Plan:
    from data_tools.aitqe import audit_arrow_type, audit_fields
    from data_tools.pipeline import Plan

    provenance = {**backend.describe(), **step.describe()}
    return Plan(
        step=step,
        audit=lambda verdict: audit_fields(verdict, provenance),
        audit_type=audit_arrow_type,
        block_rows=block_rows,
        rule=step.policy.shard_rule(),
        format=config.format,
        caption_key=config.caption_key,
        image_key=config.image_key,
        image_root=config.image_root,
        max_pixels=config.max_pixels,
        limit=config.limit,
        on_duplicate=config.on_duplicate,
        seed=config.seed,
    )


def _first_samples(shards: Sequence[Shard], plan: Plan, n: int) -> list[Sample]:
    """The readable ones of the first `n` rows."""
    from itertools import chain, islice

    from data_tools.records import Sample

    return [item for item in islice(chain.from_iterable(plan.read(shard) for shard in shards), n) if isinstance(item, Sample)]


def _refuse_taken_fields(shards: Sequence[Shard], plan: Plan) -> None:
    from data_tools.pipeline import taken_fields

    for sample in _first_samples(shards[:1], plan, 1):
        if taken := taken_fields(sample, plan):
            raise UserError(
                f"the rows of '{shards[0].path}' already have a field '{taken[0]}', which this command adds: is this the output of an "
                f"earlier run? Rename or remove the field."
            )


def _about_data(config: EnhanceConfig, shards: Sequence[Shard], plan: Plan, backend: Backend) -> dict[str, Any]:
    """For the report: the domain in its title where a model of one domain meets its own data, a warning where it meets other data."""
    domain = _domain(config, backend)
    samples = _first_samples(shards, plan, DRY_ROWS) if domain else []
    if domain is None or not samples:
        return {}
    if all(domain["row_key"] in sample.meta for sample in samples):
        return {"domain": str(domain["name"])}
    log.warning("WARNING: %s", domain["message"])
    return {"notes": [str(domain["message"])]}


def _domain(config: EnhanceConfig, backend: Backend) -> dict[str, Any] | None:
    """What the model's `domain.json` says: {"name", "row_key" (the field by which its data is known), "message" for other data}."""
    told: dict[str, Any] | None = getattr(backend, "domain", None)
    if told is not None:
        return told
    from ..backends.load import split_name

    path = Path(split_name(config.model)[1]) / "domain.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _write_results(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, report: EnhanceReport, told: dict[str, Any]) -> None:
    """The report, the manifest by which the output is read again, and the mark that the run is finished."""
    from data_tools.io import image_root_of, write_manifest
    from data_tools.pipeline import merged_stats
    from data_tools.report import write_report

    summary = report.summary
    assert summary is not None
    told |= {"source": config.source, "output": config.out, "rows_in": summary.rows, "config": config.model_dump(mode="json")}
    told |= {"resolved": run_dir.record["resolved"], "timing": _timing(report), "duplicates": summary.first_duplicates}
    write_report(run_dir.root, merged_stats(shards, run_dir, config.seed), title="Caption enhancement", run=told)
    roots = {shard.name: image_root_of(shard, config.image_root) for shard in shards}
    write_manifest(run_dir.root, roots, config.format or shards[0].format)
    run_dir.finish(summary.to_dict())


def _timing(report: EnhanceReport) -> dict[str, float]:
    """Of this start alone; an earlier start of the same run is not in it."""
    rate = report.fresh_rows / report.seconds if report.seconds else 0.0
    return {
        "seconds": round(report.seconds, 3),
        "model_seconds": round(report.step_seconds, 3),
        "rows_judged": report.fresh_rows,
        "rows_per_second": round(rate, 2),
    }


def _dry_run(config: EnhanceConfig, shards: Sequence[Shard], backend: Backend | None) -> EnhanceReport:
    """Judge the first rows and say what all would cost; writes nothing."""
    from data_tools.io import BadImage, decode

    from .progress import count_rows

    backend = backend or _load(config, {})
    plan = _plan(config, _step(config, backend), backend, DRY_ROWS)
    _refuse_taken_fields(shards, plan)
    _about_data(config, shards, plan, backend)
    samples = []
    for sample in _first_samples(shards, plan, min(DRY_ROWS, config.limit or DRY_ROWS)):
        try:
            samples.append(replace(sample, images=tuple(decode(image, max_pixels=config.max_pixels) for image in sample.images)))
        except BadImage as error:
            log.warning("row %s would go to quarantine: %s", sample.source.row if sample.source else "?", error)
    started = time.monotonic()
    verdicts = plan.step(samples)
    seconds = time.monotonic() - started
    table = [_row(sample, verdict) for sample, verdict in zip(samples, verdicts, strict=True)]
    return EnhanceReport(Path(config.out), None, table=[*table, _cost(len(samples), seconds, config.limit or count_rows(shards))])


def _row(sample: Sample, verdict: Verdict) -> str:
    rewrite = f" -> {_short(verdict.text)}" if verdict.text else ""
    return f"{verdict.action:8} {_shown(verdict.scores.get('overall')):>5}  {_short(sample.caption)}{rewrite}"


def _shown(score: float | None) -> str:
    return "-" if score is None else f"{score:g}"


def _short(text: str | None) -> str:
    flat = " ".join((text or "").split())
    return repr(flat if len(flat) <= 60 else flat[:57] + "...")


def _cost(rows: int, seconds: float, total: int | None) -> str:
    if not rows:
        return "none of the first rows could be judged"
    asked, what = (total, "rows in all") if total else (1_000_000, "rows")
    hours = seconds / rows * asked / 3600
    return f"dry run: {rows} rows in {seconds:.1f} s of model time; {asked} {what} would take about {hours:.2f} h. Nothing was written."
