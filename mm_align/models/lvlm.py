"""The vision-language model as a native transformers model: `lvlm_model.py` with a head, losses and `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vision.tokens import VisualTokens

from ..losses.answer_logps import token_logps
from .film_tokens import fitted
from .lvlm_config import LvlmConfig
from .lvlm_model import LvlmModel, LvlmOutput, LvlmPreTrainedModel


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
