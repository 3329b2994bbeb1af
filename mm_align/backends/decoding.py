"""The decoding loop inside `model.generate`: one prefill, widened for n candidates, rows leave the batch when they end."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from data_tools.calls import Sampling

from .branches import Branches
from .growing import closed_up, with_room
from .stops import StopMatcher

# Read at the prefill only; the answer's tokens hold no picture.
PICTURE_INPUTS = frozenset(
    {
        "pixel_values",
        "pixel_attention_mask",
        "pixel_values_videos",
        "image_sizes",
        "image_grid_thw",
        "video_grid_thw",
        "image_position_ids",
        "mm_encoder_outputs",
        "inputs_embeds",
    }
)
BLOCK, WALKED_WHOLE = 64, 4096  # tokens
COMPACT_SHARE = 0.0625  # rows leave when this share of them has ended


class Answer(NamedTuple):
    """Tokens of one answer (forced prefix included, end token excluded) and what was seen on the way; logprob None where it was not."""

    tokens: list[int]
    logprob: float | None
    branches: Mapping[str, float]
    truncated: bool


@dataclass(slots=True)
class Row:
    """One answer being written; `draws` are its uniform random numbers, one a token, whatever the batch."""

    tokens: list[int]
    draws: np.ndarray | None
    logprob: float = 0.0
    branches: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False
    truncated: bool = False


class Decoder:
    """Passed to `model.generate(custom_generate=...)`, which prepares positions, masks and the cache.

    Sampling is this toolkit's: the generation settings stored with a model (repetition penalty, temperature) are not applied.
    """

    def __init__(
        self, sampling: Sampling, ids: Sequence[str], prefix: Sequence[int], branches: Branches | None, stops: StopMatcher
    ) -> None:
        self.sampling = sampling
        self.ids = ids
        self.prefix = list(prefix)
        self.branches = branches
        self.stops = stops
        self.ends: frozenset[int] = frozenset()

    def __call__(self, model: Any, input_ids: torch.Tensor, generation_config: Any, **state: Any) -> list[Answer]:
        """`input_ids` [B, P] end with the forced prefix. B * n answers, sample-major."""
        for name in ("logits_processor", "stopping_criteria"):
            state.pop(name, None)
        self.ends = end_tokens(generation_config)
        logits, state = prefill(model, input_ids, state)  # [B, P', V]
        rows = [self._row(sample_id, j) for sample_id in self.ids for j in range(self.sampling.n)]
        with_room(state["past_key_values"])
        state, logits = widen(state, logits, self.sampling.n)
        self._see_prefix(rows, logits)
        self._write(model, rows, logits[:, -1].float(), state)
        return [Answer(row.tokens, row.logprob, row.branches, row.truncated) for row in rows]

    def _row(self, sample_id: str, j: int) -> Row:
        draws = None if self.sampling.temperature == 0 else uniforms(self.sampling, sample_id, j)
        return Row(list(self.prefix), draws)

    def _see_prefix(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        """Branch odds where the parting point lies inside the forced prefix: the prefill's logits hold it."""
        if self.branches is None or len(self.branches.common) >= len(self.prefix):
            return
        at = len(self.branches.common)
        if tuple(self.prefix[:at]) == self.branches.common:
            for row, scores in zip(rows, logits[:, at - len(self.prefix) - 1], strict=True):
                row.branches = self.branches.odds(scores)

    def _write(self, model: Any, rows: Sequence[Row], logits: torch.Tensor, state: dict[str, Any]) -> None:
        """Token by token until every row has ended; `logits` [R, V] belong to the rows still in the batch."""
        batch = list(rows)
        for step in range(self.sampling.max_tokens):
            self._see_branches(batch, logits)
            tokens = self._choose(batch, logits, step)
            alive = [i for i, row in enumerate(batch) if not row.ended]
            if not alive:
                return
            if step + 1 == self.sampling.max_tokens:
                break
            if len(alive) <= len(batch) * (1 - COMPACT_SHARE):
                alive = closed_up(alive)
                index = torch.tensor(alive, device=tokens.device)
                batch, tokens, state = [batch[i] for i in alive], tokens[index], select(state, index)
            logits, state = advance(model, tokens[:, None], state)
            logits = logits[:, -1].float()
        for row in batch:
            row.truncated = not row.ended

    def _see_branches(self, batch: Sequence[Row], logits: torch.Tensor) -> None:
        if self.branches is None:
            return
        for row, scores in zip(batch, logits, strict=True):
            if not row.ended and len(row.tokens) == len(self.branches.common) and tuple(row.tokens) == self.branches.common:
                row.branches = self.branches.odds(scores)

    def _choose(self, batch: Sequence[Row], logits: torch.Tensor, step: int) -> torch.Tensor:
        """The next token of each row [R], written to its row; rows already ended get a token nobody reads."""
        if self.sampling.temperature == 0:
            tokens = logits.argmax(-1)
        else:
            assert all(row.draws is not None for row in batch)
            draws = torch.tensor([row.draws[step] for row in batch if row.draws is not None], dtype=torch.float64, device=logits.device)
            tokens = draw(logits, draws, self.sampling.temperature, self.sampling.top_p)
        chosen = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        for row, token, logprob in zip(batch, tokens.tolist(), chosen.tolist(), strict=True):
            self._append(row, token, logprob)
        return tokens

    def _append(self, row: Row, token: int, logprob: float) -> None:
        if row.ended:
            return
        row.logprob += logprob
        if token in self.ends:
            row.ended = True
            return
        row.tokens.append(token)
        row.ended = self.stops.completed(row.tokens)


