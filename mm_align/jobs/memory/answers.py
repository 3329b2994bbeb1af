"""`mmalign memory MODEL`: what answering takes, for enhance-data, eval, chat and the asked models of rlaif."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .cards import budget
from .memory import MemoryReport, reported
from .models import config_at_hand, on_meta, picture_tokens

if TYPE_CHECKING:
    from ...models.memory import Part
    from .memory import MemoryConfig

QUESTION, ANSWER, PICTURE = 256, 384, 1024  # tokens; a picture's where the model does not say


def answering(config: MemoryConfig) -> MemoryReport:
    """Weights, keys and values, and the widest moment of a prefill on one device. UserError for a model that is not at hand."""
    import torch

    found = config_at_hand(str(config.model), config.revision)
    model = on_meta(found.config).to(getattr(torch, config.dtype))
    picture = picture_tokens(found.config, PICTURE) * config.pictures
    prompt, answer = config.tokens or picture + QUESTION, config.answer_tokens or ANSWER
    parts = parts_of(model, config, prompt + answer, picture)
    cards = [asked_on(card, config, model, prompt + answer, parts[0].bytes) for card in config.device_memory]
    what = f"answering by {found.told}: prompts of {prompt:,} tokens, {picture:,} of them pictures', answers of {answer:,}"
    told = "rows at once as the backend counts them: a step copies keys and values, so twice; rows are given half of what is free"
    return reported(what, parts, cards, [told])


def parts_of(model: Any, config: MemoryConfig, tokens: int, picture: int) -> list[Part]:
    """The weights first. tokens: of a prompt and its answer; picture: of the prompt's pictures."""
    from ...backends.micro_batches import row_bytes
    from ...models.memory import Part, kv_bytes_per_token

    text, width, rows = model.config.get_text_config(), model.dtype.itemsize, config.rows or 1
    weights = sum(parameter.numel() for parameter in model.parameters())
    kept, answers = kv_bytes_per_token(text, width), rows * config.answers
    cache = 2 * answers * tokens * kept
    shared = f" x {config.answers} answers" if config.answers > 1 else ""
    found = [
        Part("weights", weights * width, f"{weights:,} x {width} bytes ({config.dtype})"),
        Part("keys and values", cache, f"{_rows(rows)} of {tokens:,} tokens{shared} x {kept:,} bytes, twice"),
        Part("prefill", answers * row_bytes(model, tokens) - cache, "the widest moment of reading the prompts"),
        Part("visual tokens", rows * picture * text.hidden_size * width, f"{_rows(rows)} of {picture:,}"),
    ]
    return [part for part in found if part.bytes]


def _rows(count: int) -> str:
    return f"{count} row{'s' if count > 1 else ''}"


def asked_on(card: float, config: MemoryConfig, model: Any, tokens: int, weights: int) -> dict[str, Any]:
    """Whether a card holds the model and a row, and how many rows at once the backend would choose there."""
    from ...backends.micro_batches import row_bytes, size_for
    from ...models.memory import shown

    room = budget(card)
    each = row_bytes(model, tokens) * config.answers
    fits = weights + each * (config.rows or 1) <= room
    told = f"{card:g} GB card: {'fits' if fits else 'does not fit'}"
    rows = size_for(model, room - weights, tokens, config.answers) if fits and config.rows is None else config.rows
    if fits:
        told += f", {_rows(int(rows or 1))} at once ({shown(weights + each * int(rows or 1))} of the {shown(room)} that are counted on)"
        return {"gb": card, "fits": True, "rows": rows, "told": [told]}
    cards = 1 << max(1, math.ceil(math.log2((weights + each) / room)))
    more = f"  {cards} such cards hold it behind a server that splits models (vLLM: --tensor-parallel-size {cards}): openai:URL#MODEL"
    return {"gb": card, "fits": False, "rows": 0, "cards": cards, "told": [f"{told}: one row needs {shown(weights + each)}", more]}
