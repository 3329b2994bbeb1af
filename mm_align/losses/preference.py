"""Preference training: a pair term, an image-contrast term, an anchor and imitation, in one formula."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from ..options import check_types, nearest
from .answer_logps import answer_logps
from .base import Batch, LossOutput, Objective, ObjectiveSetup
from .pair_terms import PAIR_TERMS, PairTerm
from .pair_terms.bco_pair import RunningShift
from .pair_terms.sigmoid import sigmoid
from .preference_presets import PRESETS
from .token_diff import token_diff_weights

SMALLEST_BETA = 1e-3
Loss = str | dict[str, Any] | list[dict[str, Any]]


class WeightedTerm(NamedTuple):
    """One pair term of the loss, with its share and its options."""

    name: str
    term: PairTerm
    weight: float
    average: bool
    options: Mapping[str, Any]


class Answers(NamedTuple):
    """Token log-probabilities [N, T] of the chosen answers, then of the rejected ones; reference is None where the batch has none."""

    logps: torch.Tensor
    reference: torch.Tensor | None
    weights: torch.Tensor  # 0 where there is no token
    mask: torch.Tensor

    def scores(self, *, reference_free: bool, average: bool) -> torch.Tensor:
        """[N] weighted sums (or means) over an answer's tokens of log p, less those of the reference."""
        if reference_free:
            values = self.logps
        elif self.reference is None:
            raise ValueError("the batch lacks reference_logps: the collator adds what the reference model says of each answer's tokens")
        else:
            values = self.logps - self.reference
        sums = (values * self.weights).sum(-1)
        return sums / self.weights.sum(-1).clamp(min=torch.finfo(sums.dtype).tiny) if average else sums


