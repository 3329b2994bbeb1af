"""Image-text pairs of both libraries against the library's own forward, from folders of random weights; what is no pair is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from vision.pairs import OpenClipPair, load_pair
from vision.similarity import AT_ONCE, load_similarity

PICTURES = [PIL.Image.fromarray(np.random.default_rng(s).integers(0, 255, (20 + s, 30, 3), dtype=np.uint8)) for s in range(3)]
TEXTS = ["a tower", "the old gate of a town, seen from afar"]
SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION: dict[str, dict[str, Any]] = {
    "clip": {"image_size": 16, "patch_size": 8},
    "siglip": {"image_size": 16, "patch_size": 8},
    "siglip2": {"num_patches": 16, "patch_size": 8},
}


def letters(pad: str, eos: str) -> Any:
    """A tokenizer of single bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, pad_token=pad)


def make_transformers(kind: str, folder: Path) -> None:
    """A random model of `kind` with its processor, saved."""
    import transformers

    cls = {"clip": "CLIP", "siglip": "Siglip", "siglip2": "Siglip2"}[kind]
    own = {s: i for i, s in enumerate(["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz,"])}
    tokenizer = transformers.Siglip2Tokenizer(vocab=own) if kind == "siglip2" else letters("<pad>", "<eos>")
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("eos", "pad")}
    text = SIZES | special | {"vocab_size": len(tokenizer), "max_position_embeddings": 24, "bos_token_id": special["eos_token_id"]}
    extra = {"projection_dim": 16} if kind == "clip" else {}
    config = getattr(transformers, f"{cls}Config")(vision_config=SIZES | VISION[kind], text_config=text, **extra)
    square = {"height": 16, "width": 16}
    options: dict[str, dict[str, Any]] = {
        "clip": {"size": {"shortest_edge": 16}, "crop_size": square},
        "siglip": {"size": square},
        "siglip2": {"patch_size": 8, "max_num_patches": 16},
    }
    pictures = getattr(transformers, f"{cls}ImageProcessor")(**options[kind])
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    getattr(transformers, f"{cls}Processor")(pictures, tokenizer).save_pretrained(folder)


