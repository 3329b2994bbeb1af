"""`mmalign memory --train`: a training run's own config, its model without weights, and what a step of it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError, find_config, load, read_yaml
from .. import TRAIN_RECIPES
from ..train.arguments import batches
from ..train.config import TrainConfig
from .cards import trained_on
from .memory import MemoryReport, reported
from .models import to_train

if TYPE_CHECKING:
    from ...models.memory import Part
    from ...train.footprint import Peak, Sizes, Step
    from .memory import MemoryConfig

FEW = (2, 4)  # decoder layers that stand for many; an even step, since kinds of layers may take turns
NEW_MODEL = ("from", "vision", "text", "revision", "tokenizer", "image_token")  # what a named model replaces of the config's


def training(config: MemoryConfig) -> MemoryReport:
    """The busiest moment of a step on one device. UserError for a config or a model that is not at hand."""
    train = train_config(config)
    counted = Counted(config)
    parts = counted.parts(train, config.processes)
    cards = [trained_on(card, train, config.processes, counted.bytes) for card in config.device_memory]
    whole = counted.shape(train).sizes
    micro, accumulation = batches(train.batch_size, train.micro_batch, config.processes)
    each = f"{micro} row{'s' if micro > 1 else ''} a forward x {accumulation}" + (
        f", {config.processes} processes" if config.processes > 1 else ""
    )
    return reported(f"training by {config.train}, {counted.told}: {each}", parts, cards, notes(train, 4 * (whole.trained + whole.frozen)))


def train_config(config: MemoryConfig) -> TrainConfig:
    """What `mmalign train` would read, with the changes, of the named model where one is named."""
    layer = read_yaml(find_config(str(config.train), *TRAIN_RECIPES))
    if config.model is not None:
        model = {key: value for key, value in (layer.get("model") or {}).items() if key not in NEW_MODEL}
        layer = layer | {"model": model | {"from": config.model}}
    return load(TrainConfig, {"out": "."}, layer, config.change)


def notes(train: TrainConfig, whole: int) -> list[str]:
    """What is assumed, and what is not in the sum. whole: bytes of all weights in float32."""
    from ...models.memory import shown

    kind = str(train.objective.get("type"))
    told = ["assumed: rows of full length, fused attention; tokens, answer_tokens and pictures say otherwise"]
    told.append(f"memory of the machine: each process reads all weights in float32 first, {shown(whole)}")
    if kind == "eeca":
        told.append("not counted: the heads of the EECA objective, whose classes are the data's")
    if kind == "preference":
        told.append("reference model: none in memory during training; its scores are made before the first step and kept in a file")
    return told


class Shape(NamedTuple):
    """Of a model: its numbers of parameters, the tokens of a picture, the layers of its decoder."""

    sizes: Sizes
    picture: int
    layers: int


def _weights(train: TrainConfig) -> tuple[Any, ...]:
    """By what models of one command differ: which weights there are, and which of them train."""
    return str(train.lora), tuple(train.train)


def _drawn_out(train: TrainConfig, shape: Shape) -> bool:
    """Whether a few of the decoder's layers are counted for all: where there are many, and no tower has trained layers of its own."""
    return shape.layers > 2 * FEW[1] and set(train.train) <= {"adapter", "language_model"}


