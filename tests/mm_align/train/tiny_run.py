"""A tiny training run that a test can start in its own process or in several: `python tiny_run.py OUT KIND` under RANK and WORLD_SIZE."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import TrainerCallback, TrainingArguments

from mm_align.losses import Batch, LmObjective, LossOutput
from mm_align.losses.eeca import EecaObjective
from mm_align.losses.entity_classes import EntityClasses
from mm_align.models import LvlmForConditionalGeneration
from mm_align.train import ObjectiveTrainer, train_only
from mm_align.train.trainer import fsdp_config

PLACEHOLDER = 258  # the tiny tokenizer's last token
PARTS = ["vision_tower", "adapter", "language_model"]


def parts() -> Any:
    """tests/mm_align/conftest.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("tiny_parts", Path(__file__).parents[1] / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """24 rows of twelve tokens; of row i the last 1 + i % 5 train, and two rows of three show a picture of four tokens, of
    one of four entities."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        noise = torch.Generator().manual_seed(i)
        ids = torch.randint(0, 250, (12,), generator=noise)
        labels = ids.clone()
        labels[: 11 - i % 5] = -100
        row = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "entity": torch.tensor(i % 4)}
        if i % 3:
            ids[:4] = PLACEHOLDER
            row["pixel_values"] = torch.rand(1, 3, 16, 16, generator=noise)
        return row


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    batch = {key: torch.stack([row[key] for row in rows]) for key in ("input_ids", "attention_mask", "labels")}
    pictures = [row["pixel_values"] for row in rows if "pixel_values" in row]
    return batch | ({"pixel_values": torch.cat(pictures)} if pictures else {})


def labelled(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """`collate` with what EecaObjective.annotate gives: entities of two levels on the rows with a picture."""
    shown = torch.tensor(["pixel_values" in row for row in rows])
    entity = torch.stack([row["entity"] for row in rows])
    labels = {"entity": entity, "entity_levels": torch.stack([entity % 2, entity], 1), "entity_block": shown.cumsum(0) - 1}
    return collate(rows) | {
        name: value.masked_fill(~(shown if value.ndim == 1 else shown[:, None]), _NONE[name]) for name, value in labels.items()
    }


_NONE = {"entity": -100, "entity_levels": -100, "entity_block": -1}


def eeca(seed: int = 0) -> EecaObjective:
    torch.manual_seed(seed)
    names = ("e0", "e1", "e2", "e3")
    return EecaObjective(EntityClasses((("odd", "even"), names), names), [[1], [2], [3], [4, 5]], 32, contrast_width=8)


class Pull(LmObjective):
    """Language modelling over a learnt temperature, and a head that only pictures reach: both are the objective's own."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((), 0.1 + seed))
        self.head = nn.Parameter(torch.full((32,), 0.01))
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, model: nn.Module, batch: Batch) -> LossOutput:
        out = super().forward(model, batch)
        loss = out.loss * self.log_scale.exp()
        metrics = dict(out.metrics)
        if "pixel_values" in batch:  # the mean over units of: the head's square where the row shows a picture, 0 elsewhere
            shown = (batch["input_ids"] == PLACEHOLDER).any(1)
            loss = loss + self.head.square().sum() * self.units({"labels": batch["labels"][shown]}) / self.units(batch)
            metrics["head"] = self.head.sum()
        return LossOutput(loss, metrics)


def preference(work: Path) -> tuple[Any, Any, Any]:
    """24 pairs, two of three about one of four pictures, with a contrast under noise: scored data, collator, objective."""
    import numpy as np
    import PIL.Image

    from data_tools.preference import write_pairs
    from data_tools.records import Image, Message, Part, PreferencePair, Sample
    from mm_align.losses.preference import PreferenceObjective
    from mm_align.models import LvlmProcessor
    from mm_align.models.corruptions import Corruption
    from mm_align.train.pair_data import PairCollator, pair_set
    from mm_align.train.reference import Keys, ReferenceCache
    from mm_align.train.reference_scores import Scorer, fill, references_of
    from mm_align.train.sources import Source
    from vision.images import SquareImageProcessor

    work.mkdir(parents=True)
    for i in range(4):
        noise = np.random.default_rng(i).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(work / f"{i}.png")
    records = []
    for i in range(24):
        images = (Image(str(work / f"{i % 4}.png")),) if i % 3 else ()
        asked = Message("user", (*(Part("image") for _ in images), Part("text", f"{i}? ")))
        records.append(PreferencePair(Sample(f"p{i}", (asked,), images), "yes" * (1 + i % 5), "no" * (1 + i % 3), 1.0))
    write_pairs(work / "pairs.jsonl", records)
    processor = LvlmProcessor(SquareImageProcessor(size=16), parts().byte_tokenizer(), num_image_tokens=4)
    data = pair_set([Source(path=str(work / "pairs.jsonl"))], processor, quarantine=work / "gone.jsonl", shuffle=False)
    found, model = {}, make_model()
    for name, corruption in (("reference", None), ("contrast_reference", Corruption("noise", 0))):
        references = references_of(ReferenceCache(work / "reference", {"kind": name}), data, Keys(corruption))
        fill(references, data, Scorer(model, PairCollator(processor, corruption=corruption)), 4)
        found[name] = references
    data.references = found
    objective = PreferenceObjective(contrast_weight=0.5, anchor_weight=0.2, sft_weight=0.1)
    return data, PairCollator(processor, corruption=Corruption("noise", 0)), objective


