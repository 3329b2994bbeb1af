"""Asks a model yes-or-no questions about pictures, all questions of a sample behind one prefill."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import torch

from data_tools.calls import Decision
from data_tools.records import Sample

from .conversations import conversations
from .decisions import LAYOUTS, Asker, Layout, choose_layout, find_verdicts
from .micro_batches import MicroBatches
from .questions import Asked, NoHead, encode_questions

log = logging.getLogger(__name__)

PROBE = "Is this the question?"  # a neighbour for the questions on which layouts are tried
TRIED = 3
TOO_LONG = Decision(math.nan, math.nan)


class Judge:
    """Decisions of one model. Raises UserError where its tokenizer has no token for yes or for no.

    `inside(inputs, loop)` runs `loop` inside the model's `generate`. All questions about pictures go through one layout, the
    first that gives this model's own probabilities; questions without a picture share nothing and are asked alone.
    """

    def __init__(self, model: Any, prompts: Any, batches: MicroBatches, longest: int, inside: Callable[[dict[str, Any], Any], Any]) -> None:
        self.model, self.prompts, self.batches, self.longest, self.inside = model, prompts, batches, longest, inside
        self.verdicts = find_verdicts(prompts.tokenizer)
        self.picture_token: int | None = getattr(model.config, "image_token_id", None)
        self.layout: str | None = None if self.picture_token is not None else "alone"

    def decide(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]:
        """See `Decide`."""
        if len(samples) != len(questions):
            raise ValueError(f"{len(samples)} samples but {len(questions)} lists of questions")
        groups = [conversations(sample, texts) for sample, texts in zip(samples, questions, strict=True)]
        order = sorted((i for i, group in enumerate(groups) if group), key=lambda i: -sum(map(len, questions[i])))  # alike in length
        with_pictures, without = ([i for i in order if bool(samples[i].images) is shown] for shown in (True, False))
        found: list[list[Decision]] = [[] for _ in samples]
        for chosen, work in ((with_pictures, self._together), (without, self._singly)):
            for i, decisions in zip(chosen, self.batches.run([groups[i] for i in chosen], work), strict=True):
                found[i] = decisions
        return found

    def _together(self, groups: Sequence[Sequence[Sample]]) -> list[list[Decision]]:
        """Decisions of a micro-batch; a question too long for the model gets none."""
        if self.layout is None:
            self.layout = self._find_layout(groups[0])
        if self.layout == "alone":
            return self._singly(groups)
        assert self.picture_token is not None
        asked = encode_questions(self.prompts, groups, self.picture_token)
        heads = asked.inputs["attention_mask"].sum(-1).tolist()
        fits = [[head + len(tail) <= self.longest for tail in tails] for head, tails in zip(heads, asked.tails, strict=True)]
        kept = [list(compress(tails, row)) for tails, row in zip(asked.tails, fits, strict=True)]
        logits = self._logits(asked._replace(tails=kept), LAYOUTS[self.layout]) if any(kept) else None
        return self._told(fits, logits)

    def _singly(self, groups: Sequence[Sequence[Sample]]) -> list[list[Decision]]:
        encoded = [[self.prompts.encode([one]) for one in group] for group in groups]
        fits = [[inputs["input_ids"].shape[1] <= self.longest for inputs in row] for row in encoded]
        kept = [inputs for row, fit in zip(encoded, fits, strict=True) for inputs in compress(row, fit)]
        return self._told(fits, self._alone(kept) if kept else None)

    def _told(self, fits: Sequence[Sequence[bool]], logits: torch.Tensor | None) -> list[list[Decision]]:
        if not all(map(all, fits)):
            log.warning("%d questions are too long for the model (%d tokens) and get no answer", sum(map(_falses, fits)), self.longest)
        decisions = iter(self.verdicts.read(logits) if logits is not None else ())
        return [[next(decisions) if fit else TOO_LONG for fit in row] for row in fits]

    def _find_layout(self, group: Sequence[Sample]) -> str:
        """Tried on a few questions of one sample and one of its own, so that there is always a neighbour that must not be seen."""
        assert self.picture_token is not None
        few = [*group[:TRIED], *conversations(group[0], [PROBE])]
        try:
            asked = encode_questions(self.prompts, [few], self.picture_token)
        except NoHead as error:
            log.warning("questions about a picture are asked one by one: %s", error)
            return "alone"
        return choose_layout(lambda layout: self._logits(asked, layout), self._alone([self.prompts.encode([one]) for one in few]))

    def _logits(self, asked: Asked, layout: Layout) -> torch.Tensor:
        """[N, V] behind each question."""
        logits: torch.Tensor = self.inside(asked.inputs, Asker(asked.tails, layout))
        return logits

    def _alone(self, encoded: Sequence[dict[str, torch.Tensor]]) -> torch.Tensor:
        """[N, V] behind each prompt, a whole forward each."""
        return torch.cat([self.inside(inputs, Asker()) for inputs in encoded])


def _falses(row: Sequence[bool]) -> int:
    return len(row) - sum(row)
