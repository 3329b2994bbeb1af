"""What `mmalign train` can be told: the model, the data, the objective, and how the weights move."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from ...config import JobConfig
from ...train.schedules.choice import ScheduleConfig
from ...train.schedules.cosine import CosineSchedule
from ...train.sources import Source

PARTS_HELP = "vision_tower, adapter, language_model, or patterns of parameter names (*.layers.0.*)"


class ModelConfig(JobConfig):
    """A model that is there (`from`), or the parts to make one of (`vision`, `text`); `adapter` beside `from` replaces its own."""

    from_: str | None = Field(None, alias="from", description="folder, hub id or bundled name: a model of this toolkit, or LLaVA")
    revision: str | None = Field(None, description="hub revision of `from`")
    vision: dict[str, Any] | None = Field(None, description="tower: {from: folder or hub id} or {model_type or library: ..., sizes}")
    text: dict[str, Any] | None = Field(None, description="language model: {from: folder or hub id} or {model_type: ..., sizes}")
    adapter: dict[str, Any] | None = Field(None, description="{type: mlp, options}; the types: docs/methods.md (default: mlp)")
    branches: list[dict[str, Any]] | None = Field(None, description="ways of reading a picture: [{image_size: 336}, {crops: 2}]")
    more_towers: dict[str, dict[str, Any]] | None = Field(None, description="further towers, by the name that branches use")
    feature_layer: int | None = Field(None, description="layer of the tower that is read (default: -2)")
    keep_cls: bool | None = Field(None, description="keep the class token (default: no)")
    video: dict[str, Any] | None = Field(
        None,
        description="how films are shown: {frames: 16, times: mm_ss, reducer: {type: tome, keep: 16}}; docs/video.md (default: 8 frames)",
    )
    aspect: Literal["squash", "pad", "crop"] | None = Field(
        None, description="how a picture becomes a square: squash, pad, crop (default: squash)"
    )
    image_mean: list[float] | None = Field(None, description="pixel mean (default: that of the tower's checkpoint, else 0.5)")
    image_std: list[float] | None = Field(None, description="pixel standard deviation (default: that of the tower's checkpoint, else 0.5)")
    tokenizer: str | None = Field(None, description="folder, hub id or bundled name (default: the language model's)")
    image_token: str | None = Field(
        None, description="the token that stands for one visual token, added where the tokenizer lacks it (default: `<image>`)"
    )
    prompt_style: Literal["plain", "chat"] | None = Field(
        None, description="plain: picture, newline, text; chat: a template (default: chat where the tokenizer has one)"
    )
    chat_template: str | None = Field(None, description="vicuna, chatml, or a file with a Jinja template (default: the tokenizer's)")

    @model_validator(mode="after")
    def one_or_the_other(self) -> ModelConfig:
        if self.from_ is None and (self.vision is None or self.text is None):
            raise ValueError("give `from`, or both `vision` and `text`")
        if self.from_ is not None and (self.vision or self.text):
            raise ValueError("`from` brings its tower and language model: leave `vision` and `text` away, or leave `from` away")
        if self.from_ is not None and (self.tokenizer or self.image_token):
            raise ValueError("`from` brings its tokenizer and image token: leave `tokenizer` and `image_token` away, or leave `from` away")
        if any(key in branch for branch in self.branches or [] for key in ("given_mean", "given_std")):
            raise ValueError("`given_mean` and `given_std` of a branch are those of the pixels: write `image_mean` and `image_std` instead")
        if self.from_ is None and self.revision:
            raise ValueError(
                "`revision` is that of `from`, which is not given; of a language model write `text: {from: ..., revision: ...}`"
            )
        return self


class LoraConfig(JobConfig):
    """Low-rank updates of the linear layers of some parts (arXiv 2106.09685) in place of training all of them."""

    parts: list[Literal["language_model", "vision_tower"]] = Field(
        ["language_model"], description="language_model, vision_tower, or both; list them in `train` too"
    )

    r: int = Field(128, ge=1, description="rank")
    alpha: int = Field(256, ge=1, description="scale: updates are multiplied by alpha / r")
    dropout: float = Field(0.05, ge=0, lt=1, description="dropout before the update")
    targets: list[str] | None = Field(None, description="names of linear layers (default: every one of the parts but the output head)")


class TrainConfig(JobConfig):
    """One training run: pretraining of an adapter, instruction tuning, EECA and preference pairs are the same job with other values."""

    out: str = Field(description="folder for checkpoints, logs and the final model; the same command continues an unfinished run")
    model: ModelConfig = Field(description="what is trained")
    data: list[Source] = Field(min_length=1, description="sources: [{path: FILE or FOLDER, weight: 1, prompt: Describe it.}]")
    eval_data: list[Source] = Field([], description="sources of the evaluation loss, same keys")
    objective: dict[str, Any] = Field({"type": "lm"}, description="{type: lm | eeca | preference, options}")
    reference: str | None = Field(None, description="of pairs: folder of reference scores, read and added to (default: in the run's own)")
    pair_layout: Literal["shared", "duplicated"] = Field(
        "shared", description="of pairs: prompt and both answers in one row, where the model can; or a row for each answer"
    )
    contrast: Literal["crop", "noise", "black"] = Field("crop", description="of pairs: what an image-contrast term does to pictures")
    save_objective: bool = Field(False, description="write the objective's own weights beside the final model")
    train: list[str] = Field(["adapter", "language_model"], description=f"what trains: {PARTS_HELP}")
    lora: LoraConfig | None = Field(None, description="train parts by LoRA: {r: 128, alpha: 256, parts: [language_model]}")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    lrs: dict[str, float] = Field({}, description="other peak rates of parts: {adapter: 2e-5}; `objective` is one too")
    weight_decay: float = Field(0.0, ge=0, description="of matrices; biases and norms have none")
    max_grad_norm: float = Field(1.0, ge=0, description="gradients are scaled down to this norm (0: never)")
    optimizer: str = Field("adamw_torch", description="adamw_torch, adamw_torch_fused, sgd, or another of transformers")
    schedule: ScheduleConfig = Field(
        CosineSchedule.model_validate({}), description="{type: cosine | linear | constant | wsd, warmup: 0.03, ...}"
    )
    epochs: float = Field(1.0, gt=0, description="passes over the data")
    steps: int | None = Field(None, ge=1, description="optimiser steps; decides instead of epochs")
    batch_size: int = Field(128, ge=1, description="rows of one optimiser step, over all processes")
    micro_batch: int | None = Field(None, ge=1, description="rows of one forward (default: the largest that fits the batch, at most 8)")
    max_length: int = Field(2048, ge=8, description="tokens of a row (of a pack), picture tokens included")
    too_long: Literal["drop", "cut"] = Field("drop", description="rows beyond max_length: to quarantine, or cut, never through a picture")
    packing: bool = Field(False, description="several short rows in one sequence, which do not see each other")
    length_grouping: bool = Field(False, description="rows of similar length in one batch")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU, fp32 elsewhere")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    fsdp: bool = Field(False, description="spread weights, gradients and optimiser over the processes (FSDP2)")
    device: Literal["auto", "cpu"] = Field("auto", description="auto: the accelerator where there is one")
    log_steps: int = Field(10, ge=1, description="steps between lines of the log")
    save_steps: int = Field(500, ge=1, description="steps between checkpoints")
    keep: int = Field(2, ge=1, description="checkpoints that are kept, the best one beside them")
    eval_steps: int = Field(500, ge=1, description="steps between evaluations")
    eval_suites: list[str | dict[str, Any]] = Field([], description="benchmarks run at evaluations: [{type: qa, data: FILE}]")
    select_by: str | None = Field(None, description="choose the checkpoint with the best of this: qa/accuracy, objects/f1, eval_loss")
    select_limits: dict[str, float] = Field(
        {}, description="choose among checkpoints that are no worse than this, where there is one: {objects/coverage: 0.9}"
    )
    select_ties: Literal["first", "last"] = Field("first", description="which of equally good checkpoints is chosen")
    show_answers: int = Field(4, ge=0, description="rows of eval_data answered and written to samples.jsonl at each evaluation")
    answer_tokens: int = Field(64, ge=1, description="longest answer in evaluations")
    report_to: list[Literal["tensorboard", "wandb", "trackio"]] = Field([], description="trackers to log to, where installed")
    workers: int = Field(0, ge=0, description="processes that load pictures")
    seed: int = Field(0, description="of initial weights and of the order of rows")
    dry_run: bool = Field(False, description="show parameters, the first row with its loss marks, steps and memory; write nothing")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out, and nothing else")
