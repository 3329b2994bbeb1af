"""The vision-language model: vision tower + adapter + a causal language model, as a native transformers model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from vision.adapters import StartsItself, build_adapter
from vision.branches import Branch, read
from vision.encoders import Encoder, encoder_for, tower_config
from vision.tokens import VisualTokens

from ..losses.answer_logps import token_logps
from .film_tokens import Group, fitted, groups_of, shortened, staying
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
        short = None
        if clips is not None:
            groups = self.film_groups(clips, pixel_values, tower_features, picture_index)
            tokens, features = None, torch.cat([group.features for group in groups])
            stays = staying(places := self._places(input_ids, embeds), groups)
            embeds = self._placed(embeds, stays, features)
            short = None if torch.equal(stays, places) else shortened(embeds, attention_mask, position_ids, stays | ~places)
            if short is not None:
                embeds, attention_mask, position_ids, _ = short
                kwargs["use_cache"] = False
        else:
            tokens, rows = self._pictures(pixel_values, mm_encoder_outputs, tower_features)
            features = None if rows is None else torch.cat(rows if picture_index is None else [rows[i] for i in picture_index.tolist()])
        if features is not None and clips is None:  # [n, D]
            embeds = self._placed(embeds, self._places(input_ids, embeds), features)
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
            last_hidden_state=outputs.last_hidden_state if short is None else short.lengthened(outputs.last_hidden_state),
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=features,
            visual_tokens=tokens,
        )

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
    ) -> tuple[VisualTokens | None, list[torch.Tensor] | None]:
        """The adapter's output, where it ran here, and the tokens of each picture."""
        image = (encoded or {}).get("image")
        if sum(given is not None for given in (pixel_values, image, towers)) > 1:
            raise ValueError("give one of pixel_values, tower_features and mm_encoder_outputs")
        if image is not None:
            return None, list(image.pooler_output)
        if pixel_values is None and towers is None:
            return None, None
        tokens = self.visual_tokens(pixel_values) if towers is None else self.adapter(*towers)
        return tokens, tokens.rows()


