"""Branches: crops in their places, sizes that fit, and constants of another tower."""

from typing import Any

import pytest
import torch
from transformers import AutoModel

from vision.branches import Branch, cropped, facts, read, side
from vision.encoders import encoder_for, tower_config
from vision.tokens import TokenFacts

TOWER = {
    "model_type": "siglip_vision_model",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}


@pytest.fixture(scope="module")
def tower() -> Any:
    torch.manual_seed(0)
    return AutoModel.from_config(tower_config(TOWER)).eval()


def picture(size: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_crops_are_cut_row_by_row() -> None:
    whole = picture(32)
    crops = cropped(whole, 2).unflatten(0, (2, 4))
    assert torch.equal(crops[1, 1], whole[1, :, :16, 16:])
    assert torch.equal(crops[1, 2], whole[1, :, 16:, :16])


def test_each_crop_lands_in_its_place_of_the_map(tower: Any) -> None:
    """Against a loop: patch (i, j) of the map of 4 x 4 is patch (i mod 2, j mod 2) of crop (i div 2, j div 2)."""
    encoder = encoder_for(tower)
    tokens = read(Branch(crops=2), encoder, picture(32))
    assert tokens.grid == (4, 4)
    for i in range(4):
        for j in range(4):
            crop = picture(32)[:, :, i // 2 * 16 : i // 2 * 16 + 16, j // 2 * 16 : j // 2 * 16 + 16]
            expected = encoder(crop).features[:, i % 2 * 2 + j % 2]
            torch.testing.assert_close(tokens.features[:, i * 4 + j], expected)


def test_the_facts_are_what_comes_out(tower: Any) -> None:
    for branch, size in ((Branch(), 16), (Branch(crops=2), 32), (Branch(image_size=48, crops=3), 48)):
        tokens = read(branch, encoder_for(tower), picture(side(branch, tower.config)))
        assert side(branch, tower.config) == size
        assert facts(branch, tower.config) == TokenFacts(tokens.features.shape[-1], tokens.grid, 0)  # type: ignore[arg-type]


def test_a_branch_resizes_to_its_own_side(tower: Any) -> None:
    constant = torch.full((1, 3, 32, 32), 0.25)
    small = torch.full((1, 3, 16, 16), 0.25)
    encoder = encoder_for(tower)
    torch.testing.assert_close(read(Branch(image_size=16), encoder, constant).features, encoder(small).features)


def test_constants_of_another_tower(tower: Any) -> None:
    """Pixels 0.2 made with mean 0.5 and std 0.5 are brightness 0.6; a tower of mean 0.4 and std 0.1 wants (0.6 - 0.4) / 0.1 = 2."""
    branch = Branch(mean=(0.4,) * 3, std=(0.1,) * 3)
    encoder = encoder_for(tower)
    given, wanted = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 2.0)
    torch.testing.assert_close(read(branch, encoder, given).features, encoder(wanted).features)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 33, "crops": 2}, "2 crops a side do not divide a picture of 33"),
        ({"crops": 2, "keep_cls": True}, "no place for class tokens"),
        ({"mean": (0.5,) * 3}, "both mean and std"),
    ],
)
def test_wrong_branches_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Branch(**options)


def test_a_size_that_is_no_whole_number_of_patches_is_refused(tower: Any) -> None:
    with pytest.raises(ValueError, match="pictures of 20 pixels, which is no whole number of its patches"):
        facts(Branch(image_size=20), tower.config)


def test_a_class_token_that_the_tower_lacks_is_refused_before_any_picture(tower: Any) -> None:
    clip = tower_config(TOWER | {"model_type": "clip_vision_model"})
    assert facts(Branch(keep_cls=True), clip).prefix == 1
    unknown = tower_config(TOWER | {"model_type": "vit_mae"})  # has one, which only its tokens tell
    assert facts(Branch(keep_cls=True), unknown).prefix == 1
    with pytest.raises(ValueError, match="keep_cls is set and the tower 'vision_tower' \\(siglip_vision_model\\) has no class token"):
        facts(Branch(keep_cls=True), tower.config)
    stages = tower_config({"library": "timm", "name": "convnext_atto", "kwargs": {"depths": [1, 1, 1, 1], "dims": [8, 8, 8, 8]}})
    with pytest.raises(ValueError, match="has no class token"):
        facts(Branch(keep_cls=True), stages)
