"""Finding models: what is loaded how, and what a user is told when it cannot be."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from data_tools.calls import Sampling
from data_tools.records import Message, Part, Sample
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


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    """A zoo of one name."""
    (tmp_path / "tiny-aitqe").mkdir()
    (tmp_path / "tiny-aitqe" / "config.json").write_text("{}")
    monkeypatch.setattr(load, "ZOO", tmp_path)


def test_a_file_is_no_model(model_folder):
    with pytest.raises(UserError, match=r"model\.safetensors is a file; give the model's folder"):
        load_backend(f"{model_folder('lvlm')}/model.safetensors")


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


@pytest.mark.parametrize("model", ["null:", "tiny-aitqe", "nobody/nothing"])
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"device": "toaster"}, r"unknown device 'toaster'; use auto, cpu, cuda\[:N\] or mps"),
        ({"device": "cuda:x"}, "unknown device"),
        ({"dtype": "int3"}, "unknown dtype 'int3'; use auto, float32, bfloat16, float16"),
    ],
)
def test_unknown_settings(bundled, model, what, message):
    """Whatever the model, and before it is looked for."""
    with pytest.raises(UserError, match=message):
        load_backend(model, **what)


@pytest.mark.parametrize(("asked", "message"), [("cuda:7", "1 CUDA devices, numbered from 0"), ("mps", "no Apple GPU")])
def test_a_device_number_that_is_not_there(monkeypatch, asked, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert loading.pick_device("cuda:0").index == 0
    with pytest.raises(UserError, match=message):
        loading.pick_device(asked)


def cut(file):
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize("family", ["lvlm", "llava"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (cut, "model.safetensors is cut short: .* bytes of"),
        (lambda file: file.write_bytes(b"<html>not found</html>"), "model.safetensors is no whole safetensors file"),
        (lambda file: file.write_bytes(b""), "model.safetensors is no whole safetensors file"),
        (lambda file: file.write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "model.safetensors is no whole safetensors file"),
        (lambda file: file.write_bytes(b"\x0a" + b"\0" * 7 + b'{"a":null}'), "model.safetensors is no whole safetensors file"),
    ],
)
def test_damaged_weights(model_folder, tmp_path, family, harm, message):
    folder = shutil.copytree(model_folder(family), tmp_path / "x")
    harm(folder / "model.safetensors")
    with pytest.raises(UserError, match=message):
        load_backend(str(folder))


def test_weights_that_only_safetensors_finds_damaged(model_folder, tmp_path):
    """A header whose names are not those of the data: whole by its length, refused by the library."""
    folder = shutil.copytree(model_folder("lvlm"), tmp_path / "x")
    header = b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,4]}}'
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
    with pytest.raises(UserError, match="the weights of .* are damaged"):
        load_backend(str(folder))


@pytest.mark.parametrize("index", ['{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "gone.safetensors"}}', "{}", "{"])
def test_a_missing_shard(model_folder, tmp_path, index):
    folder = shutil.copytree(model_folder("llava"), tmp_path / "x")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=r"names gone\.safetensors, which is missing|index\.json of the model in x cannot be read"):
        load_backend(str(folder))


def test_a_name_without_owner_is_not_looked_up(bundled, monkeypatch):
    """No hub id of an image-text model lacks its owner, so a typo costs no network and is told its neighbour."""

    def asked(*args, **kwargs):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", asked)
    with pytest.raises(UserError, match=r"no model 'tiny-aitqee' \(did you mean 'tiny-aitqe'\?\); bundled are: tiny-aitqe"):
        load_backend("tiny-aitqee")
    for name in ("gpt2", "hf:gpt2", ""):
        with pytest.raises(UserError, match=r"no model '(gpt2)?'; bundled are: tiny-aitqe"):
            load_backend(name)


@pytest.mark.parametrize("terminal", [True, False])
def test_no_bars_without_a_terminal(model_folder, monkeypatch, terminal):
    switched: list[bool] = []
    monkeypatch.setattr("transformers.utils.logging.disable_progress_bar", lambda: switched.append(True))
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    load_backend(str(model_folder("lvlm")), device="cpu")
    assert bool(switched) is not terminal


def test_nothing_is_drawn_into_a_pipe(model_folder, tmp_path):
    """In a process of its own, since bars once off stay off."""
    load = "from mm_align.backends import load_backend; import sys; load_backend(sys.argv[1], device='cpu')"
    done = subprocess.run([sys.executable, "-c", load, str(model_folder("llava"))], capture_output=True, text=True, check=True)
    assert "it/s" not in done.stderr
    assert "%|" not in done.stderr


def test_too_long_a_prompt_is_told_from_an_empty_answer(model_folder):
    """No token and yet truncated: no answer that the model began can be both."""
    backend = load_backend(str(model_folder("lvlm")), device="cpu")
    long, short = (Sample(name, (Message("user", (Part("text", text),)),)) for name, text in (("l", "x" * 2000), ("s", "x")))
    refused, answered = backend.generate([long, short], Sampling(max_tokens=1))
    assert (refused.text, refused.truncated, refused.tokens, refused.logprob, dict(refused.branches)) == ("", True, 0, None, {})
    assert not (answered.truncated and answered.tokens == 0)


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
