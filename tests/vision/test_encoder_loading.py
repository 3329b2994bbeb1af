"""Towers from folders and files, as each library writes them: their features are the whole model's; what is wrong with them is said."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from vision.encoders import ENCODERS, encoder_for, facts_of, load_tower, lora_targets, tower_config
from vision.encoders.external import library_of

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 40}
TIMM = {"patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": 2}
CLIP_SIZES = {
    "embed_dim": 24,
    "vision_cfg": {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 60, "width": 16, "heads": 2, "layers": 1},
}


def noise(side: int) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("library", [name for name in ENCODERS if name != "transformers"])
def test_the_file_of_a_library_builds_looks_and_loads(library: str) -> None:
    assert [name for name in ("build", "look", "load") if not callable(getattr(library_of(library), name, None))] == []


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_the_vision_part_of_a_saved_pair(kind: str, tmp_path: Path) -> None:
    vision = {k: v for k, v in SIZES.items() if k != "image_size"} | {"num_patches": 4} if kind == "siglip2" else SIZES
    pair = AutoModel.from_config(AutoConfig.for_model(kind, vision_config=vision, text_config=TEXT)).eval()
    pair.save_pretrained(tmp_path)
    tower = load_tower({"from": str(tmp_path)})
    assert tower.config.model_type == f"{kind}_vision_model"
    pair.vision_model.config = tower_config(pair.vision_model.config)
    assert torch.equal(encoder_for(tower)(noise(16)).features, encoder_for(pair.vision_model)(noise(16)).features)
    assert tower.dtype == torch.float32


@pytest.mark.parametrize("kind", ["clip_vision_model", "dinov2", "dinov3_vit"])
def test_a_saved_vision_model(kind: str, tmp_path: Path) -> None:
    model = AutoModel.from_config(AutoConfig.for_model(kind, **SIZES)).eval()
    model.save_pretrained(tmp_path)
    tower = load_tower({"from": str(tmp_path), "library": "transformers"})
    assert torch.equal(encoder_for(tower)(noise(16)).features, encoder_for(model)(noise(16)).features)


def test_a_flexible_siglip2_takes_another_size(tmp_path: Path) -> None:
    described = {k: v for k, v in SIZES.items() if k != "image_size"} | {"num_patches": 4, "model_type": "siglip2_vision_model"}
    AutoModel.from_config(tower_config(described)).save_pretrained(tmp_path)
    assert facts_of(load_tower({"from": str(tmp_path), "image_size": 32}).config).grid == (4, 4)


def test_a_tower_without_from_is_random_and_seeded() -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(load_tower(SIZES | {"model_type": "clip_vision_model"}))
    assert all(torch.equal(a, b) for a, b in zip(*(m.state_dict().values() for m in made), strict=True))


class TestTimm:
    def file(self, folder: Path) -> tuple[Any, str]:
        tower = load_tower({"library": "timm", "name": "vit_tiny_patch16_224", "kwargs": TIMM | {"img_size": 16}}).eval()
        save_file(tower.model.state_dict(), folder / "weights.safetensors")
        return tower, str(folder / "weights.safetensors")

    def test_a_file_of_weights(self, tmp_path: Path) -> None:
        tower, file = self.file(tmp_path)
        got = load_tower({"library": "timm", "name": "vit_tiny_patch16_224", "from": file, "kwargs": TIMM | {"img_size": 16}})
        assert torch.equal(encoder_for(got)(noise(16)).features, encoder_for(tower)(noise(16)).features)

    def test_a_file_into_a_larger_tower_equals_reading_larger_pictures(self, tmp_path: Path) -> None:
        tower, file = self.file(tmp_path)
        got = load_tower({"library": "timm", "name": "vit_tiny_patch16_224", "from": file, "kwargs": TIMM | {"img_size": 32}})
        assert facts_of(got.config).grid == (4, 4)
        torch.testing.assert_close(encoder_for(got)(noise(32)).features, encoder_for(tower)(noise(32)).features, rtol=0, atol=1e-6)

    @pytest.mark.parametrize(
        ("name", "kwargs", "side"),
        [("vit_tiny_patch16_224", TIMM | {"img_size": 16}, 16), ("convnext_atto", {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}, 64)],
    )
    def test_a_folder_as_timm_writes_it(self, name: str, kwargs: dict[str, Any], side: int, tmp_path: Path) -> None:
        import timm
        from timm.models import save_for_hf

        model = timm.create_model(name, num_classes=0, **kwargs).eval()
        save_for_hf(model, tmp_path / "made", model_args=kwargs, safe_serialization=True)
        got = load_tower({"library": "timm", "from": str(tmp_path / "made")})
        theirs = model.forward_features(noise(side))
        ours = encoder_for(got, layer=-1)(noise(side)).features
        if name == "convnext_atto":
            assert torch.equal(ours, theirs.flatten(2).transpose(1, 2))
        else:
            torch.testing.assert_close(model.norm(ours), theirs[:, 1:], rtol=0, atol=0)
        assert (got.config.image_mean, got.config.image_std) == (list(model.pretrained_cfg["mean"]), list(model.pretrained_cfg["std"]))
        again = AutoModel.from_config(got.config)  # without the folder
        assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in got.state_dict().items()}

    def test_refusals(self, tmp_path: Path) -> None:
        _, file = self.file(tmp_path)
        with pytest.raises(ValueError, match="give timm's name of the tower it belongs to"):
            load_tower({"library": "timm", "from": file})
        with pytest.raises(ValueError, match="which is no file"):
            load_tower({"library": "timm", "name": "vit_tiny_patch16_224", "from": str(tmp_path / "none.safetensors")})
        described = {"library": "timm", "name": "vit_tiny_patch16_224", "from": file}
        with pytest.raises(ValueError, match=r"incomplete: Missing keys \(blocks\.3\.norm1"):
            load_tower(described | {"kwargs": TIMM | {"depth": 4, "img_size": 16}})
        with pytest.raises(ValueError, match="cannot load the tower .* of timm"):
            load_tower(described | {"kwargs": TIMM | {"embed_dim": 64, "img_size": 16}})
        with pytest.raises(ValueError, match="without network"):
            load_tower({"library": "timm", "from": "vit_tiny_patch16_224.augreg_in21k"})


class TestOpenClip:
    def folder(self, folder: Path, sizes: dict[str, Any]) -> Any:
        """A random CLIP as open_clip's releases look, and its image tower."""
        import open_clip

        folder.mkdir(exist_ok=True)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": sizes, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3]}}))
        kind = open_clip.CustomTextCLIP if "timm_model_name" in sizes["vision_cfg"] else open_clip.CLIP
        model = kind(**{k: v for k, v in sizes.items() if k != "custom_text"}).eval()
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")
        return model.visual

    def test_a_folder(self, tmp_path: Path) -> None:
        visual = self.folder(tmp_path, CLIP_SIZES)
        tower = load_tower({"library": "open_clip", "from": str(tmp_path)})
        visual.output_tokens = True
        assert tower.config.image_mean == [0.1, 0.2, 0.3]
        ours = encoder_for(tower, layer=-1)(noise(16)).features
        torch.testing.assert_close(visual.ln_post(ours), visual(noise(16))[1], rtol=0, atol=0)

    def test_a_trunk_of_timm_becomes_a_tower_of_timm(self, tmp_path: Path) -> None:
        vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_model_pretrained": False, "timm_pool": "avg", "image_size": 224}
        visual = self.folder(tmp_path, CLIP_SIZES | {"vision_cfg": vision, "custom_text": True})
        tower = load_tower({"library": "open_clip", "from": str(tmp_path)})
        assert tower.config.library == "timm"
        assert facts_of(tower.config) == (192, (14, 14), 1)
        ours = encoder_for(tower, layer=-1)(noise(224)).features
        torch.testing.assert_close(visual.trunk.norm(ours), visual.trunk.forward_features(noise(224))[:, 1:], rtol=0, atol=0)

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="cannot load the tower .* of open_clip"):
            load_tower({"library": "open_clip", "from": str(tmp_path)})
        with pytest.raises(ValueError, match="give a folder, 'hf-hub:OWNER/NAME', or the model's 'name'"):
            load_tower({"library": "open_clip", "from": "ViT-B-32"})
        self.folder(tmp_path, CLIP_SIZES)
        (tmp_path / "open_clip_model.safetensors").unlink()
        with pytest.raises(ValueError, match="cannot load the tower"):
            load_tower({"library": "open_clip", "from": str(tmp_path)})


