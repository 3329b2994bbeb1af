"""`inspect_model`: what a checkpoint is, read from its headers alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from released_aitqe import changed
from safetensors.torch import save_file

from mm_align.config import UserError
from mm_align.jobs.convert import ConvertConfig, run
from mm_align.models import LvlmForConditionalGeneration, aitqe_layout
from mm_align.models.inspect import inspect_model


def test_inspect_reads_headers_only(released, monkeypatch):
    monkeypatch.setattr("safetensors.safe_open", lambda *a, **k: pytest.fail("a weight was opened"))
    found = inspect_model(str(released))
    text = "\n".join(found.to_lines())
    assert found.ok
    assert found.match.matching == len(aitqe_layout.released_shapes(_meta(released)))
    assert found.match.ignored == ["image_newline"]
    assert found.stored == found.parameters + 16
    assert found.kv_bytes == 2 * 2 * 1 * 8 * 2  # keys and values, 2 layers, 1 head of 8, 2 bytes
    assert "released AITQE layout, siglip_vision_model + MLP + qwen2" in text
    assert str(released.parent) not in text


def _meta(folder: Path) -> LvlmForConditionalGeneration:
    with torch.device("meta"):
        return LvlmForConditionalGeneration(aitqe_layout.to_lvlm_config(aitqe_layout.read_json(folder / "config.json"), None, folder))


def test_inspect_says_what_is_missing(released, tmp_path):
    found = inspect_model(str(changed(released, tmp_path / "x", without="mm_projector.2")))
    assert not found.ok
    assert found.match.missing == ["mm_projector.2.weight"]
    assert "missing: 1 (mm_projector.2.weight)" in "\n".join(found.to_lines())


def test_inspect_says_what_has_another_shape(released, tmp_path):
    found = inspect_model(str(changed(released, tmp_path / "x", intermediate_size=48)))
    assert len(found.match.misshapen) == 6  # gate, up and down of two layers


def test_inspect_our_own_and_other_layouts(released, tmp_path):
    run(ConvertConfig(source=str(released), out=tmp_path / "ours"))
    found = inspect_model(str(tmp_path / "ours"))
    assert found.ok
    assert found.match.unknown == []
    assert found.kind == "mm_align_lvlm, with a qwen2 decoder"


def test_inspect_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot load the model .nobody.nothing"):
        inspect_model("nobody/nothing")
    with pytest.raises(UserError, match="holds no config.json"):
        inspect_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(UserError, match=r"expected \*\.safetensors"):
        inspect_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\x01")
    with pytest.raises(UserError, match="no whole safetensors file"):
        inspect_model(str(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="a qwen2 model, not an image-text model"):
        inspect_model(str(tmp_path))
