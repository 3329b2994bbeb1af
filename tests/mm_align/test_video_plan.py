"""`mmalign video plan` through the command line: with a law and without, text counted by a tokenizer, limits, what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from mm_align.cli import main
from video.budget.law import KIND, VERSION

LAW = {
    "kind": KIND,
    "version": VERSION,
    "form": "additive",
    "parameters": {"E": 0.6, "A": 0.25, "a": 0.35, "B": 0.2117, "b": 0.45},
    "metric": "loss",
    "better": "lower",
    "noise": 0.001,
    "covered": {"frames": [8, 128], "tokens": [4, 196], "budget": 25088, "runs": 25, "settings": 25},
    "scores": {},
    "refusal": "",
    "warnings": [],
    "seconds": {"unit": "seconds", "per_position": 1e-4, "per_frame": 0.02, "per_pair": 0, "fixed": 0.2, "text_a_frame": 0, "text": 0},
    "resamples": [[0.6, 0.25, 0.35 + 0.001 * i, 0.2117, 0.45] for i in range(-5, 6)],
}


@pytest.fixture
def law(tmp_path: Path) -> str:
    (tmp_path / "law.json").write_text(json.dumps(LAW))
    return str(tmp_path / "law.json")


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert main(["video", "plan", *words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_without_a_law_the_rule_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video", "plan", "--window", "5880"]) == 0
    told = capsys.readouterr().out
    assert "plan: 120 frames of 49 tokens: 5880 visual + 0 text = 5880 of 5880 positions" in told
    assert "rule of thumb, no law" in told
    assert "163.5 TFLOP at SigLIP-so400m and Qwen2-7B" in told
    assert "no text around frames was counted" in told
    assert "times" not in told


def test_with_a_law_its_interval_and_what_is_as_good_are_told(law: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video", "plan", "--window", "6600", "--law", law, "--text-tokens", "6"]) == 0
    told = capsys.readouterr().out
    assert "plan: 120 frames of 49 tokens: 5880 visual + 720 text = 6600 of 6600 positions" in told
    assert "law additive of 25 runs: optimum" in told
    assert "as good, within 0.001:" in told
    assert "seconds by the law's timings: 3.26" in told
    found = plan(capsys, "--window", "6600", "--law", law, "--text-tokens", "6")
    assert found["plan"]["total"] == 6600
    low, high = found["optimum"]["frames_interval"]
    assert low <= found["optimum"]["frames"] <= high
    assert found["near"][0] == {"tokens": 49, "least_frames": 113, "most_frames": 120, "value": found["value"]}


def test_a_pattern_is_counted_by_the_tokenizer(tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One token a byte: "frame 0: " is 9, and from frame 10 on 10. 12 frames of 4: 48 + 90 + 20 = 158, the next 172."""
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    found = plan(
        capsys,
        "--window",
        "170",
        "--choices",
        "4",
        "--style",
        "frame {}: <frame>",
        "--tokenizer",
        str(tmp_path / "tokenizer"),
        "--reserve",
        "3",
    )
    assert found["plan"]["visual_tokens"] == 48
    assert found["plan"]["text_tokens"] == 110 + 3


@pytest.mark.parametrize(
    ("words", "unit", "most"),
    [(["--flops", "1e14"], "FLOPs", 1e14), (["--cache-gib", "0.1"], "bytes", 0.1 * 2**30), (["--seconds", "2"], "seconds", 2.0)],
)
def test_every_limit_is_kept_and_nearly_used(
    law: str, capsys: pytest.CaptureFixture[str], words: list[str], unit: str, most: float
) -> None:
    spent = plan(capsys, *words, "--law", law)["spent"][unit]
    assert 0.9 * most < spent <= most


