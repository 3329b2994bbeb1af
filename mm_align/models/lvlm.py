"""The vision-language model: vision tower + adapter + any causal language model, as a native transformers model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import ModelOutput

from vision.adapters import build_adapter
from vision.encoders import Encoder, encoder_for, facts_of, tower_config
from vision.tokens import VisualTokens


class LvlmConfig(PreTrainedConfig):
    """Config of `LvlmForConditionalGeneration`.

    vision_config: any transformers vision config (object or dict with "model_type"), or {"library": "timm"|"open_clip",
    "name": ..., "kwargs": {...}}. text_config: any transformers config of a causal language model. adapter: {"type": ...,
    options} of `vision.adapters`. feature_layer, keep_cls: see `vision.encoders.Encoder`. image_token_id: the real token
    that stands for one visual token. tie_word_embeddings: copied from the text config when None; this top flag decides.
    """

    model_type = "mm_align_lvlm"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    vision_config: Any = None
    text_config: Any = None
    adapter: Any = None
    feature_layer: int = -2
    keep_cls: bool = False
    image_token_id: int | None = None
    tie_word_embeddings: bool | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        self.vision_config = tower_config(self.vision_config or {"model_type": "siglip_vision_model"})
        self.text_config = _text_config(self.text_config or {"model_type": "qwen2"})
        self.adapter = dict(self.adapter or {"type": "mlp"})
        if self.tie_word_embeddings is None:
            self.tie_word_embeddings = bool(getattr(self.text_config, "tie_word_embeddings", False))
        self.text_config.tie_word_embeddings = self.tie_word_embeddings
        super().__post_init__(**kwargs)

    @property
    def num_image_tokens(self) -> int:
        """How many placeholders one picture takes."""
        facts = facts_of(self.vision_config)
        adapter = build_on_meta(self.adapter, facts.width, self.text_config.hidden_size)
        return adapter.tokens_out(facts.grid, int(self.keep_cls))

    @property
    def image_size(self) -> int:
        """Side of the square pictures that the vision tower reads, in pixels."""
        size = self.vision_config.image_size
        return size if isinstance(size, int) else size[0]


def build_on_meta(adapter: dict[str, Any], in_width: int, out_width: int) -> Any:
    """The adapter without memory for its weights."""
    with torch.device("meta"):
        return build_adapter(adapter, in_width, out_width)


def _text_config(described: PreTrainedConfig | dict[str, Any]) -> PreTrainedConfig:
    if isinstance(described, PreTrainedConfig):
        return described
    options = dict(described)
    return AutoConfig.for_model(options.pop("model_type", "qwen2"), **options)


@dataclass
class LvlmOutput(ModelOutput):
    """loss: scalar or None. logits: [B, L', V], or [K, V] for a boolean `logits_to_keep`. image_hidden_states: [n, D] rows as placed."""

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
    image_hidden_states: torch.Tensor | None = None


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


class LvlmModel(LvlmPreTrainedModel):
    """Tower, adapter and decoder without a head: token ids and pixels -> hidden states."""

    def __init__(self, config: LvlmConfig) -> None:
        super().__init__(config)
        self.vision_tower = AutoModel.from_config(config.vision_config)
        self.adapter = build_adapter(config.adapter, facts_of(config.vision_config).width, config.text_config.hidden_size)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    @property
    def encoder(self) -> Encoder:
        """How the tower is read: layer and class token as configured."""
        return encoder_for(self.vision_tower, layer=self.config.feature_layer, keep_cls=self.config.keep_cls)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def visual_tokens(self, pixel_values: torch.Tensor) -> VisualTokens:
        """[n, 3, H, W] -> VisualTokens [n, N, D] in the language model's width."""
        return self.adapter(self.encoder(pixel_values))

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
        **kwargs: Any,
    ) -> LvlmOutput:
        """See `LvlmForConditionalGeneration.forward`."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embeds = self.get_input_embeddings()(input_ids) if inputs_embeds is None else inputs_embeds
        features = self._features(pixel_values, mm_encoder_outputs)
        if features is not None:
            embeds = self._placed(embeds, self._places(input_ids, embeds), features)
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = positions_of(attention_mask)[:, -embeds.shape[1] :]
        kwargs["return_dict"] = True
        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=embeds,
            **kwargs,
        )
        return LvlmOutput(
            last_hidden_state=outputs.last_hidden_state,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            image_hidden_states=features,
        )

    def _features(self, pixel_values: torch.Tensor | None, encoded: dict[str, Any] | None) -> torch.Tensor | None:
        image = (encoded or {}).get("image")
        if image is not None and pixel_values is not None:
            raise ValueError("give pixel_values or mm_encoder_outputs, not both")
        if image is None and pixel_values is None:
            return None
        rows = self.get_image_features(pixel_values).pooler_output if image is None else image.pooler_output
        return torch.cat(list(rows))  # [n, D]


class LvlmForConditionalGeneration(LvlmPreTrainedModel, GenerationMixin):
    """The model with its head: `generate`, losses, PEFT, pipelines and the Auto classes work on this one."""

    keeps_marked_logits = True  # a boolean `logits_to_keep` [B, L] gives logits [K, V]

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
        **kwargs: Any,
    ) -> LvlmOutput:
        """One pass.

        input_ids [B, L] with `config.num_image_tokens` placeholders a picture; pixel_values [n, 3, H, W], the pictures of
        all rows in order; attention_mask [B, past + L]; position_ids from the mask when absent; mm_encoder_outputs
        {"image": what `get_image_features` gave} instead of pixels. logits_to_keep: the last k positions (0: all), an
        index tensor, or a boolean [B, L] that gives logits [K, V]. labels [B, L] with -100 where no loss falls.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            mm_encoder_outputs=mm_encoder_outputs,
            **{key: value for key, value in kwargs.items() if key != "num_items_in_batch"},
        )
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

    def generate(self, inputs: torch.Tensor | None = None, *args: Any, **kwargs: Any) -> Any:
        """The library's `generate`; raises ValueError for right-padded prompts, which would be continued after the padding."""
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.ndim == 2 and not bool(mask[:, -1].all()):
            raise ValueError("the prompts are padded on the right; generation needs left padding (processor(..., padding=True))")
        return super().generate(inputs, *args, **kwargs)

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


def _kept(hidden: torch.Tensor, keep: int | torch.Tensor) -> torch.Tensor:
    if isinstance(keep, int):
        return hidden[:, -keep:] if keep else hidden
    return hidden[keep] if keep.dtype == torch.bool else hidden[:, keep]