class Scorer:
    """Passed to `model.generate(custom_generate=...)`: log-probabilities of given continuations after one shared prefill.

    `rests[i][j]` are the tokens of continuation j of sample i behind `common`, which every one of them begins with and with
    which the input ends.
    """

    def __init__(
        self, common: Sequence[int], rests: Sequence[Sequence[Sequence[int]]], rows_at_once: int, temperature: float = 1.0
    ) -> None:
        self.common = list(common)
        self.rests = rests
        self.rows_at_once = rows_at_once
        self.temperature = temperature

    def __call__(self, model: Any, input_ids: torch.Tensor, generation_config: Any, **state: Any) -> list[list[tuple[float, ...]]]:
        for name in ("logits_processor", "stopping_criteria"):
            state.pop(name, None)
        logits, state = prefill(model, input_ids, state)  # [B, len(common) + 1, V]
        shared = self._shared(logits)
        flat = [(i, list(rest)) for i, rests in enumerate(self.rests) for rest in rests]
        scores = [
            score
            for start in range(0, len(flat), self.rows_at_once)
            for score in self._rows(model, flat[start : start + self.rows_at_once], logits, state)
        ]
        queue = iter(scores)
        return [[shared[i] + next(queue) for _ in rests] for i, rests in enumerate(self.rests)]

    def _shared(self, logits: torch.Tensor) -> list[tuple[float, ...]]:
        if not self.common:
            return [()] * len(self.rests)
        tokens = torch.tensor(self.common, device=logits.device)
        logprobs = (logits[:, -len(self.common) - 1 : -1].float() / self.temperature).log_softmax(-1)
        found = logprobs[:, torch.arange(len(self.common)), tokens]
        return [tuple(row) for row in found.tolist()]

    def _rows(self, model: Any, rows: list[tuple[int, list[int]]], logits: torch.Tensor, state: dict[str, Any]) -> list[tuple[float, ...]]:
        index = torch.tensor([i for i, _ in rows], device=logits.device)
        width = max(len(rest) for _, rest in rows)
        every = logits[index, -1:].float()  # [R, 1, V]
        if width > 1:
            every = torch.cat([every, self._continue(model, rows, width - 1, index, state)], dim=1)
        every = (every / self.temperature).log_softmax(-1)  # [R, width, V]
        return [tuple(every[r, torch.arange(len(rest)), torch.tensor(rest, dtype=torch.long)].tolist()) for r, (_, rest) in enumerate(rows)]

    def _continue(
        self, model: Any, rows: list[tuple[int, list[int]]], width: int, index: torch.Tensor, state: dict[str, Any]
    ) -> torch.Tensor:
        """One forward over all but the last token of each continuation, padded on the right: [R, width, V]."""
        pads = [[*rest[:-1], *[0] * (width - len(rest[:-1]))][:width] for _, rest in rows]
        tokens = torch.tensor(pads, device=index.device)
        chosen = select(branch_off(state), index)
        logits, _ = advance(model, tokens, chosen | {"logits_to_keep": width} if "logits_to_keep" in chosen else chosen, unread=1)
        return logits[:, -width:].float()


def prefill(model: Any, input_ids: torch.Tensor, state: dict[str, Any]) -> tuple[torch.Tensor, dict[str, Any]]:
    """The forward over prompt and pictures: logits [B, kept, V], and the state without the pictures."""
    inputs = model.prepare_inputs_for_generation(input_ids, is_first_iteration=True, **state)
    outputs = model(**inputs, return_dict=True)
    state = {k: v for k, v in state.items() if k not in PICTURE_INPUTS}
    return outputs.logits, model._update_model_kwargs_for_generation(outputs, state)


def advance(model: Any, tokens: torch.Tensor, state: dict[str, Any], unread: int = 0) -> tuple[torch.Tensor, dict[str, Any]]:
    """The forward over `tokens` [R, T] behind the cache, whose masks and positions already count the first of them."""
    width = tokens.shape[1]
    if width > 1:
        state = stretch(state, width - 1)
    inputs = model.prepare_inputs_for_generation(tokens, next_sequence_length=width, is_first_iteration=False, **state)
    outputs = model(**inputs, return_dict=True)
    return outputs.logits, state if unread else model._update_model_kwargs_for_generation(outputs, dict(state))


