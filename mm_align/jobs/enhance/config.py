"""What `mmalign enhance-data` is told: the pairs, the stages, the model, when to rewrite, what is written where."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ...choices import Keys
from ...config import JobConfig
from ..endpoint_fields import Concurrency, PriceIn, PriceOut, Timeout

DRY_ROWS = 20


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
    signals: list[str] = Field([], description="which signals the stages give, by group or name: image,text.words; default: all")
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
    policy: Annotated[str, Keys("data_tools/aitqe/policy.py", "POLICIES")] = Field("model", description="when to rewrite")
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
    format: Annotated[str, Keys("data_tools/io/face.py", "FORMATS")] | None = Field(
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
    fast_pictures: bool | None = Field(
        None, description="decode JPEG for signals by the extra `fast`: the same values for less (default: where it is installed)"
    )
    on_duplicate: Literal["keep", "quarantine"] = Field("keep", description="rows whose id came before")
    rescore: bool = Field(False, description="judge each rewrite once more, for the report's scores after")
    engine: Annotated[str, Keys("data_tools/engines/__init__.py", "ENGINES")] = Field(
        "local", description="who shares the shards: processes of this machine, or a Ray cluster"
    )
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
