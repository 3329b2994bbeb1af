"""`mmalign train` on preference pairs through its door: presets learn, the log tells the dynamics, mistakes are told."""

import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import yaml

from mm_align.cli import main

COLORS = ("red", "green", "blue", "white")


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures of one colour, in ms-swift's form; one row more has equal answers."""
    folder = tmp_path_factory.mktemp("pairs")
    rows = []
    for i in range(8):
        PIL.Image.new("RGB", (20, 20), COLORS[i % 4]).save(folder / f"{i}.png")
        turns = [{"role": "user", "content": "<image>color?"}, {"role": "assistant", "content": f"it is {COLORS[i % 4]}"}]
        row = {"messages": turns, "rejected_response": f"{COLORS[(i + 1) % 4]}, I am sure", "images": [f"{i}.png"], "margin": i / 4}
        rows.append(row)
    rows.append(rows[0] | {"rejected_response": "it is red"})
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "pairs.jsonl"


@pytest.fixture
def train(tmp_path: Path, base: Path, pairs: Path) -> Any:
    """Runs four steps with an objective; the exit code."""

    def run(out: str, objective: dict[str, Any], *more: str, **changes: Any) -> int:
        recipe = tmp_path / "recipe.yaml"
        plain = {
            "model": {"from": str(base)}, "data": [{"path": str(pairs)}], "objective": {"type": "preference", **objective},
            "train": ["adapter", "language_model"], "lr": 3e-3, "batch_size": 4, "steps": 4, "save_steps": 4, "log_steps": 1,
            "max_length": 64, "device": "cpu",
        }  # fmt: skip
        recipe.write_text(yaml.safe_dump(plain | changes))
        return main(["train", str(recipe), "--out", str(tmp_path / out), "--quiet", *more])

    return run


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("preset", ["mdpo", "mm_dpo", "ddpo", "mpo", "simpo"])  # what asks for more or less than the reference's scores
def test_presets_learn(preset: str, train: Any, tmp_path: Path) -> None:
    """The pairs of the last step are told apart better than those of the first."""
    assert train("run", {"preset": preset}) == 0
    steps = [entry for entry in entries(tmp_path / "run") if "reward_margin" in entry]
    assert len(steps) == 4
    assert steps[-1]["reward_margin"] > steps[0]["reward_margin"]
    assert steps[-1]["loss"] < steps[0]["loss"] or preset == "mpo"  # its threshold moves with the rewards
    assert preset == "simpo" or steps[0]["chosen_drift"] == pytest.approx(0.0, abs=1e-4)


def test_the_log_tells_of_both_sides_and_of_unseen_answers(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at unseen answers moves no weight: without, the run takes the same steps."""
    assert train("run", {"preset": "rlaifv"}) == 0
    found = entries(tmp_path / "run")
    sides = {f"{side}_{name}" for side in ("chosen", "rejected") for name in ("logp", "logp_per_token", "drift", "length")}
    assert sides | {"reward_margin", "reward_accuracy", "sigmoid_loss"} <= set(next(entry for entry in found if "loss" in entry))
    looks = [entry for entry in found if "unseen_logp" in entry]
    assert (looks[0]["step"], looks[-1]["step"]) == (0, 4)
    assert looks[0]["unseen_drift"] == 0
    assert looks[-1]["unseen_drift"] == pytest.approx(looks[-1]["unseen_logp"] - looks[0]["unseen_logp"])
    assert json.loads((tmp_path / "run" / "quarantine" / "data.jsonl").read_text())["reason"] == "equal_answers"
    monkeypatch.setattr("mm_align.train.preference_watch.unseen_batch", lambda data, collate: None)
    train("without", {"preset": "rlaifv"})
    alone = entries(tmp_path / "without")
    assert not [entry for entry in alone if "unseen_logp" in entry]
    assert [entry["loss"] for entry in alone if "loss" in entry] == [entry["loss"] for entry in found if "loss" in entry]


MISTAKES = {
    "no option 'betta'; did you mean 'beta'?": {"betta": 0.1},
    "unknown preset 'rlaif'; did you mean 'rlaifv'?": {"preset": "rlaif"},
    "unknown loss 'simp'; did you mean 'simpo'?": {"loss": "simp"},
    "loss flex has no option 'reject_scale'; did you mean 'rejected_scale'?": {"loss": {"type": "flex", "reject_scale": 0.5}},
}


@pytest.mark.parametrize("sentence", MISTAKES)
def test_mistakes_are_told_before_the_first_step(sentence: str, train: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("run", MISTAKES[sentence]) == 2
    assert f"objective preference: {sentence}" in capsys.readouterr().err
