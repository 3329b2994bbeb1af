"""The visual tokens of films inside the model: reduced as the config says, and prompts cut down to what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from vision.encoders.attended import READABLE, Attended, can_be_read, read_attended
from vision.tokens import VisualTokens

from .video_settings import VideoSettings

if TYPE_CHECKING:
    from video.tokens import Reduced, Reducer

    from .lvlm_model import LvlmModel


class Group(NamedTuple):
    """One picture or one film of the prompts: its visual tokens [K, D], placeholders of each of its frames, and tokens of each."""

    features: torch.Tensor
    offered: list[int]
    kept: list[int]


class Fitted(NamedTuple):
    """Prompts [B, L'] that hold as many placeholders as there are tokens, left-padded."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def groups_of(
    model: LvlmModel,
    clips: torch.Tensor,
    shown: Sequence[int],
    pixel_values: torch.Tensor | None,
    towers: Sequence[VisualTokens] | None,
) -> list[Group]:
    """Pictures and films in the order of the prompts.

    clips: [k, 2], the first place of each film among the n shown pictures and its number of frames, in order. shown: which of the m
    pixel_values, or rows of what `tower_features` gave, each place is. ValueError for a reducer that lacks what it needs.
    """
    settings = VideoSettings.of(model.config.video)
    if towers is None:
        assert pixel_values is not None
        towers = model.tower_features(pixel_values)
    films = dict(clips.tolist())
    alone = [place for place in range(len(shown)) if not any(first <= place < first + count for first, count in films.items())]
    rows = dict(zip(alone, _adapted(model, towers, [shown[place] for place in alone]), strict=True))
    groups: list[Group] = []
    place = 0
    while place < len(shown):
        frames = shown[place : place + films[place]] if place in films else None
        groups.append(_whole([rows[place]]) if frames is None else _film(model, settings, frames, pixel_values, towers))
        place += 1 if frames is None else len(frames)
    return groups


def _whole(rows: Sequence[torch.Tensor]) -> Group:
    """Everything that pictures [n_i, D] offer."""
    counts = [len(row) for row in rows]
    return Group(torch.cat(list(rows)), counts, counts)


def _film(
    model: LvlmModel,
    settings: VideoSettings,
    frames: Sequence[int],
    pixel_values: torch.Tensor | None,
    towers: Sequence[VisualTokens],
) -> Group:
    """What a film's reducer leaves of its frames, all of them without one."""
    if settings.reducer is None:
        return _whole(_adapted(model, towers, frames))
    reduced = _reduced(model, settings, frames, pixel_values, towers)
    return Group(reduced.features, settings.frame_tokens(len(frames), model.config.film_grid, 0), reduced.counts(len(frames)))


def _adapted(model: LvlmModel, towers: Sequence[VisualTokens], rows: Sequence[int]) -> list[torch.Tensor]:
    return model.adapter(*(_chosen(tokens, rows) for tokens in towers)).rows() if rows else []


def _chosen(tokens: VisualTokens, rows: Sequence[int]) -> VisualTokens:
    return VisualTokens(tokens.features[rows], tokens.mask[rows], tokens.grid, tokens.level, tokens.prefix)


def _reduced(
    model: LvlmModel,
    settings: VideoSettings,
    frames: Sequence[int],
    pixel_values: torch.Tensor | None,
    towers: Sequence[VisualTokens],
) -> Reduced:
    """The film's tokens as the language model takes them."""
    reducer = settings.built()
    assert reducer is not None
    pixels = None if pixel_values is None else pixel_values[list(frames)]
    attended = _attended(model, settings, pixels, reducer)
    tokens = _chosen(towers[0], frames) if settings.at == "tower" else model.adapter(*(_chosen(one, frames) for one in towers))
    if tokens.grid is None or tokens.prefix:
        raise ValueError(f"films are reduced on a grid of patches, the {settings.at} gave {tokens}")
    made = reducer(tokens.features, tokens.grid, pixels=pixels, **_on_grid(attended, model.encoder_grid(), tokens.grid))
    if settings.at == "adapter":
        return made
    mapped = model.adapter(VisualTokens.full(made.features[None], None))
    return type(made)(mapped.features[0], made.positions, made.weight)


