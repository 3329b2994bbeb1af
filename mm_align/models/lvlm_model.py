"""Vision tower, adapter and decoder: token ids and pixels -> hidden states. The head, and `generate`, are in `lvlm.py`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from vision.adapters import StartsItself, build_adapter
from vision.branches import Branch, read
from vision.encoders import Encoder, encoder_for, tower_config
from vision.tokens import VisualTokens

from .film_tokens import Group, Shortened, groups_of, shortened, staying
from .lvlm_config import LvlmConfig


@dataclass
class LvlmOutput(ModelOutput):
    """loss: scalar or None. logits: [B, L', V], or [K, V] for a boolean `logits_to_keep`. image_hidden_states: [n, D] rows as placed.

    token_logps: [K] for `scored_places`.
    visual_tokens: what the adapter gave, VisualTokens [m, N, D] of the distinct pictures; None where none ran.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    token_logps: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None
    visual_tokens: VisualTokens | None = None


class PictureTokens(NamedTuple):
    """The adapter's output, where it ran here, and the tokens [n_i, D] of each distinct picture; None without pictures."""

    tokens: VisualTokens | None = None
    rows: list[torch.Tensor] | None = None


class Prompts(NamedTuple):
    """Prompts with what they show in place: embeds [B, L, D], in which the rows `features` [n, D] stand where placeholders stood.

    tokens: what the adapter gave, where no film is among them. short: the rows that the decoder gets instead, where a reducer of films
    dropped tokens.
    """

    embeds: torch.Tensor
    features: torch.Tensor | None = None
    tokens: VisualTokens | None = None
    short: Shortened | None = None

    def lengthened(self, hidden: torch.Tensor) -> torch.Tensor:
        """The decoder's [B, L', D] as [B, L, D]."""
        return hidden if self.short is None else self.short.lengthened(hidden)


class LvlmPreTrainedModel(PreTrainedModel):
    """What both model classes declare to the library."""

    config: LvlmConfig
    config_class = LvlmConfig
    base_model_prefix = "model"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _skip_keys_device_placement = ["past_key_values"]
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, StartsItself):
            module.reset_parameters()
        else:
            super()._init_weights(module)


