"""The rows and settings of docs/data.md are read as the page says."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import yaml

from mm_align.config import load
from mm_align.train.data import Collator, training_set
from mm_align.train.sources import Source

PAGE = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_every_row_trains(tmp_path: Path, processor: Any, picture: Callable[[int], PIL.Image.Image]) -> None:
    lines = [line for block in blocks("json") for line in block.splitlines()]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    for i in range(2):
        picture(i).save(tmp_path / f"{i}.png")
    data = training_set([Source(path=str(tmp_path / "rows.jsonl"))], processor, quarantine=tmp_path / "q.jsonl", shuffle=False)
    assert (tmp_path / "q.jsonl").read_bytes() == b""
    assert len(data) == len(lines) == 7
    batch = Collator(processor)([data[i] for i in range(7)])
    answers = [processor.tokenizer.decode(row[row != -100]) for row in batch["labels"]]
    assert answers == [f"{a}<eos>" for a in ("A cat.", "The second.", "Hi.", "A cat.", "A dog.", "A cat on a mat.", "A cat.")]
    assert (batch["input_ids"] == processor.image_token_id).sum(1).tolist() == [4, 8, 0, 4, 4, 4, 4]


def test_settings() -> None:
    (block,) = blocks("yaml")
    sources = [load(Source, source) for source in yaml.safe_load(block)["data"]]
    assert [json.dumps(s.prompt) for s in sources] == ['""', '["Describe the picture.", "What is to be seen?"]']