class PreferenceObjective(Objective):
    """L = pair_weight l(beta_i [D(y_w; v) - D(y_l; v) - m_i]) + contrast_weight l(beta_i [D(y_w; v) - D(y_w; v')])
    + anchor_weight l(beta_i [D(y_w; v) - anchor]) + sft_weight NLL(y_w; v), a mean over pairs.

    D(y; v) = sum_t w_t [log pi(y_t | x, v, y_<t) - log pi_ref(...)], or with `average` divided by sum_t w_t. v: the pictures, v': the
    same ones corrupted. A unit is a pair; what a batch of pairs holds: `answer_logps`.

    loss: a key of PAIR_TERMS, {type: KEY, options}, or a list of these with a
    `weight` each; the contrast and the anchor are always logistic (`sigmoid`). beta: None is the first term's usual one. average: of
    every pair term; None as each term has it. margin, margin_scale: m_i = margin + margin_scale times the pair's reward
    margin. beta_growth w, beta_rate k: beta_i = beta (1 + w (1 - exp(-k margin_i))), at least 1e-3. token_weight: of tokens in replaced
    spans (`token_diff_weights`), in D alone. running_shift: bco_pair's shift is the mean of all rewards so far. sft_average: NLL
    is a mean over the answer's tokens, else a sum. ValueError for what does not fit.

    Metrics, whatever the loss: of each side log-probability, the same per token, drift from the reference (where there is one), length;
    reward margin and accuracy of beta D; with a contrast, its margin and accuracy and the margin between the answers without the picture.
    """

    records = "pairs"

    def __init__(
        self,
        *,
        loss: Loss = "sigmoid",
        beta: float | None = None,
        average: bool | None = None,
        pair_weight: float = 1.0,
        margin: float = 0.0,
        margin_scale: float = 0.0,
        beta_growth: float = 0.0,
        beta_rate: float = 0.5,
        contrast_weight: float = 0.0,
        anchor_weight: float = 0.0,
        anchor: float = 0.0,
        sft_weight: float = 0.0,
        sft_average: bool = True,
        token_weight: float = 1.0,
        running_shift: bool = False,
    ) -> None:
        super().__init__()
        _from_zero(pair_weight=pair_weight, contrast_weight=contrast_weight, anchor_weight=anchor_weight, sft_weight=sft_weight)
        _from_zero(beta_growth=beta_growth, beta_rate=beta_rate, token_weight=token_weight)
        _finite(margin=margin, margin_scale=margin_scale, anchor=anchor)
        self.terms = terms_of(loss, average) if pair_weight else []
        self.beta = float(beta if beta is not None else self.terms[0].term.beta if self.terms else 0.1)
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ValueError(f"beta should be above 0, but is {beta!r}")
        self.pair_weight, self.contrast_weight, self.anchor_weight = pair_weight, contrast_weight, anchor_weight
        self.anchor, self.sft_weight, self.sft_average = anchor, sft_weight, sft_average
        self.margin, self.margin_scale = margin, margin_scale
        self.beta_growth, self.beta_rate, self.token_weight = beta_growth, beta_rate, token_weight
        self.average = bool(average)  # of the contrast and the anchor
        self.shift = RunningShift() if running_shift else None
        self._check()

    def _check(self) -> None:
        if not (self.pair_weight or self.contrast_weight or self.anchor_weight or self.sft_weight):
            raise ValueError(
                "all weights are 0, so nothing would train: give one of pair_weight, contrast_weight, anchor_weight, sft_weight"
            )
        for one in self.terms:
            if (self.margin or self.margin_scale) and not one.term.by_difference:
                known = ", ".join(name for name, term in PAIR_TERMS.items() if term.by_difference)
                raise ValueError(f"loss {one.name} has no place for a target margin; margin and margin_scale go with {known}")
            zero = torch.zeros(1)
            one.term.loss(zero, zero, self.beta, **one.options)  # options out of range show before any model runs
        if self.shift is not None and not any(one.term.shifted for one in self.terms):
            raise ValueError("running_shift is that of bco_pair, which the loss does not have")

    @classmethod
    def from_options(cls, options: Mapping[str, Any], setup: ObjectiveSetup) -> PreferenceObjective:
        """Options are the keyword arguments above, and `preset`, a key of PRESETS that they go over. ValueError for what does not fit."""
        preset = options.get("preset")
        if preset is not None and preset not in PRESETS:
            raise ValueError(f"unknown preset {preset!r}; {nearest(str(preset), PRESETS)}")
        merged = {**(PRESETS[preset] if preset else {}), **{key: value for key, value in options.items() if key != "preset"}}
        known = list(inspect.signature(cls).parameters)
        if unknown := [key for key in merged if key not in known]:
            raise ValueError(f"no option {unknown[0]!r}; {nearest(unknown[0], ['preset', *known])}")
        check_types("options", cls, merged)
        return cls(**merged)

    # What the collator must supply

    @property
    def needs_reference(self) -> bool:
        """Whether batches need `reference_logps` (with a contrast `contrast_reference_logps` too)."""
        return bool(self.contrast_weight or self.anchor_weight) or any(not one.term.reference_free for one in self.terms)

    @property
    def needs_contrast(self) -> bool:
        """Whether batches need the pictures a second time, corrupted."""
        return self.contrast_weight > 0

    @property
    def token_weights(self) -> float | None:
        """The weight of tokens that differ, for `token_diff_weights`; None: every token counts alike."""
        return None if self.token_weight == 1.0 else self.token_weight

    def units(self, batch: Batch) -> torch.Tensor:
        return torch.tensor(float(len(batch["answer_mask"]) // 2))

    # Loss

    def forward(self, model: nn.Module, batch: Batch) -> LossOutput:
        answers = self._answers(model, batch, contrast=False)
        margins, beta = self._margins(batch), self._betas(batch)
        loss = answers.logps.new_zeros(())
        found: dict[str, torch.Tensor] = {}
        for one in self.terms:
            value = self._pair_loss(one, answers, beta, margins).mean()
            loss = loss + self.pair_weight * one.weight * value
            found[f"{one.name}_loss"] = value
        if self.contrast_weight:
            other = self._answers(model, batch, contrast=True)
            value = self._contrast_loss(answers, other, beta, found).mean()
            loss, found["contrast_loss"] = loss + self.contrast_weight * value, value
        if self.anchor_weight:
            chosen = answers.scores(reference_free=False, average=self.average).chunk(2)[0]
            value = sigmoid(chosen, torch.full_like(chosen, self.anchor), beta).mean()
            loss, found["anchor_loss"] = loss + self.anchor_weight * value, value
        if self.sft_weight:
            value = self._imitation(answers).mean()
            loss, found["sft_loss"] = loss + self.sft_weight * value, value
        return LossOutput(loss, {name: value.detach() for name, value in {**found, **self._told(answers, beta)}.items()})

    def _answers(self, model: nn.Module, batch: Batch, *, contrast: bool) -> Answers:
        logps = answer_logps(model, batch, contrast=contrast)
        reference = batch.get("contrast_reference_logps" if contrast else "reference_logps")
        if contrast and reference is None:
            raise ValueError("the batch lacks contrast_reference_logps, which an objective with a contrast_weight needs")
        return Answers(logps, None if reference is None else reference.to(logps), self._weights(batch).to(logps), batch["answer_mask"])

    def _weights(self, batch: Batch) -> torch.Tensor:
        """[N, T] weights of tokens, 0 where there is none."""
        mask = batch["answer_mask"].float()
        if "answer_weights" in batch:
            return batch["answer_weights"] * mask
        return mask if self.token_weights is None else difference_weights(batch["answer_ids"], batch["answer_mask"], self.token_weight)

    def _margins(self, batch: Batch) -> torch.Tensor | float:
        """m_i."""
        return self.margin + self.margin_scale * _reward_margins(batch) if self.margin_scale else self.margin

    def _betas(self, batch: Batch) -> torch.Tensor | float:
        """beta_i, [P] where it depends on the pair."""
        if not self.beta_growth:
            return self.beta
        growth = self.beta_growth * -torch.expm1(-self.beta_rate * _reward_margins(batch))
        return (self.beta * (1 + growth)).clamp(min=SMALLEST_BETA)

    def _pair_loss(self, one: WeightedTerm, answers: Answers, beta: torch.Tensor | float, margins: torch.Tensor | float) -> torch.Tensor:
        scores = answers.scores(reference_free=one.term.reference_free, average=one.average)  # [N]
        chosen, rejected = scores.chunk(2)
        options = dict(one.options)
        if one.term.shifted and self.shift is not None:
            options["shift"] = self.shift(torch.cat([beta * chosen, beta * rejected]), learn=torch.is_grad_enabled())
        return one.term.loss(chosen - margins if one.term.by_difference else chosen, rejected, beta, **options)

    def _contrast_loss(self, answers: Answers, other: Answers, beta: torch.Tensor | float, found: dict[str, torch.Tensor]) -> torch.Tensor:
        shown = answers.scores(reference_free=False, average=self.average).chunk(2)[0]
        blind, blind_rejected = other.scores(reference_free=False, average=self.average).chunk(2)
        found["contrast_margin"] = (beta * (shown - blind)).mean()
        found["contrast_accuracy"] = (shown > blind).float().mean()
        found["margin_without_picture"] = (beta * (blind - blind_rejected)).mean()
        return sigmoid(shown, blind, beta)

    def _imitation(self, answers: Answers) -> torch.Tensor:
        """[P] -log pi of the chosen answers, every token alike."""
        plain = answers._replace(weights=answers.mask.to(answers.logps))
        return -plain.scores(reference_free=True, average=self.sft_average).chunk(2)[0]

    @torch.no_grad()
    def _told(self, answers: Answers, beta: torch.Tensor | float) -> dict[str, torch.Tensor]:
        plain = answers._replace(weights=answers.mask.to(answers.logps))
        sums = plain.scores(reference_free=True, average=False)
        means = plain.scores(reference_free=True, average=True)
        told = _sides("logp", sums) | _sides("logp_per_token", means) | _sides("length", plain.weights.sum(-1))
        if answers.reference is not None:
            told |= _sides("drift", plain.scores(reference_free=False, average=False))
        lead = self.terms[0] if self.terms else None
        free = answers.reference is None or (lead is not None and lead.term.reference_free)
        scores = answers.scores(reference_free=free, average=lead.average if lead else self.average)
        chosen, rejected = (beta * scores).chunk(2) if isinstance(beta, float) else (beta * side for side in scores.chunk(2))
        told |= {"reward_margin": (chosen - rejected).mean(), "reward_accuracy": (chosen > rejected).float().mean()}
        return told | ({} if isinstance(beta, float) else {"beta": beta.mean()})


def _sides(name: str, values: torch.Tensor) -> dict[str, torch.Tensor]:
    chosen, rejected = values.chunk(2)
    return {f"chosen_{name}": chosen.mean(), f"rejected_{name}": rejected.mean()}


def _reward_margins(batch: Batch) -> torch.Tensor:
    if "margins" not in batch:
        raise ValueError("the batch lacks margins: margin_scale and beta_growth need the reward margin of each pair in the data")
    return batch["margins"]


def difference_weights(ids: torch.Tensor, mask: torch.Tensor, weight: float) -> torch.Tensor:
    """[N, T] `token_diff_weights` of each pair of answers, 0 where there is no token."""
    weights = torch.zeros(ids.shape)
    tokens = [row[present].tolist() for row, present in zip(ids.cpu(), mask.cpu(), strict=True)]
    pairs = len(ids) // 2
    found = [token_diff_weights(chosen, rejected, weight) for chosen, rejected in zip(tokens[:pairs], tokens[pairs:], strict=True)]
    rows = [pair.chosen for pair in found] + [pair.rejected for pair in found]
    for i, (row, present) in enumerate(zip(rows, mask.cpu(), strict=True)):
        weights[i, present] = torch.tensor(row)
    return weights.to(ids.device)


# Options


def terms_of(loss: Loss, average: bool | None) -> list[WeightedTerm]:
    """The terms of a `loss` option. ValueError for unknown names and options, with the nearest known."""
    entries = loss if isinstance(loss, list) else [loss]
    if not entries:
        raise ValueError("loss is an empty list; name at least one term")
    return [_term({"type": entry} if isinstance(entry, str) else dict(entry), average) for entry in entries]


def _term(entry: dict[str, Any], average: bool | None) -> WeightedTerm:
    name, weight = str(entry.pop("type", None)), entry.pop("weight", 1.0)
    if name not in PAIR_TERMS:
        raise ValueError(f"unknown loss {name!r}; {nearest(name, PAIR_TERMS)}")
    term = PAIR_TERMS[name]
    known = [key for key, parameter in inspect.signature(term.loss).parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    for key, value in entry.items():
        if key not in known:
            raise ValueError(f"loss {name} has no option {key!r}; {nearest(key, known)}")
        _finite(**{f"{key} of loss {name}": value})
    _from_zero(**{f"weight of loss {name}": weight})
    return WeightedTerm(name, term, weight, term.average if average is None else average, entry)


def _finite(**values: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{name} should be a number, but is {value!r}")


def _from_zero(**values: Any) -> None:
    _finite(**values)
    for name, value in values.items():
        if value < 0:
            raise ValueError(f"{name} should be 0 or more, but is {value!r}")
