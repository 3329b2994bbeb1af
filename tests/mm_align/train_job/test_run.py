"""`mmalign train` through its door: what it writes, the final folder, other configurations, a dry run, several processes."""

import json
import subprocess
import sys

import PIL.Image
import pytest
import yaml
from train_runs import logged, train, weights

from mm_align.config import config_root


def test_a_run_writes_what_it_promises_and_says_when_it_is_done(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(recipe(), out) == 0
    told = capsys.readouterr().out
    assert "16 rows trained on, 2 quarantined (" in told
    assert "step 6: loss" in told
    losses = [entry["loss"] for entry in logged(out) if "loss" in entry]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-6"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((out / "config.yaml").read_text())["lr"] == 0.01
    reasons = [json.loads(line)["reason"] for line in (out / "quarantine" / "data.jsonl").read_text().splitlines()]
    assert sorted(reasons) == ["image_missing", "no_answer"]

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    assert train(str(out / "config.yaml"), out) == 0  # the written config is the same run
    again = capsys.readouterr()
    assert "already finished" in again.err
    assert again.out == told
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}


def test_the_final_model_is_a_plain_folder(recipe, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import mm_align.models  # noqa: F401  makes the classes known

    assert train(recipe(steps=1), tmp_path / "out") == 0
    folder = tmp_path / "out" / "model"
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(text="<image>color?", images=PIL.Image.new("RGB", (20, 20), "red"), return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]
    assert not list(folder.glob("*.bin")) + list(folder.glob("optimizer*")) + list(folder.glob("objective*"))


def test_another_configuration_is_refused_and_overwrite_starts_anew(recipe, tmp_path, capsys):
    assert train(recipe(steps=1), tmp_path / "out") == 0
    capsys.readouterr()
    assert train(recipe(steps=1, lr=0.02), tmp_path / "out") == 2
    assert "config.lr: was 0.01, now 0.02" in capsys.readouterr().err
    assert train(recipe(steps=1, lr=0.02), tmp_path / "out", "--overwrite") == 0
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["lr"] == 0.02


@pytest.mark.slow
def test_two_processes_train_and_answer_the_same(recipe, rows, tmp_path):
    """Over gloo: one process, two of data parallelism, two of FSDP2; gradients are sums over the same rows."""
    evaluated = {"eval_data": [{"path": str(rows / "rows.jsonl"), "limit": 4}], "eval_steps": 3, "show_answers": 1, "answer_tokens": 4}
    path = recipe(steps=3, optimizer="sgd", lr=0.1, **evaluated)
    assert train(path, tmp_path / "one") == 0
    for name, more in (("two", []), ("fsdp", ["--fsdp"])):
        command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "scripts/train.py", path, "--out", str(tmp_path / name), *more]
        assert subprocess.run([sys.executable, *command], check=False, cwd=config_root().parent).returncode == 0
        one, other = weights(tmp_path / "one"), weights(tmp_path / name)
        assert all((one[key] - other[key]).abs().max() < 1e-5 for key in one)
        assert (tmp_path / "one" / "samples.jsonl").read_text() == (tmp_path / name / "samples.jsonl").read_text()


def test_a_dry_run_shows_and_writes_nothing(recipe, tmp_path, capsys):
    assert train(recipe(), tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "+ 'it is " in told
    assert "<image> x 4" in told
    assert "6 steps of 4 rows (4 a forward x 1, one process): 1.50 epochs" in told
    assert not (tmp_path / "out").exists()
