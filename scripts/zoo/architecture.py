"""The zoo's models before training: the AITQE architecture at toy size, from random weights or from another zoo model's."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from mm_align.models import LvlmConfig, LvlmForConditionalGeneration, LvlmProcessor

IMAGE, PATCH, WIDTH = 64, 8, 128
LAYER = re.compile(r"language_model\.layers\.(\d+)\.")


def new_model(tokenizer: PreTrainedTokenizerFast, layers: int = 4) -> LvlmForConditionalGeneration:
    """SigLIP tower (its last layer unused), 2-layer MLP, Qwen2 decoder of `layers` layers; seeded."""
    torch.manual_seed(0)
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
        "num_attention_heads": 4, "image_size": IMAGE, "patch_size": PATCH, "vision_use_head": False,
    }  # fmt: skip
    text = {
        "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 344, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096, "initializer_range": 0.04,
        "tie_word_embeddings": True, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
    }  # fmt: skip
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LvlmConfig(vision_config=vision, text_config=text, adapter={"type": "mlp"}, image_token_id=image_token)
    model = LvlmForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def model_from(folder: Path, tokenizer: PreTrainedTokenizerFast, layers: int) -> LvlmForConditionalGeneration:
    """A new model that starts as the one in `folder`: its weights, the embeddings of the tokens both know, and, behind its
    decoder layers, new ones that change nothing yet (their output projections are zero)."""
    model = new_model(tokenizer, layers)
    old = LvlmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    table = model.get_input_embeddings().weight.data
    known = old.get_input_embeddings().weight.data
    weights = {name: value for name, value in old.state_dict().items() if value.shape != known.shape}
    model.load_state_dict(weights, strict=False)
    places = LvlmProcessor.from_pretrained(folder).tokenizer.get_vocab()
    for token, row in tokenizer.get_vocab().items():
        if token in places:
            table[row] = known[places[token]]
    for name, parameter in model.named_parameters():
        layer = LAYER.search(name)
        if layer and int(layer[1]) >= old.config.text_config.num_hidden_layers and name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.data.zero_()
    return model
