"""Preference pairs -> batches for models of transformers, through their own processors: LLaVA, Qwen-VL, Idefics3 and their kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from data_tools.records import PreferencePair, Sample

from ..models.batch import Tokens, same_picture
from ..models.pairs import Answer, Layout, answer_of, answer_tensors
from ..models.shared_prompt import Rows, duplicated_rows, shared_rows
from .prompts import ChatPrompts

TOKEN_KINDS = ("token_type_ids", "mm_token_type_ids")  # what processors say of each token; an answer's tokens are text, 0


def collate_chat_pairs(
    pairs: Sequence[PreferencePair], prompts: ChatPrompts, model: Any, *, layout: Layout = "shared"
) -> dict[str, torch.Tensor]:
    """P pairs -> the model's inputs with the answers' tensors of `mm_align.losses.answer_logps`.

    layout "shared": a row for each distinct prompt, with the answers of all its pairs; "duplicated": a row an answer. Pictures are
    prepared and encoded once a row. Positions are the model's own (`get_rope_index`, where it has one), taken from each
    conversation alone. Raises ValueError where prompts and pictures do not fit, BadImage for a picture that cannot be decoded.
    """
    samples = [pair.sample for pair in pairs] * 2
    texts = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    members = _members(samples, prompts) if layout == "shared" else [[number] for number in range(len(samples))]
    encoded = prompts.encode([samples[numbers[0]] for numbers in members])
    row_of = {number: row for row, numbers in enumerate(members) for number in numbers}
    asked = [_unpadded(encoded, row_of[number]) for number in range(len(samples))]
    spoken = [prompts.answer_ids(sample, text) for sample, text in zip(samples, texts, strict=True)]
    answers = [_with_answer(prompt["input_ids"], ids) for prompt, ids in zip(asked, spoken, strict=True)]
    inputs = [answer.inputs for answer in answers]
    rows = shared_rows(inputs, members) if layout == "shared" else duplicated_rows(inputs)
    batch = {name: value for name, value in encoded.items() if name not in ("input_ids", "attention_mask", *TOKEN_KINDS)}
    known = [name for name in TOKEN_KINDS if name in encoded]
    kinds = {name: [_longer(prompt[name], ids) for prompt, ids in zip(asked, inputs, strict=True)] for name in known}
    batch |= {name: torch.from_numpy(rows.take(values, 0)) for name, values in kinds.items()}
    batch["input_ids"] = torch.from_numpy(rows.take(inputs, prompts.pad_id()))
    batch |= answer_tensors(answers, rows)
    batch["margins"] = torch.tensor([pair.margin for pair in pairs], dtype=torch.float32)
    if layout == "duplicated":
        return batch | {"attention_mask": torch.from_numpy((rows.token >= 0).astype(np.int64))}
    grids = _grids(encoded, [len(samples[numbers[0]].images) for numbers in members])
    positions = _positions(model, inputs, kinds, [grids[row_of[number]] for number in range(len(samples))])
    return batch | {"position_ids": _taken(rows, positions), "visible_until": torch.from_numpy(rows.until)}


def _members(samples: Sequence[Sample], prompts: ChatPrompts) -> list[list[int]]:
    """Numbers of the samples with the same prompt and pictures."""
    found: dict[Any, list[int]] = {}
    for number, sample in enumerate(samples):
        found.setdefault((prompts.render(sample), *map(same_picture, sample.images)), []).append(number)
    return list(found.values())


def _unpadded(encoded: dict[str, torch.Tensor], row: int) -> dict[str, np.ndarray]:
    real = encoded["attention_mask"][row].bool()
    return {name: encoded[name][row][real].numpy() for name in ("input_ids", *TOKEN_KINDS) if name in encoded}


def _with_answer(prompt: np.ndarray, answer: Sequence[int]) -> Answer:
    ids = np.concatenate([prompt, np.array(answer, np.int64)])
    return answer_of(Tokens(ids, np.arange(len(ids)) >= len(prompt)))


def _longer(kinds: np.ndarray, ids: np.ndarray) -> np.ndarray:
    return np.concatenate([kinds, np.zeros(len(ids), np.int64)])[: len(ids)]


def _grids(encoded: dict[str, torch.Tensor], pictures: Sequence[int]) -> list[torch.Tensor]:
    """[pictures, 3] of each row, of a processor that tells its pictures' grids; else empty."""
    if "image_grid_thw" not in encoded:
        return [torch.zeros(0, 3, dtype=torch.long)] * len(pictures)
    return list(encoded["image_grid_thw"].split(list(pictures)))


def _positions(
    model: Any, inputs: Sequence[np.ndarray], kinds: dict[str, list[np.ndarray]], grids: Sequence[torch.Tensor]
) -> list[np.ndarray]:
    """[axes, n] positions of the tokens of each conversation by itself; one axis where the model has none of its own making."""
    own = getattr(getattr(model, "model", None), "get_rope_index", None)
    if own is None:
        return [np.arange(len(ids))[None] for ids in inputs]
    alone = duplicated_rows(inputs)
    given = {name: torch.from_numpy(alone.take(values, 0)) for name, values in kinds.items()}
    mask = torch.from_numpy((alone.token >= 0).astype(np.int64))
    found, _ = own(
        input_ids=torch.from_numpy(alone.take(inputs, 0)), image_grid_thw=torch.cat(list(grids)), attention_mask=mask, **given
    )  # [axes, N, L]
    return [found[:, number, : len(ids)].numpy() for number, ids in enumerate(inputs)]


def _taken(rows: Rows, positions: Sequence[np.ndarray]) -> torch.Tensor:
    """[axes, B, L] (without the first of a single axis)."""
    axes = [torch.from_numpy(rows.take([of_one[axis] for of_one in positions], 0)) for axis in range(len(positions[0]))]
    return axes[0] if len(axes) == 1 else torch.stack(axes)
