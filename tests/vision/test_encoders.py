"""Every encoder against its library's own forward, and the contract that all of them keep."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from vision.encoders import ENCODERS, Encoder, encoder_for, facts_of, tower_config
from vision.encoders.base import layers_needed

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
TOWERS: dict[str, dict[str, Any]] = {
    "siglip": SMALL | {"model_type": "siglip_vision_model"},
    "clip": SMALL | {"model_type": "clip_vision_model"},
    "dinov2": SMALL | {"model_type": "dinov2", "mlp_ratio": 2},
    "timm": {
        "library": "timm",
        "name": "vit_tiny_patch16_224",
        "kwargs": {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    },
    "timm_registers": {
        "library": "timm",
        "name": "vit_small_patch14_reg4_dinov2",
        "kwargs": {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    },
    "timm_rotary": {  # its rotary table is a buffer that no file holds
        "library": "timm",
        "name": "vit_small_patch16_rope_224",
        "kwargs": {"img_size": 16, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2},
    },
    "open_clip": {
        "library": "open_clip",
        "kwargs": {"embed_dim": 24, "vision_cfg": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16}},
    },
}
PREFIX = {"siglip": 0, "clip": 1, "dinov2": 1, "timm": 1, "timm_registers": 5, "timm_rotary": 1, "open_clip": 1}


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def towers() -> Callable[[str], Any]:
    made: dict[str, Any] = {}

    def tower(name: str) -> Any:
        if name not in made:
            torch.manual_seed(0)
            made[name] = AutoModel.from_config(tower_config(TOWERS[name])).eval()
        return made[name]

    return tower


def test_every_library_of_the_table_is_tried() -> None:
    assert {TOWERS[name].get("library", "transformers") for name in TOWERS} == set(ENCODERS)


@pytest.mark.parametrize("name", TOWERS)
class TestContract:
    def test_shapes_grid_and_facts_agree(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        tower = towers(name)
        tokens = encoder_for(tower)(pixels)
        facts = facts_of(tower.config)
        assert facts == (32, (2, 2), PREFIX[name])
        assert tokens.features.shape == (2, 4, 32)
        assert tokens.mask.all()
        assert tokens.grid == facts.grid

    def test_two_readings_are_equal(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        encoder = encoder_for(towers(name), layer=2)
        assert torch.equal(encoder(pixels).features, encoder(pixels).features)

    def test_gradients_reach_the_layers_read_and_no_later_one(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        tower = towers(name)
        tower.zero_grad(set_to_none=True)
        encoder_for(tower, layer=-2)(pixels).features.sum().backward()
        trained = {id(p) for p in tower.parameters() if p.grad is not None}
        unread = {id(p) for p in encoder_for(tower, layer=-2).unread()}
        assert not trained & unread
        if name != "dinov2":  # of a tower that runs whole, nothing is known to be unread
            assert trained | unread == {id(p) for p in tower.parameters()}
        by_layer = {i: [p.grad is not None for n, p in tower.named_parameters() if f".{i}." in n] for i in (0, 1, 2)}
        assert all(by_layer[0])
        assert all(by_layer[1])
        assert not any(by_layer[2])

    def test_the_class_token_is_kept_on_request(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        encoder = encoder_for(towers(name), keep_cls=True)
        if PREFIX[name] == 0:
            with pytest.raises(ValueError, match="no class token"):
                encoder(pixels)
            return
        tokens = encoder(pixels)
        hidden = encoder.hidden(pixels)
        assert tokens.features.shape == (2, 5, 32)
        assert tokens.prefix == 1
        assert torch.equal(tokens.features[:, 0], hidden[:, 0])
        assert torch.equal(tokens.features[:, 1:], hidden[:, PREFIX[name] :])

    def test_saved_and_loaded_gives_the_same(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor, tmp_path: Any) -> None:
        towers(name).save_pretrained(tmp_path)
        assert facts_of(AutoConfig.from_pretrained(tmp_path)) == facts_of(towers(name).config)
        loaded = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.equal(encoder_for(loaded)(pixels).features, encoder_for(towers(name))(pixels).features)

    def test_pixels_without_a_batch_are_refused(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
            encoder_for(towers(name))(pixels[0])

    def test_a_layer_that_is_not_there_is_refused(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        with pytest.raises(IndexError, match="entries -4 to 3"):
            encoder_for(towers(name), layer=9)(pixels)


@pytest.mark.parametrize("name", ["siglip", "clip", "dinov2"])
@pytest.mark.parametrize("layer", [-1, -2, -4, 0, 2])
def test_transformers_bit_equal_to_hidden_states(name: str, layer: int, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    whole = towers(name)(pixels, output_hidden_states=True).hidden_states[layer]
    assert torch.equal(encoder_for(towers(name), layer=layer)(pixels).features, whole[:, PREFIX[name] :])


@pytest.mark.parametrize("name", ["timm", "timm_registers"])
def test_timm_equal_to_forward_features(name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    """The last block's output, normed, is what `forward_features` gives."""
    model = towers(name).model
    ours = encoder_for(towers(name), layer=-1)(pixels).features
    torch.testing.assert_close(model.norm(ours), model.forward_features(pixels)[:, PREFIX[name] :], rtol=0, atol=0)


