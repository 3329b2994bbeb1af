"""`mmalign enhance-data`: judge every caption against its picture, rewrite the poor ones, lose no row.

What surrounds the run has files of its own: `source` (a first look at the data), `setup` (model, step and plan),
`dry_run`, `results`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from ...config import JobConfig, Stopped, UserError, load, to_yaml
from ..endpoint_fields import Concurrency, PriceIn, PriceOut, Timeout, endpoint_options
from .cascade import told as cascade_told
from .costs import PRICES, Spent, spent_in
from .dry_run import DRY_ROWS, dry_run
from .engine import check_engine, run_engine, wants_engine
from .remote import bring, check_scratch, is_elsewhere
from .results import EnhanceReport, warn_of_nothing, write_results
from .setup import check_options, ready, remember_batch
from .slices import described, place_of
from .source import about_data, refuse_absent_fields, refuse_taken_fields, shards_of, warn_of_touched

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.io import Shard
    from data_tools.plan import Summary, Watch
    from data_tools.shards import RunDir

log = logging.getLogger(__name__)
UNBOUND = frozenset(
    {
        *("source", "out", "overwrite", "dry_run", "scratch", "engine", "workers", "ray_address", "gpus_per_worker", "shard"),
        *("concurrency", "timeout", "request_cache", *PRICES),
    }
)  # may differ between the starts of one run


class GuardsConfig(JobConfig):
    """Limits that a rewrite must keep; one that does not leaves the raw caption in place (see `data_tools.aitqe.Guards`)."""

    min_ratio: float = Field(0.25, ge=0, description="shortest rewrite as a share of the raw caption's characters")
    enough_chars: int = Field(20, ge=0, description="... unless it has this many")
    max_ratio: float = Field(4.0, gt=0, description="longest rewrite as a multiple of the raw caption's characters")
    roomy_chars: int = Field(300, ge=0, description="... unless it stays within this many")
    language: str = Field("en", description='"any", "same" as the raw caption, or a code that is allowed beside it')
    max_repetition: float = Field(0.5, gt=0, le=1, description="largest repeated share of a rewrite")
    pii: Literal["added", "any", "off"] = Field("added", description="personal data in a rewrite: none that is new, none at all, unchecked")

    @field_validator("language")
    @classmethod
    def known(cls, language: str) -> str:
        from data_tools.text import LANGUAGES

        if language not in ("any", "same", *LANGUAGES):
            raise ValueError(f"{language!r} is no language that can be told from others: any, same, {', '.join(sorted(LANGUAGES))}")
        return language


class EnhanceConfig(JobConfig):
    """What to enhance, with which model, and when to rewrite."""

    source: str = Field(
        description="a JSONL, Parquet or tar file, a folder of them or of pictures, a saved dataset, or datasets:NAME",
        json_schema_extra={"positional": True},
    )
    out: str = Field(description="folder for output, quarantine and report; the same command continues an unfinished run")
    scratch: str | None = Field(None, description="local folder of the run where --out is s3://, gs://, hf://, ...: brought there whole")
    stages: list[str] = Field(
        ["aitqe"],
        description="signals (cheap, no model); similarity, mlm, aesthetic, nsfw, ocr (numbers by models); aitqe (the quality model)",
    )
    signals: list[str] = Field([], description="what the stages tell, by room or name: image,text.words; default: all")
    similarity_model: str | None = Field(
        None, description="stage similarity: a CLIP or SigLIP: folder or hub id; hf-hub:OWNER/NAME, open_clip:MODEL/TAG of open_clip"
    )
    mlm_model: str | None = Field(None, description="stage mlm: any image-text model or endpoint, as --model")
    aesthetic_head: str | None = Field(None, description="stage aesthetic: a LAION head, linear or MLP, as a .safetensors file")
    aesthetic_encoder: str = Field("openai/clip-vit-large-patch14", description="the CLIP that the head was trained on: folder or hub id")
    nsfw_model: str | None = Field(
        None, description="stage nsfw: an image classifier of transformers, a folder with safetensors or a hub id"
    )
    nsfw_labels: list[str] = Field([], description="its labels that count as unsafe; default: those called nsfw, porn, hentai, sexy, ...")
    ocr_model: str | None = Field(None, description="stage ocr: a folder with *det*.onnx and *rec*.onnx; default: those of the extra `ocr`")
    opt_outs: Literal["drop", "keep"] = Field("drop", description="stage signals: rows whose fields refuse their use for training")
    license_allow: list[str] = Field([], description="stage signals: rows of other licences, or of none, leave: cc-by-4.0")
    near_text_threshold: float = Field(0.8, gt=0, le=1, description="likeness from which a caption repeats an earlier one")
    perceptual_radius: int = Field(4, ge=0, le=16, description="bits of 64 in which a picture may differ from one that it repeats")
    drop_if: list[str] = Field([], description='a rule over signals by which rows leave: "image.width < 100"')
    keep_if: list[str] = Field([], description="a rule over signals without which rows leave")
    report_only: bool = Field(False, description="rules flag the rows that they would drop, and nothing leaves by them")
    model: str = Field("tiny-aitqe", description="folder, hub id (HymanH/AITQE, any image-text model), bundled model or endpoint")
    revision: str | None = Field(None, description="commit or tag of a hub model")
    prompt: Literal["auto", "aitqe", "general"] = Field("auto", description="AITQE's own question, or one for any model")
    policy: Literal["model", "threshold", "always", "never", "score-only"] = Field("model", description="when to rewrite")
    min_overall: float = Field(7.0, ge=1, le=10, description="policy threshold: rewrite below this overall score")
    floors: dict[str, float] = Field(default_factory=dict, description="policy threshold: lowest scores of aspects, {object_detail: 4}")
    max_rewrite_fraction: float | None = Field(None, ge=0, le=1, description="rewrite at most this share of each shard, the surest first")
    poor: Literal["rewrite", "drop"] = Field("rewrite", description="what becomes of a caption that the policy finds poor, or of its row")
    cascade: bool = Field(False, description="spare the model the rows that cheap signals decide as it would, learned from a sample")
    agreement: float = Field(0.98, description="cascade: least rate at which the model agrees, shown with confidence 0.95")
    calibration: int = Field(2000, ge=1, description="cascade: rows that the model judges first")
    audit: float = Field(0.02, ge=0, le=1, description="cascade: share of decided rows that the model judges all the same")
    mode: Literal["full", "scores", "decide"] = Field("full", description="explanations too, overall score only, decision only")
    max_tokens: int | None = Field(None, ge=1, description="longest answer; default: the prompt's (384 for AITQE)")
    guards: GuardsConfig = Field(default_factory=lambda: GuardsConfig.model_validate({}), description="limits on rewrites")
    max_similarity_drop: float | None = Field(
        None, ge=0, description="refuse a rewrite whose similarity.cosine is below the raw caption's by more than this"
    )
    format: Literal["jsonl", "parquet", "webdataset", "folder", "hf"] | None = Field(
        None, description="of the output; default: the source's"
    )
    caption_key: str | None = Field(None, description="field of the caption; default: caption, text, txt, conversations, messages")
    image_key: str | None = Field(None, description="field of the picture; default: image, images, jpg, png, ...")
    uid_key: str | None = Field(None, description="field of DataComp's uid: those of the rows that stay are written to OUT/uids.npy")
    image_root: str | None = Field(None, description="folder that relative picture paths start from; default: the source's")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", description="rows in one forward, committed together")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16")
    max_pixels: int = Field(89_478_485, ge=1, description="a picture with more pixels goes to quarantine undecoded")
    fast_pictures: bool = Field(False, description="decode JPEG for signals by the extra `fast`: the same values for less")
    on_duplicate: Literal["keep", "quarantine"] = Field("keep", description="rows whose id came before")
    rescore: bool = Field(False, description="judge each rewrite once more, for the report's scores after")
    engine: Literal["local", "ray"] = Field("local", description="who shares the shards: processes of this machine, or a Ray cluster")
    workers: int | None = Field(
        None, ge=1, description="how many share them, one thread each; default: one, with Ray all there is room for"
    )
    ray_address: str | None = Field(None, description="engine ray: auto or HOST:PORT of the cluster's head; default: this machine alone")
    gpus_per_worker: float = Field(0, ge=0, description="engine ray: GPUs of each worker")
    shard: str | None = Field(None, description="2/8: only this slice of the shards, counted from 0; auto: as Slurm or torchrun say")
    limit: int | None = Field(None, ge=1, description="stop after this many rows of the source")
    seed: int = Field(0, description="of the rows that the report shows")
    trust_remote_code: bool = Field(False, description="run code that a hub model brings")
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    request_cache: str = Field(
        "run", description="of an endpoint: `run` keeps its answers until this run is finished, `off`, or a file for later runs too"
    )
    price_in: PriceIn = None
    price_out: PriceOut = None
    dry_run: bool = Field(False, description=f"judge the first {DRY_ROWS} rows, show them and the cost of the rest, write nothing")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")

    @field_validator("stages", "signals", "license_allow", mode="before")
    @classmethod
    def parted(cls, given: Any) -> Any:
        """`--stages signals,aitqe` is `--stages signals --stages aitqe`."""
        several = [given] if isinstance(given, str) else given
        return [part.strip() for one in several for part in one.split(",")] if all(isinstance(one, str) for one in several) else given


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

    check_scratch(config)
    target, config = config, config.model_copy(update={"out": config.scratch}) if is_elsewhere(config) else config
    check_options(config)
    check_engine(config, backend)
    try:
        with stopping_on_full_disk(Path(config.out)):
            shards = shards_of(config)
            refuse_absent_fields(config, shards)
            if config.dry_run:
                return EnhanceReport(Path(config.out), None, table=dry_run(config, shards, backend))
            report = _run(config, shards, backend)
            if target is not config:
                bring(target)
            return report
    except (SourceError, RunRefused) as error:
        raise UserError(str(error)) from error
    except RunStopped as error:
        raise Stopped(str(error)) from error


def _run(config: EnhanceConfig, shards: Sequence[Shard], backend: Backend | None) -> EnhanceReport:
    from data_tools.io import extension
    from data_tools.shards import fingerprint, open_run

    root, shards, part = place_of(config, shards)
    outputs = [name for s in shards for name in (f"{s.name}{extension(config.format or s.format)}", f"quarantine/{s.name}.jsonl")]
    binding = {
        "config": config.model_dump(mode="json", exclude=set(UNBOUND)),
        "source": {shard.name: fingerprint(shard.path) for shard in shards},
        **part,
    }
    with open_run(root, binding, outputs, overwrite=config.overwrite) as run_dir:
        done = [shard for shard in shards if run_dir.done(shard.name) is not None]
        suffixes = [extension(config.format or shard.format) for shard in done]
        run_dir.refuse_missing([run_dir.output(s.name, suffix) for s, suffix in zip(done, suffixes, strict=True)])
        run_dir.refuse_missing([run_dir.quarantine(s.name) for s in done])
        if part:
            run_dir.remember("given", config.model_dump(include={"source", *PRICES}))
            run_dir.remember("shards", described(shards))
        warn_of_touched(run_dir, shards)
        if run_dir.condition == "finished":
            return _already_finished(run_dir)
        return _judge_all(config, shards, run_dir, backend) if shards else _nothing_to_do(run_dir)


def _nothing_to_do(run_dir: RunDir) -> EnhanceReport:
    """A slice of a source that has fewer shards than slices."""
    from data_tools.plan import Summary

    run_dir.finish(Summary().to_dict())
    return EnhanceReport(run_dir.root, None, table=["this slice has no shards; it is done"])


def _already_finished(run_dir: RunDir) -> EnhanceReport:
    from data_tools.pipeline import Summary

    summary = Summary.from_dict(run_dir.finished() or {})
    log.info("this run is already finished (%d rows); --overwrite starts it anew. Report: %s", summary.rows, run_dir.root / "report.html")
    return EnhanceReport(run_dir.root, summary)


def _judge_all(config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, backend: Backend | None) -> EnhanceReport:
    from data_tools.plan import Watch
    from data_tools.shards import write_atomic

    from ...backends.request_cache import RequestCache
    from ..progress import stop_on_signals

    if run_dir.condition == "unfinished":
        log.info("continuing the unfinished run in %s", run_dir.root)
    write_atomic(run_dir.root / "config.yaml", to_yaml(config).encode())
    with stop_on_signals() as stop:
        watch = Watch(stop)
        work = _by_workers if wants_engine(config) else _in_this_process
        summary, told, started = work(config, shards, run_dir, watch, backend)
    cascade = cascade_told(shards, run_dir) if config.cascade else None
    told |= {"cascade": cascade} if cascade else {}
    seconds = time.monotonic() - started
    if config.shard is not None:
        run_dir.remember("told", dict(told))  # for the report of all slices
    usage = spent_in(config, run_dir)
    told |= {"endpoint": usage} if usage else {}
    report = EnhanceReport(run_dir.root, summary, watch.fresh_rows, watch.step_seconds, seconds, cascade=cascade, usage=usage)
    write_results(config, shards, run_dir, report, told)
    if config.request_cache == "run":
        RequestCache.delete(run_dir.requests)  # every answer is in the journal
    warn_of_nothing(run_dir, shards, summary)
    return report


def _in_this_process(
    config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, watch: Watch, backend: Backend | None
) -> tuple[Summary, dict[str, Any], float]:
    """The summary, what the report says of model, policy, filters and data, and when judging began."""
    from data_tools.pipeline import run as run_pipeline

    from ..progress import Progress as Shown
    from ..progress import shown

    asking = endpoint_options(config, run_dir.requests)
    backend, plan, told = ready(config, run_dir, backend, asking)
    spent = Spent(run_dir, asking.usage)
    refuse_taken_fields(shards, plan)
    told |= about_data(config, shards, plan, backend)
    started = time.monotonic()
    with shown(shards) as show:

        def look(progress: Shown) -> None:
            show(progress)
            remember_batch(run_dir, backend)
            spent.remember()

        watch.progress = look
        try:
            summary = run_pipeline(shards, plan, run_dir, watch)
        finally:
            spent.remember()
    return summary, told, started


def _by_workers(
    config: EnhanceConfig, shards: Sequence[Shard], run_dir: RunDir, watch: Watch, _: Backend | None
) -> tuple[Summary, dict[str, Any], float]:
    """As `_in_this_process`, by the workers of an engine."""
    from ..progress import shown

    with shown(shards) as show:
        watch.progress = show
        return run_engine(config, shards, run_dir, watch)
