"""Before `mmalign train` takes a step: what cannot work is refused, then model, data and objective are made ready."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError
from ...options import nearest
from .arguments import batches, in_bf16, total_steps
from .folder import BROKEN, BROKEN_EVAL, CACHE
from .objective import make_objective, objective_class, reads_pairs
from .pairs import check_pairs, pair_collator

if TYPE_CHECKING:
    import torch

    from ...evals import Benchmark
    from ...losses import Objective
    from ...models import LvlmForConditionalGeneration, LvlmProcessor
    from ...train.data import TrainingSet
    from .config import TrainConfig

log = logging.getLogger(__name__)


class Ready(NamedTuple):
    """What a run is made of."""

    model: LvlmForConditionalGeneration
    processor: LvlmProcessor
    objective: Objective
    data: TrainingSet
    eval_data: TrainingSet | None
    suites: Mapping[str, Benchmark]
    collate: Callable[[Sequence[Any]], dict[str, torch.Tensor]]


def check_options(config: TrainConfig) -> None:
    """What can be refused before anything is loaded."""
    from data_tools.io.paths import REMOTE

    if REMOTE.match(config.out):
        raise UserError(f"--out '{config.out}' is no local folder; write to one and copy the result to where it belongs")
    if config.select_by and not (config.eval_data or config.eval_suites):
        raise UserError("select_by chooses among evaluations: give eval_data or eval_suites")
    for tracker in config.report_to:
        if find_spec(tracker) is None:
            raise UserError(f"report_to names {tracker}, which is not installed: pip install {tracker}, or leave it away")
    if config.lora is not None and find_spec("peft") is None:
        raise UserError("lora needs peft: pip install 'mm-align[lora]'")
    idle = sorted(set(config.lora.parts) - set(config.train)) if config.lora is not None else []
    if idle:
        raise UserError(f"lora puts updates into the {idle[0]}, which `train` does not list, so they would never move: add it there")


def ready(config: TrainConfig, root: Path, world: int) -> Ready:
    """Model, processor, data and objective; frozen and with low-rank updates as the config says. UserError for bad input."""
    from .model import build
    from .suites import check_evaluated, check_selection, suites

    check_names(config)
    if reads_pairs(config):
        check_pairs(config)
    built = suites(config.eval_suites)
    check_selection(config, built)
    model, processor = build(config.model, config.seed)
    if config.model.from_ and config.model.adapter:
        log.info("%s with another adapter, which starts from random weights", config.model.from_)
    data, eval_data = read_data(config, processor, root)
    check_films(config, [rows for rows in (data, eval_data) if rows is not None])
    steps = total_steps(config, len(data), world)
    check_evaluated(config, steps)
    objective = make_objective(config, model, processor, data)
    settle_weights(config, model, objective, steps, world)
    return Ready(model, processor, objective, data, eval_data, built, collator(config, processor, objective))


def settle_weights(config: TrainConfig, model: LvlmForConditionalGeneration, objective: Objective, steps: int, world: int) -> None:
    """Low-rank updates, what is frozen and in which dtype. UserError for what does not fit the model or the run's length."""
    from ...train.lora import apply_lora
    from ...train.optim import parameter_groups, train_only
    from ...train.packing import check_packing

    try:
        if config.packing:
            check_packing(model, min(2, batches(config.batch_size, config.micro_batch, world).micro))
        if config.lora is not None:
            apply_lora(model, config.lora.model_dump(exclude={"parts"}), config.lora.parts)
        train_only(model, config.train)
        groups = parameter_groups(model, objective, lr=config.lr, weight_decay=config.weight_decay, lrs=config.lrs)
        for step in (0, steps):  # phases longer than the run show at one of its ends
            config.schedule.lr_factor(step, steps)
    except (ValueError, IndexError) as error:
        raise UserError(str(error)) from error
    if not groups:
        raise UserError(f"nothing trains: `train` is {config.train}; list vision_tower, adapter, language_model or patterns of names")
    if in_bf16(config) and not config.fsdp:  # its units hold frozen and moving weights together, in one dtype
        halve_frozen(model)


