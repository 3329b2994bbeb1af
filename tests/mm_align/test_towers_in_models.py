"""A model assembled around a tower of timm: its pictures are normalised as the tower's checkpoint says, its stages are read."""

import json
import shutil
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from mm_align.config import UserError
from mm_align.jobs.train.config import ModelConfig
from mm_align.jobs.train.model import build

TEXT = {
    "model_type": "qwen2",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A folder of timm's form with a ConvNeXt of odd constants, and a tokenizer."""
    import timm
    from timm.models import save_for_hf

    folder = tmp_path_factory.mktemp("parts")
    kwargs = {"depths": [1, 1, 1, 1], "dims": [8, 16, 32, 24]}
    model = timm.create_model("convnext_atto", num_classes=0, **kwargs)
    model.pretrained_cfg = dict(model.pretrained_cfg, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), input_size=(3, 64, 64))
    save_for_hf(model, folder / "tower", model_args=kwargs, safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    return folder


@pytest.mark.parametrize(("layer", "tokens", "width"), [(-1, 4, 24), (-2, 16, 32)])
def test_constants_and_stages_of_a_timm_folder(layer: int, tokens: int, width: int, parts: Path) -> None:
    config = ModelConfig(
        vision={"library": "timm", "from": str(parts / "tower")},
        text=TEXT,
        tokenizer=str(parts / "tokenizer"),
        feature_layer=layer,
    )
    model, processor = build(config, seed=0)
    assert processor.image_processor.image_mean == [0.1, 0.2, 0.3]
    assert processor.image_processor.image_std == [0.4, 0.5, 0.6]
    assert model.config.image_size == processor.image_processor.size == 64
    assert model.config.num_image_tokens == tokens
    assert model.model.adapter.linear_1.in_features == width
    assert model.visual_tokens(torch.zeros(1, 3, 64, 64)).features.shape == (1, tokens, 32)


def test_names_of_other_libraries_reach_them() -> None:
    """timm's names have no owner before a slash; without network the answer is timm's, not that the name is odd."""
    config = ModelConfig(
        vision={"library": "timm", "from": "vit_tiny_patch16_224.augreg_in21k"}, text={"model_type": "qwen2"}, tokenizer="tiny-aitqe"
    )
    with pytest.raises(UserError, match=r"cannot load the tower 'vit_tiny_patch16_224\.augreg_in21k' of timm"):
        build(config, seed=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"from": "tiny-aitqe", "tokenizer": "tiny-aitqe"}, "`from` brings its tokenizer and image token"),
        ({"from": "tiny-aitqe", "image_token": "<picture>"}, "`from` brings its tokenizer and image token"),
        ({"from": "tiny-aitqe", "branches": [{"given_mean": [0.5] * 3}]}, "write `image_mean` and `image_std` instead"),
        ({"vision": {"from": "a"}, "text": {"from": "b"}, "revision": "main"}, "`revision` is that of `from`, which is not given"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig(**given)


# Constants of two towers

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny SigLIP tower and the constants of its pixels, 0.5."""
    from transformers import AutoModel

    from vision.encoders import tower_config
    from vision.images import SquareImageProcessor

    folder = tmp_path_factory.mktemp("siglip")
    AutoModel.from_config(tower_config(SIZES | {"model_type": "siglip_vision_model"})).save_pretrained(folder)
    SquareImageProcessor(size=16).save_pretrained(folder)
    told = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(told | {"image_processor_type": "SiglipImageProcessor"}))
    return str(folder)


def two_towers(parts: Path, siglip: str) -> Any:
    branches = [{}, {"tower": "second"}, {"tower": "second", "mean": [0.25] * 3, "std": [0.25] * 3}]
    return ModelConfig(
        vision=SIZES | {"model_type": "clip_vision_model"},
        more_towers={"second": {"from": siglip}},
        text=TEXT,
        tokenizer=str(parts / "tokenizer"),
        adapter={"type": "channel_concat"},
        image_mean=CLIP_MEAN,
        image_std=CLIP_STD,
        branches=branches,
    )


def red_as_read(model: Any, processor: Any, monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """What each branch shows its tower of a red picture: one pixel, [3]."""
    from vision import branches

    shown: list[torch.Tensor] = []
    normalised = branches._normalised
    monkeypatch.setattr(branches, "_normalised", lambda *given: shown.append(normalised(*given)) or shown[-1])
    model.tower_features(processor.image_processor([PIL.Image.new("RGB", (16, 16), "red")])["pixel_values"])
    monkeypatch.undo()
    return [pixels[0, :, 0, 0].tolist() for pixels in shown]


def test_each_tower_reads_pixels_by_its_own_constants(parts: Path, siglip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red (1, 0, 0) is (1, -1, -1) by 0.5, 0.5 and (3, -1, -1) by 0.25, 0.25. Beside `from`, image_mean is of the first tower alone;
    a tower that is replaced brings its constants."""
    clip = [(one - mean) / std for one, mean, std in zip((1, 0, 0), CLIP_MEAN, CLIP_STD, strict=True)]
    model, processor = build(two_towers(parts, siglip), seed=0)
    for found, wanted in zip(red_as_read(model, processor, monkeypatch), (clip, [1, -1, -1], [3, -1, -1]), strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again = build(ModelConfig(**{"from": str(tmp_path), "image_mean": [0.5] * 3, "image_std": [1.0] * 3}), seed=0)
    for found, wanted in zip(red_as_read(*again, monkeypatch), ([0.5, -0.5, -0.5], [1, -1, -1], [3, -1, -1]), strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
    other = shutil.copytree(siglip, tmp_path / "other")
    told = (other / "preprocessor_config.json").read_text()
    (other / "preprocessor_config.json").write_text(json.dumps(json.loads(told) | {"image_mean": [0.25] * 3, "image_std": [0.5] * 3}))
    replaced = build(ModelConfig(**{"from": str(tmp_path), "more_towers": {"second": {"from": str(other)}}}), seed=0)
    for found, wanted in zip(red_as_read(*replaced, monkeypatch), (clip, [1.5, -0.5, -0.5], [1.5, -0.5, -0.5]), strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
