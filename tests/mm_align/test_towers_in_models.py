"""A model assembled around a tower of timm: its pictures are normalised as the tower's checkpoint says, its stages are read."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mm_align.config import UserError
from mm_align.jobs.train_config import ModelConfig
from mm_align.jobs.train_model import build


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
        text={"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2},
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
