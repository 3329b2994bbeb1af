"""Log-probabilities of the answers in a pair batch: one forward, the head only where an answer's token is predicted.

The keys of such a batch (P pairs, N = 2P answers, chosen ones first), beside the model's inputs [B, L]:
answer_ids [N, T], answer_mask [N, T] bool, answer_places [N, T]: the flat place b * L + position that predicts the token.
visible_until [B, L], where rows hold several answers: the place j is seen by the places j <= i < visible_until[b, j].
Optional: reference_logps, answer_weights, contrast_reference_logps [N, T] float32; margins [P]; contrast_pixel_values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from .base import Batch

ANSWERS = ("answer_ids", "answer_mask", "answer_places")
BESIDE = ("reference_logps", "answer_weights", "margins", "contrast_pixel_values", "contrast_reference_logps")
ID_BITS = 32  # a place and a token in one number
LOGITS_AT_ONCE = 1 << 23  # numbers: 32 MiB in float32
Head = Callable[[torch.Tensor], torch.Tensor]


def answer_logps(model: nn.Module, batch: Batch, *, contrast: bool = False) -> torch.Tensor:
    """[N, T] log p(token | all before) in float32 (float64 of a float64 model), 0 where `answer_mask` is False; differentiable.

    contrast: for the pictures `contrast_pixel_values` in place of `pixel_values`. The model itself is called, once, so that
    wrappers see it. Its head runs on the places that predict answers; of more than LOGITS_AT_ONCE logits a part at a time, made
    again in the backward pass. ValueError for a batch without answers' keys, or without contrast pictures when they are asked for.
    """
    if lacking := [key for key in ANSWERS if key not in batch]:
        raise ValueError(f"the batch lacks {', '.join(lacking)}: preference objectives read batches of pairs (collate_pairs)")
    mask = batch["answer_mask"]
    places, ids = batch["answer_places"][mask], batch["answer_ids"][mask]  # [K]
    asked, back = (places << ID_BITS | ids).unique(return_inverse=True)  # answers that begin alike ask for the same numbers
    found = _scores(model, _inputs(model, batch, contrast), asked >> ID_BITS, asked & (1 << ID_BITS) - 1)[back]  # [K]
    return found.new_zeros(mask.shape).masked_scatter(mask, found)


def _inputs(model: nn.Module, batch: Batch, contrast: bool) -> dict[str, torch.Tensor]:
    """What the model takes of a batch."""
    inputs = {key: value for key, value in batch.items() if key not in (*ANSWERS, *BESIDE, "visible_until")}
    if contrast:
        if "pixel_values" in batch and "contrast_pixel_values" not in batch:
            raise ValueError("the batch lacks contrast_pixel_values: the collator makes them when the objective needs_contrast")
        inputs |= {"pixel_values": batch["contrast_pixel_values"]} if "pixel_values" in batch else {}
    if "visible_until" in batch:
        inputs["attention_mask"] = tree_mask(model, batch["visible_until"])
    return inputs


def tree_mask(model: nn.Module, visible_until: torch.Tensor) -> torch.Tensor:
    """[B, L] -> [B, 1, L, L] in what attention computes in: 0 where a place (third axis) sees another (fourth), else its least number.

    A boolean mask would be turned into such a one, and kept for the backward pass, by every layer for itself.
    """
    places = torch.arange(visible_until.shape[1], device=visible_until.device)
    sees = (places[None, None, :] <= places[None, :, None]) & (places[None, :, None] < visible_until[:, None, :])  # [B, L, L]
    device = visible_until.device.type
    kind = next(p.dtype for p in model.parameters() if p.is_floating_point())
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else kind
    return torch.zeros_like(sees, dtype=kind).masked_fill_(~sees, torch.finfo(kind).min).unsqueeze(1)


def _scores(model: nn.Module, inputs: dict[str, torch.Tensor], places: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """[K] log-probabilities of the tokens `ids` predicted at the flat `places`."""
    core = getattr(model, "module", model)
    if getattr(core, "scores_tokens", False):
        scores: torch.Tensor = model(**inputs, scored_places=places, scored_ids=ids, use_cache=False).token_logps
        return scores
    head, hidden = core.get_output_embeddings(), []

    def keep(module: nn.Module, given: tuple[Any, ...]) -> tuple[torch.Tensor]:
        hidden.append(given[0].flatten(0, -2)[places])
        return (given[0][:, :0],)  # the head itself runs on nothing

    hook = head.register_forward_pre_hook(keep)
    try:
        model(**inputs, use_cache=False)
    finally:
        hook.remove()
    return token_logps(_capped(core, head), hidden[0], ids, core.config.get_text_config().vocab_size)


def _capped(core: nn.Module, head: nn.Module) -> Head:
    """A foreign model's head, with the soft cap that its config names (Gemma 2)."""
    cap = getattr(core.config.get_text_config(), "final_logit_softcapping", None)
    return head if cap is None else lambda hidden: torch.tanh(head(hidden) / cap) * cap


def token_logps(head: Head, hidden: torch.Tensor, ids: torch.Tensor, vocab: int) -> torch.Tensor:
    """[K, D] states and the tokens [K] that follow them -> [K] log-probabilities under `head` ([k, D] -> [k, vocab]).

    With more than LOGITS_AT_ONCE logits, no more than that live at once, in the forward pass and in the backward pass.
    """
    size = max(1, LOGITS_AT_ONCE // vocab)
    if len(hidden) <= size:
        return _logps(head, hidden, ids)
    parts = zip(hidden.split(size), ids.split(size), strict=True)
    return torch.cat([checkpoint(_logps, head, part, wanted, use_reentrant=False) for part, wanted in parts])


def _logps(head: Head, hidden: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    return -F.cross_entropy(logits if logits.dtype == torch.float64 else logits.float(), ids, reduction="none")
