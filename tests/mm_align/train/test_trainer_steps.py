"""What a step does: schedules, losses that are no number, clipping, checkpointed activations, low-rank updates, metrics."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from mm_align.losses import Batch, LmObjective, LossOutput
from mm_align.train.lora import apply_lora
from mm_align.train.optim import train_only
from mm_align.train.own_optimizer import OwnOptimizer
from mm_align.train.schedules import SCHEDULES
from mm_align.train.stand_in import stand_in_for
from mm_align.train.trainer import fsdp_config


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def logged(trainer: Any, key: str = "loss") -> list[float]:
    return [entry[key] for entry in trainer.state.log_history if key in entry]


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_schedule_sets_the_rate(name: str, tiny: Any, tmp_path: Path) -> None:
    schedule = SCHEDULES[name](warmup=2)
    trainer = tiny.make(tmp_path, schedule=schedule, max_steps=6, learning_rate=0.01)
    trainer.train()
    assert logged(trainer, "learning_rate") == pytest.approx([0.01 * schedule.lr_factor(step, 6) for step in range(6)])


class Breaks(LmObjective):
    """Its loss is `value` from the third batch on."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value, self.batches = value, 0

    def forward(self, model: Any, batch: Batch) -> LossOutput:
        self.batches += 1
        out = super().forward(model, batch)
        return LossOutput(out.loss * (self.value if self.batches > 2 else 1.0))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(value: float, tiny: Any, tmp_path: Path) -> None:
    trainer = tiny.make(tmp_path, objective=Breaks(value), per_device_train_batch_size=2)
    with pytest.raises(FloatingPointError, match=f"the loss of step 3 is {value}; the weights are still those of step 2"):
        trainer.train()
    sound = tiny.make(tmp_path, per_device_train_batch_size=2, max_steps=2)
    sound.train()
    assert all(torch.equal(value, weights(sound)[name]) for name, value in weights(trainer).items())


def test_a_step_without_targets_changes_nothing(tiny: Any, tmp_path: Path) -> None:
    trainer = tiny.make(tmp_path, max_steps=1, per_device_train_batch_size=2)
    collate = trainer.data_collator
    trainer.data_collator = lambda rows: (batch := collate(rows)) | {"labels": torch.full_like(batch["labels"], -100)}
    before = weights(trainer)
    trainer.train()
    assert logged(trainer) == [0]
    assert all(torch.equal(value, before[name]) for name, value in weights(trainer).items())


def test_the_objective_is_clipped_by_itself(tiny: Any, tmp_path: Path) -> None:
    """One step of SGD at rate 1 with both norms above 0.01: the model moves by 0.01, and so does the objective."""
    objective = tiny.Pull()
    own = [p.detach().clone() for p in objective.parameters()]
    trainer = tiny.make(tmp_path, objective=objective, max_steps=1, learning_rate=1.0, max_grad_norm=0.01)
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = torch.stack([(p - before[name]).norm() for name, p in trainer.model.named_parameters()]).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-2)
    moved = torch.stack([(p - start).norm() for p, start in zip(objective.parameters(), own, strict=True)]).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("case", ["adapter", "everything", "lora", "lora of both"])