OPEN_CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16},
    "text_cfg": {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


OPEN_CLIP_SIGLIP = {
    **OPEN_CLIP,
    "init_logit_bias": -10,
    "custom_text": True,
    "text_cfg": {**OPEN_CLIP["text_cfg"], "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},  # type: ignore[dict-item]
}


def make_open_clip(folder: Path, weights: bool = True, siglip: bool = False) -> None:
    """A random model of open_clip as its releases look."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    folder.mkdir(exist_ok=True, parents=True)
    settings = {"mean": [0.5] * 3, "std": [0.5] * 3}
    config = OPEN_CLIP_SIGLIP if siglip else OPEN_CLIP
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": settings}))
    if weights:
        given = {key: value for key, value in config.items() if key != "custom_text"}
        model = (open_clip.CustomTextCLIP if siglip else open_clip.CLIP)(**given)
        save_file(model.state_dict(), folder / "open_clip_model.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("pair") / kind
            ours = kind.startswith("open_clip")
            make_open_clip(made[kind], siglip=kind == "open_clip_siglip") if ours else make_transformers(kind, made[kind])
        return made[kind]

    return of


def library(kind: str) -> str:
    return "open_clip" if kind == "open_clip" else "transformers"


@pytest.mark.parametrize("kind", [*VISION, "open_clip"])
class TestContract:
    def test_unit_vectors_of_one_space(self, kind: str, folder: Callable[[str], Path]) -> None:
        pair = load_pair(str(folder(kind)), library(kind))
        images, texts = pair.image_embeddings(PICTURES), pair.text_embeddings(TEXTS)
        assert images.dtype == texts.dtype == torch.float32
        assert images.shape[1] == texts.shape[1]
        for vectors, count in ((images, 3), (texts, 2)):
            assert len(vectors) == count
            torch.testing.assert_close(vectors.norm(dim=1), torch.ones(count))
        assert not images.requires_grad

    def test_a_batch_equals_its_members(self, kind: str, folder: Callable[[str], Path]) -> None:
        pair = load_pair(str(folder(kind)), library(kind))
        singly = torch.cat([pair.image_embeddings([p]) for p in PICTURES])
        torch.testing.assert_close(pair.image_embeddings(PICTURES), singly, rtol=0, atol=1e-6)
        texts = torch.cat([pair.text_embeddings([t]) for t in TEXTS])
        torch.testing.assert_close(pair.text_embeddings(TEXTS), texts, rtol=0, atol=1e-6)

    def test_long_texts_are_cut_at_the_context_length(self, kind: str, folder: Callable[[str], Path]) -> None:
        assert load_pair(str(folder(kind)), library(kind)).text_embeddings(["a tower of words " * 50]).isfinite().all()

    def test_grey_pictures_count_as_colour(self, kind: str, folder: Callable[[str], Path]) -> None:
        pair = load_pair(str(folder(kind)), library(kind))
        grey = PICTURES[0].convert("L")
        torch.testing.assert_close(pair.image_embeddings([grey]), pair.image_embeddings([grey.convert("RGB")]))

    def test_half_precision_comes_back_in_float32(self, kind: str, folder: Callable[[str], Path]) -> None:
        full, half = (load_pair(str(folder(kind)), library(kind), dtype=t) for t in (torch.float32, torch.bfloat16))
        got = half.image_embeddings(PICTURES)
        assert got.dtype == torch.float32
        assert (got * full.image_embeddings(PICTURES)).sum(1).min() > 0.99


@pytest.mark.parametrize("kind", list(VISION))
def test_transformers_equals_its_own_forward(kind: str, folder: Callable[[str], Path]) -> None:
    """`image_embeds`, `text_embeds` and `logits_per_image` of the whole model."""
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folder(kind)).eval(), AutoProcessor.from_pretrained(folder(kind))
    patches = {"patch_size": 8, "max_num_patches": 16} if kind == "siglip2" else {}
    padding = True if kind == "clip" else "max_length"
    inputs = processor(images=PICTURES, text=TEXTS, padding=padding, max_length=24, truncation=True, return_tensors="pt", **patches)
    with torch.no_grad():
        whole = model(**inputs)
    pair = load_pair(str(folder(kind)))
    images, texts = pair.image_embeddings(PICTURES), pair.text_embeddings(TEXTS)
    torch.testing.assert_close(images, whole.image_embeds, rtol=0, atol=1e-6)
    torch.testing.assert_close(texts, whole.text_embeds, rtol=0, atol=1e-6)
    bias = model.logit_bias if kind != "clip" else 0
    torch.testing.assert_close(pair.scale * images @ texts.T + bias, whole.logits_per_image, rtol=0, atol=1e-5)


def test_open_clip_equals_its_own_forward(folder: Callable[[str], Path]) -> None:
    import open_clip

    pair = load_pair(str(folder("open_clip")), "open_clip")
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder('open_clip')}")
    tokens = open_clip.get_tokenizer(f"local-dir:{folder('open_clip')}")(TEXTS)
    with torch.no_grad():
        images, texts, scale = model.eval()(torch.stack([transform(p) for p in PICTURES]), tokens)
    assert isinstance(pair, OpenClipPair)
    torch.testing.assert_close(pair.image_embeddings(PICTURES), images, rtol=0, atol=1e-6)
    torch.testing.assert_close(pair.text_embeddings(TEXTS), texts, rtol=0, atol=1e-6)
    assert pair.scale == pytest.approx(float(scale))


class TestSimilarity:
    """The same pictures and texts, one text a picture."""

    texts = (*TEXTS, "a bridge")

    @pytest.mark.parametrize("kind", list(VISION))
    def test_transformers(self, kind: str, folder: Callable[[str], Path]) -> None:
        """The diagonal of `logits_per_image` of the whole model, its scale and bias taken off."""
        from transformers import AutoModel, AutoProcessor

        model, processor = AutoModel.from_pretrained(folder(kind)).eval(), AutoProcessor.from_pretrained(folder(kind))
        patches = {"patch_size": 8, "max_num_patches": 16} if kind == "siglip2" else {}
        inputs = processor(images=PICTURES, text=[*self.texts], padding="max_length" if "siglip" in kind else True, max_length=24,
                           truncation=True, return_tensors="pt", **patches)  # fmt: skip
        with torch.no_grad():
            logits = model(**inputs).logits_per_image
            wanted = (logits - (model.logit_bias if kind != "clip" else 0)).diagonal() / model.logit_scale.exp()
        assert load_similarity(str(folder(kind)))(PICTURES, self.texts) == pytest.approx(wanted.tolist(), abs=1e-6)

    @pytest.mark.parametrize("kind", ["open_clip", "open_clip_siglip"])
    def test_open_clip(self, kind: str, folder: Callable[[str], Path]) -> None:
        import open_clip

        model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder(kind)}")
        tokens = open_clip.get_tokenizer(f"local-dir:{folder(kind)}")(list(self.texts))
        with torch.no_grad():
            images, texts, *_ = model.eval()(torch.stack([transform(p) for p in PICTURES]), tokens)
        assert load_similarity(str(folder(kind)))(PICTURES, self.texts) == pytest.approx((images * texts).sum(1).tolist(), abs=1e-6)

    def test_more_pairs_than_fit_into_one_forward(self, folder: Callable[[str], Path]) -> None:
        score = load_similarity(str(folder("clip")))
        more = AT_ONCE // 3 + 1
        assert score(PICTURES * more, self.texts * more) == pytest.approx(score(PICTURES, self.texts) * more, abs=1e-6)

    def test_names(self) -> None:
        with pytest.raises(ValueError, match=r"open_clip's 'ViT-B-32' needs 'pretrained'.*openai"):
            load_similarity("open_clip:ViT-B-32")
        with pytest.raises(ValueError, match="cannot load the image-text encoder 'ViT-Z'"):
            load_similarity("open_clip:ViT-Z/openai")
        with pytest.raises(ValueError, match="no folder ./nowhere"):
            load_similarity("./nowhere")

    def test_as_many_texts_as_pictures(self, folder: Callable[[str], Path]) -> None:
        with pytest.raises(ValueError, match="3 pictures and 2 texts are no pairs"):
            load_similarity(str(folder("clip")))(PICTURES, TEXTS)


class TestRefusals:
    def test_unknown_library(self) -> None:
        with pytest.raises(ValueError, match="unknown library 'keras' of image-text encoders; known: transformers, open_clip"):
            load_pair("x", "keras")

    def test_a_folder_that_is_not_there(self) -> None:
        with pytest.raises(ValueError, match="no folder ./nowhere"):
            load_pair("./nowhere")

    def test_a_model_that_is_no_pair(self, tmp_path: Path) -> None:
        from transformers import CLIPVisionConfig, CLIPVisionModel

        CLIPVisionModel(CLIPVisionConfig(**SIZES, image_size=16, patch_size=8)).save_pretrained(tmp_path)
        with pytest.raises(ValueError, match="is a clip_vision_model model, no image-text encoder pair"):
            load_pair(str(tmp_path))

    def test_missing_weights_are_not_made_up(self, folder: Callable[[str], Path], tmp_path: Path) -> None:
        import shutil

        from safetensors.torch import load_file, save_file

        shutil.copytree(folder("clip"), tmp_path / "part")
        file = tmp_path / "part" / "model.safetensors"
        save_file({k: v for k, v in load_file(file).items() if k != "text_projection.weight"}, file, {"format": "pt"})
        with pytest.raises(ValueError, match=r"incomplete: 1 are missing, such as 'text_projection\.weight'"):
            load_pair(str(tmp_path / "part"))

    def test_a_folder_without_processor(self, folder: Callable[[str], Path], tmp_path: Path) -> None:
        import shutil

        for name in ("config.json", "model.safetensors"):
            shutil.copy(folder("clip") / name, tmp_path / name)
        with pytest.raises(ValueError, match="no usable processor"):
            load_pair(str(tmp_path))

    def test_open_clip_without_weights(self, tmp_path: Path) -> None:
        make_open_clip(tmp_path / "bare", weights=False)
        with pytest.raises(ValueError, match="cannot load the image-text encoder"):
            load_pair(str(tmp_path / "bare"), "open_clip")

    def test_open_clip_by_name_needs_a_tag(self) -> None:
        with pytest.raises(ValueError, match="its tags: .*openai"):
            load_pair("ViT-B-32", "open_clip")

    def test_open_clip_unknown_name(self) -> None:
        with pytest.raises(ValueError, match="cannot load the image-text encoder 'ViT-Z'"):
            load_pair("ViT-Z", "open_clip", pretrained="openai")

    def test_a_tag_means_nothing_to_transformers(self) -> None:
        with pytest.raises(ValueError, match="names weights of open_clip"):
            load_pair("owner/name", pretrained="openai")

    @pytest.mark.parametrize("name", [("owner/none-of-this-name", "transformers"), ("hf-hub:owner/none-of-this-name", "open_clip")])
    def test_a_hub_out_of_reach(self, name: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ValueError, match="no local folder, and without network"):
            load_pair(*name)
