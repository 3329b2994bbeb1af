"""EventHallusion: upstream's numbers on its example, how predictions and judgements are read, guarded and refused input."""

import json

import pytest

from data_tools.records import Response
from mm_align.evals import build_benchmark, score
from mm_align.evals.eventhallusion import yes_no_of
from mm_align.evals.judges import ModelJudge


def test_the_example_gives_upstream_s_numbers(example, published_data, said):
    folder = example("eventhallusion/dev_made_up")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("eventhallusion", responses=folder, data=published_data("nc_only/eventhallusion"))
    assert found["results"] == expected["eval_py"]
    assert found["printed"] == expected["printed"]
    assert len(build_benchmark({"type": "eventhallusion", "data": str(published_data("nc_only/eventhallusion"))}).samples()) > 400


@pytest.mark.parametrize(
    ("said_", "read"), [("YES!", "Yes."), ("Nothing", "No."), (" yes", None), ("**No**", None), (None, None), ("", None)]
)
def test_a_prediction_starts_with_yes_or_no(said_, read):
    assert yes_no_of(said_) == read


def told(folder, **splits):
    (folder / "predictions.json").write_text(json.dumps(splits))
    return folder / "predictions.json"


def video(prediction, judgement="Yes", answer="No."):
    return {"v": {"qa": [{"answer": answer, "prediction": prediction}], "judgement": judgement}}


def test_by_hand(tmp_path):
    """entire: right, judged **Yes**. misleading: unmatched, judged no. Questions 1/2, descriptions 1/2, not matching 1/2 and 0."""
    found = score("eventhallusion", told(tmp_path, entire=video("no, never", "**Yes**"), misleading=video(None, "No.")))
    assert found.results["overall_qs"] == {"n": 2, "correct": 1, "acc": 0.5}
    assert found.results["overall_desc"]["acc"] == 0.5
    assert found.results["not_matching"] == {"ques": 0.5, "desc": 0.0}
    assert [item.score for item in found.items] == [1, 0]


def test_an_empty_split_is_guarded_and_questions_alone_are_scored(tmp_path):
    found = score("eventhallusion", told(tmp_path, entire=video("no"), interleave={}))
    assert found.results["interleave_qs"] == {"n": 0, "correct": 0, "acc": 0.0}
    assert "upstream raises ZeroDivisionError" in found.flags[0]
    alone = {"v": {"qa": [{"answer": "No.", "prediction": "no"}]}}
    found = score("eventhallusion", told(tmp_path, entire=alone))
    assert list(found.results) == ["entire_qs", "overall_qs", "not_matching"]
    assert "only questions are scored" in found.flags[0]


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        (video("no", None), "video 'v' of entire has the judgement None"),
        (video(3), "video 'v' of entire, question 1: expected answer and prediction"),
        ({"v": {}}, "video 'v' of entire has no list `qa`"),
        ([], "expected {split"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, split, sentence):
    with pytest.raises(ValueError, match=sentence):
        score("eventhallusion", told(tmp_path, entire=split))


def described(desc: str, **event: str) -> dict:
    return {"v": {"qa": [{"answer": "No.", "prediction": "no"}], "desc": desc, "event_info": event}}


def test_descriptions_are_judged_by_replies(tmp_path):
    path = told(tmp_path, entire=described("a dog barks", caption="A dog barks."), interleave=described("", unexpected="It falls."))
    assert "only questions are scored" in score("eventhallusion", path).flags[0]
    (tmp_path / "judge_replies.json").write_text(json.dumps({"entire/v": ["perhaps", "**Yes**, it does"]}))
    found = score("eventhallusion", path)  # replies beside the responses
    assert found.results["overall_desc"] == {"n": 2, "correct": 1, "acc": 0.5}
    assert found.results["not_matching"] == {"ques": 0, "desc": 0.5}  # nobody is asked about an empty description
    with pytest.raises(ValueError, match=r"event_info\.unexpected have to be texts"):
        score("eventhallusion", told(tmp_path, interleave=described("it falls")))


def test_asked_for_descriptions_and_judged_by_a_model(tmp_path):
    video = {"id": "v", "event_info": {"caption": "A dog barks."}, "questions": [{"question": "Does it bark?", "answer": "Yes."}]}
    (tmp_path / "entire_questions.json").write_text(json.dumps([video]))
    benchmark = build_benchmark({"type": "eventhallusion", "data": str(tmp_path), "descriptions": True})
    described, asked = benchmark.samples()
    assert described.messages[0].parts[1].text == "Please describe this video in detail."
    assert asked.messages[0].parts[1].text == "Does it bark?\nPlease answer yes or no:"
    prompts = []

    def generate(samples, sampling):
        prompts.extend(sample.messages[0].parts[0].text for sample in samples)
        return [Response("r", sample.id, "No, it does not.") for sample in samples]

    benchmark.judge = ModelJudge(generate, {"name": "a judge"})
    said = {described.id: Response("r", described.id, "A cat."), asked.id: Response("r", asked.id, "Yes")}
    found = benchmark.report(benchmark.answers(said))
    assert (found.results["overall_qs"]["acc"], found.results["overall_desc"]) == (1, {"n": 1, "correct": 0, "acc": 0})
    assert prompts[0].endswith("Description: A cat.\n\nEvent in the video: A dog barks.\n")
    assert any("this project's wording" in flag for flag in found.flags)


def test_to_ask_it_needs_its_questions(tmp_path):
    with pytest.raises(ValueError, match="give data"):
        build_benchmark({"type": "eventhallusion"}).samples()
    with pytest.raises(ValueError, match=r"holds no entire_questions\.json"):
        build_benchmark({"type": "eventhallusion", "data": str(tmp_path)}).samples()