def _attended(model: LvlmModel, settings: VideoSettings, pixels: torch.Tensor | None, reducer: Reducer) -> Attended | None:
    """The tower's attention where the reducer goes by it; None where it need not have it and it cannot be read."""
    if not {"attention", "keys"} & set(reducer.uses):
        return None
    if pixels is None or len(model.config.ways) > 1 or not can_be_read(model.encoder):
        if {"attention", "keys"} & set(reducer.needs):
            raise ValueError(f"{type(reducer).__name__} goes by attention: {READABLE}, in a model of one branch that is given pixel_values")
        return None
    return read_attended(model.encoder, pixels, settings.attention).attended


def _on_grid(attended: Attended | None, given: tuple[int, int], wanted: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Attention where the tokens are; keys only where no pooling lies between."""
    if attended is None:
        return {}
    if given == wanted:
        return {"attention": attended.attention, "keys": attended.keys}
    maps = attended.attention.unflatten(1, given)[:, None]
    return {"attention": F.adaptive_avg_pool2d(maps, wanted).flatten(1)}


def staying(places: torch.Tensor, groups: Sequence[Group]) -> torch.Tensor:
    """Of prompts' placeholders [B, L] bool, those that have a token; in frames the first ones. ValueError where there are more or fewer."""
    slots = places.nonzero()
    keep = torch.cat([torch.arange(offered) < kept for group in groups for offered, kept in zip(group.offered, group.kept, strict=True)])
    if len(keep) != len(slots):
        raise ValueError(f"the prompts hold {len(slots)} placeholders, their pictures and films offer {len(keep)} tokens")
    kept, stays = slots[keep.to(slots.device)], torch.zeros_like(places)
    stays[kept[:, 0], kept[:, 1]] = True
    return stays


class Shortened(NamedTuple):
    """Rows [B, L', ...] without some of their places, right-padded; back [B, L]: the place of each in them, of one that is gone that of the
    last before it, which says what comes next."""

    embeds: torch.Tensor
    attention_mask: torch.Tensor | None
    position_ids: torch.Tensor | None
    back: torch.Tensor

    def lengthened(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, L', D] -> [B, L, D]"""
        return hidden.gather(1, self.back[..., None].expand(-1, -1, hidden.shape[-1]))


def shortened(
    embeds: torch.Tensor, attention_mask: torch.Tensor | None, position_ids: torch.Tensor | None, stays: torch.Tensor
) -> Shortened:
    """Rows without the places that do not stay [B, L] bool. Of packs (positions that begin anew with each sample, no mask) the positions
    are counted anew. ValueError for a mask of another shape and for positions beside a mask."""
    if attention_mask is not None and (attention_mask.ndim != 2 or attention_mask.shape != stays.shape or position_ids is not None):
        raise ValueError("a film's reducer dropped tokens: give an attention_mask [B, L], or position_ids of packs, without a cache")
    stays = stays if attention_mask is None else stays & attention_mask.bool()
    counts = stays.sum(1, keepdim=True)  # [B, 1]
    length = int(counts.max())
    order = (~stays).to(torch.uint8).argsort(dim=1, stable=True)[:, :length]  # [B, L']
    rows = embeds.gather(1, order[..., None].expand(-1, -1, embeds.shape[-1]))
    back = (stays.cumsum(1) - 1).clamp(min=0)
    at = torch.arange(length, device=embeds.device)
    if position_ids is None:
        return Shortened(rows, (at < counts).long(), None, back)
    places = torch.arange(stays.shape[1], device=embeds.device)
    begins = torch.where(position_ids == 0, places, 0).cummax(1).values  # where each place's sample begins
    before = stays.cumsum(1) - stays.long()
    positions = (before - before.gather(1, begins)).gather(1, order)
    return Shortened(rows, None, torch.where(at < counts, positions, at - counts), back)


def fitted(input_ids: torch.Tensor, attention_mask: torch.Tensor, image_token_id: int, groups: Sequence[Group]) -> Fitted:
    """Prompts [B, L] without the placeholders of tokens that were dropped, in frames the last ones."""
    places = input_ids == image_token_id
    stays = attention_mask.bool() & (~places | staying(places, groups))
    rows = [ids[kept] for ids, kept in zip(input_ids, stays, strict=True)]
    length = max(len(row) for row in rows)
    ids, mask = (input_ids.new_zeros(len(rows), length), attention_mask.new_zeros(len(rows), length))
    for number, row in enumerate(rows):
        ids[number, length - len(row) :], mask[number, length - len(row) :] = row, 1
    return Fitted(ids, mask)
