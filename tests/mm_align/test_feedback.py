"""`mmalign rlaif feedback` and its stages through their doors: pairs from pictures, prompts from data, presets, cost, calibration."""

import json

import pytest

from data_tools.preference import read_pairs
from mm_align.cli import main
from mm_align.config import load
from mm_align.jobs.feedback.config import PRESETS
from mm_align.jobs.feedback.feedback import FeedbackConfig, feedback

# What comes out


def test_what_the_judge_rejects_loses(fb, scripted, pictures, tmp_path, capsys):
    """4 pictures x 2 answers; the answer with the cat has one rejected claim of two, so each picture gives one pair."""
    backend, out = scripted(fb.Scripted()), tmp_path / "out"
    assert fb.command(pictures, out, *fb.TWO) == 0
    pairs = list(read_pairs(out / "pairs.jsonl"))
    assert [(pair.chosen, pair.rejected, pair.margin) for pair in pairs] == [(fb.DOG, fb.CAT, 1.0)] * 4
    assert all(pair.sample.images[0].path.endswith(f"p{i}.png") for i, pair in enumerate(pairs))
    assert backend.questions.count("Is there a cat? Please answer yes or no.") == 4
    assert [score["value"] for score in fb.rows(out / "scores.jsonl")] == [0, -1] * 4
    told = capsys.readouterr().out
    assert "candidates: 4 prompts in = 4 out (8 lines) + 0 quarantined" in told
    report = json.loads((out / "report.json").read_text())
    assert (report["judge"]["claims"], report["judge"]["rejected"], report["pairs"]["n"]) == (12, 4, 4)
    assert report["judge"]["outside"] == pytest.approx((8 * 0.05 + 4 * 0.1) / 12, abs=1e-6)
    assert report["stages"]["judged"]["rows"] == 8


