"""Every encoder against its library's own forward, and the contract that all of them keep."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel

from vision.encoders import ENCODERS, Encoder, encoder_for, facts_of, tower_config
from vision.encoders.base import layers_needed
from vision.encoders.transformers_ import patches

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
VISION_CFG = {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16}
TOWERS: dict[str, dict[str, Any]] = {
    "siglip": SMALL | {"model_type": "siglip_vision_model"},
    "clip": SMALL | {"model_type": "clip_vision_model"},
    "dinov2": SMALL | {"model_type": "dinov2", "mlp_ratio": 2},
    "dinov2_registers": SMALL | {"model_type": "dinov2_with_registers", "mlp_ratio": 2, "num_register_tokens": 4},
    "dinov3": SMALL | {"model_type": "dinov3_vit", "num_register_tokens": 4},
    "vit": SMALL | {"model_type": "vit"},
    "siglip2": {k: v for k, v in SMALL.items() if k != "image_size"} | {"model_type": "siglip2_vision_model", "num_patches": 4},
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
    "timm_convnext": {  # the next to last of four stages is 32 wide and at 16 pixels a token
        "library": "timm",
        "name": "convnext_atto",
        "image_size": 32,
        "kwargs": {"depths": [1, 1, 1, 1], "dims": [8, 16, 32, 24]},
    },
    "open_clip": {
        "library": "open_clip",
        "kwargs": {"embed_dim": 24, "vision_cfg": VISION_CFG},
    },
}
PREFIX = {name: 0 if name in ("siglip", "siglip2", "timm_convnext") else 1 for name in TOWERS}
PREFIX |= {"dinov2_registers": 5, "dinov3": 5, "timm_registers": 5}
FAMILIES = [name for name in TOWERS if "library" not in TOWERS[name]]  # of transformers
BLOCKS = [name for name in TOWERS if name.startswith("timm") and name != "timm_convnext"]
SIDE = {"timm_convnext": 32}  # 16 elsewhere
LAYERS = {"timm_convnext": 4}  # 3 elsewhere
INSIDE = {"timm_convnext": "stages.{}."}


@pytest.fixture
def pixels(name: str) -> torch.Tensor:
    return noise(SIDE.get(name, 16), SIDE.get(name, 16))


def noise(height: int, width: int) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


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
        facts = facts_of(tower.config, -2)
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
        assert trained | unread == {id(p) for p in tower.parameters()}
        count, path = LAYERS.get(name, 3), INSIDE.get(name, ".{}.")
        by_layer = [[p.grad is not None for n, p in tower.named_parameters() if path.format(i) in n] for i in range(count)]
        assert all(by_layer)  # every layer has parameters
        assert all(all(layer) for layer in by_layer[:-1])
        assert not any(by_layer[-1])

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
        config = tower_config(AutoConfig.from_pretrained(tmp_path))
        assert [facts_of(config, layer) for layer in (-1, -2)] == [facts_of(towers(name).config, layer) for layer in (-1, -2)]
        loaded = AutoModel.from_pretrained(tmp_path).eval()
        assert torch.equal(encoder_for(loaded)(pixels).features, encoder_for(towers(name))(pixels).features)

    def test_pixels_without_a_batch_are_refused(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        with pytest.raises(ValueError, match=r"\[B, 3, H, W\]"):
            encoder_for(towers(name))(pixels[0])

    def test_a_layer_that_is_not_there_is_refused(self, name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
        count = LAYERS.get(name, 3)
        with pytest.raises(IndexError, match=f"entries -{count + 1} to {count}"):
            encoder_for(towers(name), layer=9)(pixels)


def library_states(tower: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """`hidden_states` of transformers' own forward, its interpolation of positions asked for where it must be."""
    options: dict[str, Any] = {"output_hidden_states": True}
    if tower.config.model_type == "siglip2_vision_model":
        rows, columns = pixels.shape[-2] // 8, pixels.shape[-1] // 8
        mask, shapes = torch.ones(2, rows * columns, dtype=torch.long), torch.tensor([[rows, columns]] * 2)
        return tower(patches(pixels, 8), mask, shapes, **options).hidden_states
    if "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters:
        options["interpolate_pos_encoding"] = True
    return tower(pixels, **options).hidden_states


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layer", [-1, -2, -4, 0, 2])
def test_transformers_bit_equal_to_hidden_states(name: str, layer: int, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    whole = library_states(towers(name), pixels)[layer]
    assert torch.equal(encoder_for(towers(name), layer=layer)(pixels).features, whole[:, PREFIX[name] :])


@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_reads_other_sizes_as_the_library_interpolates(name: str, towers: Callable[[str], Any]) -> None:
    pixels = noise(24, 40)
    tokens = encoder_for(towers(name))(pixels)
    assert tokens.grid == (3, 5)
    assert torch.equal(tokens.features, library_states(towers(name), pixels)[-2][:, PREFIX[name] :])


def test_a_family_that_is_not_known_runs_whole_and_equals_it_too() -> None:
    """I-JEPA's type is in no table."""
    torch.manual_seed(0)
    tower = AutoModel.from_config(tower_config(SMALL | {"model_type": "ijepa"})).eval()
    pixels = noise(24, 24)
    whole = tower(pixels, output_hidden_states=True, interpolate_pos_encoding=True).hidden_states[-2]
    assert torch.equal(encoder_for(tower)(pixels).features, whole)
    assert encoder_for(tower).unread() == []


def test_siglip2_patches_are_those_of_its_image_processor() -> None:
    from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

    picture = noise(24, 16)[0]
    theirs = convert_image_to_patches(picture.numpy(), 8)
    assert patches(picture[None], 8)[0].numpy().tolist() == theirs.tolist()


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("side", [16, 32])
def test_timm_equal_to_forward_features(name: str, side: int, towers: Callable[[str], Any]) -> None:
    """The last block's output, normed, is what `forward_features` gives, at the tower's own size and at another."""
    model, pixels = towers(name).model, noise(side, side)
    ours = encoder_for(towers(name), layer=-1)(pixels).features
    torch.testing.assert_close(model.norm(ours), model.forward_features(pixels)[:, PREFIX[name] :], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["timm", "timm_registers"])
def test_timm_at_another_size_equals_a_tower_made_for_it(name: str, towers: Callable[[str], Any]) -> None:
    """timm resizes the positions of a checkpoint when it loads one into a tower of another size; so do we in the forward."""
    import copy

    pixels = noise(32, 48)
    made = copy.deepcopy(towers(name).model)
    made.dynamic_img_size = False
    made.patch_embed.flatten, made.patch_embed.output_fmt = True, None
    made.set_input_size((32, 48))
    torch.testing.assert_close(encoder_for(towers(name), layer=-1).hidden(pixels), blocks_by_hand(made, pixels, 3), rtol=0, atol=1e-6)


def blocks_by_hand(model: Any, pixels: torch.Tensor, count: int) -> torch.Tensor:
    x = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(pixels))))
    for block in model.blocks[:count]:
        x = block(x)
    return x