class LvlmModel(LvlmPreTrainedModel):
    """Tower, adapter and decoder without a head: token ids and pixels -> hidden states."""

    def __init__(self, config: LvlmConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.more_towers = nn.ModuleDict({name: AutoModel.from_config(tower_config(c)) for name, c in config.more_towers.items()})
        self.adapter = build_adapter(config.adapter, config.token_facts, config.text_config.hidden_size)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @property
    def encoder(self) -> Encoder:
        """How the first branch reads its tower: layer and class token as configured."""
        return self._encoder(self.config.ways[0])

    def _encoder(self, branch: Branch) -> Encoder:
        tower = self.vision_tower if branch.tower == "vision_tower" else self.more_towers[branch.tower]
        return encoder_for(tower, layer=branch.layer, keep_cls=branch.keep_cls)

    def encoder_grid(self) -> tuple[int, int]:
        """Rows and columns of the first branch's patches."""
        return self.config.token_facts[0].grid

    def unread(self) -> list[nn.Parameter]:
        """Tower parameters that no branch reads: no gradient ever reaches them, so training should freeze them."""
        unread: dict[str, list[set[nn.Parameter]]] = {}
        for branch in self.config.ways:
            unread.setdefault(branch.tower, []).append(set(self._encoder(branch).unread()))
        return [parameter for branches in unread.values() for parameter in set.intersection(*branches)]

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def tower_features(self, pixel_values: torch.Tensor) -> list[VisualTokens]:
        """[n, 3, S, S] -> what each branch reads, VisualTokens [n, N_i, D_i]: the adapter's input, worth keeping for frozen towers."""
        return [read(branch, self._encoder(branch), pixel_values) for branch in self.config.ways]

    def visual_tokens(self, pixel_values: torch.Tensor) -> VisualTokens:
        """[n, 3, H, W] -> VisualTokens [n, N, D] in the language model's width."""
        return self.adapter(*self.tower_features(pixel_values))

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """The library's name for `visual_tokens`: `last_hidden_state` [n, N, D] and `pooler_output`, a list of n [n_i, D]."""
        tokens = self.visual_tokens(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=tokens.features, pooler_output=tokens.rows())

    def input_embeddings(self, input_ids: torch.Tensor, features: torch.Tensor | None = None) -> torch.Tensor:
        """[B, L] ids -> [B, L, D], with the rows of `features` [n, D] in place of the image placeholders, in row order.

        Raises ValueError when placeholders and features differ in number.
        """
        embeds = self.get_input_embeddings()(input_ids)
        if features is None:
            return embeds
        return self._placed(embeds, input_ids == self.config.image_token_id, features)

    def _placed(self, embeds: torch.Tensor, places: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        count = int(places.sum())
        if count != features.shape[0]:
            raise ValueError(
                f"the prompts hold {count} image placeholders (token {self.config.image_token_id}), the pictures gave "
                f"{features.shape[0]} visual tokens; one picture needs {self.config.num_image_tokens}. "
                f"Build the inputs with LvlmProcessor, and do not truncate inside a picture."
            )
        return embeds.masked_scatter(places.unsqueeze(-1), features.to(embeds.device, embeds.dtype))

    def _places(self, input_ids: torch.Tensor | None, embeds: torch.Tensor) -> torch.Tensor:
        if input_ids is not None:
            return input_ids == self.config.image_token_id
        placeholder = self.get_input_embeddings()(torch.tensor(self.config.image_token_id, device=embeds.device))
        return (embeds == placeholder).all(-1)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        tower_features: Sequence[VisualTokens] | None = None,
        picture_index: torch.Tensor | None = None,
        clips: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> LvlmOutput:
        """See `LvlmForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        if clips is None:
            pictures = self._pictures(pixel_values, mm_encoder_outputs, tower_features)
            prompts = self._with_pictures(embeds, input_ids, pictures, picture_index)
        else:
            groups = self.film_groups(clips, pixel_values, tower_features, picture_index)
            prompts = self._with_films(embeds, input_ids, groups, attention_mask, position_ids)
        embeds = prompts.embeds
        if prompts.short is not None:
            embeds, attention_mask, position_ids, _ = prompts.short
            kwargs["use_cache"] = False
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = positions_of(attention_mask)[:, -embeds.shape[1] :]
        if position_ids is not None and attention_mask is None and past_key_values is None and kwargs.get("use_cache") is None:
            kwargs["use_cache"] = False  # with a new cache the library would let packed samples see each other
        kwargs["return_dict"] = True
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=embeds,
            **kwargs,
        )
        return LvlmOutput(
            last_hidden_state=prompts.lengthened(outputs.last_hidden_state),
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=prompts.features,
            visual_tokens=prompts.tokens,
        )

    def _with_pictures(
        self, embeds: torch.Tensor, input_ids: torch.Tensor | None, pictures: PictureTokens, index: torch.Tensor | None
    ) -> Prompts:
        """Each picture's rows in place of its placeholders."""
        tokens, rows = pictures
        if rows is None:
            return Prompts(embeds)
        features = torch.cat(rows if index is None else [rows[i] for i in index.tolist()])  # [n, D]
        return Prompts(self._placed(embeds, self._places(input_ids, embeds), features), features, tokens)

    def _with_films(
        self,
        embeds: torch.Tensor,
        input_ids: torch.Tensor | None,
        groups: Sequence[Group],
        attention_mask: torch.Tensor | None,
        position_ids: torch.Tensor | None,
    ) -> Prompts:
        """The same with films, whose placeholders may be more than a reducer has left tokens: the others leave the rows."""
        features = torch.cat([group.features for group in groups])  # [n, D]
        places = self._places(input_ids, embeds)
        stays = staying(places, groups)
        embeds = self._placed(embeds, stays, features)
        short = None if torch.equal(stays, places) else shortened(embeds, attention_mask, position_ids, stays | ~places)
        return Prompts(embeds, features, short=short)

    def film_groups(
        self,
        clips: torch.Tensor,
        pixel_values: torch.Tensor | None,
        towers: Sequence[VisualTokens] | None = None,
        picture_index: torch.Tensor | None = None,
    ) -> list[Group]:
        """Pictures and films in the prompts' order, films reduced as `config.video` says; see `groups_of`."""
        given = pixel_values if pixel_values is not None else towers[0].features if towers else None
        if given is None:
            raise ValueError("clips say which pictures are frames of a film: give pixel_values or tower_features with them")
        shown = list(range(len(given))) if picture_index is None else picture_index.tolist()
        return groups_of(self, clips, shown, pixel_values, towers)

    def _pictures(
        self, pixel_values: torch.Tensor | None, encoded: dict[str, Any] | None, towers: Sequence[VisualTokens] | None
    ) -> PictureTokens:
        image = (encoded or {}).get("image")
        if sum(given is not None for given in (pixel_values, image, towers)) > 1:
            raise ValueError("give one of pixel_values, tower_features and mm_encoder_outputs")
        if image is not None:
            return PictureTokens(rows=list(image.pooler_output))
        if pixel_values is None and towers is None:
            return PictureTokens()
        tokens = self.visual_tokens(pixel_values) if towers is None else self.adapter(*towers)
        return PictureTokens(tokens, tokens.rows())


def positions_of(attention_mask: torch.Tensor) -> torch.Tensor:
    """[B, L] mask -> [B, L] positions that count real tokens only; padding gets 0 or repeats the last."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
