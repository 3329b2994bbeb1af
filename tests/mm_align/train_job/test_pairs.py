"""`mmalign train` on pairs and `mmalign rlaif reference` through their doors: reference scores, layouts, evaluation, stops, mistakes."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_tools.preference import write_pairs
from data_tools.records import Image, Message, Part, PreferencePair, Sample
from mm_align.cli import main
from mm_align.config import config_root


@pytest.fixture
def pairs(tmp_path: Path, picture: Any) -> Path:
    """Six pairs about three pictures, and one whose rejected answer is too long."""
    records = []
    for i in range(7):
        picture(i % 3).save(tmp_path / f"{i % 3}.png")
        asked = Message("user", (Part("image"), Part("text", f"{i}? ")))
        answers = ("a red ball", "no " * 40 if i == 6 else "blue")
        records.append(PreferencePair(Sample(f"p{i}", (asked,), (Image(str(tmp_path / f"{i % 3}.png")),)), *answers, float(i)))
    write_pairs(tmp_path / "pairs.jsonl", records)
    return tmp_path / "pairs.jsonl"


@pytest.fixture
def train(tmp_path: Path, base: Path, pairs: Path) -> Any:
    def run(*more: str, out: str = "run", **changes: Any) -> int:
        recipe = {
            "model": {"from": str(base)}, "data": [{"path": str(pairs)}], "objective": {"type": "preference", "preset": "rlaifv"},
            "lr": 1e-3, "batch_size": 2, "steps": 4, "log_steps": 1, "save_steps": 2, "max_length": 64, "device": "cpu",
        }  # fmt: skip
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe | changes))
        return main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / out), *more])

    return run


def losses(folder: Path) -> list[float]:
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [entry["loss"] for entry in entries if "loss" in entry]


def test_a_run_starts_at_the_reference_and_counts_what_left(train: Any, tmp_path: Path, capsys: Any) -> None:
    assert train() == 0
    told = capsys.readouterr()
    assert "6 rows trained on, 1 quarantined (1 too_long)" in told.out
    assert "reference: 6 pairs scored" in told.err
    assert losses(tmp_path / "run")[0] == pytest.approx(0.693147, abs=1e-5)
    assert not (tmp_path / "run" / ".mmalign" / "reference").exists()


def test_scores_made_before_are_used_and_those_of_another_model_are_not(
    train: Any, base: Path, pairs: Path, tmp_path: Path, capsys: Any, reported: Any, make_model: Any, make_processor: Any
) -> None:
    cache = tmp_path / "scores"
    score = ["rlaif", "reference", str(pairs), "--out", str(cache), "--max-length", "64", "--device", "cpu", "--contrast", "crop"]
    assert main([*score, "--model", str(base)]) == 0
    assert "12 scored, 0 known, 1 quarantined" in capsys.readouterr().out  # each pair with its picture and with the corrupted one
    assert reported(*score, "--model", base) == {"scored": 0, "known": 12, "quarantined": 1}
    assert train("--reference", str(cache), objective={"type": "preference", "preset": "mdpo"}) == 0
    told = capsys.readouterr().err
    assert len(re.findall("0 pairs scored in .* s, 6 known", told)) == 2
    assert train(out="own", objective={"type": "preference", "preset": "mdpo"}) == 0
    assert losses(tmp_path / "run") == losses(tmp_path / "own")
    capsys.readouterr()
    other = make_model()
    other.lm_head.weight.data += 0.01
    other.save_pretrained(tmp_path / "other")
    make_processor().save_pretrained(tmp_path / "other")
    assert train("--reference", str(cache), out="another", model={"from": str(tmp_path / "other")}) == 0
    told = capsys.readouterr().err
    assert f"{cache} holds scores of another model (weights differ); they are not used" in told
    assert "reference: 6 pairs scored" in told


def test_in_bfloat16_the_reference_is_frozen_as_the_run_is(train: Any, base: Path, pairs: Path, tmp_path: Path, capsys: Any) -> None:
    """The tower is frozen, and kept in bfloat16 with its norms: only scores of such weights are those of the run's own start."""
    low = ["--precision", "bf16"]
    score = ["rlaif", "reference", str(pairs), "--model", str(base), "--max-length", "64", "--device", "cpu", *low]
    for out, more in {"plain": [], "frozen": ["--train", "adapter", "--train", "language_model"]}.items():
        assert main([*score, "--out", str(tmp_path / out), *more]) == 0
        capsys.readouterr()
        assert train("--reference", str(tmp_path / out), *low, out=f"run-{out}") == 0
        told = capsys.readouterr().err
        assert ("(weights differ)" in told, "reference: 0 pairs scored" in told) == (out == "plain", out == "frozen"), told
    assert losses(tmp_path / "run-frozen") == losses(tmp_path / "run-plain")
    assert main([*score, "--out", str(tmp_path / "x"), "--train", "tower"]) == 2
    assert "error: train: unknown part tower" in capsys.readouterr().err


