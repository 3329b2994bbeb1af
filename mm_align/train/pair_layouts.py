"""Whether a model can read prompt and both answers in one row: what its config says, and a batch read in both ways."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn

from ..losses.answer_logps import answer_logps
from ..losses.base import Batch
from ..models.pairs import Layout

MASKED = ("sdpa", "eager")  # kinds of attention that take a mask of their own
ORDINARY = ("full_attention", "attention", "sliding_attention")  # kinds of layers that such a mask describes


class Precision(NamedTuple):
    """Differences between log-probabilities: up to `rounding` they mean nothing; above `most` they always do; between, they are
    compared with what answers change when they do see each other, of which `share` is too much."""

    rounding: float
    most: float
    share: float


PRECISIONS = {torch.float64: Precision(1e-6, 1e-4, 0.01), torch.float32: Precision(1e-5, 1e-3, 0.05)}
HALF = Precision(2e-2, 0.25, 0.5)


class LayoutCheck(NamedTuple):
    """layout: the one to use. difference: the largest between the log-probabilities of both; reason: why it is not "shared"."""

    layout: Layout
    difference: float = 0.0
    reason: str = ""


@torch.no_grad()
def check_shared_prompt(model: nn.Module, shared: Batch, duplicated: Batch, *, longest: int = 0) -> LayoutCheck:
    """Both layouts of the same pairs through `model`: "shared" where the same log-probabilities come out, else "duplicated".

    Two answers are in one row when the model takes masks and positions as they are given. Families with windows shorter than the
    rows (`longest` tokens), with attention in two directions inside pictures, or with positions of their own making do not.
    """
    if reason := _refusal(model, max(longest, shared["input_ids"].shape[1])):
        return LayoutCheck("duplicated", reason=reason)
    was_training = model.training
    model.eval()
    try:
        expected = answer_logps(model, duplicated)
        try:
            found, mixed = answer_logps(model, shared), answer_logps(model, _seeing_each_other(shared))
        except torch.OutOfMemoryError:
            raise
        except (ValueError, TypeError, RuntimeError, IndexError, AttributeError) as error:
            return LayoutCheck("duplicated", reason=f"{type(model).__name__} does not take such rows ({error})")
    finally:
        model.train(was_training)
    difference, leak = (float((scores - expected).abs().max()) for scores in (found, mixed))
    allowed = PRECISIONS.get(_computed_in(model), HALF)
    if difference <= allowed.rounding or difference <= min(allowed.most, allowed.share * leak):
        return LayoutCheck("shared", difference)
    return LayoutCheck(
        "duplicated",
        difference,
        f"log-probabilities move by {difference:.2g} when both answers stand in one row (by {leak:.2g} when they see each other)",
    )


def _refusal(model: nn.Module, longest: int) -> str:
    """What the model's config says against it."""
    config: Any = getattr(model, "module", model).config.get_text_config()
    kind = config._attn_implementation
    if kind not in MASKED:
        return f"{kind} takes no mask of its own; {' and '.join(MASKED)} attention do"
    layers = set(getattr(config, "layer_types", None) or ORDINARY[:1])
    if others := sorted(layers - set(ORDINARY)):
        return f"it has layers of the kind {others[0]}"
    window = getattr(config, "sliding_window", None)
    if window and window < longest and ("sliding_attention" in layers or not getattr(config, "layer_types", None)):
        return f"it sees {window} tokens back, and rows may have {longest}"
    return ""


def _seeing_each_other(shared: Batch) -> Batch:
    until = shared["visible_until"]
    padding = until == torch.arange(1, until.shape[1] + 1, device=until.device)
    return {**shared, "visible_until": until.masked_fill(~padding, until.shape[1])}


def _computed_in(model: nn.Module) -> torch.dtype:
    kinds = {parameter.dtype for parameter in model.parameters()}
    if torch.is_autocast_enabled(next(model.parameters()).device.type) or kinds & {torch.bfloat16, torch.float16}:
        return torch.bfloat16
    return torch.float32 if torch.float32 in kinds else torch.float64
