"""The trainer: it knows no method, accumulates exactly, resumes bit for bit, and keeps the objective out of exports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from mm_align.losses import Batch, LmObjective, LossOutput, Objective
from mm_align.train import ObjectiveTrainer, parameter_groups, train_only


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Twelve rows of nine bytes; of row i, the last 1 + i % 5 tokens train."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(0, 250, (9,), generator=torch.Generator().manual_seed(i))
        labels = ids.clone()
        labels[: 8 - i % 5] = -100
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


class Scaled(LmObjective):
    """A method with a parameter of its own: the loss times a learnt positive number, plus its distance from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.ones(()))

    def forward(self, model: nn.Module, batch: Batch) -> LossOutput:
        out = super().forward(model, batch)
        return LossOutput(out.loss * self.log_scale.exp(), {**out.metrics, "scale": self.log_scale.exp()})


def collate(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {key: torch.stack([row[key] for row in rows]) for key in rows[0]}


@pytest.fixture
def trainer(make_model: Callable[..., Any], tmp_path: Path) -> Callable[..., ObjectiveTrainer]:
    def make(objective: Objective | None = None, lr_scale: dict[str, float] | None = None, **options: Any) -> ObjectiveTrainer:
        settings: dict[str, Any] = {
            "output_dir": str(tmp_path / "run"),
            "max_steps": 4,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "seed": 3,
        }
        args = TrainingArguments(**(settings | options))
        objective = objective or LmObjective()
        return ObjectiveTrainer(
            make_model(), args, objective, lr_scale=lr_scale, train_dataset=Rows(), eval_dataset=Rows(), data_collator=collate
        )

    return make


def weights(trainer: ObjectiveTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def test_it_learns_and_logs_the_metrics(trainer: Callable[..., ObjectiveTrainer]) -> None:
    run = trainer(max_steps=20)
    run.train()
    logged = [entry for entry in run.state.log_history if "loss" in entry]
    assert len(logged) == 20
    assert all(0 <= entry["token_accuracy"] <= 1 for entry in logged)
    assert logged[-1]["loss"] < logged[0]["loss"]
    evaluated = run.evaluate()
    assert evaluated["eval_loss"] > 0
    assert 0 <= run.state.log_history[-1]["eval_token_accuracy"] <= 1


def test_a_resumed_run_is_bit_equal(trainer: Callable[..., ObjectiveTrainer]) -> None:
    """Six steps at once, and three steps, a stop, three more: model, objective and optimiser agree in every bit."""
    whole = trainer(Scaled(), max_steps=6)
    whole.train()
    trainer(Scaled(), max_steps=6, save_strategy="steps", save_steps=3).train()
    checkpoint = Path(whole.args.output_dir) / "checkpoint-3"
    resumed = trainer(Scaled(), max_steps=6)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())
    assert torch.equal(whole.objective.log_scale, resumed.objective.log_scale)
    assert whole.objective.log_scale.item() != 1
    assert [e["loss"] for e in whole.state.log_history[3:6]] == [e["loss"] for e in resumed.state.log_history[3:6]]


def test_the_objective_is_in_checkpoints_and_not_in_exports(trainer: Callable[..., ObjectiveTrainer], tmp_path: Path) -> None:
    run = trainer(Scaled(), max_steps=1, save_strategy="steps", save_steps=1)
    run.train()
    assert (Path(run.args.output_dir) / "checkpoint-1" / "objective.safetensors").is_file()
    run.save_model(str(tmp_path / "export"))
    assert not (tmp_path / "export" / "objective.safetensors").exists()
    loaded = type(run.model).from_pretrained(tmp_path / "export")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in weights(run).items())


def test_a_checkpoint_of_another_objective_is_refused(trainer: Callable[..., ObjectiveTrainer]) -> None:
    """Two optimiser layouts differ already; the file is asked for by name."""
    run = trainer(Scaled())
    with pytest.raises(FileNotFoundError, match="not written for Scaled"):
        run._load_objective(Path(run.args.output_dir) / "objective.safetensors")


def test_accumulation_equals_one_large_batch(trainer: Callable[..., ObjectiveTrainer]) -> None:
    """Rows train 1 to 5 tokens, so a mean of means would differ; weighting by tokens does not."""
    large = trainer(max_steps=2, per_device_train_batch_size=4, optim="sgd", max_grad_norm=0.0)
    small = trainer(max_steps=2, per_device_train_batch_size=1, gradient_accumulation_steps=4, optim="sgd", max_grad_norm=0.0)
    large.train()
    small.train()
    assert all(torch.allclose(value, weights(small)[name], atol=1e-6) for name, value in weights(large).items())
    losses = [[entry[key] for entry in run.state.log_history[:2] for key in ("loss", "token_accuracy")] for run in (large, small)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_only_the_chosen_parts_train(trainer: Callable[..., ObjectiveTrainer]) -> None:
    run = trainer(max_steps=1)
    before = weights(run)
    train_only(run.model, ["language_model"])
    run.train()
    changed = {name for name, value in weights(run).items() if not torch.equal(value, before[name])}
    assert changed
    assert all("language_model" in name or name == "lm_head.weight" for name in changed)


def test_every_parameter_that_trains_gets_a_gradient(trainer: Callable[..., ObjectiveTrainer], processor: Any, picture: Any) -> None:
    """What DDP demands: SigLIP's last layer (feature layer -2) and final norm are frozen with the rest of the unread."""
    model = trainer().model
    train_only(model, ["vision_tower", "adapter", "language_model"])
    batch = processor(text="<image>abc", images=picture(0), return_tensors="pt")
    model(**batch, labels=batch["input_ids"]).loss.backward()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        n for n, p in model.named_parameters() if p.grad is not None
    }
    assert not any(p.requires_grad for p in model.model.vision_tower.encoder.layers[-1].parameters())


def test_groups(make_model: Callable[..., Any]) -> None:
    """Decay on matrices only; the adapter at ten times the rate; the objective in a group of its own."""
    groups = parameter_groups(make_model(), Scaled(), lr=0.1, weight_decay=0.5, lr_scale={"adapter": 10, "objective": 2})
    rates = {(group["name"], group["weight_decay"]): group["lr"] for group in groups}
    assert rates[("adapter", 0.5)] == rates[("adapter", 0.0)] == 1.0
    assert rates[("language_model", 0.5)] == 0.1
    assert rates[("objective", 0.0)] == 0.2
    assert all(all((p.ndim >= 2) == (group["weight_decay"] > 0) for p in group["params"]) for group in groups)
    assert sum(len(group["params"]) for group in groups) == len(list(make_model().parameters())) + 1


@pytest.mark.parametrize("wrong", [["tower"], ["adapter", "head"]])
def test_an_unknown_part_is_refused(wrong: list[str], make_model: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=f"unknown part {wrong[-1]}; a model has vision_tower, adapter, language_model"):
        train_only(make_model(), wrong)


def test_an_unknown_part_of_the_rates_is_refused(make_model: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="unknown part projector"):
        parameter_groups(make_model(), LmObjective(), lr=0.1, weight_decay=0.0, lr_scale={"projector": 2})