def test_checkpointed_activations_change_nothing(case: str, tiny: Any, tmp_path: Path) -> None:
    """Also where the layers' inputs need no gradient of their own: a frozen language model, low-rank updates of a frozen tower."""

    def run(checkpointing: bool) -> Any:
        model = tiny.make_model()
        parts = {
            "adapter": ["adapter"],
            "everything": tiny.PARTS,
            "lora": ["language_model"],
            "lora of both": ["vision_tower", "language_model"],
        }
        if "lora" in case:
            torch.manual_seed(1)
            apply_lora(model, {"r": 2, "dropout": 0.0}, parts[case])
        train_only(model, parts[case])
        trainer = tiny.make(tmp_path, model=model, max_steps=2, activation_checkpointing=checkpointing)
        before = weights(trainer)
        trainer.train()
        moved = {name for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
        return weights(trainer), moved

    plain, moved = run(False)
    checkpointed, moved_too = run(True)
    assert moved == moved_too
    assert moved
    assert all(torch.allclose(value, checkpointed[name], atol=1e-6) for name, value in plain.items())


def test_low_rank_updates_resume_bit_for_bit(tiny: Any, tmp_path: Path) -> None:
    """With dropout, an adapter that trains whole beside them, and a stop in the second epoch."""

    def make(**options: Any) -> Any:
        model = tiny.make_model()
        torch.manual_seed(1)
        apply_lora(model, {"r": 2, "alpha": 4, "dropout": 0.5})
        train_only(model, ["adapter", "language_model"])
        return tiny.make(tmp_path, model=model, max_steps=6, optim="adamw_torch", learning_rate=1e-2, **options)

    whole = make()
    whole.train()
    make(save_strategy="steps", save_steps=4).train()
    rest = make()
    rest.train(str(tmp_path / "checkpoint-4"))
    assert logged(rest) == logged(whole)
    assert all(torch.equal(value, weights(rest)[name]) for name, value in weights(whole).items())
    assert any(value.abs().sum() > 0 for name, value in weights(whole).items() if "lora_B" in name)


@pytest.mark.parametrize("stop", [2, 3, 5])
def test_a_run_resumes_in_every_part_of_an_epoch(stop: int, tiny: Any, tmp_path: Path) -> None:
    """Epochs of three steps: stopped inside the first, between two, and inside the second."""
    options = {"max_steps": 6, "optim": "adamw_torch", "learning_rate": 1e-2}
    whole = tiny.make(tmp_path, **options)
    whole.train()
    tiny.make(tmp_path, save_strategy="steps", save_steps=stop, **options).train()
    rest = tiny.make(tmp_path, **options)
    rest.train(str(tmp_path / f"checkpoint-{stop}"))
    assert logged(rest) == logged(whole)
    assert all(torch.equal(value, weights(rest)[name]) for name, value in weights(whole).items())


class Sometimes(LmObjective):
    """A metric that only batches with pictures give: how many."""

    def forward(self, model: Any, batch: Batch) -> LossOutput:
        out = super().forward(model, batch)
        pictures = {"pictures": torch.tensor(float(len(batch["pixel_values"])))} if "pixel_values" in batch else {}
        return LossOutput(out.loss, pictures)


def test_metrics_are_means_over_the_batches_that_give_them(tiny: Any, tmp_path: Path) -> None:
    """Row by row, every third without a picture: where there is one, it is one. An epoch without any gives none."""
    trainer = tiny.make(tmp_path, objective=Sometimes(), max_steps=1, per_device_train_batch_size=1, gradient_accumulation_steps=8)
    trainer.train()
    assert logged(trainer, "pictures") == [1.0]
    losses = trainer.evaluate()
    assert losses["eval_pictures"] == pytest.approx(16 / 3, abs=0.5)
    trainer.eval_dataset = [tiny.Rows()[0]]
    assert "eval_pictures" not in trainer.evaluate()


def test_the_evaluation_loss_is_over_tokens(tiny: Any, tmp_path: Path) -> None:
    """Rows train 1 to 5 tokens: row by row and all at once give the same, where a mean of means would not."""
    losses = [tiny.make(tmp_path, per_device_eval_batch_size=size).evaluate()["eval_loss"] for size in (1, 5, 24)]
    assert losses[0] == pytest.approx(losses[2], rel=1e-5)
    assert losses[1] == pytest.approx(losses[2], rel=1e-5)


def test_the_best_checkpoint_brings_its_objective(tiny: Any, tmp_path: Path) -> None:
    """Evaluated at every step while the rate is far too high: the first step is the best one."""
    objective = tiny.Pull()
    every_step = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    trainer = tiny.make(tmp_path, objective=objective, learning_rate=30.0, load_best_model_at_end=True, **every_step)
    trainer.train()
    best = trainer.state.best_model_checkpoint
    assert best is not None
    assert Path(best).name != "checkpoint-3"
    fresh = tiny.make(tmp_path, objective=tiny.Pull())
    fresh._load_objective(Path(best))
    assert torch.equal(fresh.objective.log_scale, objective.log_scale)


def test_nothing_that_trains_is_refused(tiny: Any, tmp_path: Path) -> None:
    model = tiny.make_model()
    train_only(model, [])
    with pytest.raises(ValueError, match="nothing trains: every parameter of the model is frozen"):
        tiny.make(tmp_path, model=model).train()


def test_the_table_of_a_run(tiny: Any, tmp_path: Path) -> None:
    table = tiny.make(tmp_path, objective=tiny.Pull()).summary()
    assert table.splitlines()[0].split() == ["part", "parameters", "trainable", "lr", "weight", "decay"]
    assert "objective" in table


@pytest.mark.parametrize("where", ["DeepSpeed", "FSDP with fp16"])
def test_parameters_without_a_place_are_refused(where: str, tiny: Any, tmp_path: Path) -> None:
    trainer = tiny.make(tmp_path, objective=tiny.Pull())
    trainer.is_deepspeed_enabled, trainer.is_fsdp_enabled, trainer.args.fp16 = where == "DeepSpeed", True, True
    with pytest.raises(ValueError, match=f"Pull has parameters of its own, which {where}.* cannot train"):
        trainer._share_own_parameters()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW])
