"""Every adapter inside a whole model: it trains, and it comes back from a folder the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mm_align.models import LvlmForConditionalGeneration
from vision.adapters import ADAPTERS

# The tiny tower gives 2 x 2 patches; crops of a picture twice as large give 4 x 4.
LOW_HIGH = [{"image_size": 16}, {"image_size": 32, "crops": 2}]
LARGE = [{"image_size": 32, "crops": 2}]
WHOLE: dict[str, dict[str, Any]] = {
    "c_abstractor": {"adapter": {"num_tokens": 4, "hidden_size": 8, "depth": 1}, "branches": LARGE},
    "channel_concat": {"branches": LOW_HIGH},
    "eeca": {"adapter": {"entity_queries": 2}, "branches": LOW_HIGH},
    "interleaved_mof": {"branches": [{"layer": -2}, {"layer": -1}]},
    "linear": {},
    "mlp": {},
    "opt_visor": {"adapter": {"kernel": 3, "edges": "zeros"}, "branches": LARGE},
    "pixel_shuffle": {"branches": LARGE},
    "pool_mlp": {"adapter": {"num_tokens": 4}, "branches": LARGE},
    "qformer": {"adapter": {"num_tokens": 3, "width": 8, "layers": 2, "heads": 2, "dropout": 0.0}},
    "resampler": {"adapter": {"num_tokens": 3, "depth": 1, "heads": 2, "head_width": 4}},
    "sva": {"adapter": {"num_tokens": 4, "width": 8, "depth": 2, "heads": 2}, "branches": LOW_HIGH},
    "window_attention": {"branches": LOW_HIGH},
}


def changes(name: str) -> dict[str, Any]:
    return WHOLE[name] | {"adapter": {"type": name} | WHOLE[name].get("adapter", {})}


def batch(config: Any) -> dict[str, torch.Tensor]:
    """Two rows: a picture, then four letters to learn."""
    torch.manual_seed(0)
    letters = torch.randint(0, 200, (2, 4))
    places = torch.full((2, config.num_image_tokens), config.image_token_id)
    labels = torch.cat([torch.full_like(places, -100), letters], 1)
    pixels = torch.randn(2, 3, config.image_size, config.image_size)
    return {"input_ids": torch.cat([places, letters], 1), "pixel_values": pixels, "labels": labels}


def trained(model: Any, steps: int) -> list[float]:
    """Losses before each step, by the adapter's weights alone."""
    optimizer = torch.optim.AdamW(model.model.adapter.parameters(), lr=3e-2)
    given, losses = batch(model.config), []
    for _ in range(steps):
        loss = model(**given).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def test_every_adapter_of_the_table_is_tried() -> None:
    assert set(WHOLE) == set(ADAPTERS)


@pytest.mark.parametrize("name", WHOLE)
def test_trains_and_comes_back_from_a_folder(name: str, make_model: Callable[..., Any], tmp_path: Any) -> None:
    model = make_model(**changes(name))
    losses = trained(model, steps=4)
    assert losses[3] < losses[0]
    assert model.config.num_image_tokens == model.model.adapter.tokens_out()
    model.save_pretrained(tmp_path)
    loaded = LvlmForConditionalGeneration.from_pretrained(tmp_path)
    assert loaded.config.adapter == model.config.adapter
    given = batch(model.config)
    assert torch.equal(loaded(**given).logits, model.eval()(**given).logits)
    half = LvlmForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(**given).logits.dtype == torch.bfloat16


def test_a_checkpoint_without_the_adapter_starts_it_well(make_model: Callable[..., Any], tmp_path: Any) -> None:
    """The fusion begins at zero and the queries small: as in a new model, and not as memory happened to be."""
    make_model(adapter={"type": "mlp"}).save_pretrained(tmp_path)
    config = make_model(**changes("eeca")).config
    adapter = LvlmForConditionalGeneration.from_pretrained(tmp_path, config=config).model.adapter
    assert not adapter.attention.value[1].weight.any()
    assert adapter.attention.query[1].weight.any()
    assert 0.005 < adapter.entity_queries.weight.std() < 0.05


def test_a_new_eeca_model_starts_as_its_low_resolution_baseline(make_model: Callable[..., Any]) -> None:
    model = make_model(**changes("eeca") | {"adapter": {"type": "eeca"}})
    baseline = make_model(adapter={"type": "mlp", "bias": True}, branches=[{"image_size": 16}])
    weights = {name.replace("adapter.mlp.", "adapter."): value for name, value in model.state_dict().items()}
    baseline.load_state_dict({name: value for name, value in weights.items() if "adapter.attention" not in name})
    given = batch(model.config)
    assert torch.equal(model(**given).logits, baseline(**given).logits)
