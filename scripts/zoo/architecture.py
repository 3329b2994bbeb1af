"""The zoo's models before training: the AITQE architecture at toy size, from random weights or from another zoo model's."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from mm_align.models import LvlmConfig, LvlmForConditionalGeneration, LvlmProcessor

IMAGE, PATCH, WIDTH = 64, 8, 128


def new_model(tokenizer: PreTrainedTokenizerFast) -> LvlmForConditionalGeneration:
    """SigLIP tower (its last layer unused), 2-layer MLP, Qwen2 decoder; seeded."""
    torch.manual_seed(0)
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
        "num_attention_heads": 4, "image_size": IMAGE, "patch_size": PATCH, "vision_use_head": False,
    }  # fmt: skip
    text = {
        "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 344, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096, "initializer_range": 0.04,
        "tie_word_embeddings": True, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
    }  # fmt: skip
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LvlmConfig(vision_config=vision, text_config=text, adapter={"type": "mlp"}, image_token_id=image_token)
    model = LvlmForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def model_from(folder: Path, tokenizer: PreTrainedTokenizerFast) -> LvlmForConditionalGeneration:
    """A new model that starts as the one in `folder`: its weights, and the embeddings of the tokens that both know."""
    model = new_model(tokenizer)
    old = LvlmForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    table, known = (m.get_input_embeddings().weight.data for m in (model, old))
    model.load_state_dict({name: value for name, value in old.state_dict().items() if value.shape != known.shape}, strict=False)
    places = LvlmProcessor.from_pretrained(folder).tokenizer.get_vocab()
    for token, row in tokenizer.get_vocab().items():
        if token in places:
            table[row] = known[places[token]]
    return model
