"""The language-modelling loss by hand."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from mm_align.losses import LmObjective, LossOutput
from mm_align.losses.lm import predicting


class Table(nn.Module):
    """Logits of the next token depend on this token alone: row `id` of a 3 x 3 table. Behaves like a foreign model."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor([[0.0, 0.0, 0.0], [math.log(2), 0.0, 0.0], [0.0, 0.0, math.log(6)]]))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        return SimpleNamespace(logits=self.table[input_ids])


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([[0, 1, 2], [1, 0, 0]]), "labels": torch.tensor([[-100, 1, 2], [-100, 0, -100]])}


def test_by_hand(batch: dict[str, torch.Tensor]) -> None:
    """Targets: 1 after 0 (p = 1/3), 2 after 1 (p = 1/4), 0 after 1 (p = 2/4).

    loss = (ln 3 + ln 4 + ln 2) / 3 = ln 24 / 3. The likeliest token is hit once for sure (0 after 1), not for 2 after 1;
    after 0 all are equal and argmax takes 0, so 1 of 3 is right.
    """
    out = LmObjective()(Table(), batch)
    assert out.loss.item() == pytest.approx(math.log(24) / 3)
    assert out.metrics["token_accuracy"].item() == pytest.approx(1 / 3)
    assert LmObjective().units(batch).item() == 3


def test_weights_by_hand(batch: dict[str, torch.Tensor]) -> None:
    """Weight 4 on the target "2", 1 on the others: (ln 3 + 4 ln 4 + ln 2) / 6; units 6. Weights elsewhere do not count."""
    batch["loss_weights"] = torch.tensor([[9.0, 1.0, 4.0], [9.0, 1.0, 9.0]])
    assert LmObjective()(Table(), batch).loss.item() == pytest.approx((math.log(3) + 4 * math.log(4) + math.log(2)) / 6)
    assert LmObjective().units(batch).item() == 6


def test_a_label_in_the_first_place_has_nothing_before_it() -> None:
    assert predicting(torch.tensor([[5, -100, 6, -100]])).tolist() == [[False, True, False, False]]


def test_a_batch_without_targets_has_no_loss_and_is_no_nan(batch: dict[str, torch.Tensor]) -> None:
    batch["labels"] = torch.full((2, 3), -100)
    model = Table()
    out = LmObjective()(model, batch)
    out.loss.backward()
    assert out.loss.item() == 0
    assert model.table.grad is not None
    assert not model.table.grad.any()


def test_equals_the_models_own_loss_and_runs_the_head_only_where_there_is_one(tiny_model: Any) -> None:
    ids = torch.randint(0, 250, (2, 9), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :6] = -100
    rows: list[int] = []
    handle = tiny_model.lm_head.register_forward_hook(lambda _module, args, _out: rows.append(args[0].shape[0]))
    loss = LmObjective()(tiny_model, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}).loss
    handle.remove()
    assert rows == [6]
    torch.testing.assert_close(loss, tiny_model(ids, labels=labels).loss)


def test_a_loss_is_one_number() -> None:
    with pytest.raises(ValueError, match=r"loss must be one number, got shape \(2,\)"):
        LossOutput(torch.zeros(2))
    with pytest.raises(ValueError, match="accuracy must be one number"):
        LossOutput(torch.zeros(()), {"accuracy": torch.zeros(3)})