def test_a_stopped_run_continues_and_scores_nothing_again(train: Any, tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    assert train(out="whole") == 0
    from mm_align.train.callbacks import LogFile

    def dying(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kept(self, args, state, control, **kwargs)
        if state.global_step == 3:
            raise KeyboardInterrupt

    kept = LogFile.on_log
    monkeypatch.setattr(LogFile, "on_log", dying)
    assert train() == 130
    monkeypatch.setattr(LogFile, "on_log", kept)
    capsys.readouterr()
    assert train() == 0
    assert "0 pairs scored" in capsys.readouterr().err
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_fsdp_scores_the_reference_by_a_copy_and_takes_the_same_steps(train: Any, tmp_path: Path, capsys: Any) -> None:
    """Two processes over gloo: each scores its share and no pair is left out; one process then takes the same scores and the same steps."""
    plain: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01}
    more = ("--reference", str(tmp_path / "scores"))
    assert train("--dry-run", *more, **plain) == 0
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "scripts/train.py", str(tmp_path / "recipe.yaml"), "--fsdp"]
    command = [sys.executable, *launch, "--out", str(tmp_path / "fsdp"), *more]
    done = subprocess.run(command, check=False, cwd=config_root().parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    capsys.readouterr()
    assert train(*more, **plain) == 0
    assert "reference: 0 pairs scored" in capsys.readouterr().err
    assert losses(tmp_path / "fsdp") == pytest.approx(losses(tmp_path / "run"), abs=1e-4)
    assert len((tmp_path / "fsdp" / "quarantine" / "data.jsonl").read_text().splitlines()) == 1


def test_both_layouts_take_the_same_steps(train: Any, tmp_path: Path) -> None:
    assert train() == 0
    assert train("--pair-layout", "duplicated", out="apart") == 0
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "apart"), abs=1e-4)


def test_a_model_that_cannot_read_both_in_one_row_says_so_and_trains(
    train: Any, tmp_path: Path, make_model: Any, make_processor: Any, tiny_model: Any, capsys: Any
) -> None:
    window = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 0, "layer_types": ["sliding_attention"] * 2}
    make_model(text_config=tiny_model.config.text_config.to_dict() | window).save_pretrained(tmp_path / "windowed")
    make_processor().save_pretrained(tmp_path / "windowed")
    assert train(model={"from": str(tmp_path / "windowed")}) == 0
    assert "pairs are read with a row for each answer, which takes longer: it sees 12 tokens back" in capsys.readouterr().err


def test_evaluation_pairs_have_scores_and_answers_to_look_at(train: Any, pairs: Path, tmp_path: Path) -> None:
    assert train("--eval-steps", "2", eval_data=[{"path": str(pairs), "limit": 3}]) == 0
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if "eval_reward_margin" in entry] == [2, 4]
    shown = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").read_text().splitlines()]
    assert shown[0]["expected"] == "a red ball"


def test_a_dry_run_shows_both_answers(train: Any, capsys: Any) -> None:
    assert train("--dry-run") == 0
    told = capsys.readouterr().out
    assert re.search(r"the first row, 'p\d', chosen \(\d+ tokens", told)
    assert "+ 'blue<eos>'" in told
    assert "4 steps of 2 pairs" in told


def test_token_weights_and_updates_of_low_rank(train: Any, tmp_path: Path) -> None:
    assert train(objective={"type": "preference", "preset": "ddpo"}, lora={"r": 2, "alpha": 4}, train=["language_model"]) == 0
    assert losses(tmp_path / "run")[0] == pytest.approx(0.693147, abs=1e-5)


@pytest.mark.parametrize(
    ("sentence", "changes"),
    [
        ("packing is for samples", {"packing": True}),
        ("too_long: cut would cut answers of pairs", {"too_long": "cut"}),
        ("which have no prompt", {"data": [{"path": "pairs.jsonl", "prompt": "Describe it."}]}),
        ("none of the 7 rows can be trained on (7 too_long)", {"max_length": 9}),
    ],
)
def test_what_pairs_do_not_have_is_refused(sentence: str, changes: dict[str, Any], train: Any, pairs: Path, capsys: Any) -> None:
    if "data" in changes:
        changes = {"data": [{**changes["data"][0], "path": str(pairs)}]}
    assert train(**changes) == 2
    assert sentence in capsys.readouterr().err


def test_a_file_of_samples_is_no_file_of_pairs(base: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "talks.jsonl").write_text(json.dumps({"conversations": [{"from": "human", "value": "hi"}]}) + "\n")
    assert main(["rlaif", "reference", str(tmp_path / "talks.jsonl"), "--model", str(base), "--out", str(tmp_path / "scores")]) == 2
    assert "no preference file of a known format" in capsys.readouterr().err


def test_scores_that_are_no_numbers_end_the_run(train: Any, tmp_path: Path, make_model: Any, make_processor: Any, capsys: Any) -> None:
    broken = make_model()
    broken.lm_head.weight.data.fill_(float("nan"))
    broken.save_pretrained(tmp_path / "broken")
    make_processor().save_pretrained(tmp_path / "broken")
    assert train(model={"from": str(tmp_path / "broken")}) == 1
    assert "the reference gives pair 'p" in capsys.readouterr().err
