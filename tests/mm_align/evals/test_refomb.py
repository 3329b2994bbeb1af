"""RefoMB: upstream's numbers on its example, which verdict counts, rows without one, rows that are refused."""

import json

import pytest

from mm_align.evals import build_benchmark, score
from mm_align.evals.refomb import first_verdict


@pytest.mark.parametrize("responses", ["", "model_answers.jsonl", "reviews.jsonl"])
def test_the_example_gives_upstream_s_numbers(example, published_data, said, responses):
    folder = example("refomb/dev_model_as_B")
    expected = json.loads((folder / "expected.json").read_text())
    more = {"judge_replies": folder / "judge_replies_by_row.json"} if responses == "model_answers.jsonl" else {}
    found = said("refomb", responses=folder / responses, data=published_data("nc_only/refomb"), set="options.model_b=made_up", **more)[
        "results"
    ]
    names = ("printed_score", "score_full", "verdicts", "per_type_win_loss_tie_for_B", "json_to_excel_row", "per_row_score")
    assert {name: found[name] for name in names} == {name: expected[name] for name in names}
    assert found["hallucination_pass"]["printed_score"] == expected["hallucination_pass"]["printed_score"]


@pytest.mark.parametrize(
    ("replies", "verdict"),
    [
        (["[[A]] or [[B]]"], -1),
        (["[[a]]", "[[ B ]]", "so [[B]]"], 1),
        (['If A is better output "[[A]]". My verdict: [[C]]'], -1),
        (["[[C]]"], 0),
    ],
)
def test_the_first_verdict_counts(replies, verdict):
    assert first_verdict(replies)[1] == verdict


def case(folder, *replies):
    rows = [{"question": f"q{i}", "image_url": f"http://x/{i}.png", "type": "OCR" if i else "Cooking"} for i in range(len(replies))]
    (folder / "RefoMB_dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "judge_replies_by_row.json").write_text(json.dumps({str(i): reply for i, reply in enumerate(replies)}))
    (folder / "answers.jsonl").write_text("\n".join(json.dumps({"row": i, "answer": "x"}) for i in range(len(replies))))
    return folder


def test_by_hand(tmp_path):
    """B, A, C: (1 + 0 + 1/2) / 3; a type that upstream does not know is in no column of its table."""
    found = score("refomb", case(tmp_path, ["[[B]]"], ["[[A]]"], ["[[C]]"]))
    assert found.results["score_full"] == 0.5
    assert found.results["per_type_win_loss_tie_for_B"] == {"Cooking": [1, 0, 0], "OCR": [0, 1, 1]}
    assert found.results["json_to_excel_row"]["ALL Check"] == 2
    assert found.printed == ("Score is 0.500",)


def test_replies_without_a_verdict_are_left_out_and_told(tmp_path):
    found = score("refomb", case(tmp_path, ["[[B]]"], ["none"]))
    assert found.results["verdicts"] == {"1": 1, "0": 0, "-1": 0}
    assert "question 1: no reply has a verdict" in found.flags[0]
    with pytest.raises(ValueError, match="no row has a judge's verdict"):
        score("refomb", case(tmp_path, ["none"]))


def test_answers_find_their_question(tmp_path):
    case(tmp_path, ["[[A]]"], ["[[B]]"])
    rows = [{"question": "q1", "image_url": "http://x/1.png", "answer": "x"}]
    replies = str(tmp_path / "judge_replies_by_row.json")
    assert score("refomb", rows, tmp_path, judge_replies=replies).results["per_row_score"] == {"1": 1}
    with pytest.raises(ValueError, match="row 1 answers no question"):
        score("refomb", [{**rows[0], "question": "other"}], tmp_path, judge_replies=replies)
    with pytest.raises(ValueError, match="row 1: no judge's reply for question 1"):
        score("refomb", rows, tmp_path)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds none of model_answers\.jsonl"):
        score("refomb", tmp_path)
    with pytest.raises(ValueError, match="give data"):
        build_benchmark({"type": "refomb"}).samples()
    (tmp_path / "RefoMB_dev.jsonl").write_text('{"id": 1}')
    with pytest.raises(ValueError, match="no question file of RefoMB"):
        build_benchmark({"type": "refomb", "data": str(tmp_path)}).samples()
