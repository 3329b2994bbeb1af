"""A released AITQE converted to our layout and back, from a folder or by its hub id; what `convert` never touches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from released_aitqe import asked, our_logits
from safetensors.torch import load_file

from mm_align.backends import load_backend
from mm_align.config import UserError
from mm_align.jobs import doctor
from mm_align.jobs.convert import ConvertConfig, run
from mm_align.models import aitqe_layout
from mm_align.models.inspect import inspect_model


@pytest.fixture(scope="module")
def model_folder_of_ours(tmp_path_factory, make_model, make_processor) -> Path:
    """A tiny model in our own layout; its tokenizer is small, so that converting it takes no time."""
    folder = tmp_path_factory.mktemp("ours") / "small"
    make_model(feature_layer=-2, keep_cls=False, adapter={"type": "mlp", "hidden_size": 32, "bias": [True, False]}).save_pretrained(folder)
    make_processor(prompt_style="plain").save_pretrained(folder)
    return folder


def test_convert_and_back(released, upstream, backend, tmp_path, capsys):
    ours, again = tmp_path / "ours", tmp_path / "again"
    assert run(ConvertConfig(source=str(released), out=ours))["out"] == str(ours)
    told = capsys.readouterr().out
    assert "weights mapped" in told
    assert "1 in the file and never used: image_newline" in told
    converted = load_backend(str(ours), device="cpu")
    sample = asked("a low score")
    assert torch.equal(our_logits(converted, sample), our_logits(backend, sample))
    assert converted.prompts.ids(sample) == backend.prompts.ids(sample)
    assert converted.loaded.ends == backend.loaded.ends
    assert run(ConvertConfig(source=str(ours), out=again))["out"] == str(again)
    written = load_file(again / "model.safetensors")
    assert set(written) == set(upstream.released())
    assert torch.equal(our_logits(load_backend(str(again), device="cpu"), sample), our_logits(backend, sample))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_convert_refuses_what_it_cannot_do(released, tmp_path):
    with pytest.raises(UserError, match="exists; choose another --out"):
        run(ConvertConfig(source=str(released), out=tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "qwen2_vl"}')
    with pytest.raises(UserError, match="holds a qwen2_vl model; expected a released AITQE"):
        run(ConvertConfig(source=str(tmp_path / "other"), out=tmp_path / "new"))
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
    with pytest.raises(UserError, match="has no weights to convert"):
        run(ConvertConfig(source="null:", out=tmp_path / "new"))


@pytest.mark.parametrize("out", ["src/tiny", "src", "src/tiny/inside", "src/tiny/a/b"])
def test_convert_never_removes_or_fills_its_source(tmp_path, out):
    """--overwrite once removed any folder, also the one that holds the source."""
    source = tmp_path / "src" / "tiny"
    source.mkdir(parents=True)
    (source / "config.json").write_text('{"model_type": "mm"}')
    with pytest.raises(UserError, match="the source itself|lie inside each other"):
        run(ConvertConfig(source=str(source), out=tmp_path / out, overwrite=True))
    assert contents(tmp_path) == {"src/tiny/config.json": b'{"model_type": "mm"}'}


def test_convert_replaces_only_its_own_work(model_folder_of_ours, tmp_path):
    out, source = tmp_path / "out", str(model_folder_of_ours)
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="no folder that convert wrote"):
        run(ConvertConfig(source=source, out=out, overwrite=True))
    assert contents(out) == {"thesis.tex": b"x"}
    (out / "thesis.tex").unlink()
    assert run(ConvertConfig(source=source, out=out, overwrite=True))["out"] == str(out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds what convert did not write \(notes.txt\)"):
        run(ConvertConfig(source=source, out=out, overwrite=True))
    (out / "notes.txt").unlink()
    (out / "config.json").write_text("{}")
    assert run(ConvertConfig(source=source, out=out, overwrite=True))["out"] == str(out)
    assert json.loads((out / "config.json").read_text())["model_type"] == "mm"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        run(ConvertConfig(source=source, out=tmp_path / "file", overwrite=True))


def test_convert_again_has_nothing_to_do(model_folder_of_ours, tmp_path, capsys):
    """Until the source or the output is another one."""
    out, source = tmp_path / "out", Path(shutil.copytree(model_folder_of_ours, tmp_path / "src"))
    assert run(ConvertConfig(source=str(source), out=out))["out"] == str(out)
    before = contents(out)
    assert str(tmp_path) not in (out / "converted.json").read_text()
    assert run(ConvertConfig(source=str(source), out=out))["out"] == str(out)
    assert "nothing to do" in capsys.readouterr().out
    assert contents(out) == before
    (out / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="exists; choose another --out"):
        run(ConvertConfig(source=str(source), out=out))
    (out / "tokenizer.json").write_bytes(before["tokenizer.json"])
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    with pytest.raises(UserError, match="exists; choose another --out"):
        run(ConvertConfig(source=str(source), out=out))


def test_a_failing_convert_leaves_nothing(model_folder_of_ours, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aitqe_layout, "save_released", full)
    with pytest.raises(OSError, match="No space left"):
        run(ConvertConfig(source=str(model_folder_of_ours), out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_convert_hides_bars_in_a_pipe(model_folder_of_ours, tmp_path, monkeypatch):
    hidden: list[bool] = []
    monkeypatch.setattr("transformers.utils.logging.disable_progress_bar", lambda: hidden.append(True))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert run(ConvertConfig(source=str(model_folder_of_ours), out=tmp_path / "out"))["out"] == str(tmp_path / "out")
    assert hidden


# The hub


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(released, tmp_path, monkeypatch) -> Path:
    """The checkpoint as the hub's cache keeps it, under the id HymanH/AITQE, on a machine without network."""
    repository = tmp_path / "cache" / "models--HymanH--AITQE"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(released, repository / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return repository / "snapshots" / COMMIT


def test_a_released_checkpoint_by_hub_id(cached, backend):
    """transformers knows no model type "mm", so the id must go the released layout's way."""
    found = load_backend("HymanH/AITQE", device="cpu")
    assert found.describe() == {"model": "HymanH/AITQE", "revision": COMMIT}
    assert torch.equal(our_logits(found, asked("a")), our_logits(backend, asked("a")))
    assert load_backend("HymanH/AITQE", revision=COMMIT, device="cpu").describe()["revision"] == COMMIT
    with pytest.raises(UserError, match="cannot load the model 'HymanH/AITQE'"):
        load_backend("HymanH/AITQE", revision="nosuch")


def test_doctor_and_convert_by_hub_id(cached, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", list)
    assert doctor.run(doctor.DoctorConfig(model="HymanH/AITQE")) == 0
    told = capsys.readouterr().out
    assert "HymanH/AITQE: released AITQE layout, siglip_vision_model + MLP + qwen2" in told
    assert "MiB in bfloat16" in told
    assert run(ConvertConfig(source="HymanH/AITQE", out=tmp_path / "ours"))["out"] == str(tmp_path / "ours")
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "mm_align_lvlm"
    mark = json.loads((tmp_path / "ours" / "converted.json").read_text())
    assert (mark["source"], mark["revision"]) == ("HymanH/AITQE", COMMIT)
    capsys.readouterr()
    assert run(ConvertConfig(source="HymanH/AITQE", out=tmp_path / "ours"))["out"] == str(tmp_path / "ours")
    assert "nothing to do" in capsys.readouterr().out


def test_a_cache_without_all_weights(cached):
    """Loading says which file is missing; inspecting goes by the config and the network, which is not there."""
    (cached / "model-00002-of-00002.safetensors").unlink()
    (cached / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    with pytest.raises(UserError, match="names model-00002-of-00002.safetensors, which is missing"):
        load_backend("HymanH/AITQE", device="cpu")
    with pytest.raises(UserError, match="no published SigLIP tower is 24 wide"):
        inspect_model("HymanH/AITQE")
