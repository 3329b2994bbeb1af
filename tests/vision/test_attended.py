"""Attention read from queries and keys equals the library's own, with its class token or without, chunk by chunk."""

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel, ViTConfig, ViTModel

from vision.encoders import encoder_for
from vision.encoders.attended import CHUNK, read_attended

SIZES = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 3, "image_size": 24, "patch_size": 8}


def tower(kind):
    torch.manual_seed(0)
    config, model = {"clip": (CLIPVisionConfig, CLIPVisionModel), "siglip": (SiglipVisionConfig, SiglipVisionModel)}[kind]
    made = model._from_config(config(**SIZES), attn_implementation="eager").eval()
    for parameter in made.parameters():
        parameter.data.normal_(0, 0.3)
    return made


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize(("layer", "number"), [("last", 2), ("next", 3)])
def test_attention_is_the_librarys(kind, layer, number):
    """Feature layer -2 of four is the output of the third: its attention is entry 2, that of the next layer entry 3."""
    model, pixels = tower(kind), torch.randn(CHUNK + 2, 3, 24, 24)
    encoder = encoder_for(model, layer=-2)
    with torch.no_grad():
        found = read_attended(encoder, pixels, layer)
        theirs = model(pixels, output_attentions=True).attentions[number]  # [B, heads, L, L]
    expected = theirs[:, :, 0, 1:].sum(1) if kind == "clip" else theirs.mean(2).sum(1)
    torch.testing.assert_close(found.attended.attention, expected, atol=1e-6, rtol=1e-4)
    assert found.attended.keys.shape == (CHUNK + 2, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(found.tokens.features, encoder(pixels).features)
    assert found.tokens.grid == (3, 3)


def test_keys_are_the_mean_of_the_heads():
    model, pixels = tower("siglip"), torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        found = read_attended(encoder_for(model, layer=-2), pixels)
        block = model.encoder.layers[2] if hasattr(model, "encoder") else model.vision_model.encoder.layers[2]
        normed = block.layer_norm1(encoder_for(model, layer=2)(pixels).features)
        expected = block.self_attn.k_proj(normed).view(1, 9, 3, 8).mean(2)
    torch.testing.assert_close(found.attended.keys, expected)


def test_what_has_no_readable_attention_is_told():
    with pytest.raises(ValueError, match="can be read in towers of siglip"):
        read_attended(encoder_for(ViTModel(ViTConfig(**SIZES))), torch.randn(1, 3, 24, 24))
    with pytest.raises(ValueError, match="no next layer"):
        read_attended(encoder_for(tower("siglip"), layer=-1), torch.randn(1, 3, 24, 24), "next")
