"""docs/adapters.md says what is so: every adapter has its row, its config builds, tokens and parameters are as written."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from vision.adapters import ADAPTERS, build_adapter
from vision.tokens import TokenFacts

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"
LOW, HIGH = TokenFacts(1024, (24, 24)), TokenFacts(1024, (48, 48))
BRANCHES = {"one": [LOW], "low, low": [LOW, LOW], "low, high": [LOW, HIGH]}


class Row(NamedTuple):
    config: str
    branches: str
    tokens: int
    millions: float


ROWS = [
    Row(found[1], found[2], int(found[3]), float(found[4]))
    for found in re.finditer(r"^\| `(\{.*?\})` \| (.*?) \| (\d+) \| ([\d.]+) \|", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
]


def test_every_adapter_has_its_row() -> None:
    assert sorted(yaml.safe_load(row.config)["type"] for row in ROWS) == sorted(ADAPTERS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.config)
def test_tokens_and_parameters_are_as_written(row: Row) -> None:
    with torch.device("meta"):
        adapter = build_adapter(yaml.safe_load(row.config), BRANCHES[row.branches], 4096)
    assert adapter.tokens_out() == row.tokens
    assert round(sum(p.numel() for p in adapter.parameters()) / 1e6, 1) == row.millions


def test_the_branches_of_the_example_are_the_low_and_the_high_one() -> None:
    from transformers import CLIPVisionConfig

    from vision.branches import Branch, facts

    block = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    clip = CLIPVisionConfig(hidden_size=1024, image_size=336, patch_size=14, num_hidden_layers=24, num_attention_heads=16)
    read = [facts(Branch(**branch), clip) for branch in yaml.safe_load(block[1])["model"]["branches"]]
    assert read == [LOW, HIGH]
