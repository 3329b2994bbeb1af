"""Feedback on bad input: judges that cannot judge, answers without claims, endpoints that break, wishes that cannot be fulfilled."""

import pytest

from data_tools.calls import Decision
from mm_align.cli import main


def test_a_judge_without_probabilities_is_told_and_what_was_drawn_is_kept(fb, scripted, pictures, tmp_path, capsys):
    backend = fb.Scripted()
    backend.faces = frozenset({"generate"})
    scripted(backend)
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 2
    assert "b gives no probabilities of yes and no (`decide`); it offers: generate" in capsys.readouterr().err
    better = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert better.prompts == []


def test_answers_without_claims(fb, scripted, pictures, tmp_path, capsys):
    """ "Sure!" claims nothing: unscored by default; scored 0 it wins over the answer with a cat."""
    scripted(fb.Scripted(answers=("Sure!", fb.CAT)))
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert "scores: quarantined: 4 no_claims" in capsys.readouterr().out
    assert fb.rows(tmp_path / "out" / "pairs.jsonl") == []
    assert fb.command(pictures, tmp_path / "out", *fb.TWO, "--set", "scores.zero_claims=zero", "--update") == 0
    assert {pair["chosen"] for pair in fb.rows(tmp_path / "out" / "pairs.jsonl")} == {"Sure!"}


def test_a_judge_that_says_neither_yes_nor_no(fb, scripted, pictures, tmp_path, capsys):
    class Mumbles(fb.Scripted):
        def decided(self, question):
            return Decision(0.001, 0.002 if "cat" in question else 0.0005)

    scripted(Mumbles())
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert "the judge says neither yes nor no" in capsys.readouterr().err
    assert len(fb.rows(tmp_path / "out" / "pairs.jsonl")) == 4
    assert fb.command(pictures, tmp_path / "out", *fb.TWO, "--set", "scores.max_outside=0.5", "--update") == 0
    told = capsys.readouterr()
    assert "scores: quarantined: 8 neither_yes_nor_no" in told.out
    assert "no pair came out of 0 scored answers" in told.err


def test_equal_answers_are_never_paired(fb, scripted, pictures, tmp_path):
    """A judge that contradicts itself scores the same text differently."""

    class Contradicts(fb.Scripted):
        def decide(self, samples, questions):
            return [[Decision(0.1, 0.8) if k % 2 else Decision(0.9, 0.1) for k, _ in enumerate(asked)] for asked in questions]

    scripted(Contradicts(answers=(fb.DOG,)))
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert {score["value"] for score in fb.rows(tmp_path / "out" / "scores.jsonl")} == {0, -1}
    assert fb.rows(tmp_path / "out" / "pairs.jsonl") == []


def test_rows_whose_call_fails_are_quarantined_and_tried_again(fb, scripted, pictures, tmp_path, capsys):
    scripted(fb.Fails("p1.png"))
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    told = capsys.readouterr().out
    assert "judged: quarantined: 2 call_failed" in told
    assert "the same command tries them again" in told
    assert "scores: quarantined: 2 not_judged" in told
    assert len(fb.rows(tmp_path / "out" / "pairs.jsonl")) == 3
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert len(backend.judged) == 1
    assert len(fb.rows(tmp_path / "out" / "pairs.jsonl")) == 4


def test_an_endpoint_that_is_gone_stops_the_run(fb, scripted, pictures, tmp_path, capsys):
    scripted(fb.Fails(".png"))
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 75
    assert "HTTP 500 after 5 tries" in capsys.readouterr().err
    backend = scripted(fb.Scripted())
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == (0, 4)


def test_a_picture_that_breaks_later_leaves_with_its_reason(fb, scripted, pictures, tmp_path, capsys):
    (pictures / "p1.png").write_bytes(b"nothing of the kind")
    assert fb.command(pictures, tmp_path / "out", *fb.TWO) == 0
    assert "candidates: quarantined: 1 image_unreadable" in capsys.readouterr().out
    assert len(fb.rows(tmp_path / "out" / "pairs.jsonl")) == 3


def test_nothing_to_ask_is_told(fb, scripted, pictures, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert fb.command(tmp_path / "empty", tmp_path / "out") == 2
    assert "Nothing to read" in capsys.readouterr().err
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "image": "gone.png"}\n')
    assert main(["rlaif", "candidates", "--data", str(tmp_path / "rows.jsonl"), "--model", "a", "--out", str(tmp_path / "out")]) == 2
    assert "none of the 1 rows can be asked about (1 image_missing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "give either --data"),
        (["--images", "{pictures}", "--data", "{pictures}"], "give either --data"),
        (["--images", "{pictures}", "--questions", "{pictures}/no.txt"], "cannot read --questions"),
        (["--images", "{pictures}", "--set", "candidates.n=0"], "candidates.n"),
        (["--images", "{pictures}", "--set", "claims.spliter=llm"], "did you mean 'splitter'"),
        (["--images", "{pictures}", "--out", "{pictures}/out"], "choose a folder outside it"),
        (["--images", "{pictures}", "--score-reference", "--model", "openai:http://127.0.0.1:1#m"], "--score-reference needs weights"),
    ],
)
def test_impossible_wishes_are_bad_usage(scripted, pictures, tmp_path, flags, said, capsys):
    words = [flag.format(pictures=pictures) for flag in flags]
    assert main(["rlaif", "feedback", "--model", "a", "--judge", "b", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["claims", "questions", "judge", "pairs", "calibration"])
def test_a_stage_without_the_file_before_it_says_who_writes_it(tmp_path, verb, capsys):
    more = {"judge": ["--model", "a"], "calibration": ["--truth", "t"]}.get(verb, [])
    before = {"claims": "candidates", "questions": "claims", "judge": "questions", "pairs": "judge", "calibration": "judge"}[verb]
    assert main(["rlaif", verb, str(tmp_path / "nothing"), *more]) == 2
    assert f"`mmalign rlaif {before}` writes" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_folder_of_others_is_not_touched(fb, scripted, pictures, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert fb.command(pictures, tmp_path / "out") == 2
    assert "no mmalign run made" in capsys.readouterr().err


def test_a_broken_line_of_a_stages_file_is_told(fb, scripted, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert fb.command(pictures, out, *fb.TWO) == 0
    with (out / "candidates.jsonl").open("a") as file:
        file.write("{broken\n")
    assert fb.command(pictures, out, *fb.TWO) == 2
    assert "candidates.jsonl, line 9: no row of type Response" in capsys.readouterr().err
