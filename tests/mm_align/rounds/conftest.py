"""Pictures for pretended rounds, and their config; `pretended` to import from."""

import importlib.util
import sys
from pathlib import Path

import pytest

from mm_align.config import load
from mm_align.jobs.rounds.rounds import RoundsConfig

# Tests are loaded by their paths, so that a module beside them is found by its name only once it is registered.
if "pretended" not in sys.modules:
    spec = importlib.util.spec_from_file_location("pretended", Path(__file__).with_name("pretended.py"))
    sys.modules["pretended"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pretended"])

from pretended import START, write


@pytest.fixture
def data(tmp_path, picture) -> Path:
    """12 pictures to learn from in `learn`, 4 others in `seen` with what is on them."""
    for name, count in (("learn", 12), ("seen", 4)):
        (tmp_path / name).mkdir()
        for i in range(count):
            picture(i).save(tmp_path / name / f"{i}.png")
        rows = [{"id": f"{name[0]}{i}", "image": f"{i}.png", "objects": ["dog"], "distractors": ["cat"]} for i in range(count)]
        write(tmp_path / name / "rows.jsonl", rows)
    return tmp_path


@pytest.fixture
def config(data):
    def make(**changes):
        suite = {"type": "objects", "data": str(data / "seen/rows.jsonl")}
        given = {"model": START, "judge": "somebody/judge", "data": str(data / "learn/rows.jsonl"), "out": str(data / "out")}
        return load(RoundsConfig, given | {"rounds": 3, "eval": [suite], "title": "Dogs & <cats>"} | changes)

    return make
