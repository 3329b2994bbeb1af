"""Released AITQE checkpoints that lack something or say something else: used as they are, or refused with a sentence."""

from __future__ import annotations

import json

import pytest
import torch
from released_aitqe import REAL, asked, changed, our_logits

from mm_align.backends import load_backend
from mm_align.config import UserError
from mm_align.models import aitqe_layout


@pytest.mark.parametrize("without", [".head.", ".post_layernorm.", "image_newline"])
def test_unused_parts_may_be_absent(released, backend, tmp_path, without):
    other = load_backend(str(changed(released, tmp_path / "x", without=without)), device="cpu")
    assert torch.equal(our_logits(other, asked("a")), our_logits(backend, asked("a")))


@pytest.mark.parametrize("without", ["mm_projector.2", "layers.1.mlp.up_proj", "vision_model.vision_model.embeddings"])
def test_used_parts_may_not(released, tmp_path, without):
    with pytest.raises(UserError, match=r"not whole: .* MISSING from the file: "):
        load_backend(str(changed(released, tmp_path / "x", without=without)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pesudo_img_size": None}, "lacks pesudo_img_size"),
        ({"image_tile_tokens": 9}, "disagrees with itself: 4 tokens a picture by its sizes, 9 by image_tile_tokens"),
        ({"mm_projector_type": "resampler"}, "mm_projector_type = 'resampler'"),
        ({"pooling_kernel": 2}, "pooling_kernel = 2"),
        ({"vision_model_name_or_path": "/models/siglip-gone"}, "no published SigLIP tower is 24 wide"),
    ],
)
def test_configs_that_cannot_run(released, tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        load_backend(str(changed(released, tmp_path / "x", **config)))


def test_added_tokens_that_come_out_elsewhere(released, tmp_path):
    """Half a vocabulary moves the added tokens to other ids, which would read other rows of the embedding."""
    folder = changed(released, tmp_path / "x")
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({k: v for k, v in vocab.items() if not k.startswith("unused")}))
    with pytest.raises(UserError, match="but it comes out as"):
        load_backend(str(folder))


def test_a_released_file_cut_short(released, tmp_path):
    folder = changed(released, tmp_path / "x")
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="model-00002-of-00002.safetensors is cut short"):
        load_backend(str(folder))


def test_no_tokenizer(released, tmp_path):
    folder = changed(released, tmp_path / "x")
    (folder / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer: expected vocab\.json and merges\.txt"):
        load_backend(str(folder))


def test_the_towers_kind_is_not_read_from_its_path(released, backend, tmp_path):
    """Upstream drops the first patch unless the path says "siglip"; here a path that says "clip" changes nothing."""
    folder = changed(released, tmp_path / "x", vision_model_name_or_path="my-clip-tower")
    (folder / "tower").rename(folder / "my-clip-tower")
    assert torch.equal(our_logits(load_backend(str(folder), device="cpu"), asked("a")), our_logits(backend, asked("a")))


def test_a_clip_tower_loses_its_class_token():
    """A CLIP tower is known by its class embedding; 577 rows of positions give 576 tokens a picture."""
    headers = {
        name: aitqe_layout.Header(shape, torch.bfloat16)
        for name, shape in {
            "vision_model.vision_model.embeddings.class_embedding": (1024,),
            "vision_model.vision_model.encoder.layers.23.mlp.fc1.weight": (4096, 1024),
            "vision_model.vision_model.encoder.layers.0.mlp.fc1.weight": (4096, 1024),
        }.items()
    }
    sizes = {
        "visual_hidden_dim": 1024,
        "pesudo_img_size": 336,
        "image_tile_tokens": 576,
        "vision_model_name_or_path": "siglip-in-name-only",
    }
    config = aitqe_layout.to_lvlm_config(REAL | sizes, headers)
    assert config.vision_config.model_type == "clip_vision_model"
    assert config.vision_config.num_hidden_layers == 24
    assert config.num_image_tokens == 576