class TestTransformersRefusals:
    def test_missing_weights_are_not_made_up(self, tmp_path: Path) -> None:
        AutoModel.from_config(AutoConfig.for_model("clip_vision_model", **SIZES)).save_pretrained(tmp_path)
        file = tmp_path / "model.safetensors"
        kept = {k: v for k, v in load_file(file).items() if "layers.1.mlp.fc1" not in k}
        save_file(kept, file, {"format": "pt"})
        with pytest.raises(ValueError, match=r"incomplete: 2 of the tower are missing, such as 'encoder\.layers\.1\.mlp\.fc1\.bias'"):
            load_tower({"from": str(tmp_path)})

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="cannot load the tower"):
            load_tower({"from": str(tmp_path)})
        with pytest.raises(ValueError, match="without network"):
            load_tower({"from": "owner/no-such-tower"})
        with pytest.raises(ValueError, match="unknown tower library 'keras'"):
            load_tower({"from": "x", "library": "keras"})


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({"library": "timm", "name": "vit_tiny_patch16_224", "kwarg": {}}, "no key 'kwarg'; did you mean 'kwargs'"),
        ({"model_type": "clip_vision_model", "image_sise": 32}, "no key 'image_sise'; did you mean 'image_size'"),
        ({"library": "open_clip", "model_type": "clip"}, "no key 'model_type'; known: image_mean"),
    ],
)
def test_misspelt_keys_are_refused(described: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tower(described)


def test_misspelt_and_unfitting_changes_of_a_checkpoint_are_refused(tmp_path: Path) -> None:
    AutoModel.from_config(AutoConfig.for_model("clip_vision_model", **SIZES)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="no key 'imag_size'; did you mean 'image_size'"):
        load_tower({"from": str(tmp_path), "imag_size": 32})
    with pytest.raises(ValueError, match="cannot load the tower"):
        load_tower({"from": str(tmp_path), "hidden_size": 64})


LORA = {
    "transformers": (SIZES | {"model_type": "clip_vision_model"}, "encoder.layers.{}.", 6),
    "timm": ({"library": "timm", "name": "vit_tiny_patch16_224", "kwargs": TIMM | {"img_size": 16}}, "model.blocks.{}.", 4),
    "open_clip": ({"library": "open_clip", "kwargs": {k: CLIP_SIZES[k] for k in ("embed_dim", "vision_cfg")}}, "resblocks.{}.", 3),
}


@pytest.mark.parametrize("library", LORA)
def test_low_rank_updates_of_a_tower_start_at_nothing_and_alone_are_trained(library: str) -> None:
    """Of three layers the first two are read: 2 x (q, k, v, out, fc1, fc2), or qkv as one, or torch's attention as a whole."""
    peft = pytest.importorskip("peft", reason="the extra 'lora' is not installed")
    described, path, per_layer = LORA[library]
    tower = load_tower(described).eval()
    before = encoder_for(tower)(noise(16)).features
    targets = lora_targets(tower, encoder_for(tower).unread())
    assert len(targets) == 2 * per_layer
    assert not [name for name in targets if path.format(2) in name]
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=targets), tower)
    tower.eval()
    torch.testing.assert_close(encoder_for(tower)(noise(16)).features, before, rtol=0, atol=1e-6)
    encoder_for(tower)(noise(16)).features.square().sum().backward()
    trained = {name for name, p in tower.named_parameters() if p.grad is not None}
    assert trained
    assert all("lora_" in name for name in trained)