def stretch(state: dict[str, Any], more: int) -> dict[str, Any]:
    """Masks and positions for `more` further tokens."""
    state = dict(state)
    if (mask := state.get("attention_mask")) is not None:
        state["attention_mask"] = torch.cat([mask, mask.new_ones(mask.shape[0], more)], dim=-1)
    if (types := state.get("mm_token_type_ids")) is not None:
        state["mm_token_type_ids"] = torch.cat([types, types.new_zeros(types.shape[0], more)], dim=-1)
    if (positions := state.get("position_ids")) is not None:
        steps = torch.arange(1, more + 1, device=positions.device, dtype=positions.dtype)
        state["position_ids"] = torch.cat([positions, positions[..., -1:] + steps], dim=-1)
    return state


def select(state: Mapping[str, Any], index: torch.Tensor) -> dict[str, Any]:
    """The state of the rows `index` [R] (repeats allowed) of a batch; the cache is changed in place."""
    chosen = {}
    for name, value in state.items():
        if name == "position_ids" and value is not None:
            value = value.index_select(value.dim() - 2, index)
        elif isinstance(value, torch.Tensor) and value.dim() > 1:
            value = value.index_select(0, index)
        elif hasattr(value, "batch_select_indices"):
            value.batch_select_indices(index)
        chosen[name] = value
    return chosen


def branch_off(state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy whose cache can be selected and extended while the first stays as it is; tensors are shared, not copied."""
    copied = dict(state)
    cache = copied["past_key_values"] = copy.copy(state["past_key_values"])
    cache.layers = [copy.copy(layer) for layer in cache.layers]
    return copied


def widen(state: dict[str, Any], logits: torch.Tensor, n: int) -> tuple[dict[str, Any], torch.Tensor]:
    """Every row n times, neighbours together."""
    if n == 1:
        return state, logits
    index = torch.arange(logits.shape[0], device=logits.device).repeat_interleave(n)
    return select(state, index), logits[index]


def end_tokens(generation_config: Any) -> frozenset[int]:
    ends = generation_config.eos_token_id
    return frozenset() if ends is None else frozenset(ends if isinstance(ends, list) else [ends])


def uniforms(sampling: Sampling, sample_id: str, j: int) -> np.ndarray:
    """`max_tokens` uniform numbers that depend on the seed, the sample and the candidate alone."""
    key = hashlib.sha256(f"{sampling.seed}\0{sample_id}\0{j}".encode("utf-8", "surrogatepass")).digest()[:16]
    return np.random.Generator(np.random.Philox(int.from_bytes(key, "big"))).random(sampling.max_tokens)


def draw(logits: torch.Tensor, draws: torch.Tensor, temperature: float, top_p: float) -> torch.Tensor:
    """Nucleus sampling by inverse distribution: tokens [R] from logits [R, V] and uniform `draws` [R].

    The distribution is walked in the order of token ids: in the order of probability, rounding could swap two tokens.
    """
    probs = (logits if temperature == 1 else logits / temperature).softmax(-1)
    return walk(probs if top_p == 1 else nucleus(probs.double(), top_p), draws)


def walk(probs: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """The first token at which the sum of `probs` [R, V] so far exceeds the share `draws` [R] of the whole sum.

    Of a large vocabulary, blocks are summed first and one is walked: a float64 sum over all of it would cost as much as a small
    model's step.
    """
    rows, size = probs.shape
    if size <= WALKED_WHOLE:
        return beyond(probs, draws).place
    filled = torch.nn.functional.pad(probs, (0, -size % BLOCK)) if size % BLOCK else probs
    blocks = filled.view(rows, -1, BLOCK)
    block, share = beyond(blocks.sum(-1), draws)
    inside = blocks[torch.arange(rows, device=probs.device), block]
    return (block * BLOCK + beyond(inside, share).place).clamp(max=size - 1)


class Beyond(NamedTuple):
    """A place [R], and the share of its weight [R] that lay before the goal."""

    place: torch.Tensor
    share: torch.Tensor


def beyond(weights: torch.Tensor, draws: torch.Tensor) -> Beyond:
    """The first place at which the sum of `weights` [R, W] exceeds the share `draws` [R] of all; never one that weighs nothing."""
    edges = weights.cumsum(-1, dtype=torch.float64)
    whole = edges[:, -1]
    goal = torch.minimum(draws * whole, torch.nextafter(whole, whole.new_zeros(())))[:, None]
    place = torch.searchsorted(edges, goal, right=True).clamp(max=weights.shape[1] - 1)  # behind all of them: nan
    weight = weights.gather(1, place).double()
    return Beyond(place[:, 0], (1 - (edges.gather(1, place) - goal) / weight).clamp(0, 1)[:, 0])


def nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """`probs` [R, V] without the tokens behind the likeliest ones that together reach `top_p`."""
    ranked, order = probs.sort(dim=-1, descending=True, stable=True)
    out = (ranked.cumsum(-1) - ranked) >= top_p
    return probs.masked_fill(torch.zeros_like(out).scatter(-1, order, out), 0.0)
