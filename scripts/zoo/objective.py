"""What the zoo learns from: weighted language modelling plus two throw-away heads that name cells and find wrong words."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from data_tools.scenes.spec import PLACES, SPEC
from mm_align.losses.base import IGNORE, LossOutput, Objective

from .batches import CELL_HEADS, visible


class ZooObjective(Objective):
    """lm: cross entropy over the rows' weights. cells: each place's shape, colour ... from the tower's patch tokens.
    judge: "is this word wrong?" from an inner layer of the decoder, for batches that mark words. Both heads are this toolkit's choice."""

    def __init__(self, vision_width: int, text_width: int, grid: int, *, lm: float = 1.0, cell: float = 0.5, judge: float = 1.0) -> None:
        super().__init__()
        self.lm_weight, self.cell_weight, self.judge_weight, self.grid = lm, cell, judge, grid
        side = grid // 2
        self.cell_heads = nn.ModuleDict({name: nn.Linear(side * side * vision_width, n) for name, n in CELL_HEADS.items()})
        self.judge_head = nn.Linear(text_width, 1)

    def forward(self, model: Any, batch: dict[str, torch.Tensor]) -> LossOutput:
        towers = model.model.tower_features(batch["pixel_values"])
        cell_loss, shape_right = self._cells(towers[0].features, batch["cells"])
        metrics = {"cell": cell_loss.detach(), "shape_accuracy": shape_right}
        if not self.lm_weight:
            return LossOutput(cell_loss, metrics)
        scored = F.pad(batch["labels"][:, 1:] != IGNORE, (0, 1))  # the position before each label
        out = model(
            input_ids=batch["input_ids"], position_ids=batch["position_ids"], attention_mask=visible(batch["question"]),
            tower_features=towers, output_hidden_states=True, logits_to_keep=scored, use_cache=False,
        )  # fmt: skip
        weights = batch["weights"].roll(-1, 1)[scored]
        losses = F.cross_entropy(out.logits, batch["labels"].roll(-1, 1)[scored], reduction="none")
        lm_loss = (losses * weights).sum() / weights.sum()
        loss, metrics = self.lm_weight * lm_loss + self.cell_weight * cell_loss, metrics | {"lm": lm_loss.detach()}
        if not len(batch["judged"]):
            return LossOutput(loss, metrics)
        judge_loss = self._judge(out.hidden_states[-2], batch)
        return LossOutput(loss + self.judge_weight * judge_loss, metrics | {"judge": judge_loss.detach()})

    def units(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.tensor(len(batch["pixel_values"]))

    def _cells(self, features: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        side, step = self.grid // 2, 64 // self.grid
        grid = features.unflatten(1, (self.grid, self.grid))  # [P, g, g, D]
        corners = [(SPEC["places"][p][1] // step - side // 2, SPEC["places"][p][0] // step - side // 2) for p in PLACES]
        corners = [(min(max(y, 0), self.grid - side), min(max(x, 0), self.grid - side)) for y, x in corners]
        seen = torch.stack([grid[:, y : y + side, x : x + side].flatten(1) for y, x in corners], 1)  # [P, 5, side^2 D]
        logits = {name: head(seen) for name, head in self.cell_heads.items()}
        losses = [
            F.cross_entropy(logits[name].flatten(0, 1), labels[..., k].flatten(), ignore_index=IGNORE)
            for k, name in enumerate(CELL_HEADS)
            if (labels[..., k] != IGNORE).any()
        ]
        shapes = labels[..., 0] != IGNORE
        right = (logits["shape"].argmax(-1) == labels[..., 0])[shapes].float().mean()
        return torch.stack(losses).mean(), right

    def _judge(self, hidden: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        rows, positions = batch["judged_at"].unbind(-1)
        return F.binary_cross_entropy_with_logits(self.judge_head(hidden[rows, positions]).squeeze(-1), batch["judged"])
