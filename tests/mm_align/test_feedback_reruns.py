"""Feedback that is stopped, killed, started again, or started with other settings: nothing is asked twice."""

import json

import pytest

from mm_align.cli import main


def test_the_same_command_again_asks_nothing_and_says_so(fb, scripted, pictures, tmp_path, capsys):
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out") == 0
    before = fb.files(tmp_path / "out")
    assert fb.command(pictures, tmp_path / "out") == 0
    assert (len(backend.prompts), len(backend.judged)) == (4, 4)
    assert fb.files(tmp_path / "out") == before
    assert "judged: done already" in capsys.readouterr().err


@pytest.mark.parametrize("face", ["generate", "decide"])
def test_a_stop_signal_is_obeyed_and_the_same_command_continues(fb, scripted, pictures, tmp_path, face, capsys):
    scripted(fb.Stops(2, face))
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 75
    assert "same command" in capsys.readouterr().err
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == ((2, 4) if face == "generate" else (0, 2))
    assert fb.command(pictures, tmp_path / "fresh", *fb.TWO) == 0
    assert fb.files(tmp_path / "out") == fb.files(tmp_path / "fresh")


@pytest.mark.parametrize("stage", ["candidates", "claims", "questions", "judged", "scores"])
def test_a_kill_at_any_stage_costs_a_block_at_most(fb, scripted, pictures, tmp_path, stage):
    """A stage's ledger with a torn tail, and nothing written behind it, is what a kill leaves."""
    out, backend = tmp_path / "out", scripted(fb.Scripted())
    assert fb.command(pictures, out, *fb.TWO) == 0
    before = fb.files(out)
    ledger = out / ".mmalign" / "journal" / f"{stage}.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    for later in fb.STAGES[fb.STAGES.index(stage) :]:
        (out / f"{later}.jsonl").unlink()
        (out / ".mmalign" / "done" / f"{later}.json").unlink()
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, out, *fb.TWO) == 0
    assert fb.files(out) == before
    assert (len(backend.prompts), len(backend.judged)) == ({"candidates": 1}.get(stage, 0), {"judged": 1}.get(stage, 0))


def test_other_settings_are_refused_with_the_difference(fb, scripted, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert fb.command(pictures, out) == 0
    capsys.readouterr()
    assert fb.command(pictures, out, "--set", "candidates.temperature=0.2") == 2
    assert "candidates.temperature: was 0.7, now 0.2" in capsys.readouterr().err
    assert main(["rlaif", "pairs", str(out), "--k", "7"]) == 2
    assert "pairs.k: was 2, now 7" in capsys.readouterr().err
    assert fb.command(pictures, out, "--set", "candidates.temperature=0.2", "--overwrite") == 0


@pytest.mark.parametrize(
    ("change", "prompts", "judged"),
    [
        ("candidates.temperature=0.2", 4, 0),  # the answers come out the same here, so nothing else is asked again
        ("asking.ending= Yes or no?", 0, 4),
        ("scores.zero_claims=zero", 0, 0),
        ("pairs.k=1", 0, 0),
        ("judging.near=0.5", 0, 0),
    ],
)
def test_with_update_only_what_depends_on_a_change_is_done_again(fb, scripted, pictures, tmp_path, change, prompts, judged):
    out = tmp_path / "out"
    assert fb.command(pictures, out, *fb.TWO) == 0
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, out, *fb.TWO, "--set", change, "--update") == 0
    assert (len(backend.prompts), len(backend.judged)) == (prompts, judged)
    assert fb.command(pictures, tmp_path / "fresh", *fb.TWO, "--set", change) == 0
    assert fb.files(out) == fb.files(tmp_path / "fresh")


def test_another_picture_under_the_same_name_is_asked_about_again(fb, scripted, pictures, tmp_path, picture):
    (pictures / "rows.jsonl").write_text("".join(json.dumps({"id": f"r{i}", "image": f"p{i}.png"}) + "\n" for i in range(4)))
    words = ["rlaif", "feedback", "--data", str(pictures / "rows.jsonl"), "--model", "a", "--judge", "b", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    picture(99).save(pictures / "p2.png")
    backend = scripted(fb.Scripted())
    assert main(words) == 0
    assert (backend.prompts, backend.judged) == (["r2"], ["r2"])


def test_a_file_that_was_edited_is_what_the_next_stage_reads(fb, scripted, pictures, tmp_path):
    """An answer that somebody rewrote is divided and its picture judged again; the others are not."""
    out = tmp_path / "out"
    assert fb.command(pictures, out, *fb.TWO) == 0
    lines = (out / "candidates.jsonl").read_text().splitlines()
    (out / "candidates.jsonl").write_text("\n".join([lines[0].replace("dog", "cat"), *lines[1:]]) + "\n")
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, out, *fb.TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == (0, 1)
    assert [score["value"] for score in fb.rows(out / "scores.jsonl")][:2] == [-1, -1]