class Counted:
    """Bytes of runs that differ from each other in switches; what was counted once is not counted again."""

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config
        self.told = ""
        self._shapes: dict[Any, Shape] = {}
        self._few: dict[Any, Any] = {}
        self._peaks: dict[Any, Peak] = {}

    def bytes(self, train: TrainConfig, processes: int, room: int) -> int:
        """On one device; what stays over the steps alone where that is more than `room` already."""
        from ...train.footprint import states

        shape = self.shape(train)
        staying = states(shape.sizes, self._step(train, processes, shape.picture))
        least = staying.trained_bytes + staying.frozen_bytes + staying.moments
        return least if least > room else sum(part.bytes for part in self.parts(train, processes))

    def parts(self, train: TrainConfig, processes: int) -> list[Part]:
        """See `mm_align.train.footprint`. UserError for switches that contradict each other."""
        from ...train.footprint import parts_of

        shape = self.shape(train)
        step = self._step(train, processes, shape.picture)
        drawn_out = _drawn_out(train, shape)  # then no gradients are kept from one forward to the next
        key = (step._replace(processes=1, accumulation=1 if drawn_out else min(step.accumulation, 2)), *_weights(train))
        if key not in self._peaks:
            self._peaks[key] = self._peak(train, step, shape)
        return parts_of(shape.sizes, step, self._peaks[key])

    def _peak(self, train: TrainConfig, step: Step, shape: Shape) -> Peak:
        """Counted whole, or with a few decoder layers and drawn out."""
        from ...train.footprint import deeper, peak_of

        if not _drawn_out(train, shape):
            return peak_of(self._model(train), step)
        few, more = (peak_of(self._shallow(train, count), step, keep=False) for count in FEW)
        return deeper(few, more, (*FEW, shape.layers), 0 if step.fsdp else 4 * shape.sizes.trained)

    def shape(self, train: TrainConfig) -> Shape:
        from ...train.footprint import sizes_of

        key = _weights(train)
        if key not in self._shapes:
            model = self._model(train)
            self._shapes[key] = Shape(sizes_of(model), model.config.num_image_tokens, model.config.text_config.num_hidden_layers)
        return self._shapes[key]

    def _shallow(self, train: TrainConfig, layers: int) -> Any:
        """The model with so many decoder layers; made once for each way of checkpointing, which stays with a model."""
        key = (layers, train.gradient_checkpointing, *_weights(train))
        if key not in self._few:
            self._few[key] = self._model(train, layers)
        return self._few[key]

    def _model(self, train: TrainConfig, layers: int | None = None) -> Any:
        """Without weights, with low-rank updates and frozen parts as the run has them. layers: so many of the decoder's."""
        import torch

        from ...train.lora import apply_lora
        from ...train.optim import train_only
        from ..train.setup import check_options

        check_options(train)
        try:
            model, self.told = to_train(train.model, layers)
        except UserError as error:
            if self.config.model is not None:
                raise
            raise UserError(f"{error}\nName the model before --train: mmalign memory MODEL --train {self.config.train}") from error
        try:
            if train.lora is not None:
                with torch.device("meta"):  # elsewhere peft draws the start of every update
                    apply_lora(model, train.lora.model_dump(exclude={"parts"}), train.lora.parts)
            train_only(model, train.train)
        except ValueError as error:
            raise UserError(str(error)) from error
        return model

    def _step(self, train: TrainConfig, processes: int, picture: int) -> Step:
        from ...train.footprint import Step
        from ..train.objective import objective_class

        micro, accumulation = batches(train.batch_size, train.micro_batch, processes)
        seen, tokens = picture * self.config.pictures, self.config.tokens or train.max_length
        answered = tokens - seen if self.config.answer_tokens is None else self.config.answer_tokens
        if not 0 < answered <= tokens - seen:
            room = f"a row of {tokens} tokens has no room for {seen} of pictures and {max(answered, 1)} of answers"
            raise UserError(f"{room}; change --tokens, --pictures or --answer-tokens")
        pairs = objective_class(train).records == "pairs"
        rows = micro
        if pairs and train.pair_layout == "shared":  # the prompt once, both answers
            tokens, answered = tokens + answered, 2 * answered
        elif pairs:
            rows = 2 * micro
        return Step(
            rows,
            tokens,
            answered,
            pictures=self.config.pictures,
            pairs=pairs,
            bf16=train.precision == "bf16" or (train.precision == "auto" and train.device == "auto"),
            checkpointing=train.gradient_checkpointing,
            accumulation=accumulation,
            processes=processes,
            fsdp=train.fsdp,
            optimizer=train.optimizer,
            foreach=train.device == "auto" and "fused" not in train.optimizer,
        )
