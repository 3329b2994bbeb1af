"""A released AITQE in our model: tokens, logits, answers, and the names and sizes of the real one on the meta device."""

from __future__ import annotations

import pytest
import torch
from released_aitqe import ADDED, AFTER_CAPTION, REAL, asked, our_logits, upstream_logits

from data_tools.calls import Sampling
from mm_align.models import LvlmForConditionalGeneration, aitqe_layout
from mm_align.models.inspect import parameters_of

# Tokens


def test_golden_ids(backend):
    """[picture], 198, 198, 82345 ... 25, the caption with its leading space, 198, 333 ... 13; "a" alone is 264 behind a space."""
    ids = backend.prompts.ids(asked("a"))
    picture = [backend.prompts.processor.image_token_id] * 4
    assert ids == [*picture, 198, 198, 82345, 279, 17256, 25, 264, 198, *AFTER_CAPTION]
    assert 271 not in ids
    assert backend.tokenizer.encode("\n\n") == [271], "the vocabulary does have the token that must not appear"
    assert len(ids) - len(picture) - 1 == 26  # 26 tokens of text besides the caption


def test_a_caption_that_ends_in_a_full_stop_merges_with_the_newline(backend):
    ids = backend.prompts.ids(asked("a."))[4:]
    assert ids == [198, 198, 82345, 279, 17256, 25, 264, 624, *AFTER_CAPTION]


def test_added_tokens_have_the_ids_of_the_file(backend):
    assert {text: backend.tokenizer.convert_tokens_to_ids(text) for text in ADDED} == ADDED
    assert backend.prompts.processor.image_token_id == max(ADDED.values()) + 1


def test_golden_answer_tokens(backend):
    encode = backend.tokenizer.encode
    assert encode('{"Rec')[:2] == [4913, 3820]
    assert encode('{"Overall')[:2] == [4913, 27489]
    assert encode('2<Overall>",')[-1] == 21156
    assert [encode(digit) for digit in "0123456789"] == [[15 + i] for i in range(10)]


@pytest.mark.parametrize("hostile", ["<|endoftext|>", "<img_start>", "<noloss_start>", "<|im_end|><|im_start|>", "<image>"])
def test_a_caption_cannot_inject_control_ids(backend, hostile):
    control = set(ADDED.values()) | {backend.prompts.processor.image_token_id}
    ids = backend.prompts.ids(asked(f"a {hostile} b"))
    assert control & set(ids[4:]) == set()
    assert ids[:4] == [backend.prompts.processor.image_token_id] * 4


# Weights


def test_logits_equal_those_of_the_stock_parts(upstream, backend):
    sample = asked("a short description of the image.")
    expected = upstream_logits(upstream, backend, sample)
    assert (our_logits(backend, sample) - expected).abs().max() < 1e-4
    assert expected.std() > 0.1


def test_the_backend_answers_as_the_stock_parts_do(upstream, backend):
    """Two rows of different length in one batch; each first token is the stock parts' best one."""
    samples = [asked("a", 1), asked("a short description of the image", 2)]
    answers = backend.generate(samples, Sampling(max_tokens=1))
    for sample, answer in zip(samples, answers, strict=True):
        best = upstream_logits(upstream, backend, sample)[-1].log_softmax(-1).max()
        assert answer.logprob == pytest.approx(best.item(), abs=1e-4)


def test_describe(backend):
    assert backend.describe()["model"] == "tiny"
    assert backend.loaded.ends == [151643]


# The real sizes


@pytest.fixture(scope="module")
def real() -> LvlmForConditionalGeneration:
    with torch.device("meta"):
        return LvlmForConditionalGeneration(aitqe_layout.to_lvlm_config(REAL))


def released_keys() -> set[str]:
    """The key list of the method page (1.4), written out: 339 + 448 + 3 + 1."""
    attention = [f"self_attn.{p}_proj.{kind}" for p in "qkv" for kind in ("weight", "bias")] + ["self_attn.o_proj.weight"]
    rest = [f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")] + ["input_layernorm.weight", "post_attention_layernorm.weight"]
    keys = {f"model.model.layers.{i}.{name}" for i in range(28) for name in attention + rest}
    keys |= {"model.model.embed_tokens.weight", "model.model.norm.weight", "model.lm_head.weight"}
    assert len(keys) == 339
    both = ("weight", "bias")
    parts = ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *[f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")]]
    tower = {f"encoder.layers.{i}.{part}.{kind}" for i in range(27) for part in parts for kind in both}
    tower |= {"embeddings.patch_embedding.weight", "embeddings.patch_embedding.bias", "embeddings.position_embedding.weight"}
    tower |= {f"{part}.{kind}" for part in ("post_layernorm", "head.layernorm", "head.mlp.fc1", "head.mlp.fc2") for kind in both}
    tower |= {
        "head.probe",
        "head.attention.in_proj_weight",
        "head.attention.in_proj_bias",
        "head.attention.out_proj.weight",
        "head.attention.out_proj.bias",
    }
    assert len(tower) == 448
    return (
        keys
        | {f"vision_model.vision_model.{name}" for name in tower}
        | {"mm_projector.0.weight", "mm_projector.0.bias", "mm_projector.2.weight", "image_newline"}
    )


def test_the_real_model_has_the_791_released_names(real):
    shapes = aitqe_layout.released_shapes(real)
    assert len(shapes) == 791
    assert set(shapes) == released_keys()


def test_the_real_model_has_the_released_sizes(real):
    parts = parameters_of(real)
    assert parts["language model"] == 7_615_616_512
    assert parts["vision"] == 428_225_600
    assert parts["adapter"] + 3584 == 16_980_992  # image_newline is stored and has no place in our model
    shapes = aitqe_layout.released_shapes(real)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 7_615_616_512 + 428_225_600 + 16_980_992


def test_names_go_both_ways(real):
    for name in real.state_dict():
        assert aitqe_layout.our_name(aitqe_layout.released_name(name)) == name
    assert aitqe_layout.our_name("image_newline") is None
    with pytest.raises(KeyError):
        aitqe_layout.released_name("model.something_else.weight")
