"""Every adapter of the table trains by `mmalign train` from its packaged config, and the result loads and gives the same tokens."""

import json

import PIL.Image
import pytest
import torch

from mm_align.cli import main
from mm_align.config import config_root
from vision.adapters import ADAPTERS


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Four pictures with captions where the configs look for them."""
    folder = tmp_path_factory.mktemp("adapters")
    (folder / "scenes").mkdir()
    with (folder / "scenes" / "rows.jsonl").open("w") as file:
        for i, color in enumerate(("red", "green", "blue", "white")):
            PIL.Image.new("RGB", (48, 48), color).save(folder / "scenes" / f"{i}.png")
            file.write(json.dumps({"id": str(i), "image": f"{i}.png", "caption": f"a {color} square"}) + "\n")
    return folder


def test_every_adapter_has_a_config():
    assert {path.stem for path in (config_root() / "adapters").glob("*.yaml")} == set(ADAPTERS)


@pytest.mark.parametrize("name", ADAPTERS)
def test_it_trains_and_comes_back(name, scenes, tmp_path, monkeypatch):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import mm_align.models  # noqa: F401  makes the classes known

    monkeypatch.chdir(scenes)
    small = ["--steps", "2", "--batch-size", "2", "--save-steps", "1", "--device", "cpu", "--quiet"]
    assert main(["train", f"adapters/{name}", "--out", str(tmp_path / "out"), *small]) == 0
    loaded = [AutoModelForImageTextToText.from_pretrained(tmp_path / "out" / place) for place in ("model", "checkpoints/checkpoint-1")]
    processor = AutoProcessor.from_pretrained(tmp_path / "out" / "model")
    assert loaded[0].config.adapter["type"] == name
    pixels = processor.image_processor([PIL.Image.new("RGB", (48, 48), "red")])["pixel_values"]
    with torch.no_grad():
        last, first = (model.eval().visual_tokens(pixels).features for model in loaded)
    assert last.shape == (1, processor.num_image_tokens, loaded[0].config.text_config.hidden_size)
    assert not torch.equal(last, first)  # the second step moved it
