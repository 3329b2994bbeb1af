"""The language model of a vision-language model: loaded or random, and refused where a decoder and a linear head compute another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from vision.folders import check_folder, check_weights

from ..config import UserError, first_line
from ..options import nearest

ALWAYS = ("model_type", "bos_token_id", "eos_token_id", "pad_token_id", "attn_implementation")
ROTARY = ("rope_theta", "rope_scaling", "partial_rotary_factor")  # older names, which transformers reads into rope_parameters


def load_language_model(described: Mapping[str, Any]) -> PreTrainedModel:
    """A causal language model in float32. UserError where it cannot be had, or for a key that its config does not have."""
    options = dict(described)
    name = options.pop("from", None)
    if name is None and "model_type" not in options:
        raise UserError(f"the language model {dict(described)} names neither `from` nor `model_type`; give one of them")
    try:
        if name is not None:
            _check(str(name))
            return AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, **options)
        _check_keys(options, AutoConfig.for_model(options["model_type"]))
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**options), dtype=torch.float32)
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise UserError(f"cannot load the language model {dict(described)}: {first_line(error)}") from error


def _check(name: str) -> None:
    """ValueError for a place on this disk that holds no language model."""
    check_folder(name)
    config = AutoConfig.from_pretrained(name)
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ValueError(f"it is a {config.model_type} model, which writes no text")
    check_weights(name)


def _check_keys(options: Mapping[str, Any], config: PreTrainedConfig) -> None:
    own = config.to_dict()
    known = [*ALWAYS, *own, *config.attribute_map, *(ROTARY if "rope_parameters" in own else ())]
    for key in options:
        if key not in known:
            raise ValueError(f"a {config.model_type} has no key '{key}'; {nearest(key, sorted(known))}")


def check_head(language: PreTrainedModel, decoder: type[nn.Module]) -> None:
    """UserError unless the head is a bias-free linear layer from the decoder's width, and the decoder of class `decoder`.

    These are what a saved model is built of again: what does not fit them would be lost on loading.
    """
    config, head = language.config, language.get_output_embeddings()
    wanted = (config.vocab_size, config.hidden_size)
    found = None
    if not isinstance(head, nn.Linear):
        found = f"its head is a {type(head).__name__}"
    elif head.bias is not None:
        found = "its head has a bias"
    elif tuple(head.weight.shape) != wanted:
        found = f"its head has the shape {tuple(head.weight.shape)}, expected {wanted} (words, width)"
    elif type(language.base_model) is not decoder:
        found = f"its decoder is a {type(language.base_model).__name__}, and its config builds a {decoder.__name__}"
    if found:
        raise UserError(f"a {config.model_type} cannot be the language model: {found}; {_REST}")


def check_logits(model: nn.Module, language: PreTrainedModel) -> None:
    """UserError unless five tokens get the same logits from `model` as from `language`, whose decoder and head it has.

    Families that do more than a linear layer behind the decoder (Cohere and Granite scale their logits) differ, and sizes that
    do not fit each other fail here. Weights without memory (meta) are not looked at.
    """
    if language.device.type == "meta":
        return
    ids = (torch.arange(1, 6, device=language.device) * 7 % language.config.vocab_size)[None]  # [1, 5]
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    was_training = language.training
    language.eval()
    try:
        with torch.no_grad():
            wanted, found = language(**inputs).logits, model(**inputs).logits  # [1, 5, V]
    except (RuntimeError, ValueError, TypeError) as error:
        raise UserError(f"a {language.config.model_type} of these sizes cannot read five tokens: {first_line(error)}") from error
    language.train(was_training)
    difference, size = (found - wanted).abs().max().item(), wanted.abs().max().item()
    if not difference <= 1e-3 * size:  # not a number differs too
        raise UserError(
            f"a {language.config.model_type} cannot be the language model: its logits differ by {difference:.2g} (of up to {size:.2g}) "
            f"from those of its decoder and head alone; {_REST}"
        )


_REST = (
    "a model of this toolkit has a decoder and a linear head without bias, and would compute something else. "
    "Choose another family: Llama, Qwen2, Gemma 2, GPT-2 and OPT are tried"
)
