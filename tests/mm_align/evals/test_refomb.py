"""RefoMB: upstream's numbers on its example, which verdict counts, rows without one, rows that are refused."""

import json

import pytest

from data_tools.records import Response
from mm_align.evals import build_benchmark, score
from mm_align.evals.judged import OWN_WORDS
from mm_align.evals.judges import ModelJudge
from mm_align.evals.refomb import RefombBenchmark, verdict_of


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
    ("reply", "verdict"),
    [
        ("[[A]] or [[B]]", -1),
        ("[[a]] [[ B ]] so [[B]]", 1),
        ('If A is better output "[[A]]". My verdict: [[C]]', -1),
        ("[[C]]", 0),
        ("[[AB]] [A]", None),
    ],
)
def test_the_first_verdict_counts(reply, verdict):
    assert verdict_of(reply) == verdict


def case(folder, *replies):
    folder.mkdir(exist_ok=True)
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
    found = score("refomb", case(tmp_path, ["[[B]]"], ["none", "[[a]]"]))
    assert found.results["verdicts"] == {"1": 1, "0": 0, "-1": 0}
    assert found.raw["judge"]["unread"] == 1
    assert "1 questions have no verdict and are left out (1 for one)" in found.flags[1]
    with pytest.raises(ValueError, match="no row has a judge's verdict"):
        score("refomb", case(tmp_path, ["none"]))


def test_answers_find_their_question(tmp_path):
    case(tmp_path, ["[[A]]"], ["[[B]]"])
    rows = [{"question": "q1", "image_url": "http://x/1.png", "answer": "x"}]
    (tmp_path / "replies.json").write_text('{"1": "[[B]]"}')
    replies = str(tmp_path / "replies.json")
    assert score("refomb", rows, tmp_path, judge_replies=replies).results["per_row_score"] == {"1": 1}
    again = score("refomb", [*rows, {**rows[0], "question": "other"}, *rows], tmp_path, judge_replies=replies)
    assert again.results["per_row_score"] == {"1": 1}
    assert [flag.partition(" answers")[0] for flag in again.flags[:2]] == [
        "1 rows answer no question and are left out (row 2 for one), as upstream does",
        "row 3",
    ]
    with pytest.raises(ValueError, match="row 1 answers no question"):
        score("refomb", [{**rows[0], "question": "other"}], tmp_path, judge_replies=replies)
    with pytest.raises(ValueError, match="judged by a model: give its replies"):
        score("refomb", rows, tmp_path)


def test_the_last_of_several_answers_counts_and_missing_ones_stop(tmp_path):
    """As upstream, which raises KeyError for a question without an answer."""
    case(tmp_path, ["[[A]]"], ["[[B]]"])
    replies = str(tmp_path / "judge_replies_by_row.json")
    with pytest.raises(ValueError, match="question 0 has a judge's reply and no answer"):
        score("refomb", [{"row": 1, "answer": "x"}], tmp_path, judge_replies=replies)
    with pytest.raises(ValueError, match="row 2: the answer is None"):
        score("refomb", [{"row": 0, "answer": "x"}, {"row": 1, "answer": None}], tmp_path, judge_replies=replies)


@pytest.mark.parametrize("model_a", ["GPT-4V", "mine"])
def test_a_live_judge_compares_with_gpt_4v_s_answers_and_counts_hallucinations(tmp_path, model_a):
    """Two pairs; the judge prefers the one whose answer is good, whichever side it is on; the second pass always says A."""
    rows = [{"question": f"q{i}", "image_url": f"{i}.png", "type": "OCR", "description": "{d}", "answer": f"theirs {i}"} for i in range(2)]
    (tmp_path / "gpt4v_RefoMB_dev_0521.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = []

    def generate(samples, sampling):
        asked.extend(sample.messages[0].parts[0].text for sample in samples)
        side = ["[[A]]" if "Review:" in p else "[[B]]" if "good" in p.partition("Answer of model B:")[2] else "[[A]]" for p in asked]
        return [Response("r", sample.id, f"So {said}") for sample, said in zip(samples, side[-len(samples) :], strict=True)]

    benchmark = RefombBenchmark(str(tmp_path), model_a=model_a, model_b="mine" if model_a == "GPT-4V" else "GPT-4V")
    benchmark.judge = ModelJudge(generate, {"model": "m"})
    found = benchmark.report(benchmark.read([{"row": 0, "answer": "good"}, {"row": 1, "answer": "bad"}]))
    assert list(found.results["per_row_score"].values()) == ([1, -1] if model_a == "GPT-4V" else [-1, -1])
    assert found.results["hallucination_pass"]["score_full"] == 0
    assert found.flags[-1] == OWN_WORDS
    assert "{d}" in asked[0]
    bare = RefombBenchmark(str(case(tmp_path / "other", ["[[A]]"]) / "RefoMB_dev.jsonl"))
    bare.judge = benchmark.judge
    with pytest.raises(ValueError, match="a judge compares with GPT-4V's answers"):
        bare.report(bare.read([{"row": 0, "answer": "x"}]))


def test_reviews_say_who_was_compared(tmp_path):
    rows = [{"review": "[[B]]", "type_name": "OCR", "image": 4, "modelA": "mine", "modelB": "GPT-4V"}]
    (tmp_path / "A-mine_B-GPT-4V.json").write_text(json.dumps(rows))
    found = score("refomb", tmp_path).results
    assert (found["json_to_excel_row"]["model A"], found["per_row_score"]) == ("mine", {"4": 1})


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds none of model_answers\.jsonl"):
        score("refomb", tmp_path)
    with pytest.raises(ValueError, match="give data"):
        build_benchmark({"type": "refomb"}).samples()
    (tmp_path / "RefoMB_dev.jsonl").write_text('{"id": 1}')
    with pytest.raises(ValueError, match="no question file of RefoMB"):
        build_benchmark({"type": "refomb", "data": str(tmp_path)}).samples()
