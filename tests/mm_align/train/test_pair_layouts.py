"""Which models read both answers in one row: where masks and positions are taken as given, the log-probabilities are the same."""

from typing import Any

import pytest
import torch
from torch import nn

from data_tools.records import Image, Message, Part, PreferencePair, Sample
from mm_align.models.pairs import collate_pairs, prepare_pair
from mm_align.train.pair_layouts import check_shared_prompt


@pytest.fixture
def batches(processor: Any, picture: Any) -> Any:
    def make(dtype: torch.dtype = torch.float32) -> list[dict[str, torch.Tensor]]:
        sample = Sample("a", (Message("user", (Part("image"), Part("text", "what? "))),), (Image(pixels=picture(0)),))
        pairs = [prepare_pair(PreferencePair(sample, *both), processor) for both in (("a red ball", "a blue one"), ("yes", "no, no"))]
        return [collate_pairs(pairs, processor, layout=layout, dtype=dtype) for layout in ("shared", "duplicated")]

    return make


SLIDING = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 0}
LLAMA = {"model_type": "llama", "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 2, "initializer_range": 0.2, "pad_token_id": 257, "eos_token_id": 256, "bos_token_id": None}


def text(model: Any, **changes: Any) -> dict[str, Any]:
    return model.config.text_config.to_dict() | changes


@pytest.mark.parametrize("kind", ["sdpa", "eager"])
def test_our_model_reads_both_in_one_row(kind: str, make_model: Any, batches: Any) -> None:
    model = make_model().train()
    model.set_attn_implementation(kind)
    found = check_shared_prompt(model, *batches())
    assert found.layout == "shared"
    assert found.difference < 1e-4
    assert model.training


def test_a_llama_does_too_and_so_does_half_precision(make_model: Any, batches: Any) -> None:
    assert check_shared_prompt(make_model(text_config=LLAMA), *batches()).layout == "shared"
    found = check_shared_prompt(make_model(text_config=LLAMA).to(torch.bfloat16), *batches(torch.bfloat16))
    assert found.layout == "shared"
    assert 0 < found.difference < 0.3


def test_windows_that_are_shorter_than_the_rows_need_a_row_each(make_model: Any, tiny_model: Any, batches: Any) -> None:
    model = make_model(text_config=text(tiny_model, **SLIDING, layer_types=["sliding_attention"] * 2))
    found = check_shared_prompt(model, *batches())
    assert found.layout == "duplicated"
    assert "sees 12 tokens back" in found.reason
    assert check_shared_prompt(model, *batches(), longest=13).layout == "duplicated"
    wide = make_model(text_config=text(tiny_model, **SLIDING | {"sliding_window": 100}, layer_types=["sliding_attention"] * 2))
    assert check_shared_prompt(wide, *batches()).layout == "shared"
    assert check_shared_prompt(wide, *batches(), longest=200).layout == "duplicated"


class OwnPositions(nn.Module):
    """A decoder that counts positions by itself, whatever it is told."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder, self.config = decoder, decoder.config

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.get_input_embeddings()

    def forward(self, position_ids: Any = None, **kwargs: Any) -> Any:
        return self.decoder(**kwargs)


class OwnMask(OwnPositions):
    """A decoder that makes its own mask: a causal one."""

    def forward(self, attention_mask: Any = None, **kwargs: Any) -> Any:
        return self.decoder(attention_mask=None if attention_mask is None or attention_mask.ndim == 4 else attention_mask, **kwargs)


class OtherMasks(OwnPositions):
    def forward(self, attention_mask: Any = None, **kwargs: Any) -> Any:
        if attention_mask.ndim != 2:
            raise ValueError("attention_mask has two axes")
        return self.decoder(attention_mask=attention_mask, **kwargs)


@pytest.mark.parametrize(
    ("kind", "reason"), [(OwnPositions, "log-probabilities move by"), (OwnMask, "log-probabilities move by"), (OtherMasks, "two axes")]
)
def test_a_model_with_positions_or_masks_of_its_own_needs_a_row_each(kind: Any, reason: str, make_model: Any, batches: Any) -> None:
    model = make_model()
    model.model.language_model = kind(model.model.language_model)
    found = check_shared_prompt(model, *batches())
    assert found.layout == "duplicated"
    assert reason in found.reason


def test_attention_that_takes_no_mask_is_not_even_tried(make_model: Any, batches: Any) -> None:
    model = make_model()
    model.config.get_text_config()._attn_implementation = "flash_attention_2"
    assert "flash_attention_2 takes no mask" in check_shared_prompt(model, *batches()).reason
