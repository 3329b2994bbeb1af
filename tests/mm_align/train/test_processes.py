"""One process or two, one batch or eight: the same gradients and parameters; FSDP2 gives the same and saves a whole model."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mm_align.models import LvlmForConditionalGeneration

HERE = Path(__file__).parent
Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def one(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tensors, list[dict[str, float]]]:
    """One process, one batch of eight rows, three steps of SGD."""
    return tiny.measured(tmp_path_factory.mktemp("one"), tiny.Pull(), per_device_train_batch_size=8)


def two_processes(out: Path, kind: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "tiny_run.py"), str(out), kind]
    ranks = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            text=True,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        for rank in ranks:
            said, _ = rank.communicate(timeout=600)
            assert rank.returncode == 0, said[-3000:]
    finally:
        for rank in ranks:
            rank.kill()


def assert_same(got: Tensors, expected: Tensors, kind: str, relative: float = 1e-5) -> None:
    """`kind` is "gradient" or "parameter". Together they differ by at most `relative`, and so does each tensor that is not
    next to nothing (a key's bias has no gradient but rounding)."""
    names = [name for name in expected if name.startswith(kind)]
    assert names
    assert set(names) == {name for name in got if name.startswith(kind)}
    size = torch.stack([expected[name].norm() for name in names]).norm()
    apart = {name: (got[name] - expected[name]).norm() for name in names}
    assert torch.stack(list(apart.values())).norm() / size < relative
    assert all(apart[name] <= relative * max(expected[name].norm(), 1e-3 * size) for name in names)


def losses(log: list[dict[str, float]], key: str = "loss") -> list[float]:
    return [entry[key] for entry in log if key in entry]


def test_eight_micro_batches_equal_one_batch(tiny: Any, one: tuple[Tensors, list[dict[str, float]]], tmp_path: Path) -> None:
    """Rows train 1 to 5 tokens and not all show a picture: a mean of means would differ."""
    got, log = tiny.measured(tmp_path, tiny.Pull(), per_device_train_batch_size=1, gradient_accumulation_steps=8)
    expected, expected_log = one
    assert_same(got, expected, "gradient")
    assert_same(got, expected, "parameter")
    assert losses(log) == pytest.approx(losses(expected_log), rel=1e-5)
    assert "gradient objective.unused" not in expected


def test_two_processes_equal_one(one: tuple[Tensors, list[dict[str, float]]], tmp_path: Path) -> None:
    """DDP, 2 x 4 and 2 x 2 x 2, the objective's own parameters included, which start apart and of which a text-only batch uses half."""
    two_processes(tmp_path, "ddp")
    expected, expected_log = one
    for name in ("tensors", "accumulated"):
        got = load_file(tmp_path / f"{name}.safetensors")
        assert_same(got, expected, "gradient")
        assert_same(got, expected, "parameter")
    log = json.loads((tmp_path / "log.json").read_text())
    for key in ("loss", "head", "token_accuracy", "eval_loss", "eval_head"):
        assert losses(log, key) == pytest.approx(losses(expected_log, key), rel=1e-5), key


def assert_resumed(out: Path) -> None:
    whole, saving, rest = json.loads((out / "losses.json").read_text())
    assert whole == saving
    assert rest == whole  # the first two are remembered, the others trained anew
    model = LvlmForConditionalGeneration.from_pretrained(out / "resumed" / "model")
    state = load_file(out / "resumed" / "model" / "model.safetensors")
    assert state
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items() if name in state)


@pytest.mark.slow
def test_two_processes_resume(tmp_path: Path) -> None:
    two_processes(tmp_path, "ddp-resumed")
    assert_resumed(tmp_path)


@pytest.mark.slow
def test_fsdp_equals_one_process_and_saves_a_whole_model(one: tuple[Tensors, list[dict[str, float]]], tmp_path: Path) -> None:
    """FSDP2 over gloo: gradients, parameters, losses, evaluation, a resumed checkpoint, and a model that loads anywhere; the
    objective's own parameters have an optimiser of their own."""
    two_processes(tmp_path, "fsdp")
    expected, expected_log = one
    for name in ("tensors", "accumulated"):
        got = load_file(tmp_path / f"{name}.safetensors")
        assert_same(got, expected, "gradient")
        assert_same(got, expected, "parameter")
    log = json.loads((tmp_path / "log.json").read_text())
    for key in ("loss", "eval_loss", "grad_norm"):
        assert losses(log, key) == pytest.approx(losses(expected_log, key), rel=1e-5), key
    assert_resumed(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["eeca", "eeca-fsdp"])
def test_eeca_in_two_processes_equals_one(kind: str, tiny: Any, tmp_path: Path) -> None:
    """Classes and contrast over the pictures of both processes, heads and targets included; batches with and without pictures."""
    two_processes(tmp_path, kind)
    expected, expected_log = tiny.measured(tmp_path / "one", tiny.eeca(), per_device_train_batch_size=8)
    got, log = load_file(tmp_path / "tensors.safetensors"), json.loads((tmp_path / "log.json").read_text())
    assert_same(got, expected, "gradient")
    assert_same(got, expected, "parameter")
    for key in ("loss", "lm_loss", "hierarchy_loss", "contrast_loss"):
        assert losses(log, key) == pytest.approx(losses(expected_log, key), rel=1e-5), key


@pytest.mark.parametrize("kind", ["pairs", pytest.param("pairs-fsdp", marks=pytest.mark.slow)])
def test_pairs_in_two_processes_equal_one(kind: str, tiny: Any, tmp_path: Path) -> None:
    """Preference with contrast, anchor and imitation; batches with and without pictures; rows shared by the pairs of a picture."""
    two_processes(tmp_path, kind)
    data, collator, objective = tiny.preference(tmp_path / "alone")
    expected, expected_log = tiny.measured(tmp_path / "one", objective, data=data, collator=collator, per_device_train_batch_size=8)
    got, log = load_file(tmp_path / "tensors.safetensors"), json.loads((tmp_path / "log.json").read_text())
    assert_same(got, expected, "gradient", 1e-4)
    assert_same(got, expected, "parameter", 1e-4)
    for key in ("loss", "contrast_loss", "anchor_loss", "sft_loss", "chosen_drift", "eval_loss"):
        assert losses(log, key) == pytest.approx(losses(expected_log, key), rel=1e-4, abs=1e-4), key