def test_timm_inner_layer_equals_the_blocks_run_by_hand(towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    model = towers("timm").model
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels))))
    for block in model.blocks[:2]:
        x = block(x)
    assert torch.equal(encoder_for(towers("timm"), layer=-2)(pixels).features, x[:, 1:])


def test_open_clip_equal_to_its_visual_tokens(towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    """open_clip's own tokens (`output_tokens`) are the last block's, behind `ln_post`."""
    model = towers("open_clip").model
    model.output_tokens = True
    _, theirs = model(pixels)
    model.output_tokens = False
    ours = encoder_for(towers("open_clip"), layer=-1)(pixels).features
    torch.testing.assert_close(model.ln_post(ours), theirs, rtol=0, atol=0)


def test_larger_pictures_are_read_where_the_tower_can(pixels: torch.Tensor) -> None:
    described = {**TOWERS["timm"], "kwargs": {**TOWERS["timm"]["kwargs"], "dynamic_img_size": True}}
    tower = AutoModel.from_config(tower_config(described)).eval()
    assert encoder_for(tower)(torch.zeros(1, 3, 24, 32)).grid == (3, 4)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"library": "keras", "name": "x"}, "unknown tower library 'keras'"),
        ({"library": "timm", "name": "vit_of_nowhere"}, "knows no model 'vit_of_nowhere'"),
        ({"library": "timm", "name": "resnet18"}, "stages, not one grid"),
        ({"library": "open_clip", "name": "nothing"}, "knows no model 'nothing'"),
        ({"hidden_size": 3}, "'model_type' or 'library'"),
    ],
)
def test_a_tower_that_cannot_be_built_is_refused(described: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower_config(described)


def test_a_tower_config_that_names_nothing_has_no_facts() -> None:
    with pytest.raises(ValueError, match="make it from a library and a name"):
        facts_of(tower_config({"library": "timm"}))


def test_a_vision_config_without_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="'resnet' has no hidden_size, image_size, patch_size"):
        facts_of(tower_config({"model_type": "resnet"}))


def test_layers_needed_by_hand() -> None:
    """3 layers make 4 hidden states: -1 is the output of all 3, -2 of 2, -4 and 0 are the embeddings."""
    assert [layers_needed(i, 3) for i in (-1, -2, -4, 0, 3)] == [3, 2, 0, 0, 3]


def test_an_encoder_owns_no_weights(towers: Callable[[str], Any]) -> None:
    encoder = encoder_for(towers("siglip"))
    assert isinstance(encoder, Encoder)
    assert not isinstance(encoder, torch.nn.Module)
