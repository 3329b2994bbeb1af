"""Image classifiers as one probability: labels that count, one or many a picture, safetensors alone."""

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTImageProcessor

from vision.classifier import load_label_scorer


def make(folder, labels=("normal", "NSFW"), **more):
    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=16,
        patch_size=8,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        initializer_range=1.0,
        **more,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ViTForImageClassification(config).eval()
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return model


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [PIL.Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(3)]


def logits(model, folder, pictures):
    pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(images=pictures, return_tensors="pt")
    return model(**pixels).logits.detach()


def test_probability_of_the_label(tmp_path, pictures):
    model = make(tmp_path)
    scorer = load_label_scorer(str(tmp_path))
    assert scorer.names == ["NSFW"]
    assert scorer(pictures) == pytest.approx(logits(model, tmp_path, pictures).softmax(-1)[:, 1].tolist(), abs=1e-5)
    assert scorer([]) == []


def test_several_labels_add_up(tmp_path, pictures):
    model = make(tmp_path, ("drawings", "hentai", "neutral", "porn", "sexy"))
    scorer = load_label_scorer(str(tmp_path))
    assert scorer.names == ["hentai", "porn", "sexy"]
    assert scorer(pictures) == pytest.approx(logits(model, tmp_path, pictures).softmax(-1)[:, [1, 3, 4]].sum(-1).tolist(), abs=1e-5)
    assert load_label_scorer(str(tmp_path), ["Porn"]).names == ["porn"]


def test_labels_that_do_not_exclude_each_other(tmp_path, pictures):
    model = make(tmp_path, ("nude", "gore", "sexy"), problem_type="multi_label_classification")
    scorer = load_label_scorer(str(tmp_path))
    assert scorer(pictures) == pytest.approx(logits(model, tmp_path, pictures).sigmoid()[:, [0, 2]].amax(-1).tolist(), abs=1e-5)


def test_unknown_labels_are_refused_with_those_there_are(tmp_path):
    make(tmp_path, ("cat", "dog"))
    with pytest.raises(ValueError, match="its labels are cat, dog"):
        load_label_scorer(str(tmp_path))
    with pytest.raises(ValueError, match="has no label 'nsfw'"):
        load_label_scorer(str(tmp_path), ["nsfw"])


def test_pickled_weights_are_refused(tmp_path):
    make(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(ValueError, match=r"as a pickle \('pytorch_model.bin'\)"):
        load_label_scorer(str(tmp_path))


def test_a_model_without_its_head_is_refused(tmp_path):
    model = make(tmp_path)
    model.vit.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="incomplete: 2 are missing"):
        load_label_scorer(str(tmp_path))


def test_no_model_at_all(tmp_path):
    with pytest.raises(ValueError, match="cannot load the image classifier"):
        load_label_scorer(str(tmp_path))
