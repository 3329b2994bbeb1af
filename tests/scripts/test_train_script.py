"""scripts/train.py under torchrun: two gloo processes give what one gives, and only the first speaks."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
import yaml
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
COLORS = ("red", "green", "blue", "white")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tests' tiny model, sixteen pictures of one colour each with their captions, three steps of eight rows by SGD."""
    folder = tmp_path_factory.mktemp("recipe")
    base(folder / "base")
    lines = []
    for i in range(16):
        PIL.Image.new("RGB", (20, 20), COLORS[i % 4]).save(folder / f"{i}.png")
        asked, said = {"from": "human", "value": "<image>\ncolor?"}, {"from": "gpt", "value": f"it is {COLORS[i % 4]}"}
        lines.append(json.dumps({"id": f"r{i}", "image": f"{i}.png", "conversations": [asked, said]}))
    (folder / "rows.jsonl").write_text("\n".join(lines))
    rows = [{"path": str(folder / "rows.jsonl")}]
    plain: dict[str, Any] = {
        "model": {"from": str(folder / "base")}, "data": rows, "eval_data": rows,
        "optimizer": "sgd", "lr": 0.01, "schedule": {"type": "constant", "warmup": 0}, "max_grad_norm": 0, "batch_size": 8, "steps": 3,
        "eval_steps": 3, "show_answers": 0, "log_steps": 1, "max_length": 64, "device": "cpu",
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain))
    return folder / "recipe.yaml"


def base(folder: Path) -> None:
    from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor
    from vision.images import SquareImageProcessor

    spec = importlib.util.spec_from_file_location("tiny_parts", ROOT / "tests" / "mm_align" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    parts = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(parts)
    tokenizer = parts.byte_tokenizer()
    torch.manual_seed(0)
    LvlmForConditionalGeneration(parts.tiny_config(tokenizer)).save_pretrained(folder)
    LvlmProcessor(SquareImageProcessor(size=16), tokenizer, num_image_tokens=4).save_pretrained(folder)


def launch(recipe: Path, out: Path, processes: int, *more: str) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *launcher, str(ROOT / "scripts" / "train.py"), str(recipe), "--out", str(out), *more]
    return subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True, capture_output=True, timeout=600, check=False)


def losses(out: Path) -> list[float]:
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [entry[key] for entry in entries for key in ("loss", "eval_loss") if key in entry]


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--fsdp",)], ids=["ddp", "fsdp"])
def test_two_processes_train_what_one_trains(more: tuple[str, ...], recipe: Path, tmp_path: Path) -> None:
    one, two = launch(recipe, tmp_path / "one", 1), launch(recipe, tmp_path / "two", 2, *more)
    assert one.returncode == 0, one.stderr[-3000:]
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("step 3") == one.stdout.count("step 3") > 0  # one process speaks
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    expected = load_file(tmp_path / "one" / "model" / "model.safetensors")
    got = load_file(tmp_path / "two" / "model" / "model.safetensors")
    assert set(got) == set(expected)
    apart = torch.stack([(got[name] - value).norm() for name, value in expected.items()]).norm()
    assert apart / torch.stack([value.norm() for value in expected.values()]).norm() < 1e-5


def test_without_a_launcher_it_is_mmalign_train(recipe: Path, tmp_path: Path) -> None:
    said = launch(recipe, tmp_path / "out", 1, "--set", "lrr=1")
    assert said.returncode == 2
    assert "unknown key 'lrr'; did you mean 'lr" in said.stderr
    assert not (tmp_path / "out").exists()