@pytest.mark.parametrize("name", ["timm"])
def test_timm_inner_layer_equals_the_blocks_run_by_hand(name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    assert torch.equal(encoder_for(towers(name), layer=-2)(pixels).features, blocks_by_hand(towers(name).model, pixels, 2)[:, 1:])


@pytest.mark.parametrize("layer", [1, 2, 3, 4, -1, -4])
def test_convnext_stages_equal_its_own_forward(layer: int, towers: Callable[[str], Any]) -> None:
    tower, pixels = towers("timm_convnext"), noise(64, 96)
    x = tower.model.stem(pixels)
    for stage in tower.model.stages[: layer if layer > 0 else layer + 5]:
        x = stage(x)
    tokens = encoder_for(tower, layer=layer)(pixels)
    assert tokens.grid == tuple(x.shape[-2:])
    assert torch.equal(tokens.features.transpose(1, 2).unflatten(2, tokens.grid), x)


def test_convnext_last_stage_is_its_forward_features(towers: Callable[[str], Any]) -> None:
    tower, pixels = towers("timm_convnext"), noise(64, 64)
    assert torch.equal(encoder_for(tower, layer=-1)(pixels).features, tower.model.forward_features(pixels).flatten(2).transpose(1, 2))


def test_facts_follow_the_stage(towers: Callable[[str], Any]) -> None:
    """Of a picture of 32 pixels: 8 x 8, 4 x 4, 2 x 2, 1 x 1 tokens."""
    config = towers("timm_convnext").config
    assert [facts_of(config, k) for k in (1, 2, 3, 4)] == [(8, (8, 8), 0), (16, (4, 4), 0), (32, (2, 2), 0), (24, (1, 1), 0)]
    assert facts_of(config) == facts_of(config, -1) == facts_of(config, 4)
    with pytest.raises(ValueError, match="4 stages to read, layers 1 to 4"):
        facts_of(config, 0)


def test_stages_that_round_up_keep_their_grid() -> None:
    """ResNet pads: 40 pixels at stride 16 are 3 tokens a side."""
    tower = AutoModel.from_config(tower_config({"library": "timm", "name": "resnet18", "kwargs": {"layers": [1, 1, 1, 1]}})).eval()
    tokens = encoder_for(tower, layer=-2)(noise(40, 72))
    assert tokens.grid == (3, 5)
    assert tokens.features.shape == (2, 15, 256)


@pytest.mark.parametrize("name", ["open_clip"])
def test_open_clip_equal_to_its_visual_tokens(name: str, towers: Callable[[str], Any], pixels: torch.Tensor) -> None:
    """open_clip's own tokens (`output_tokens`) are the last block's, behind `ln_post`."""
    ours = encoder_for(towers(name), layer=-1)(pixels).features
    torch.testing.assert_close(towers(name).model.ln_post(ours), open_clip_tokens(towers(name).model, pixels), rtol=0, atol=0)


def open_clip_tokens(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    model.output_tokens = True
    tokens = model(pixels)[1]
    model.output_tokens = False
    return tokens


def test_open_clip_at_another_size_equals_a_tower_whose_positions_it_resized(towers: Callable[[str], Any]) -> None:
    from types import SimpleNamespace

    from open_clip.model import resize_pos_embed

    sizes = TOWERS["open_clip"]["kwargs"]["vision_cfg"] | {"image_size": [32, 48]}
    made = AutoModel.from_config(tower_config({"library": "open_clip", "kwargs": {"embed_dim": 24, "vision_cfg": sizes}})).eval().model
    weights = {f"visual.{k}": v for k, v in towers("open_clip").model.state_dict().items()}
    resize_pos_embed(weights, SimpleNamespace(visual=made))
    made.load_state_dict({k.removeprefix("visual."): v for k, v in weights.items()})
    pixels = noise(32, 48)
    tokens = encoder_for(towers("open_clip"), layer=-1)(pixels)
    assert tokens.grid == (4, 6)
    torch.testing.assert_close(made.ln_post(tokens.features), open_clip_tokens(made, pixels), rtol=0, atol=1e-6)


JITTERED = {
    "dinov3": TOWERS["dinov3"],  # rescales its rotary positions at random while training
    "open_clip": {"library": "open_clip", "kwargs": {"embed_dim": 24, "vision_cfg": {**VISION_CFG, "patch_dropout": 0.5}}},  # drops patches
}


@pytest.mark.parametrize("kind", JITTERED)
def test_a_frozen_tower_is_read_without_the_noise_of_training(kind: str) -> None:
    torch.manual_seed(0)
    tower = AutoModel.from_config(tower_config(JITTERED[kind])).eval()
    pixels = noise(16, 16)
    quiet = encoder_for(tower)(pixels).features
    tower.requires_grad_(False).train()
    torch.testing.assert_close(
        encoder_for(tower)(pixels).features, quiet, rtol=0, atol=1e-5
    )  # torch's attention of frozen weights is another


def test_a_tower_that_trains_keeps_it() -> None:
    tower = AutoModel.from_config(tower_config(JITTERED["dinov3"])).train()
    encoder = encoder_for(tower)
    assert not torch.equal(encoder(noise(32, 32)).features, encoder(noise(32, 32)).features)


def test_the_vision_part_of_a_whole_model_is_its_tower() -> None:
    whole = tower_config({"model_type": "clip", "vision_config": SMALL})
    assert whole.model_type == "clip_vision_model"
    assert facts_of(whole) == (32, (2, 2), 1)


def test_siglip2_of_flexible_resolution_takes_the_size_it_is_given() -> None:
    assert facts_of(tower_config({"model_type": "siglip2_vision_model"})).grid == (16, 16)
    assert facts_of(tower_config({"model_type": "siglip2_vision_model", "image_size": 384})).grid == (24, 24)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"library": "keras", "name": "x"}, "unknown tower library 'keras'"),
        ({"library": "timm", "name": "vit_of_nowhere"}, "knows no model 'vit_of_nowhere'"),
        ({"library": "timm", "name": "vit_tiny_patch16_224", "kwargs": {"widht": 3}}, "cannot be built from"),
        ({"library": "timm", "name": "naflexvit_base_patch16_gap"}, "not pictures; choose the same tower of fixed resolution"),
        ({"library": "open_clip", "name": "nothing"}, "knows no model 'nothing'"),
        ({"hidden_size": 3}, "'model_type' or 'library'"),
    ],
)
def test_a_tower_that_cannot_be_built_is_refused(described: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tower_config(described)


def test_a_tower_without_features_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timm.create_model", lambda name, **kwargs: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="neither one grid of patch tokens nor stages"):
        tower_config({"library": "timm", "name": "somebody's own"})


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