def test_the_page_escapes_everything_and_shows_pairs(fb, scripted, pictures, tmp_path):
    scripted(fb.Scripted(answers=(fb.DOG, "There is a cat named <script>alert(1)</script>.")))
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    page = (tmp_path / "out" / "feedback.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("data:image/png;base64,") == 4
    assert "<del>There is a cat" in page


def test_the_python_face(fb, pictures, tmp_path):
    config = load(
        FeedbackConfig, {"images": str(pictures), "model": "a", "judge": "b", "out": str(tmp_path / "out"), "candidates": {"n": 2}}
    )
    model, judge = fb.Scripted(), fb.Scripted()
    report = feedback(config, backends={"a": model, "b": judge})
    assert report.pairs == tmp_path / "out" / "pairs.jsonl"
    assert (report.summary["answers"]["n"], len(model.prompts), len(judge.judged)) == (8, 4, 4)
    assert model.questions == judge.prompts == []


def test_bundled_models_on_drawn_scenes(fb, tmp_path, capsys):
    """The thin path for real: eight scenes, tiny-lvlm answers, tiny-judge judges."""
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert main(["scenes", "make", "--n", "8", "--poor-share", "0", "--out", str(scenes)]) == 0
    words = ["rlaif", "feedback", "tiny", "--data", str(scenes), "--out", str(out), "--set", "candidates.n=4", "--score-reference"]
    assert main(words) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["answers"]["n"] == 32
    assert report["judge"]["claims"] >= 4 * 32
    assert 0 < report["judge"]["rejected"] < report["judge"]["claims"]
    assert report["judge"]["outside"] < 0.02
    assert report["pairs"]["n"] > 0
    assert all(pair["margin"] >= 1 for pair in fb.rows(out / "pairs.jsonl"))
    assert f"{report['pairs']['n']} scored, 0 known: {out / 'reference'}" in capsys.readouterr().out
    assert main(words) == 0
    assert f"0 scored, {report['pairs']['n']} known" in capsys.readouterr().out


def test_each_stage_is_a_verb_and_gives_the_same(fb, scripted, pictures, tmp_path, reported):
    """The verbs one by one write what feedback writes, and feedback finds it done."""
    backend, by_one, at_once = scripted(fb.Scripted()), str(tmp_path / "by-one"), tmp_path / "at-once"
    told = reported("rlaif", "candidates", "--images", pictures, "--model", "a", "--out", by_one, "--n", "2")
    assert (told["folder"], told["stages"]["candidates"]["out"]) == (by_one, 4)
    for words in (["claims"], ["questions"], ["judge", "--model", "b"], ["pairs", "--no-balance"]):
        told = reported("rlaif", words[0], by_one, *words[1:])
    assert told["stages"]["pairs"]["quarantined"] == 0
    assert fb.command(pictures, at_once, *fb.TWO) == 0
    assert fb.files(tmp_path / "by-one") == fb.files(at_once)
    assert len(backend.prompts) == 8
    assert fb.command(pictures, by_one, *fb.TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == (8, 8)


# Where prompts come from


def asked(fb, out):
    return {row["id"]: row["messages"][0]["parts"][-1]["text"] for row in fb.rows(out / "samples.jsonl")}


def test_questions_of_rows_are_asked(fb, scripted, pictures, tmp_path):
    """Own fields, first turns, the default; fields that are not understood survive; RLAIF-V's names are known."""
    told = [
        {"id": "a", "image": "p0.png", "question": "What is this?", "more": [1]},
        {"id": "b", "image": "p1.png", "conversations": [{"from": "human", "value": "<image>\nWhere?"}, {"from": "gpt", "value": "Here."}]},
        {"id": "c", "image": "p2.png"},
        {"ds_question_id": "d", "image_path": "p3.png", "question": "Who?"},
    ]
    (pictures / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    assert main(["rlaif", "candidates", "--data", str(pictures / "rows.jsonl"), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    found = asked(fb, tmp_path / "out")
    assert list(found.values()) == ["What is this?", "Where?", "Describe the image in detail.", "Who?"]
    assert list(found)[:3] == ["a", "b", "c"]
    kept = [row["meta"] for row in fb.rows(tmp_path / "out" / "samples.jsonl")]
    assert kept[0]["more"] == [1]
    assert kept[3]["ds_question_id"] == "d"


def test_questions_of_a_text_file_are_drawn_by_picture(fb, scripted, pictures, tmp_path):
    (tmp_path / "ask.txt").write_text("What?\n\nWhere?\nWho?\n")
    for name in ("one", "two"):
        assert fb.command(pictures, tmp_path / name, "--questions", str(tmp_path / "ask.txt")) == 0
    assert asked(fb, tmp_path / "one") == asked(fb, tmp_path / "two")
    assert set(asked(fb, tmp_path / "one").values()) <= {"What?", "Where?", "Who?"}
    assert len(set(asked(fb, tmp_path / "one").values())) > 1


def test_questions_of_a_file_of_rows_with_pictures_elsewhere(fb, scripted, pictures, tmp_path):
    (tmp_path / "ask.jsonl").write_text('{"image": "p1.png", "question": "What?"}\n{"image": "p1.png", "question": "Where?"}\n')
    assert fb.command(pictures, tmp_path / "out", "--questions", str(tmp_path / "ask.jsonl")) == 0
    assert sorted(asked(fb, tmp_path / "out").values()) == ["What?", "Where?"]


def test_embedded_pictures_are_put_beside_the_files(scripted, pictures, tmp_path, capsys):
    from data_tools.io import list_shards, read, write

    with write(tmp_path / "rows.parquet", "parquet") as writer:
        for row in read(list_shards(pictures)[0], caption_optional=True):
            writer.add(row)
    assert main(["rlaif", "candidates", "--data", str(tmp_path / "rows.parquet"), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    stored = sorted((tmp_path / "out" / "images").iterdir())
    assert sorted(path.read_bytes() for path in stored) == sorted(path.read_bytes() for path in pictures.glob("*.png"))


def test_rows_that_cannot_be_asked_leave_with_a_reason(fb, scripted, pictures, tmp_path, capsys):
    told = ['{"id": "a", "image": "p0.png"}', '{"id": "a", "image": "p0.png"}', '{"id": "a", "image": "p0.png", "question": "Who?"}']
    told += ['{"id": "b", "image": "gone.png"}', '{"id": "c"}', "{", '{"id": "d", "image": "http://x/y.png"}']
    (pictures / "rows.jsonl").write_text("\n".join(told) + "\n")
    assert main(["rlaif", "candidates", "--data", str(pictures / "rows.jsonl"), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    assert list(asked(fb, tmp_path / "out")) == ["a", "a#2"]
    reasons = [row["reason"] for row in fb.rows(tmp_path / "out" / "quarantine" / "samples.jsonl")]
    assert sorted(reasons) == ["bad_json", "duplicate_prompt", "image_missing", "image_missing", "missing_image"]
    assert "samples: 7 rows in = 2 out + 5 quarantined" in capsys.readouterr().out


# Presets and labellers


def test_presets_name_fields_that_there_are():
    for preset, parts in PRESETS.items():
        config = load(FeedbackConfig, {"model": "a", "judge": "b", "out": "c", "preset": preset}).model_dump()
        assert all(config[part][name] == value for part, told in parts.items() for name, value in told.items())
    paper = load(FeedbackConfig, {"model": "a", "judge": "b", "out": "c", "preset": "paper", "pairs": {"k": 3}})
    assert (paper.pairs.k, paper.pairs.per, paper.claims.splitter, paper.claims.cut_300_words) == (3, "image", "llm", False)
    assert load(FeedbackConfig, {"model": "a", "judge": "b", "out": "c", "preset": "reference_code"}).claims.cut_300_words


@pytest.mark.parametrize("preset", ["paper", "reference_code"])
def test_presets_run_with_a_model_that_divides(fb, scripted, pictures, tmp_path, preset):
    backend = scripted(fb.Writing())
    assert fb.command(pictures, tmp_path / "out", "--preset", preset, "--divider", "c", *fb.TWO) == 0
    assert len(fb.rows(tmp_path / "out" / "pairs.jsonl")) == 4
    assert len(backend.questions) == 12


def test_a_preset_without_a_model_that_divides_is_told_at_once(fb, scripted, pictures, tmp_path, capsys):
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out", "--preset", "paper") == 2
    assert "--divider" in capsys.readouterr().err
    assert backend.prompts == []
    assert main(["rlaif", "candidates", "--images", str(pictures), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    assert main(["rlaif", "claims", str(tmp_path / "out"), "--splitter", "llm"]) == 2
    assert "--model" in capsys.readouterr().err


def test_answers_are_judged_as_a_whole_where_asked(fb, scripted, pictures, tmp_path):
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out", *fb.TWO, "--labeller", "whole") == 0
    assert set(backend.questions) == {f"{text}\nIs this description free of errors? Please answer yes or no." for text in (fb.DOG, fb.CAT)}
    assert len(fb.rows(tmp_path / "out" / "pairs.jsonl")) == 4


# Cost


def test_a_dry_run_tells_the_cost_and_writes_nothing(fb, scripted, pictures, tmp_path, picture, capsys):
    for seed in range(4, 30):
        picture(seed).save(pictures / f"p{seed}.png")
    assert fb.command(pictures, tmp_path / "out", "--set", "candidates.n=2", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "candidates: 20 prompts in = 20 out (40 lines) + 0 quarantined" in told
    assert "asked for 20 rows, and for 30 in all at this rate" in told
    assert "in all 30 prompts shown, 60 answers" in told
    assert "rejected  p(yes) 0.100  Is there a cat?" in told
    assert not (tmp_path / "out").exists()


# Calibration


def test_a_judge_is_compared_with_the_truth(fb, scripted, pictures, tmp_path, capsys, reported):
    """Of 12 claims 8 name dogs, which are all there and accepted, and 4 cats, of which some are there and all are rejected."""
    out, truths = tmp_path / "out", tmp_path / "truths.jsonl"
    assert fb.command(pictures, out, *fb.TWO) == 0
    judged = fb.rows(out / "judged.jsonl")
    true = ["dog" in claim["text"] or i % 2 == 0 for i, claim in enumerate(judged)]
    told = [
        {"response_id": claim["response_id"], "index": claim["index"], "true": is_true} for claim, is_true in zip(judged, true, strict=True)
    ]
    truths.write_text("".join(json.dumps(row) + "\n" for row in told))
    right = sum(is_true == ("dog" in claim["text"]) for claim, is_true in zip(judged, true, strict=True))
    capsys.readouterr()
    assert reported("rlaif", "calibration", out, "--truth", truths)["n"] == 12
    assert main(["rlaif", "calibration", str(out), "--truth", str(truths)]) == 0
    found = json.loads((out / "calibration.json").read_text())
    assert found["n"] == 12
    assert found["agreement"] == pytest.approx(right / 12)
    assert "<circle" in (out / "calibration.html").read_text()
    assert f"agreement {right / 12:.1%}" in capsys.readouterr().out
    assert reported("rlaif", "judge", out, "--model", "b", "--truth", truths)["calibration"] == found