def test_sizes_of_other_models_change_the_cost(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--set", "tower={layers: 2, width: 64, mlp_width: 128}", "--set", "language={layers: 2, width: 64, mlp_width: 128}"]
    assert plan(capsys, "--window", "1000", *small)["flops"] < plan(capsys, "--window", "1000")["flops"] / 100


def test_a_plan_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan.json"
    assert main(["video", "plan", "--window", "1000", "--out", str(out), "--multiple", "2", "--trained", "120x49"]) == 0
    row = json.loads(out.read_text())
    assert row["plan"]["visual_tokens"] <= 1000
    assert "the model was trained with 120 frames of 49 tokens" in row["warnings"][0]
    assert "warning: the model was trained" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing limits the plan: give --window, --flops, --seconds or --cache-gib"),
        (["--window", "0"], "greater than or equal to 1"),
        (["--window", "3", "--choices", "49"], "1 frame of 49 tokens, the least there can be, take 49 positions of 3"),
        (["--window", "100", "--reserve", "100"], "the least there can be, take 101 positions of 100"),
        (["--window", "100", "--text-tokens", "-1"], "greater than or equal to 0"),
        (["--window", "100", "--law", "paper"], "--law paper: the slot 'paper' is empty"),
        (["--window", "100", "--law", "absent.json"], "--law absent.json: "),
        (["--window", "100", "--law", "poem.json"], "poem.json is no law"),
        (["--window", "100", "--seconds", "2"], "--seconds needs a --law that was fitted to timed runs"),
        (["--window", "100", "--style", "opt_visor"], "--style is counted with --tokenizer NAME"),
        (["--window", "100", "--tokenizer", "here"], "--tokenizer counts the text of a --style"),
        (["--window", "100", "--style", "opt_visor", "--tokenizer", "absent"], "--tokenizer absent: "),
        (["--window", "100", "--trained", "many"], "pattern"),
        (["--window", "100", "--choices", "0"], "tokens a frame are numbers from 1 on"),
        (["--window", "100", "--start", "-3"], "greater than or equal to 0"),
        (["--window", "100", "--most-frames", "0"], "greater than or equal to 1"),
        (["--window", "100000000", "--law", "law.json"], "without --law the plan is the rule of thumb's"),
    ],
)
def test_mistakes_are_said(
    tmp_path: Path, law: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "poem.json").write_text("roses")
    assert main(["video", "plan", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_film_gets_its_times(film: Path, law: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["video", "plan", str(film), "--window", "500", "--law", law, "--text-tokens", "2"]) == 0
    told = capsys.readouterr().out
    assert "60 frames, 2.000 s" in told
    assert "times: 0." in told
    found = plan(capsys, str(film), "--window", "500", "--law", law, "--text-tokens", "2")["plan"]
    assert found["times"] == pytest.approx([i / 30 for i in found["indices"]])
    assert found["total"] <= 500


def test_a_short_film_leaves_more_tokens_to_each_frame(film: Path, law: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, str(film), "--window", "6000", "--law", law, "--start", "1.5", "--end", "1.7")
    assert "729 tokens a frame are outside of what was run (4 to 196)" in " ".join(found["warnings"])
    found = found["plan"]
    assert found["indices"] == [45, 46, 47, 48, 49, 50]
    assert found["tokens_a_frame"] == 729


def test_what_is_no_film_is_said(tmp_path: Path, film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "poem.mp4").write_text("roses are red\n" * 50)
    for words, said in (
        ([str(tmp_path / "poem.mp4")], "no video that can be opened"),
        (["https://a.b/film.mp4"], "only when it is asked for: --network"),
        ([str(film), "--start", "5"], "the film lasts 2.00 s"),
        ([str(film), "--least-frames", "61"], "61 frames were asked for and there are 60"),
        ([str(film), "--set", "sampler=keyfames"], "'sampler': should be 'fps', "),
    ):
        assert main(["video", "plan", "--window", "500", *words]) == 2
        assert said in capsys.readouterr().err


def test_a_film_of_one_frame(tmp_path: Path, painted: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = painted.write(tmp_path / "one.mp4", [7])
    found = plan(capsys, str(path), "--window", "100")["plan"]
    assert found["times"] == [0.0]
    assert found["tokens_a_frame"] == 81
    assert main(["video", "sample", str(path), "--out", str(tmp_path / "one.png")]) == 0
    assert "1 of 1 frames" in capsys.readouterr().out
