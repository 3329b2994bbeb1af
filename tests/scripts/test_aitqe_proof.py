"""The proof of AITQE's headline: its arms, its intervals, and the whole at a handful of pairs."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "proving"))

from aitqe_arms import Tools, arms_of, prepare, rows_of, shift
from aitqe_report import differences, interval
from aitqe_runs import QUICK, Plan, _mine

from mm_align.cli import main

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "scripts" / "proving" / "aitqe.py")
TOOLS = Tools('null:{"Recaption": "a red cat that sits on a blue chair", "Overall Score": "2<Overall>"}', "nowhere", "null:50", None)


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof") / "pool"
    assert main(["scenes", "make", "--n", "24", "--split", "validation", "--out", str(folder)]) == 0
    return str(folder)


def test_the_interval_by_hand():
    """1, 2, 3: mean 2, standard deviation 1, t(0.975, 2) = 4.3027, so 2 +- 4.3027 / sqrt(3)."""
    found = interval([1.0, 2.0, 3.0])
    assert (found["mean"], found["by_seed"]) == (2, [1, 2, 3])
    assert found["high"] == pytest.approx(2 + 4.30265 / math.sqrt(3), abs=1e-4)
    assert interval([4.0]) == {"mean": 4, "by_seed": [4]}


def test_differences_are_paired_by_seed_and_volume(tmp_path):
    """Seed 1 has no run of `b` at 32 pairs: that volume is told of seed 0 alone, and so is the mean of both."""
    plan = Plan(tmp_path, QUICK, TOOLS)
    run = lambda accuracy: {"questions": {"accuracy": accuracy}}  # noqa: E731
    runs = {
        "a": {(16, 0): run(0.5), (16, 1): run(0.7), (32, 0): run(0.9), (32, 1): run(0.9)},
        "b": {(16, 0): run(0.4), (16, 1): run(0.4), (32, 0): run(0.5)},
    }
    found = {volume: told["VQA accuracy"]["by_seed"] for volume, told in differences(plan, runs, "a", "b").items()}
    assert found == {"16": pytest.approx([0.1, 0.3]), "32": pytest.approx([0.4]), "all": pytest.approx([0.25])}


def test_what_becomes_of_the_pairs(pool, tmp_path):
    """A model that finds every caption poor: all rewritten, or none left; shares and volumes are those of the raw rows."""
    raw = rows_of(pool)
    rewritten = prepare(tmp_path, pool, "aitqe", TOOLS, 0)
    assert rewritten.ids == [row.id for row in raw]
    assert rewritten.within([row.id for row in raw[:10]]) == 10
    assert {row.caption for row in rows_of(rewritten.path)} == {"a red cat that sits on a blue chair"}
    assert prepare(tmp_path, pool, "quality", TOOLS, 0).ids == []
    told = shift(raw, rows_of(rewritten.path))
    assert (told["rows"], told["rewritten"], told["damaged"], told["words"]) == (24, 1, 0, 9)
    assert shift(raw, raw)["js_divergence"] == 0
    assert 0 < shift(raw, raw)["damaged"] < 1
    assert prepare(tmp_path, pool, "raw", TOOLS, 0) == (pool, [row.id for row in raw])


def test_a_random_subset_is_as_large_as_the_filters(pool, tmp_path):
    good = TOOLS._replace(quality='null:{"Overall Score": "9<Overall>"}')
    assert prepare(tmp_path, pool, "random", good, 0).ids == [row.id for row in rows_of(pool)]
    assert prepare(tmp_path, pool, "mlm", good, 0).ids == [row.id for row in rows_of(pool)]


def test_a_result_that_another_process_makes_is_left_to_it(tmp_path):
    result = tmp_path / "results" / "raw-16-0.json"
    with _mine(result) as mine:
        assert mine
        with _mine(result) as theirs:
            assert not theirs
    result.write_text("{}")
    with _mine(result) as again:
        assert not again


def test_the_ablation_takes_part_where_its_models_are():
    assert "both" not in arms_of(TOOLS)
    assert arms_of(TOOLS._replace(judged="runs"))["rewriting"].options["model"] == "runs/rewriting-0/model"


def test_an_unknown_arm_is_refused(tmp_path, capsys):
    done = subprocess.run([sys.executable, SCRIPT, "run", "--work", str(tmp_path), "--mlm", "null:5", "--similarity", "x", "--arms", "rwa"],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2
    assert "no arm is called rwa: there are raw, aitqe" in done.stderr


@pytest.mark.slow
def test_the_proof_runs_and_goes_on_where_it_was(tmp_path):
    command = [sys.executable, SCRIPT, "all", "--quick", "--seeds", "0", "--work", str(tmp_path / "work")]
    command += ["--out", str(tmp_path / "aitqe.json"), "--images", str(tmp_path), "--arms", "raw", "aitqe", "clip", "mlm", "random", "none"]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    told = json.loads((tmp_path / "aitqe.json").read_text())
    assert set(told["figures"]) == {"raw", "aitqe", "clip", "mlm", "random", "none"}
    assert "SceneWorld" in told["title"]
    assert (tmp_path / "aitqe_arms.png").is_file()
    (tmp_path / "work" / "results" / "clip-32-0.json").unlink()
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    again = json.loads((tmp_path / "aitqe.json").read_text())
    assert again["figures"] == told["figures"]
