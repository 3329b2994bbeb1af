"""The tiny released AITQE, once: its stock parts, its folder, its backend; `released_aitqe` to import from."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mm_align.backends import load_backend

# Tests are loaded by their paths, so that a module beside them is found by its name only once it is registered.
if "released_aitqe" not in sys.modules:
    spec = importlib.util.spec_from_file_location("released_aitqe", Path(__file__).with_name("released_aitqe.py"))
    sys.modules["released_aitqe"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["released_aitqe"])

from released_aitqe import REAL, SIZES, Upstream, write_tokenizer


@pytest.fixture(scope="session")
def upstream() -> Upstream:
    torch.manual_seed(0)
    model = Upstream().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 0.3)
    return model


@pytest.fixture(scope="session")
def released(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published: shards, no tokenizer.json, no preprocessor_config.json; the tower's path does not say "siglip"."""
    folder = tmp_path_factory.mktemp("released") / "tiny"
    folder.mkdir()
    weights = sorted(upstream.released().items())
    for part, rows in enumerate((weights[:40], weights[40:]), 1):
        save_file(dict(rows), folder / f"model-0000{part}-of-00002.safetensors")
    config = REAL | SIZES | {"max_position_embeddings": 512, "visual_hidden_dim": 24, "pesudo_img_size": 28, "image_tile_tokens": 4}
    config |= {"vision_model_name_or_path": "tower", "eos_token_index": 151643, "pad_token_index": 151643, "image_token_index": -200}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"eos_token_id": 151643}')
    (folder / "tower").mkdir()
    upstream.tower.config.save_pretrained(folder / "tower")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def backend(released: Path):
    return load_backend(str(released), device="cpu", batch_size=4)
