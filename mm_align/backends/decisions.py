"""Yes or no at the first token of an answer: many questions of a sample behind one prefill of its pictures.

Layouts. packed: all questions of a sample in one row behind the cache, none sees another. widened: the cache once a question.
alone: a whole forward a question. Scores to be compared come from one layout, so a backend keeps the one it began with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import DynamicLayer

from data_tools.calls import Decision

from ..config import UserError
from .decoding import advance, branch_off, prefill, select
from .micro_batches import is_out_of_memory

log = logging.getLogger(__name__)

MARKS = ("", "\u2581", "\u0120")  # how vocabularies write a leading space (SentencePiece, byte level)
ROW_TOKENS = 1024  # of questions in one packed row; more go into a second one behind the same prefill
ROWS_AT_ONCE = 16  # questions behind a widened cache
# Largest difference of a probability between a layout and independent forwards: rounding in 16 bits moves it by 1e-3.
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-5}
TOLERANCE_16_BITS = 2e-2

Layout = Callable[[Any, Sequence[Sequence[Sequence[int]]], dict[str, Any]], torch.Tensor]


class Verdicts(NamedTuple):
    """The token ids that say yes, and those that say no."""

    yes: list[int]
    no: list[int]

    def read(self, logits: torch.Tensor) -> list[Decision]:
        """Decisions from logits [N, V] at the first answer token, at temperature 1 over the whole vocabulary."""
        shares = logits.float().softmax(-1)
        sums = zip(shares[:, self.yes].sum(-1).tolist(), shares[:, self.no].sum(-1).tolist(), strict=True)
        return [Decision(min(yes, 1.0), min(no, 1.0)) for yes, no in sums]


def find_verdicts(tokenizer: Any) -> Verdicts:
    """Every spelling of yes and no that is one token: yes, Yes, YES, each with and without a leading space. UserError without one."""
    yes, no = (sorted(_spellings(tokenizer, word)) for word in ("yes", "no"))
    if not yes or not no:
        lacking = " and ".join(word for word, ids in (("yes", yes), ("no", no)) if not ids)
        raise UserError(f"this model cannot judge: its tokenizer has no single token for {lacking}, in any spelling")
    return Verdicts(yes, no)


def _spellings(tokenizer: Any, word: str) -> set[int]:
    written = {word, word.capitalize(), word.upper()}
    vocabulary = tokenizer.get_vocab()
    ids = {vocabulary[mark + text] for mark in MARKS for text in written if mark + text in vocabulary}
    encoded = (tokenizer.encode(space + text, add_special_tokens=False) for space in ("", " ") for text in written)
    ids |= {row[0] for row in encoded if len(row) == 1}
    return {i for i in ids if i != tokenizer.unk_token_id and tokenizer.decode([i]).strip() in written}


class Asker:
    """Passed to `model.generate(custom_generate=...)`: logits [N, V] behind each question; without `tails` behind each row."""

    def __init__(self, tails: Sequence[Sequence[Sequence[int]]] = (), layout: Layout | None = None) -> None:
        self.tails, self.layout = tails, layout

    def __call__(self, model: Any, input_ids: torch.Tensor, generation_config: Any, **state: Any) -> torch.Tensor:
        for name in ("logits_processor", "stopping_criteria"):
            state.pop(name, None)
        logits, state = prefill(model, input_ids, state)
        if not self.tails:
            return logits[:, -1]
        assert self.layout is not None
        state.pop("logits_to_keep", None)
        return self.layout(model, self.tails, behind_picture(state))


def behind_picture(state: dict[str, Any]) -> dict[str, Any]:
    """The state with the next position right where the last token is a picture's.

    The library counts on from the last token in each row of positions; behind a picture, whose rows (time, height, width) end at
    different numbers, all go on from the largest (Qwen2-VL, section 2.1).
    """
    positions = state.get("position_ids")
    if positions is None or positions.dim() < 3:
        return state
    positions = positions.clone()  # [3 or 4, B, P + 1]; the first of four counts tokens
    positions[-3:, :, -1] = positions[-3:, :, :-1].amax((0, -1)) + 1
    return state | {"position_ids": positions}


def packed(model: Any, tails: Sequence[Sequence[Sequence[int]]], state: dict[str, Any]) -> torch.Tensor:
    """Questions of one sample side by side in one row, each at the positions it would have alone. Raises Unfit."""
    if state.get("position_ids") is None or any(type(layer) is not DynamicLayer for layer in state["past_key_values"].layers):
        raise Unfit("its cache keeps more than keys and values of all tokens")
    packs = [_packs(row) for row in tails]
    found: list[list[torch.Tensor]] = [[] for _ in tails]
    for turn in range(max(map(len, packs))):
        index = [i for i, row in enumerate(packs) if turn < len(row)]
        rows = [packs[i][turn] for i in index]
        chosen = branch_off(state)
        if len(index) < len(packs):
            chosen = select(chosen, torch.tensor(index, device=model.device))
        logits = iter(_packed_forward(model, rows, chosen).split([len(row) for row in rows]))
        for i in index:
            found[i].append(next(logits))
    return torch.cat([piece for pieces in found for piece in pieces])


class Unfit(Exception):
    """This architecture does not take the layout."""


def _packs(questions: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """Questions in their order, as many in a pack as ROW_TOKENS hold, at least one."""
    packs: list[list[Sequence[int]]] = [[]]
    used = 0
    for question in questions:
        if packs[-1] and used + len(question) > ROW_TOKENS:
            packs.append([])
            used = 0
        packs[-1].append(question)
        used += len(question)
    return packs


def _packed_forward(model: Any, rows: Sequence[Sequence[Sequence[int]]], state: dict[str, Any]) -> torch.Tensor:
    """Logits [N, V] at the last token of each question."""
    width = max(sum(map(len, row)) for row in rows)
    tokens, owner, offset = (torch.tensor(table, device=model.device) for table in _tables(rows, width))  # [B, S]
    seen = _seen(state, len(rows), model.device)  # [B, P]
    earlier = torch.ones(width, width, dtype=torch.bool, device=model.device).tril()
    own = (owner[:, :, None] == owner[:, None, :]) & earlier  # [B, S, S]
    allowed = torch.cat([seen[:, None, :].expand(-1, width, -1), own], dim=-1)
    mask = torch.zeros(allowed.shape, dtype=model.dtype, device=model.device).masked_fill(~allowed, torch.finfo(model.dtype).min)
    ends = [i * width + end - 1 for i, row in enumerate(rows) for end in accumulate(map(len, row))]
    with head_only_at(model, ends):
        outputs = model(
            input_ids=tokens,
            attention_mask=mask[:, None],
            position_ids=state["position_ids"][..., -1:] + offset,
            past_key_values=state["past_key_values"],
            use_cache=True,
            return_dict=True,
        )
    return outputs.logits[0]


def _seen(state: dict[str, Any], rows: int, device: torch.device) -> torch.Tensor:
    """Which places of the cache hold a token [B, P]; `generate` drops a mask of ones."""
    length = state["past_key_values"].get_seq_length()
    mask = state.get("attention_mask")
    return torch.ones(rows, length, dtype=torch.bool, device=device) if mask is None else mask[:, :length].bool()


def _tables(rows: Sequence[Sequence[Sequence[int]]], width: int) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """Tokens, the question each belongs to (-1: none) and its place in it, filled up on the right."""
    tokens, owner, offset = [], [], []
    for row in rows:
        rest = width - sum(map(len, row))
        tokens.append([token for question in row for token in question] + [0] * rest)
        owner.append([j for j, question in enumerate(row) for _ in question] + [-1] * rest)
        offset.append([place for question in row for place in range(len(question))] + [0] * rest)
    return tokens, owner, offset


def widened(model: Any, tails: Sequence[Sequence[Sequence[int]]], state: dict[str, Any]) -> torch.Tensor:
    """A row of the cache a question, padded on the right."""
    flat = [(i, question) for i, row in enumerate(tails) for question in row]
    return torch.cat([_widened_forward(model, flat[at : at + ROWS_AT_ONCE], state) for at in range(0, len(flat), ROWS_AT_ONCE)])


def _widened_forward(model: Any, rows: Sequence[tuple[int, Sequence[int]]], state: dict[str, Any]) -> torch.Tensor:
    width = max(len(question) for _, question in rows)
    tokens = torch.tensor([[*question, *[0] * (width - len(question))] for _, question in rows], device=model.device)
    chosen = select(branch_off(state), torch.tensor([i for i, _ in rows], device=model.device))
    with head_only_at(model, [r * width + len(question) - 1 for r, (_, question) in enumerate(rows)]):
        logits, _ = advance(model, tokens, chosen, unread=1)
    return logits[0]


@contextmanager
def head_only_at(model: Any, places: Sequence[int]) -> Iterator[None]:
    """The output head runs at these places of the flattened batch only: logits [1, places, V]."""
    index = torch.tensor(places, device=model.device)
    head = model.get_output_embeddings()
    handle = head.register_forward_pre_hook(lambda _, args: (args[0].flatten(0, 1)[index][None], *args[1:]))
    try:
        yield
    finally:
        handle.remove()


LAYOUTS: dict[str, Layout] = {"packed": packed, "widened": widened}


def choose_layout(ask: Callable[[Layout], torch.Tensor], alone: torch.Tensor) -> str:
    """The first layout whose probabilities [N, V] are those of independent forwards; "alone" where none is, and it is said."""
    expected = alone.float().softmax(-1)
    limit = TOLERANCE.get(alone.dtype, TOLERANCE_16_BITS)
    for name, layout in LAYOUTS.items():
        try:
            gap = float((ask(layout).float().softmax(-1) - expected).abs().max())
            why = f"probabilities differ by {gap:.1e} from those of independent questions"
        except (Unfit, RuntimeError, ValueError, TypeError, AttributeError, LookupError) as error:  # what forwards raise that lack a part
            if is_out_of_memory(error):
                raise
            gap, why = float("nan"), " ".join(str(error).split())[:200]
        if gap <= limit:
            log.debug("questions are asked %s (largest difference of a probability %.1e)", name, gap)
            return name
        log.warning("this model cannot be asked with questions %s (%s); trying another layout", name, why)
    return "alone"
