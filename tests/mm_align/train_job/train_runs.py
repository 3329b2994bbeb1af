"""What tests of `mmalign train` share: a run through the door, what it wrote, and a model of parts of a few thousand parameters."""

import json

from mm_align.cli import main

COLORS = ("red", "green", "blue", "white")
TOWER = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 2, "image_size": 16, "patch_size": 4, "vision_use_head": False,
}  # fmt: skip
TEXT = {
    "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "tie_word_embeddings": True,
}  # fmt: skip


def train(recipe, out, *more):
    return main(["train", recipe, "--out", str(out), *more])


def logged(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out):
    from safetensors.torch import load_file

    return load_file(out / "model" / "model.safetensors")


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


# What comes out


def parts(base, **changes):
    return {"vision": TOWER, "text": TEXT, "tokenizer": str(base), "prompt_style": "plain"} | changes