class FirstGradients(TrainerCallback):
    """Keeps the gradients of the first step as they are when the optimiser would use them."""

    def __init__(self, objective: nn.Module) -> None:
        self.objective = objective
        self.seen: dict[str, torch.Tensor] = {}

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0:
            named = [*model.named_parameters(), *self.objective.named_parameters(prefix="objective")]
            self.seen = {name: whole(parameter.grad) for name, parameter in named if parameter.grad is not None}


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A copy, gathered where processes hold parts of it."""
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def make_model() -> Any:
    """The tests' tiny model with seeded weights, all of which train that anything reads."""
    tiny = parts()
    tokenizer = tiny.byte_tokenizer()
    assert tokenizer.convert_tokens_to_ids("<image>") == PLACEHOLDER
    torch.manual_seed(0)
    model = LvlmForConditionalGeneration(tiny.tiny_config(tokenizer)).eval()
    train_only(model, PARTS)
    return model


def make(
    out: Path,
    *,
    objective: Any = None,
    model: Any = None,
    fsdp: bool = False,
    schedule: Any = None,
    callbacks: Any = (),
    data: Any = None,
    collator: Any = None,
    **options: Any,
) -> Any:
    """A trainer of the tiny model (or of `model` as it is), by plain SGD unless the options say otherwise."""
    model = make_model() if model is None else model
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": 3,
        "learning_rate": 0.05,
        "lr_scheduler_type": "constant",
        "optim": "sgd",
        "max_grad_norm": 0.0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 3,
    }
    if fsdp:
        settings |= {"fsdp": True, "fsdp_config": fsdp_config(model)}
    args = TrainingArguments(**(settings | options))
    data = Rows() if data is None else data
    collator = collator or (labelled if isinstance(objective, EecaObjective) else collate)
    return ObjectiveTrainer(
        model, args, objective or LmObjective(), schedule=schedule, train_dataset=data, eval_dataset=data, data_collator=collator,
        callbacks=list(callbacks),
    )  # fmt: skip


def measured(out: Path, objective: Any, **options: Any) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Gradients of the first step, parameters after the last, losses of every step and of an evaluation."""
    first = FirstGradients(objective)
    trainer = make(out, objective=objective, callbacks=[first], **options)
    trainer.train()
    trainer.evaluate()
    named = [*trainer.model.named_parameters(), *objective.named_parameters(prefix="objective")]
    tensors = {f"gradient {name}": value for name, value in first.seen.items()}
    tensors |= {f"parameter {name}": whole(parameter) for name, parameter in named}
    return tensors, [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]


def main(out: Path, kind: str) -> None:
    """Two processes of four rows each; rank 0 writes what it measured."""
    rank = int(os.environ["RANK"])
    options: dict[str, Any] = {"per_device_train_batch_size": 4, "fsdp": "fsdp" in kind}
    if "pairs" in kind:
        options["data"], options["collator"], objective = preference(out / f"rank{rank}")
    else:
        objective = eeca(rank) if "eeca" in kind else Pull(rank)  # ranks start apart: rank 0 decides
    tensors, log = measured(out, objective, **options)
    if rank == 0:
        save_file(tensors, out / "tensors.safetensors")
        (out / "log.json").write_text(json.dumps(log))
    if kind in ("ddp", "fsdp"):
        halves = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
        tensors, _ = measured(out, Pull(), **(options | halves))
        if rank == 0:
            save_file(tensors, out / "accumulated.safetensors")
    if kind in ("ddp-resumed", "fsdp"):
        losses = resumed(out / "resumed", **options)
        if rank == 0:
            (out / "losses.json").write_text(json.dumps(losses))


def resumed(out: Path, **options: Any) -> list[list[float]]:
    """The losses of four steps at once; of the same with a checkpoint after two; and of the run continued from it. The last
    model is saved as `model`."""
    losses = []
    options = options | {"max_steps": 4, "optim": "adamw_torch", "learning_rate": 1e-2}
    for saving, start in (({}, None), ({"save_strategy": "steps", "save_steps": 2}, None), ({}, "checkpoint-2")):
        trainer = make(out, objective=Pull(), **(options | saving))
        trainer.train(str(out / start) if start else None)
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    trainer.save_model(str(out / "model"))
    return losses


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
