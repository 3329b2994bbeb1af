"""Next-token cross-entropy on the tokens that train; the head runs only there."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from .base import IGNORE, Batch, LossOutput, Objective


class LmObjective(Objective):
    """Mean over target tokens of -log p(token | all before), weighted by `loss_weights` [B, L] where the batch has them.

    The batch's `labels` [B, L] stand at the place of the token itself and are shifted here; -100 takes no part. A unit is
    a target token (or its weight). Metrics: `token_accuracy`, the share of targets that are the most likely token.
    """

    def forward(self, model: nn.Module, batch: Batch) -> LossOutput:
        return self.with_outputs(model, batch)[0]

    def with_outputs(self, model: nn.Module, batch: Batch) -> tuple[LossOutput, Any]:
        """The loss and what the model gave, for objectives that add losses on the same pass."""
        places = predicting(batch["labels"])  # [B, L]
        targets = batch["labels"].roll(-1, 1)[places]  # [K]
        weights = _weights(batch)  # [K]
        inputs = {key: value for key, value in batch.items() if key not in ("labels", "loss_weights")}
        logits, outputs = marked_logits(model, inputs, places)
        logits = logits.float()  # [K, V]
        losses = F.cross_entropy(logits, targets, reduction="none")
        total = weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)  # a batch without targets has loss 0, not nan
        hits = (logits.detach().argmax(-1) == targets).to(weights.dtype)
        return LossOutput((losses * weights).sum() / total, {"token_accuracy": (hits * weights).sum() / total}), outputs

    def units(self, batch: Batch) -> torch.Tensor:
        return _weights(batch).sum()


def predicting(labels: torch.Tensor) -> torch.Tensor:
    """[B, L] labels -> [B, L] bool: True where the *next* token is a target. The last place predicts nothing."""
    places = torch.zeros_like(labels, dtype=torch.bool)
    places[:, :-1] = labels[:, 1:] != IGNORE
    return places


def marked_logits(model: nn.Module, inputs: Batch, places: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Logits [K, V] at the True places of [B, L], and all outputs; our models compute no other logits, a foreign model all."""
    core = getattr(model, "module", model)
    if getattr(core, "keeps_marked_logits", False):
        outputs = model(**inputs, logits_to_keep=places, use_cache=False)
        return outputs.logits, outputs
    outputs = model(**inputs, use_cache=False)
    return outputs.logits[places], outputs


def _weights(batch: Batch) -> torch.Tensor:
    places = predicting(batch["labels"])
    if "loss_weights" in batch:
        return batch["loss_weights"].roll(-1, 1)[places].float()
    return torch.ones(int(places.sum()), device=places.device)