class LvlmForConditionalGeneration(LvlmPreTrainedModel, GenerationMixin):
    """The model with its head: `generate`, losses, PEFT, pipelines and the Auto classes work on this one."""

    keeps_marked_logits = True  # a boolean `logits_to_keep` [B, L] gives logits [K, V]
    scores_tokens = True  # `scored_places` [K] and `scored_ids` [K] give token_logps [K]

    _tied_weights_keys = {"lm_head.weight": "model.language_model.embed_tokens.weight"}

    def __init__(self, config: LvlmConfig) -> None:
        super().__init__(config)
        self.model = LvlmModel(config)
        self.lm_head = nn.Linear(config.text_config.hidden_size, config.text_config.vocab_size, bias=False)
        self._tied_weights_keys = {"lm_head.weight": self._embedding_key()}
        self.post_init()

    def _embedding_key(self) -> str:
        table = self.get_input_embeddings()
        return next(f"{name}.weight" for name, module in self.named_modules() if module is table)

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    def visual_tokens(self, pixel_values: torch.Tensor) -> VisualTokens:
        """See `LvlmModel.visual_tokens`."""
        return self.model.visual_tokens(pixel_values)

    def tower_features(self, pixel_values: torch.Tensor) -> list[VisualTokens]:
        """See `LvlmModel.tower_features`."""
        return self.model.tower_features(pixel_values)

    def input_embeddings(self, input_ids: torch.Tensor, features: torch.Tensor | None = None) -> torch.Tensor:
        """See `LvlmModel.input_embeddings`."""
        return self.model.input_embeddings(input_ids, features)

    def get_image_features(self, pixel_values: torch.Tensor, **kwargs: Any) -> BaseModelOutputWithPooling:
        """See `LvlmModel.get_image_features`."""
        return self.model.get_image_features(pixel_values, **kwargs)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, Any] | None = None,
        tower_features: Sequence[VisualTokens] | None = None,
        picture_index: torch.Tensor | None = None,
        clips: torch.Tensor | None = None,
        scored_places: torch.Tensor | None = None,
        scored_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> LvlmOutput:
        """One pass.

        input_ids [B, L] with `config.num_image_tokens` placeholders a picture; pixel_values [n, 3, H, W], the pictures of
        all rows in order; attention_mask [B, past + L] or [B, 1, L, L]; position_ids from the mask when absent; mm_encoder_outputs
        {"image": what `get_image_features` gave} or tower_features (what `tower_features` gave) instead of pixels.
        picture_index [n]: the k-th picture of the prompts is row `picture_index[k]` of the m distinct ones given, so that towers
        and adapter run once for a picture that several rows show; absent: in order, each once. clips [k, 2]: the first place of each
        film among the pictures of the prompts and its number of frames, which have the tokens that `config.video` leaves;
        of placeholders that were left without one, the language model sees nothing.
        logits_to_keep: the last k positions (0: all), an index tensor, or a boolean [B, L] that gives logits [K, V]. labels [B, L]
        with -100 where no loss falls. scored_places [K] (flat, b * L + position) and scored_ids [K]: instead of logits, the
        log-probabilities of these tokens as the next ones at these places; see `token_logps`.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            tower_features=tower_features,
            picture_index=picture_index,
            clips=clips,
            **{key: value for key, value in kwargs.items() if key != "num_items_in_batch"},
        )
        if scored_places is not None and scored_ids is not None:
            scored = outputs.last_hidden_state.flatten(0, 1)[scored_places]  # [K, D]
            outputs.token_logps = token_logps(self.logits, scored, scored_ids, self.config.text_config.vocab_size)
        else:
            outputs.logits = self.logits(_kept(outputs.last_hidden_state, logits_to_keep))
        if labels is not None:
            outputs.loss = self.loss_function(logits=outputs.logits, labels=labels, vocab_size=self.config.text_config.vocab_size, **kwargs)
        outputs.last_hidden_state = None  # the library's causal models do not give it either
        return outputs

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., V], soft-capped where the text config says so (Gemma 2)."""
        logits = self.lm_head(hidden)
        cap = getattr(self.config.text_config, "final_logit_softcapping", None)
        return logits if cap is None else torch.tanh(logits / cap) * cap

    def enable_input_require_grads(self) -> None:
        """Nothing. The library calls this with activation checkpointing and would make every embedding's output require a gradient, a
        frozen tower's too, which then runs backward and keeps all its activations. Checkpointing that is not reentrant needs none."""
        self._require_grads_hooks: list[Any] = []

    def generate(self, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """The library's `generate`; raises ValueError for right-padded prompts, which would be continued after the padding.

        Placeholders of a film's tokens that its reducer drops leave the prompt; answers begin where they would without that.
        """
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.ndim == 2 and not bool(mask[:, -1].all()):
            raise ValueError("the prompts are padded on the right; generation needs left padding (processor(..., padding=True))")
        if kwargs.get("clips") is not None:
            if inputs is not None:
                kwargs["input_ids"], inputs = inputs, None
            length = kwargs["input_ids"].shape[1]
            kwargs = self._films_before(kwargs)
            return _lengthened(super().generate(None, *args, **kwargs), length - kwargs["input_ids"].shape[1])
        if kwargs.get("tower_features") is not None or kwargs.get("picture_index") is not None:
            kwargs = self._encoded_before(kwargs)
        return super().generate(inputs, *args, **kwargs)

    @torch.no_grad()
    def _encoded_before(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Options of `generate` with pictures that rows share, or that towers have read, encoded and laid out in the prompts' order:
        the library repeats and passes on nothing but these and plain pixels."""
        pixels, towers, index = (kwargs.pop(key, None) for key in ("pixel_values", "tower_features", "picture_index"))
        tokens = self.model.adapter(*towers) if towers is not None else self.visual_tokens(pixels)
        rows = tokens.rows() if index is None else [tokens.rows()[i] for i in index.tolist()]
        features = tokens.features if index is None else tokens.features[index]
        return kwargs | {"mm_encoder_outputs": {"image": BaseModelOutputWithPooling(last_hidden_state=features, pooler_output=rows)}}

    @torch.no_grad()
    def _films_before(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """The same with films: one entry a picture or film, in prompts without placeholders of what was dropped."""
        clips, pixels, towers, index = (kwargs.pop(key, None) for key in ("clips", "pixel_values", "tower_features", "picture_index"))
        groups = self.model.film_groups(clips, pixels, towers, index)
        ids, mask = kwargs["input_ids"], kwargs.get("attention_mask")
        mask = torch.ones_like(ids) if mask is None else mask
        ids, mask = fitted(ids, mask, int(self.config.image_token_id or 0), groups)
        encoded = BaseModelOutputWithPooling(pooler_output=[group.features for group in groups])
        return kwargs | {"input_ids": ids, "attention_mask": mask, "mm_encoder_outputs": {"image": encoded}}

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        mm_encoder_outputs: dict[str, Any] | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The library's, with the pictures passed on the first iteration only (every time without a cache)."""
        prepared = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs
        )
        if is_first_iteration or not kwargs.get("use_cache", True):
            prepared |= {"pixel_values": pixel_values, "mm_encoder_outputs": mm_encoder_outputs}
        return prepared


def positions_of(attention_mask: torch.Tensor) -> torch.Tensor:
    """[B, L] mask -> [B, L] positions that count real tokens only; padding gets 0 or repeats the last."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def _lengthened(made: Any, missing: int) -> Any:
    """What `generate` gave, its token ids [B, L] filled on the left by what the prompt was shortened by; others as they are."""
    ids = made if isinstance(made, torch.Tensor) else getattr(made, "sequences", None)
    if missing == 0 or ids is None:
        return made
    ids = nn.functional.pad(ids, (missing, 0))
    if isinstance(made, torch.Tensor):
        return ids
    made.sequences = ids
    return made


def _kept(hidden: torch.Tensor, keep: int | torch.Tensor) -> torch.Tensor:
    if isinstance(keep, int):
        return hidden[:, -keep:] if keep else hidden
    return hidden[keep] if keep.dtype == torch.bool else hidden[:, keep]
