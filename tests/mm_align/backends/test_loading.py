"""Finding models: what is loaded how, and what a user is told when it cannot be."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from data_tools.calls import Sampling
from data_tools.records import Sample
from mm_align.backends import load, load_backend, loading
from mm_align.config import UserError


def test_a_float16_file_runs_in_float32_on_a_cpu(model_folder):
    folder = model_folder("lvlm")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    assert load_backend(str(folder), device="cpu").model.dtype == torch.float32
    assert load_backend(str(folder), device="cpu", dtype="bf16").model.dtype == torch.bfloat16


def test_describe_names_model_and_weights_but_no_path(model_folder, tmp_path):
    folder = model_folder("lvlm")
    told = load_backend(str(folder)).describe()
    assert told["model"] == "lvlm"
    assert len(told["revision"]) == 16
    assert str(folder.parent) not in json.dumps(told)
    moved = shutil.copytree(folder, tmp_path / "moved")
    assert load_backend(str(moved)).describe() == {"model": "moved", "revision": told["revision"]}
    with (moved / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"\x01")
    assert loading.weights_hash(moved) != told["revision"]


def test_a_name_in_the_config_is_the_models_name(model_folder, tmp_path):
    folder = shutil.copytree(model_folder("lvlm"), tmp_path / "x")
    config = json.loads((folder / "config.json").read_text()) | {"name": "tiny-thing"}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_backend(str(folder)).describe()["model"] == "tiny-thing"


def test_a_bundled_model_by_name(model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(load, "ZOO", tmp_path)
    shutil.copytree(model_folder("lvlm"), tmp_path / "tiny-x")
    for name in ("tiny-x", "zoo:tiny-x", f"hf:{tmp_path}/tiny-x"):
        assert load_backend(name).describe()["model"] == "tiny-x"
    with pytest.raises(UserError, match="no bundled model 'tiny-y'; bundled are: tiny-x"):
        load_backend("zoo:tiny-y")


def test_no_such_folder():
    with pytest.raises(UserError, match="no folder ./nowhere; give a folder"):
        load_backend("./nowhere")


def test_an_id_that_cannot_be_reached(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"cannot load the model 'nobody/nothing'(.|\n)*without network give a local folder"):
        load_backend("nobody/nothing")


def test_a_folder_without_config(tmp_path):
    with pytest.raises(UserError, match="folder without config.json"):
        load_backend(str(tmp_path))


def test_an_unknown_architecture(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "from_the_future"}')
    with pytest.raises(UserError, match="names no architecture that this transformers knows"):
        load_backend(str(tmp_path))


def test_a_model_that_sees_no_pictures(tmp_path):
    config = Qwen2Config(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
    )
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a qwen2 model, not an image-text model"):
        load_backend(str(tmp_path))


@pytest.mark.parametrize("family", ["llava"])
def test_a_model_without_its_processor(model_folder, tmp_path, family):
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(model_folder(family) / name, folder)
    with pytest.raises(UserError, match="processor"):
        load_backend(str(folder))


def test_a_model_without_weights(model_folder, tmp_path):
    shutil.copy(model_folder("llava") / "config.json", tmp_path)
    with pytest.raises(UserError, match="cannot load the weights"):
        load_backend(str(tmp_path))


@pytest.mark.parametrize(("what", "message"), [({"device": "toaster"}, "unknown device"), ({"dtype": "int3"}, "unknown dtype 'int3'")])
def test_unknown_settings(model_folder, what, message):
    with pytest.raises(UserError, match=message):
        load_backend(str(model_folder("lvlm")), **what)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there(model_folder):
    with pytest.raises(UserError, match="torch sees no CUDA device"):
        load_backend(str(model_folder("lvlm")), device="cuda")


def test_an_image_processor_without_torchvision(model_folder, monkeypatch):
    """The processor is then built from its parts, with the same settings."""
    folder = str(model_folder("llava"))
    whole = loading.AutoProcessor.from_pretrained(folder)

    def broken(*args, **kwargs):
        raise ImportError("LlavaProcessor requires the Torchvision library")

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", broken)
    parts = loading._processor(folder, {})
    assert type(parts) is type(whole)
    for name in ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens", "chat_template", "image_token"):
        assert getattr(parts, name) == getattr(whole, name)


def test_the_torchvision_trap_is_named(model_folder, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", broken)
    with pytest.raises(UserError, match="Install both from the same place"):
        loading._processor(str(model_folder("llava")), {})


def test_a_processor_that_is_only_a_tokenizer(model_folder, monkeypatch):
    monkeypatch.setattr(loading.AutoProcessor, "from_pretrained", lambda *a, **k: object())
    with pytest.raises(UserError, match="no image processor"):
        loading._processor("x", {})


def test_null_backend():
    backend = load_backend("null:")
    assert backend.describe() == {"model": "null", "revision": "0"}
    answers = backend.generate([Sample("a"), Sample("b")], Sampling(n=2, branches=("x", "y"), prefix="P"))
    assert [(a.id, a.sample_id) for a in answers] == [("a:0", "a"), ("a:1", "a"), ("b:0", "b"), ("b:1", "b")]
    assert answers[0].text.startswith("P")
    assert answers[0].branches == {"x": 0.5, "y": 0.5}
    assert load_backend("null:hello").generate([Sample("a")], Sampling())[0].text == "hello"
    assert backend.likelihood([Sample("a")], [["x", "y"]]) == [[(0.0,), (0.0,)]]
    with pytest.raises(ValueError, match="1 samples but 0 lists"):
        backend.likelihood([Sample("a")], [])
