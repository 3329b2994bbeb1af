"""VideoHallucer: upstream's numbers on its example, the bias script by hand, files of both shapes, rows that are refused."""

import json

import pytest

from mm_align.evals import build_benchmark, score
from mm_align.evals.videohallucer import FILES, says


def test_the_example_gives_upstream_s_numbers(example, published_data, said):
    folder = example("videohallucer/dev_typical")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("videohallucer", responses=folder, data=published_data("videohallucer"))
    shared = set(found["results"]) & set(expected)
    assert len(shared) == 5
    assert {name: found["results"][name] for name in shared} == {name: expected[name] for name in shared}
    assert found["flags"] == []


@pytest.mark.parametrize(
    ("text", "right"), [("YES!", True), ("yes and no", True), ("Yesterday", False), ("", False), ("the answer is yes.", True)]
)
def test_an_answer_is_a_whole_word(text, right):
    assert says("yes", text) is right


def rows(*pairs, kind="obj_rel"):
    return [{"kind": kind, "i": i, "basic_predict": basic, "halluc_predict": other} for i, (basic, other) in enumerate(pairs)]


def test_by_hand():
    """Pairs (yes, no), (yes, yes), (no, no), (no, yes): yes counts 1 + 2 = 3, no counts 1 + 2 = 3, of 4 pairs each -1/8; wrong 1 + 1 + 2,
    both yes 1: ratio 1/4; of two basic yes one is hallucinated."""
    found = score("videohallucer", rows(("Yes", "no"), ("yes", "Yes."), ("no", "No"), ("no", "yes")))
    bias = found.results["evaluation_bias_over_five_types_without_interaction"]
    assert list(bias.values())[:4] == [-1 / 8, -1 / 8, 1 / 4, 1 / 2]
    assert found.results["per_type"]["obj_rel"] == {"basic_accuracy": 0.5, "halluc_accuracy": 0.5, "accuracy": 0.25}
    assert "obj_rel: 4 of 200 pairs" in found.flags
    assert "the mean is over 1 of the six types: obj_rel" in found.flags


def test_no_right_basic_answer_is_guarded():
    found = score("videohallucer", rows(("no", "no"), kind="interaction"))
    assert found.results["evaluation_halluc_interaction"] == 0.0
    assert any("upstream raises ZeroDivisionError" in flag for flag in found.flags)


def test_upstream_s_saved_pairs_bring_their_answers(tmp_path):
    saved = [{"basic": {"predict": "yes", "answer": "yes"}, "hallucination": {"predict": "no", "answer": "no"}}]
    (tmp_path / "fact_MyModel.json").write_text(json.dumps(saved * 201))  # more than there are questions
    (tmp_path / "factdet_MyModel.json").write_text(json.dumps([{**saved[0], "basic": {"predict": "yes", "answer": "no"}}]))
    found = score("videohallucer", tmp_path)
    assert found.results["per_type"]["fact"]["accuracy"] == 1
    assert found.results["fact_score_of_factdet"] == 0.5
    assert found.raw["pairs"] == {"n": 201, "accuracy": 1}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (rows(("yes", None)), "pair 0 of obj_rel has the predictions"),
        (rows(("yes", "no")) * 2, "row 2: pair 0 of obj_rel comes twice"),
        ([{"kind": "obj_rel", "i": 900, "basic_predict": "", "halluc_predict": ""}], "pair 900 of 'obj_rel' is none of the questions"),
        ([], "no predictions of any type"),
    ],
)
def test_what_cannot_be_scored_is_named(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        score("videohallucer", given)


def test_a_folder_without_predictions_is_refused(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match="no predictions; expected files called obj_rel"):
        score("videohallucer", tmp_path)


def test_every_pair_is_asked_twice():
    samples = build_benchmark({"type": "videohallucer"}).samples()
    assert len(samples) == 2 * 1150
    assert {sample.meta["kind"] for sample in samples} == set(FILES)
    assert samples[0].messages[0].parts[0].kind == "video"
