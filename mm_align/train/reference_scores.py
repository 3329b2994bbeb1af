"""Fills a reference cache: what the model gives each answer token before it trains, low-rank updates switched off."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from data_tools.io import BadImage

from ..losses.answer_logps import answer_logps
from ..models.batch import same_picture
from ..models.pairs import PreparedPair
from .pair_data import PairCollator, PairSet
from .reference import Keys, ReferenceCache, References, Scores

APPEND_EVERY = 256  # pairs: what a kill can lose
TELL_EVERY = 30.0  # seconds
PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
log = logging.getLogger(__name__)


class Filled(NamedTuple):
    """scored: pairs that were scored now, by this process. known: pairs that had scores; the same pair twice counts once. seconds: how
    long it took."""

    scored: int
    known: int
    seconds: float


class Scorer:
    """Pairs -> Scores, by `model` as it would be without low-rank updates, in evaluation mode and without gradients.

    dtype: float32, or bfloat16 for automatic mixed precision. The collator's corruption decides whether the real pictures are
    looked at or the corrupted ones. FloatingPointError for scores that are no finite numbers.
    """

    def __init__(self, model: nn.Module, collate: PairCollator, *, dtype: torch.dtype = torch.float32) -> None:
        self.model, self.collate, self.dtype = model, collate, dtype
        self.device = next(model.parameters()).device

    @torch.no_grad()
    def __call__(self, pairs: Sequence[PreparedPair]) -> list[Scores]:
        batch = {name: value.to(self.device) for name, value in self.collate(pairs).items()}
        low = self.dtype == torch.bfloat16
        with as_reference(self.model), torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            found = answer_logps(self.model, batch, contrast=self.collate.corruption is not None)
        values = found.float().cpu().numpy()
        sides = [row[real] for row, real in zip(values, batch["answer_mask"].cpu().numpy(), strict=True)]
        for pair, chosen, rejected in zip(pairs, sides[: len(pairs)], sides[len(pairs) :], strict=True):
            if not (np.isfinite(chosen).all() and np.isfinite(rejected).all()):
                raise FloatingPointError(f"the reference gives pair '{pair.sample.id}' a log-probability that is no finite number")
        return [Scores(*both) for both in zip(sides[: len(pairs)], sides[len(pairs) :], strict=True)]


def beside(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """A copy on `device` for forwards that compute in `dtype`, of a model that stays where it is.

    For bfloat16 the weights of matrix products are copied in that. Automatic mixed precision casts them at every use, so all numbers are
    the same, and the copy takes little more than half of float32.
    """
    low = {id(parameter) for parameter in product_weights(model)} if dtype == torch.bfloat16 else set()
    memo: dict[int, Any] = {id(buffer): buffer.to(device) for buffer in model.buffers()}
    for parameter in model.parameters():
        placed = parameter.data.to(device, torch.bfloat16 if id(parameter) in low else parameter.dtype)
        memo[id(parameter)] = nn.Parameter(placed, parameter.requires_grad)
    return copy.deepcopy(model, memo)


def product_weights(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that only linear layers and convolutions read; an embedding that is the output head too is none of them."""
    others = (module for module in model.modules() if not isinstance(module, PRODUCTS))
    elsewhere = {id(parameter) for module in others for parameter in module.parameters(recurse=False)}
    return [parameter for parameter in model.parameters() if id(parameter) not in elsewhere]


@contextmanager
def as_reference(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode with its low-rank updates switched off; afterwards everything is as it was."""
    updated: list[Any] = [module for module in model.modules() if hasattr(module, "enable_adapters") and hasattr(module, "base_layer")]
    training, trained = model.training, [p for p in model.parameters() if p.requires_grad]
    model.eval()
    for layer in updated:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in updated:
            layer.enable_adapters(True)
        model.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(training)


def references_of(cache: ReferenceCache, data: PairSet, keys: Keys) -> References:
    """The rows of `data` with their keys; a row whose picture cannot be read has none."""

    def key(row: int) -> bytes | None:
        try:
            return keys.of(data.store[row])
        except BadImage:
            return None

    return References(cache, [key(row) for row in range(len(data.store))])


def fill(references: References, data: PairSet, score: Scorer, batch: int, *, rank: int = 0, world: int = 1) -> Filled:
    """Score the rows that have no scores yet, `batch` pairs a forward; of several processes each its share.

    What was scored is kept through a kill, but for the last APPEND_EVERY pairs. Call `references.cache.refresh()` when all processes
    are done.
    """
    started = time.monotonic()
    missing = by_picture(references.missing(), data)
    forwards = [missing[i : i + batch] for i in range(0, len(missing), batch)]
    with references.cache.appending() as add:
        scored = _fill(references, data, score, forwards[rank::world], add)
    return Filled(scored, len({*references.keys} - {None}) - len(missing), time.monotonic() - started)


def by_picture(rows: Sequence[int], data: PairSet) -> list[int]:
    """Rows about the same pictures one behind the other, so that these are encoded once; else the longest first, against padding."""
    shown = {row: tuple(same_picture(image) for image in data.store.sample(row).images) or row for row in rows}
    longest: dict[Hashable, int] = {}
    for row in rows:
        longest[shown[row]] = max(longest.get(shown[row], 0), int(data.store.lengths[row]))
    first = {key: number for number, key in enumerate(longest)}
    return sorted(rows, key=lambda row: (-longest[shown[row]], first[shown[row]]))


def _fill(references: References, data: PairSet, score: Scorer, batches: Sequence[Sequence[int]], add: Callable[[Any], None]) -> int:
    found: dict[bytes, Scores] = {}
    done, told = 0, time.monotonic()
    try:
        for rows in batches:
            pairs = {row: pair for row, pair in zip(rows, data.pairs(rows), strict=True) if pair is not None}
            scores = score(list(pairs.values())) if pairs else []
            found |= {references.keys[row] or b"": both for row, both in zip(pairs, scores, strict=True)}
            done += len(scores)
            if len(found) >= APPEND_EVERY:
                add(found)
                found = {}
            if time.monotonic() - told > TELL_EVERY:
                log.info("reference: %d of %d pairs scored", done, sum(map(len, batches)))
                told = time.monotonic()
    finally:
        if found:
            add(found)
    return done
