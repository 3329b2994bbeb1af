"""A tiny model's folder, rows of coloured pictures and a recipe of six steps; `train_runs` to import from."""

import importlib.util
import json
import sys
from pathlib import Path

import PIL.Image
import pytest
import yaml

# Tests are loaded by their paths, so that a module beside them is found by its name only once it is registered.
if "train_runs" not in sys.modules:
    spec = importlib.util.spec_from_file_location("train_runs", Path(__file__).with_name("train_runs.py"))
    sys.modules["train_runs"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["train_runs"])

from train_runs import COLORS


@pytest.fixture(scope="session")
def base(tmp_path_factory, make_model, make_processor):
    """A folder with a model of this toolkit."""
    folder = tmp_path_factory.mktemp("base")
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """Sixteen pictures of one colour each with their captions; two rows more have no picture and no answer."""
    folder = tmp_path_factory.mktemp("rows")
    lines = []
    for i in range(16):
        PIL.Image.new("RGB", (20, 20), COLORS[i % 4]).save(folder / f"{i}.png")
        asked, said = {"from": "human", "value": "<image>\ncolor?"}, {"from": "gpt", "value": f"it is {COLORS[i % 4]}"}
        lines.append({"id": f"r{i}", "image": f"{i}.png", "conversations": [asked, said], "question": "color?", "answer": COLORS[i % 4]})
    lines.append({"id": "gone", "image": "nowhere.png", "conversations": lines[0]["conversations"]})
    lines.append({"id": "mute", "image": "0.png", "conversations": lines[0]["conversations"][:1]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "asked").mkdir()
    asked = [{key: line[key] for key in ("id", "question", "answer")} | {"image": f"../{line['image']}"} for line in lines[:4]]
    (folder / "asked" / "qa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    return folder


@pytest.fixture
def recipe(tmp_path, base, rows):
    """Writes a config of six steps, changed as asked, and returns its path."""

    def write(**changes):
        path = tmp_path / "recipe.yaml"
        plain = {
            "model": {"from": str(base)}, "data": [{"path": str(rows / "rows.jsonl")}], "train": ["adapter", "language_model"],
            "lr": 0.01, "batch_size": 4, "steps": 6, "save_steps": 2, "log_steps": 1, "max_length": 64, "device": "cpu",
        }  # fmt: skip
        path.write_text(yaml.safe_dump(plain | changes))
        return str(path)

    return write
