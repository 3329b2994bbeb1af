"""The contract of objectives, over the table."""

from typing import Any

import pytest
import torch

from data_tools.records import Message, Part, Sample
from mm_align.losses import OBJECTIVES, Objective, ObjectiveSetup

OPTIONS: dict[str, dict[str, Any]] = {"lm": {}, "eeca": {"contrast_width": 8}, "preference": {"preset": "rlaifv"}}  # one row an objective


def samples() -> list[Sample]:
    turn = Message("user", (Part("image"), Part("text", "What is it?")))
    return [Sample(name, (turn,), meta={"entity": {"name": name, "levels": [name[0], name]}}) for name in ("Velm", "Arro")]


def build(name: str) -> Objective:
    return OBJECTIVES[name].from_options(OPTIONS[name], ObjectiveSetup(lambda text: list(text.encode()), 32, samples))


def sample_batch(objective: Objective, image_token: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 250, (2, 9), generator=draw)
    labels = ids.clone()
    ids[:, :4] = image_token
    labels[:, :4] = -100
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": labels,
        "pixel_values": torch.randn(2, 3, 16, 16, generator=draw),
        **objective.annotate(samples()),
    }


@pytest.mark.parametrize("name", OBJECTIVES)
def test_contract(name: str, tiny_model: Any, pair_batch: dict[str, torch.Tensor]) -> None:
    """One number, gradients in model and objective, equal when repeated, and the state survives a save."""
    objective = build(name)
    batch = pair_batch if objective.records == "pairs" else sample_batch(objective, tiny_model.config.image_token_id)
    first, second = objective(tiny_model, batch), objective(tiny_model, batch)
    assert isinstance(objective, Objective)
    assert torch.equal(first.loss, second.loss)
    first.loss.backward()
    assert tiny_model.model.language_model.layers[0].mlp.up_proj.weight.grad.any()
    assert tiny_model.model.adapter.linear_1.weight.grad.any()
    assert all(p.grad is not None for p in objective.parameters())
    tiny_model.zero_grad(set_to_none=True)
    assert objective.units(batch).ndim == 0
    again = build(name)
    again.load_state_dict(objective.state_dict())
    assert torch.equal(again(tiny_model, batch).loss, first.loss)
