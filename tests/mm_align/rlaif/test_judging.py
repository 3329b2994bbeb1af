"""Judging, scores, calibration: what shares a call, what is rejected, what a judge's figures come to by hand."""

import json
import math

import pytest

from data_tools.calls import Decision
from data_tools.records import Claim, Image, Message, Part, Response, Sample
from mm_align.config import UserError
from mm_align.rlaif.calibration import calibrate, read_truths
from mm_align.rlaif.judge import judge_stage, rejected
from mm_align.rlaif.scores import Scores, scores_stage


@pytest.fixture
def folder(tmp_path, picture):
    """Two pictures; the first has two prompts. Answers p:0, p:1 (no claims), q:0, r:0."""
    for name in "ab":
        picture(ord(name)).save(tmp_path / f"{name}.png")
    files = {"samples": [], "candidates": [], "questions": []}
    for name, file, answers in (("p", "a", [["one?", "two?"], []]), ("q", "a", [["three?"]]), ("r", "b", [["four?"]])):
        turn = Message("user", (Part("image"), Part("text", name)))
        files["samples"].append(Sample(name, (turn,), (Image(path=f"{file}.png"),)).to_dict())
        for j, questions in enumerate(answers):
            files["candidates"].append(Response(f"{name}:{j}", name, "text").to_dict())
            files["questions"] += [Claim(f"{name}:{j}", k, q, q).to_dict() for k, q in enumerate(questions)]
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def judged(folder, decide):
    stage = judge_stage(folder, decide, {"model": "m"})
    units = list(stage.units())
    return units, stage.work([unit.item for unit in units])


def test_all_that_is_asked_about_a_picture_is_one_call(folder):
    asked = []

    def decide(samples, questions):
        asked.extend(zip([sample.images[0].pixels.size for sample in samples], questions, strict=True))
        return [[Decision(0.6, 0.3) for _ in row] for row in questions]

    units, done = judged(folder, decide)
    assert asked == [((30, 20), ["one?", "two?", "three?"]), ((30, 20), ["four?"])]
    assert [unit.subjects for unit in units] == [("p:0", "q:0"), ("r:0",)]
    assert [(row["response_id"], row["index"], row["p_yes"], row["p_no"]) for row in done[0].rows][2] == ("q:0", 0, 0.6, 0.3)


def test_an_answer_with_a_claim_without_probability_leaves(folder):
    def decide(samples, questions):
        return [[Decision(math.nan, math.nan) if question == "two?" else Decision(0.6, 0.3) for question in row] for row in questions]

    _, (first, second) = judged(folder, decide)
    assert [(gone.subject, gone.reason) for gone in first.gone] == [("p:0", "no_probability")]
    assert [row["response_id"] for row in (*first.rows, *second.rows)] == ["q:0", "r:0"]


def test_a_broken_picture_takes_its_answers_along(folder):
    (folder / "a.png").write_bytes(b"no picture")
    _, (first, second) = judged(folder, lambda samples, questions: [[Decision(0.6, 0.3)] * len(row) for row in questions])
    assert [(gone.subject, gone.reason) for gone in first.gone] == [("p:0", "image_unreadable"), ("q:0", "image_unreadable")]
    assert len(second.rows) == 1


@pytest.mark.parametrize(
    ("yes", "no", "gone"), [(0.5, 0.4, False), (0.4, 0.5, True), (0.3, 0.3, True), (0.0, 0.0, True), (1e-9, 0.0, False)]
)
def test_a_tie_is_a_rejection(yes, no, gone):
    assert rejected(Claim("r", 0, "t", p_yes=yes, p_no=no)) is gone


# Scores


