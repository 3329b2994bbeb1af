"""Packs give the losses and gradients of rows by themselves, and a model in which they would not is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from data_tools.records import Image, Message, Part, Sample
from mm_align.losses import LmObjective
from mm_align.models import collate, collate_packs
from mm_align.train.packing import check_packing

SIZES: dict[str, Any] = {
    "vocab_size": 259, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.2, "bos_token_id": None, "eos_token_id": 256, "pad_token_id": 257,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "qwen2": {},
    "llama": {},
    "mistral": {"sliding_window": 6},  # shorter than the rows: windows count within a sample too
    "qwen3": {},
    "gemma3_text": {"sliding_window": 6},
    "phi3": {},
}


@pytest.fixture(scope="module")
def samples(picture: Callable[[int], Any]) -> list[Sample]:
    """Five rows: one picture, two of which one is the same, none, the same again, another."""
    images = [Image(pixels=picture(i)) for i in range(3)]

    def sample(name: str, shown: list[int], question: str, answer: str) -> Sample:
        asked = Message("user", (*[Part("image")] * len(shown), Part("text", question)))
        return Sample(name, (asked, Message("assistant", (Part("text", answer),), trains=True)), tuple(images[i] for i in shown))

    rows = [([0], "what?", "abc"), ([1, 0], "which of", "de"), ([], "hello", "world"), ([0], "again", "xyz"), ([2], "q", "r")]
    return [sample(str(i), *row) for i, row in enumerate(rows)]


@pytest.fixture
def family(make_model: Callable[..., Any]) -> Callable[[str, str], Any]:
    def make(name: str, attention: str = "sdpa") -> Any:
        model = make_model(text_config={**SIZES, "model_type": name, **FAMILIES.get(name, {})})
        model.set_attn_implementation(attention)
        return model

    return make


def token_losses(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Loss of every target token, in the order of the rows."""
    labels = batch["labels"]
    logits = model(**{k: v for k, v in batch.items() if k != "labels"}).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none")[labels[:, 1:] != -100]


def gradients(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    model.zero_grad()
    LmObjective()(model, batch).loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", FAMILIES)
def test_packed_equals_unpacked(name: str, attention: str, family: Callable[..., Any], samples: list[Sample], processor: Any) -> None:
    """Per token and in every gradient; without asking for no cache, which would blind the library to packs."""
    model = family(name, attention)
    rows = collate(samples, processor, for_training=True)
    for packs in ([samples[:3], samples[3:]], [samples]):
        packed = collate_packs(packs, processor)
        torch.testing.assert_close(token_losses(model, packed), token_losses(model, rows), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gradients(model, packed), gradients(model, rows), atol=1e-5, rtol=1e-5)


def test_a_pack_by_hand(samples: list[Sample], processor: Any) -> None:
    """A pack of 8 + 3 tokens and one of 3 and 8 of padding; the first label of each sample is ignored."""
    ask = Sample("q", (Message("assistant", (Part("text", "ab"),), trains=True),))  # begins with what trains
    batch = collate_packs([[samples[4], ask], [ask]], processor)
    newline, q, r, a, b = (processor.text_ids(text)[0] for text in "\nqrab")
    assert batch["input_ids"].tolist() == [[258] * 4 + [newline, q, r, 256, a, b, 256], [a, b, 256] + [257] * 8]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2], [0, 1, 2, 0, 1, 2, 3, 4, 5, 6, 7]]
    assert batch["labels"].tolist() == [[-100] * 6 + [r, 256, -100, b, 256], [-100, b, 256] + [-100] * 8]
    assert "attention_mask" not in batch


def test_pictures_of_a_pack(samples: list[Sample], processor: Any) -> None:
    batch = collate_packs([samples[:3], samples[3:]], processor)
    assert batch["pixel_values"].shape[0] == 3
    assert batch["picture_index"].tolist() == [0, 1, 0, 0, 2]


@pytest.mark.parametrize("name", FAMILIES)
def test_families_that_pack(name: str, family: Callable[..., Any]) -> None:
    model = family(name)
    for dtype in (torch.float32, torch.bfloat16):
        check_packing(model.to(dtype), packs=3)


@pytest.mark.parametrize("name", ["opt", "bloom"])
def test_families_that_do_not(name: str, make_model: Callable[..., Any]) -> None:
    """Positions of their own making: their samples would see each other."""
    config = SIZES | {"model_type": name, "word_embed_proj_dim": 32, "ffn_dim": 64, "n_layer": 2, "n_head": 2}
    with pytest.raises(ValueError, match=f"in a {name} with .* they do .*Turn packing off"):
        check_packing(make_model(text_config=config))
