"""The EECA experiment through its door with a few steps of everything, and its intervals by hand."""

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = "scripts/proving/eeca.py"


@pytest.fixture(scope="module")
def report():
    spec = importlib.util.spec_from_file_location("eeca_report", ROOT / "scripts/proving/eeca_report.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_counts_are_of_the_part_and_of_what_was_asked(report):
    """Three pictures of entities 0, 0, 2. Known ones: the first and the last. Facts right: 2 of 4, 4 of 4, 1 of 4; the first two of
    four were asked in training. Known, all facts: entity 0 has 2 of 4, entity 2 has 1 of 4; asked: 1 of 2 and 1 of 2."""
    answers = {
        "entity": [0, 0, 2], "split": ["known", "unknown", "known"], "facts": ["1001", "1111", "0100"], "asked": ["1100"] * 3,
        "levels": ["1100", "1111", "1110"], "by_name": ["1111", "1111", "0111"],
    }  # fmt: skip
    run = {"answers": answers}
    assert report.counted(run, "facts", "known").tolist() == [[2, 0, 1], [4, 0, 4]]
    assert report.counted(run, "facts_asked", "known").tolist() == [[1, 0, 1], [2, 0, 2]]
    assert report.counted(run, "name", "all").tolist() == [[1, 0, 0], [2, 0, 1]]
    assert report.counted(run, "misaligned", "all").tolist() == [[2, 0, 2], [8, 0, 3]]


def test_a_constant_difference_has_an_interval_of_no_width(report):
    """Every entity of every seed: 3 of 4 right against 1 of 4, so that any draw gives 0.5."""
    pair = np.stack([np.stack([np.full(6, 3), np.full(6, 4)]), np.stack([np.full(6, 1), np.full(6, 4)])])  # [2, 2, E]
    assert report.bootstrap(np.stack([pair, pair]), draws=50) == pytest.approx((0.5, 0.5, 0.5))


def test_an_interval_covers_what_it_estimates(report):
    rng = np.random.default_rng(1)
    hits = rng.binomial(20, 0.3, size=(5, 108))
    found = report.bootstrap(np.stack([hits, np.full_like(hits, 20)], 1), draws=200)
    assert found.low < 0.3 < found.high
    assert found.high - found.low < 0.05


def test_captions_are_compared_by_f1(report):
    """Claimed 2, right 2, truth 2 a scene against claimed 2, right 1, truth 2: F1 1 and 0.5."""
    pairs = [[[[2, 2, 2, 0]] * 3, [[2, 1, 2, 0]] * 3]] * 2
    assert report.caption_interval(pairs, draws=20) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.slow
def test_the_experiment_runs_from_nothing_to_its_report(tmp_path):
    words = ["all", "--quick", "--work", str(tmp_path / "w"), "--seeds", "0", "--select-seeds", "0", "--long-seeds", "0"]
    words += ["--out", str(tmp_path / "eeca.json"), "--images", str(tmp_path / "images")]
    done = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "eeca.json").read_text())
    assert set(told["variants"]) == {"baseline", "baseline_flops", "high_res", "hierarchy", "contrast", "eeca"}
    assert set(told["selections"]) == {"hds", "hss", "lds", "random"}
    assert "SceneWorld" in told["title"]
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == ["eeca_levels.png", "eeca_selections.png", "eeca_variants.png"]
    again = subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, cwd=ROOT)
    assert again.returncode == 0
    assert "trial-" not in again.stdout, "finished runs are not run again"


def played(*words):
    return subprocess.run([sys.executable, SCRIPT, *words], cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_own_models_are_compared_on_own_questions(tmp_path):
    """The bundled models: the one that answers questions beats the one that rates captions, on known and unknown ones alike."""
    from data_tools.scenes.render import render
    from data_tools.scenes.world import sample_scene

    lines = []
    for k in range(6):
        scene = sample_scene(random.Random(f"compared-{k}"), "heldout")
        render(scene).save(tmp_path / f"{k}.png")
        item = scene.items[0]
        where = "in the middle" if item.place == "center" else f"at the {item.place}"
        row = {"id": str(k), "image": f"{k}.png", "question": f"What color is the object {where}?", "answer": item.color}
        lines.append(json.dumps(row | {"split": ("known", "unknown")[k % 2]}))
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    done = played("models", "--model", "tiny-aitqe", "tiny-lvlm", "--data", str(tmp_path / "facts.jsonl"), "--kind", "split")
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| tiny")]
    assert [(row[0], row[1], row[2]) for row in rows[3:]] == [
        ("| tiny-lvlm", "all", "6"),
        ("| tiny-lvlm", "known", "3"),
        ("| tiny-lvlm", "unknown", "3"),
    ]
    assert float(rows[3][3].split("%")[0]) > float(rows[0][3].split("%")[0])
    assert rows[3][4].startswith("+")


def test_a_comparison_without_data_says_what_to_give():
    done = played("models", "--model", "tiny-lvlm")
    assert done.returncode == 2
    assert "--model (one or several) and --data" in done.stderr
