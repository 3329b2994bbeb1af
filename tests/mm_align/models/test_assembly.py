"""Models out of parts: a language model computes what its own class computes, before and after a save, or is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mm_align.config import UserError
from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor, assembly
from mm_align.models.language import load_language_model
from vision.images import SquareImageProcessor

TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2}
OPT = {"hidden_size": 16, "ffn_dim": 32, "word_embed_proj_dim": 16, "num_hidden_layers": 2, "num_attention_heads": 2}

ACCEPTED: dict[str, dict[str, Any]] = {
    "qwen2": SIZES | {"num_key_value_heads": 1, "tie_word_embeddings": True},
    "llama": SIZES | {"rope_theta": 50000.0},
    "gemma2": SIZES | {"num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 0.05},
    "gpt2": GPT,
    "opt": OPT,
    "granite": SIZES,  # its default scale is 1
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "phi": (SIZES, "a phi cannot be the language model: its head has a bias"),
    "gptj": (GPT | {"rotary_dim": 4}, "a gptj cannot be the language model: its head has a bias"),
    "cohere": (SIZES, "a cohere cannot be the language model: its logits differ"),
    "granite": (SIZES | {"logits_scaling": 8.0}, "a granite cannot be the language model: its logits differ"),
    "qwen2": (SIZES, "a qwen2 of these sizes cannot read five tokens: The size of tensor"),  # 32 key heads by default, 2 heads
    "opt": (OPT | {"word_embed_proj_dim": 8}, r"its head has the shape \(64, 8\), expected \(64, 16\)"),
}


@pytest.mark.parametrize("family", ACCEPTED)
def test_a_family_computes_what_its_own_class_computes_and_comes_back(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    language = load_language_model({"model_type": family} | ENDS | ACCEPTED[family])
    monkeypatch.setattr(assembly, "load_language_model", lambda described: language)
    model = assembly.assemble(TOWER, {}, image_token_id=5)
    model.save_pretrained(tmp_path)
    back = LvlmForConditionalGeneration.from_pretrained(tmp_path)
    ids = torch.tensor([[1, 7, 9, 11, 3, 8]])
    with torch.no_grad():
        wanted = language.eval()(input_ids=ids).logits
        for one in (model, back):
            torch.testing.assert_close(one.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits, wanted)


@pytest.mark.parametrize("family", REFUSED)
def test_a_family_that_does_not_fit_is_refused_by_name(family: str) -> None:
    options, message = REFUSED[family]
    with pytest.raises(UserError, match=message):
        assembly.assemble(TOWER, {"model_type": family} | ENDS | options, image_token_id=5)


def test_the_check_leaves_mode_and_seed_alone() -> None:
    """Dropout would draw from the generator: the adapter's weights and what comes after must not depend on the check."""
    torch.manual_seed(0)
    model = assembly.assemble(TOWER, {"model_type": "gpt2"} | ENDS | GPT, image_token_id=5)
    after = torch.rand(1)
    torch.manual_seed(0)
    assembly.load_tower(TOWER)
    load_language_model({"model_type": "gpt2"} | ENDS | GPT)
    assembly.build_adapter(model.config.adapter, model.config.token_facts, 16)
    assert torch.equal(after, torch.rand(1))
    assert model.model.language_model.training


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"model_type": "qwen2", "hiden_size": 32}, "a qwen2 has no key 'hiden_size'; did you mean 'hidden_size'?"),
        ({"model_type": "gpt2", "rope_theta": 1.0}, "a gpt2 has no key 'rope_theta'; known: "),
        ({"hidden_size": 32}, "names neither `from` nor `model_type`"),
    ],
)
def test_keys_of_a_language_model_are_checked(described: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        load_language_model(described)


def test_an_image_token_is_never_that_of_unknown_words() -> None:
    """A tokenizer of whole words reads "<image>" as one token, the one of every unknown word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "a": 2, "b": 3}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
    with pytest.raises(ValueError, match="the tokenizer does not know '<image>'; add it"):
        LvlmProcessor(SquareImageProcessor(), tokenizer)
    model = assembly.assemble(TOWER, {"model_type": "qwen2"} | ENDS | ACCEPTED["qwen2"] | {"vocab_size": 4})
    processor = assembly.make_processor(model, tokenizer)
    assert processor.text_ids("a zebra b") == [2, 0, 3]
    assert processor.image_token_id == model.config.image_token_id == 4
    assert model.get_input_embeddings().num_embeddings == 5
