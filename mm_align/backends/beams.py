"""Beam search, for the protocols of papers that evaluate by it: transformers' own, with nothing else of a stored configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from data_tools.calls import Sampling

from ..config import UserError
from .decoding import Answer


def check_beams(sampling: Sampling) -> None:
    """UserError for what beam search is not combined with."""
    others = {"n": sampling.n > 1, "temperature": sampling.temperature > 0, "prefix": sampling.prefix, "stop": sampling.stop}
    if refused := [name for name, given in others.items() if given]:
        raise UserError(f"beam search gives one greedy answer as it comes: leave out {', '.join(refused)}, or set beams to 1")


def beam_search(model: Any, inputs: Mapping[str, torch.Tensor], sampling: Sampling, ends: Sequence[int], pad: int | None) -> list[Answer]:
    """The best of `sampling.beams` beams for each left-padded row; its log-probability is not told."""
    moved = {k: v.to(model.device, model.dtype if v.is_floating_point() else None) for k, v in inputs.items()}
    config = GenerationConfig(
        num_beams=sampling.beams,
        max_new_tokens=sampling.max_tokens,
        eos_token_id=list(ends),
        pad_token_id=pad,
        use_cache=True,
        do_sample=False,
        # What a model stores of these would come in where they are left out.
        repetition_penalty=1.0,
        length_penalty=1.0,
        no_repeat_ngram_size=0,
        early_stopping=False,
        num_return_sequences=1,
    )
    rows = model.generate(**moved, generation_config=config)[:, inputs["input_ids"].shape[1] :].tolist()
    return [_answer(row, ends) for row in rows]


def _answer(row: Sequence[int], ends: Sequence[int]) -> Answer:
    end = next((place for place, token in enumerate(row) if token in ends), None)
    return Answer(list(row[:end]), None, {}, end is None)
