"""Questions about a sample's pictures as token ids: a head that ends with the last picture, and what each question adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from data_tools.records import Sample

from .prompts import left_padded

BY_TOKEN = ("token_type_ids", "mm_token_type_ids")  # inputs with one entry a token beside ids and mask


class NoHead(ValueError):
    """Questions about the same pictures share no beginning that holds the pictures."""


class Asked(NamedTuple):
    """`inputs`: left-padded heads [B, P] and the pictures. `tails[i][j]`: the tokens of question j of sample i behind its head."""

    inputs: dict[str, torch.Tensor]
    tails: list[list[list[int]]]


def encode_questions(prompts: Any, groups: Sequence[Sequence[Sample]], picture_token: int) -> Asked:
    """`groups[i]`: conversations that show the same pictures. The pictures of a group are prepared once.

    The head ends with the last picture token, whatever the questions are, so that one question is computed as many are.
    Raises NoHead where the questions stand before the pictures.
    """
    encoded = prompts.encode([group[0] for group in groups])
    real = encoded["attention_mask"].bool()
    rows = [ids[mask].tolist() for ids, mask in zip(encoded["input_ids"], real, strict=True)]
    cuts = [_cut(row, picture_token) for row in rows]
    heads = [row[:cut] for row, cut in zip(rows, cuts, strict=True)]
    tails = [
        _tails(prompts, group, head, row[cut:], picture_token) for group, head, row, cut in zip(groups, heads, rows, cuts, strict=True)
    ]
    inputs = encoded | left_padded(heads, int(prompts.pad_id()))
    for name in BY_TOKEN:
        if name in encoded:
            kept = [row[mask][:cut] for row, mask, cut in zip(encoded[name], real, cuts, strict=True)]
            inputs[name] = left_padded([row.tolist() for row in kept], 0)["input_ids"]
    return Asked(inputs, tails)


def _cut(row: Sequence[int], picture_token: int) -> int:
    """Behind the last picture token."""
    if picture_token not in row:
        raise NoHead(f"its prompts hold no picture token ({picture_token})")
    return len(row) - row[::-1].index(picture_token)


def _tails(prompts: Any, group: Sequence[Sample], head: list[int], first: list[int], picture_token: int) -> list[list[int]]:
    """`first` is the tail of the group's first conversation. What comes between the last picture and the words is taken from it."""
    found = prompts.tails(group)
    if found is None or first[len(first) - len(found[0]) :] != found[0]:
        return [first, *[_whole(prompts, one, head) for one in group[1:]]]
    between = first[: len(first) - len(found[0])]
    return [[*between, *tail] for tail in found]


def _whole(prompts: Any, conversation: Sample, head: list[int]) -> list[int]:
    """The tail from all of the prompt's ids."""
    ids: list[int] = prompts.encode([conversation])["input_ids"][0].tolist()
    if ids[: len(head)] != head:
        raise NoHead("its chat template writes words of the question before the pictures")
    return ids[len(head) :]