def test_an_optimiser_apart_follows_the_schedule_and_continues(kind: Any, tmp_path: Path) -> None:
    """Half of the model's peak is half of its own; two steps, a stop and one more are three steps."""

    def make() -> tuple[Any, torch.nn.Parameter]:
        parameter = torch.nn.Parameter(torch.ones(3))
        return OwnOptimizer(kind([{"params": [parameter], "name": "objective"}], lr=0.5)), parameter

    model = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    model.param_groups[0] |= {"initial_lr": 0.2, "lr": 0.1}

    def step(own: Any, parameter: torch.nn.Parameter) -> None:
        parameter.grad = parameter.detach().square()
        own.on_optimizer_step(None, None, None, optimizer=model)

    whole, expected = make()
    for _ in range(3):
        step(whole, expected)
    assert whole.optimizer.param_groups[0]["lr"] == 0.25
    first, parameter = make()
    step(first, parameter)
    step(first, parameter)
    first.save(tmp_path)
    rest, continued = make()
    rest.load(tmp_path)
    continued.data.copy_(parameter)
    step(rest, continued)
    assert torch.equal(continued, expected)
    with pytest.raises(FileNotFoundError, match="written without FSDP, or for another objective"):
        rest.load(tmp_path / "nowhere")


def test_units_of_fsdp_are_the_layers_that_the_model_has(tiny: Any) -> None:
    wrapped = fsdp_config(tiny.make_model())["transformer_layer_cls_to_wrap"]
    assert {"Qwen2DecoderLayer", "SiglipEncoderLayer"} <= set(wrapped)
    assert "SiglipMultiheadAttentionPoolingHead" not in wrapped  # one that this tower lacks


def test_a_stand_in_picture_changes_nothing_but_what_runs(tiny: Any) -> None:
    """Text alone, with and without the stand-in: the same logits and gradients, and zeros where there were none."""

    def run(stands: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor | None]]:
        model = tiny.make_model()
        batch = {key: value for key, value in tiny.collate([tiny.Rows()[0]]).items() if key != "labels"}
        stand_in = stand_in_for(model)
        assert stand_in is not None
        logits = model(**(stand_in.fill(batch) if stands else batch)).logits
        logits.square().sum().backward()
        return logits, {name: p.grad for name, p in model.named_parameters() if p.requires_grad}

    (logits, gradients), (plain, without) = run(True), run(False)
    assert torch.equal(logits, plain)
    assert all(gradient is not None for gradient in gradients.values())
    for name, gradient in without.items():
        given = gradients[name]
        assert given is not None
        assert torch.equal(given, torch.zeros_like(given) if gradient is None else gradient)
    assert any(gradient is None for gradient in without.values())


def test_pictures_need_no_stand_in(tiny: Any) -> None:
    model = tiny.make_model()
    stand_in = stand_in_for(model)
    assert stand_in is not None
    batch = tiny.collate([tiny.Rows()[1]])
    assert stand_in.fill(batch) == batch
    assert model.model.visual_tokens(batch["pixel_values"]).mask.all()
    assert stand_in_for(torch.nn.Linear(2, 2)) is None