@pytest.fixture
def score(tmp_path):
    """A function: the scores of answers that are given as lists of (p_yes, p_no), or why one leaves."""

    def work(answers, left=None, questions="{i}", **options):
        sample = Sample("p").to_dict()
        (tmp_path / "samples.jsonl").write_text(json.dumps(sample) + "\n")
        rows = [Response(f"p:{j}", "p", "text").to_dict() for j in range(len(answers))]
        (tmp_path / "candidates.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        told = [Claim(f"p:{j}", i, "t", questions.format(i=i), *both) for j, row in enumerate(answers) for i, both in enumerate(row)]
        (tmp_path / "judged.jsonl").write_text("".join(json.dumps(claim.to_dict()) + "\n" for claim in told))
        stage = scores_stage(tmp_path, Scores(**options), left or {})
        done = stage.work([unit.item for unit in stage.units()])
        return [one.rows[0]["value"] if one.rows else one.gone[0].reason for one in done]

    return work


YES, NO = (0.8, 0.1), (0.1, 0.8)


def test_scores_by_hand(score):
    """Minus the rejected; and the mean of 0.8/0.9 and 0.1/0.9, which is 0.5."""
    assert score([[YES, NO, NO], [YES], [YES, NO]]) == [-2, 0, -1]
    assert score([[YES, NO], [YES]], by="p_yes") == [pytest.approx(0.5), pytest.approx(8 / 9)]


def test_an_answer_without_claims(score):
    assert score([[], [YES]]) == ["no_claims", 0]
    assert score([[], [NO]], zero_claims="zero") == [0, -1]
    assert score([[]], zero_claims="zero", by="p_yes") == [1]


def test_an_answer_that_left_before_is_not_one_without_claims(score):
    assert score([[], []], left={"p:0": "claims: split_failed"}, zero_claims="zero") == ["not_judged", 0]


def test_what_says_neither_yes_nor_no_leaves_where_asked(score):
    """0.05 + 0.04 leaves 0.91 outside."""
    assert score([[(0.05, 0.04), YES]]) == [0]
    assert score([[(0.05, 0.04), YES], [YES]], max_outside=0.9) == ["neither_yes_nor_no", 0]
    assert score([[(0.05, 0.04), YES]], max_outside=0.92) == [0]
    assert score([[(0.0, 0.0)]], by="p_yes") == ["not_a_number"]


def test_equal_questions_leave_where_asked(score):
    assert score([[YES, NO]], questions="same?") == [-1]
    assert score([[YES, NO], [YES]], questions="same?", duplicate_claims_drop=True) == ["duplicate_claims", 0]


# Calibration


def claim(number, p, of=1.0):
    return Claim("r", number, "t", p_yes=p * of, p_no=(1 - p) * of)


def test_calibration_by_hand():
    """Two bins: 0.2 and 0.4 of which one of two is true, |0.5 - 0.3| = 0.2; 0.9 and 0.7, both true, |1 - 0.8| = 0.2. ECE 0.2.

    Accepted are the last two; wrong is the true one among the first two: agreement 3/4, of the true ones 2/3, of the false ones 1.
    With half of the probability outside p stays the same, and outside is 0.5.
    """
    judged = [claim(0, 0.2, 0.5), claim(1, 0.4, 0.5), claim(2, 0.9, 0.5), claim(3, 0.7, 0.5), claim(4, 0.5, 0.5)]
    truths = {("r", 0): False, ("r", 1): True, ("r", 2): True, ("r", 3): True, ("s", 0): True}
    found = calibrate(judged, truths, bins=2)
    assert (found.n, found.true, found.unknown) == (4, 3, 1)
    assert found.ece == pytest.approx(0.2)
    assert found.agreement == pytest.approx(0.75)
    assert found.balanced == pytest.approx((2 / 3 + 1) / 2)
    assert found.outside == pytest.approx(0.5)
    assert [(one.n, one.mean, one.true) for one in found.bins] == [(2, pytest.approx(0.3), 0.5), (2, pytest.approx(0.8), 1.0)]


def test_a_certain_claim_is_in_the_last_bin():
    assert calibrate([claim(0, 1.0)], {("r", 0): True}).bins[0].low == 0.9


def test_truths_that_fit_nothing_are_told():
    with pytest.raises(UserError, match="none of the 1 judged claims has a truth"):
        calibrate([claim(0, 0.5)], {})


@pytest.mark.parametrize("line", ["{", "[1]", '{"response_id": "r", "index": 0}', '{"response_id": "r", "index": 0, "true": 1}'])
def test_a_broken_line_of_truths_is_told(tmp_path, line):
    path = tmp_path / "truths.jsonl"
    path.write_text('{"response_id": "r", "index": 0, "true": true}\n\n' + line + "\n")
    with pytest.raises(UserError, match="line 3"):
        read_truths(path)