def check_films(config: TrainConfig, read: Sequence[TrainingSet]) -> None:
    """UserError where rows show films to an objective that knows pictures only."""
    paths = [source["path"] for rows in read for source in rows.report["sources"] if source.get("films")]
    if paths and not objective_class(config).films:
        raise UserError(f"objective {config.objective['type']} is about pictures, and {paths[0]} holds films; train on them with lm")


def check_names(config: TrainConfig) -> None:
    """UserError for an optimiser that the library does not have, and for a rate of a part that no model has."""
    from transformers.training_args import OptimizerNames

    from ...train.optim import PARTS

    known = [name.value for name in OptimizerNames]
    if config.optimizer not in known:
        alike = [name for name in known if name.startswith(config.optimizer[:4])]  # the nearest of adamww would be grokadamw
        raise UserError(f"unknown optimizer '{config.optimizer}'; known: {', '.join(alike or known)}")
    parts = [*PARTS, "other", "objective"]
    for part in config.lrs:
        if part not in parts:
            raise UserError(f"lrs: unknown part {part}; {nearest(part, parts)}")
    check_adapter(config.model.adapter or {})


def check_adapter(options: Mapping[str, Any]) -> None:
    """UserError for an option whose value is of another type. Names are for `build_adapter`."""
    from vision.adapters import ADAPTERS

    from ...options import check_types

    kind = str(options.get("type"))
    try:
        if kind in ADAPTERS:
            check_types(f"adapter '{kind}'", ADAPTERS[kind], options)
    except ValueError as error:
        raise UserError(str(error)) from error


def halve_frozen(model: Any) -> None:
    """Frozen weights in bfloat16: half the memory, and no cast at every use. What trains stays in float32."""
    import torch

    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


def collator(config: TrainConfig, processor: LvlmProcessor, objective: Objective) -> Callable[[Sequence[Any]], dict[str, torch.Tensor]]:
    """What makes batches of the data set's items."""
    from ...train.data import Collator

    return Collator(processor, objective.annotate) if objective.records == "samples" else pair_collator(config, processor, objective)


def read_data(config: TrainConfig, processor: LvlmProcessor, root: Path) -> tuple[TrainingSet, TrainingSet | None]:
    """The training rows and the evaluation rows, and what left of them with its reason in `quarantine/`. UserError where none is left."""
    from data_tools.io import SourceError

    from ...train.data import training_set
    from ...train.pair_data import pair_set

    common: dict[str, Any] = {"max_length": config.max_length, "seed": config.seed, "cache": root / CACHE}
    # grouped by whole steps, in which lengths are sorted, so that the order does not depend on the number of processes
    shape: dict[str, Any] = {"length_grouping": config.length_grouping, "batch_size": config.batch_size}
    made: Callable[..., TrainingSet] = pair_set
    if not reads_pairs(config):
        made, common, shape = training_set, common | {"too_long": config.too_long}, shape | {"packing": config.packing}
    try:
        data = made(config.data, processor, quarantine=root / BROKEN, **shape, **common)
        log.info("%s", data.summary())
        if not config.eval_data:
            return data, None
        return data, made(config.eval_data, processor, quarantine=root / BROKEN_EVAL, shuffle=False, **common)
    except (SourceError, ValueError) as error:
        raise UserError(f"the training data: {_with_reason(str(error), root, config.dry_run)}") from error
    except FileNotFoundError as error:
        raise UserError(f"the training data: no file {error.filename}") from error


def _with_reason(message: str, root: Path, dry: bool) -> str:
    """The message with the reason of the first row; without the file that says why of each where a dry run deletes it."""
    for file in (root / BROKEN_EVAL, root / BROKEN):
        said = f"{file} says why of each"
        if said in message:
            lines = file.read_text(encoding="utf-8").splitlines()
            told = [_first(json.loads(lines[0]))] if lines else []
            return message.replace(f"; {said}", "".join(f"; {part}" for part in [*told, *([] if dry else [said])]))
    return message


def _first(row: Mapping[str, Any]) -> str:
    return f"the first, row {row['source']['row']} of {row['source']['shard']}, is {row['reason']}: {row['detail']}"
