"""POPE: upstream's numbers on its example, each evaluator's reading of odd answers, and responses that cannot be scored."""

import json
from pathlib import Path

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import PopeBenchmark, score
from mm_align.evals.pope_rules import opera_says_yes, says_yes

BLOCKS = {
    "official": "rucaibox_evaluate_py",
    "vcd": "vcd_eval_pope_py",
    "opera": "opera_pope_eval_py",
    "lmms-eval": "lmms_eval_pope_utils",
    "vlmevalkit": "vlmevalkit_yorn",
}


@pytest.mark.parametrize("flavor", BLOCKS)
def test_the_example_gives_upstream_s_numbers(example, said, flavor):
    folder = example("pope/dev_popular_120")
    expected = json.loads((folder / "expected.json").read_text())[BLOCKS[flavor]]
    found = said("pope", responses=folder / "answers.jsonl", data=folder / "labels.jsonl", flavor=flavor)
    assert found["results"] == {name: pytest.approx(expected[name], abs=1e-12) for name in found["results"]}
    assert found["flags"] == []
    if "stdout" in expected:
        assert "\n".join(found["printed"]) + "\n" == expected["stdout"]
        assert expected.get("TP", found["raw"]["tp"]) == found["raw"]["tp"]


@pytest.mark.parametrize(
    ("answer", "official", "opera"),
    [
        ("", True, True),
        ("NO", True, False),
        ("No\n", True, True),
        ("No, it is not.", False, False),
        ("There is no dog", False, False),
        ("Nope", True, True),
        ("It isn't there", True, False),
        (".No", True, False),
        ("Yes. There is no cat", True, False),
        ("no\u00a0dog", True, True),
    ],
)
def test_what_is_a_no(answer, official, opera):
    assert says_yes(answer) is official
    assert opera_says_yes(answer) is opera


def questions(folder: Path, split: str = "random", labels: str = "ynyn") -> Path:
    words = {"y": "yes", "n": "no"}
    rows = [
        {"question_id": i, "image": f"{split}{i}.jpg", "text": f"Is there a {split} {i} in the image?", "label": words[label]}
        for i, label in enumerate(labels, 1)
    ]
    path = folder / f"coco_pope_{split}.json"
    path.write_text("\r\n".join(map(json.dumps, rows)))
    return path


def rows(*texts: str, **more: object) -> list[dict]:
    return [{"question_id": i, "answer": text, **more} for i, text in enumerate(texts, 1)]


def test_by_hand_and_pairs_beyond_the_shorter_are_dropped(tmp_path):
    """Labels y n y n, answers y y n n y: TP 1, FP 1, FN 1, TN 1 of four pairs; yes ratio 3 of FIVE answers."""
    found = score("pope", rows("yes", "yes", "no", "no", "yes"), questions(tmp_path))
    assert found.results == {"acc": 0.5, "precision": 0.5, "recall": 0.5, "f1": 0.5, "yes_ratio": 0.6}
    assert any("5 answers for 4 questions" in flag for flag in found.flags)


def test_divisions_that_stop_upstream_are_guarded_and_told(tmp_path):
    found = score("pope", rows("no", "no", "no", "no"), questions(tmp_path))
    assert (found.results["precision"], found.results["f1"], found.results["acc"]) == (0.0, 0.0, 0.5)
    assert [flag.partition(":")[0] for flag in found.flags] == ["precision", "f1"]


def test_responses_find_their_file_among_several(tmp_path):
    for split in ("random", "popular"):
        questions(tmp_path, split)
    four = rows("yes", "no", "yes", "no")
    told = [{**row, "question": f"Is there a popular {row['question_id']} in the image?"} for row in four]
    assert score("pope", told, tmp_path).items[0].kind == "popular"
    assert score("pope", four, tmp_path, split="random").results["acc"] == 1
    with pytest.raises(ValueError, match="popular, random; name one with the option `split`"):
        score("pope", four, tmp_path)


def test_splits_told_by_a_field_are_scored_apart(tmp_path):
    for split in ("random", "popular"):
        questions(tmp_path, split)
    both = rows("yes", "no", "yes", "no", category="random") + rows("yes", "yes", "yes", "yes", category="popular")
    found = score("pope", both, tmp_path)
    assert found.results["random"]["acc"] == 1
    assert (found.results["popular"]["acc"], found.results["acc"]) == (0.5, 0.75)


def test_asked_and_scored_by_its_own_samples(tmp_path):
    benchmark = PopeBenchmark(str(questions(tmp_path)), images="pictures")
    samples = benchmark.samples()
    assert samples[0].images[0].path == "pictures/random1.jpg"
    assert samples[0].messages[0].parts[1].text.startswith("Is there a random 1")
    said = {sample.id: Response("r", sample.id, sample.meta["label"].title()) for sample in samples}
    assert benchmark.score(said)["f1"] == 1
    assert benchmark.score({})["yes_ratio"] == 1  # an empty answer is a yes
    assert len(PopeBenchmark(limit=5).samples()) == 15


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ("[]", "holds no answers"),
        ('{"question_id": 1, "answer": null}', "row 1: the answer is None"),
        ('{"question_id": 1, "answer": "no"}\n{"question_id": 2, "answer": 3}', "row 2: the answer is 3"),
        ('{"question_id": 1, "label": "no"}', "no answer in it; expected one of the fields prediction, pred"),
        ('{"question_id": 1, "answer": "no"}\nnonsense', "line 2: no JSON"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, content, sentence):
    (tmp_path / "said.jsonl").write_text(content)
    assert main(["score", "pope", "--responses", str(tmp_path / "said.jsonl"), "--data", str(questions(tmp_path)), "--json"]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""


def test_vcd_wants_the_ids_in_order_and_another_benchmark_s_file_is_refused(tmp_path):
    swapped = [{"question_id": 2, "text": "no"}, {"question_id": 1, "text": "no"}]
    with pytest.raises(ValueError, match="row 1 answers question 2, but 1 is next"):
        score("pope", swapped, questions(tmp_path, labels="nn"), flavor="vcd")
    other = tmp_path / "amber.json"
    other.write_text('[{"id": 1, "truth": "yes"}]')
    with pytest.raises(ValueError, match="no question file of POPE"):
        score("pope", rows("no"), other)
    with pytest.raises(ValueError, match="no flavor 'x'; there are official, llava, vcd"):
        score("pope", rows("no"), flavor="x")


def test_a_very_long_answer_is_scored(tmp_path):
    assert score("pope", rows("word " * 20_000 + "no"), questions(tmp_path, labels="n")).results["acc"] == 1


def test_a_sheet_of_vlmevalkit_brings_its_labels(tmp_path, said):
    """Numbers of VLMEvalKit's POPE_rating on these rows; those of several categories count in each, and all together make the whole."""
    told = [
        ("Yes", "random", "Yes."),
        ("No", "random,popular", "No, there is not"),
        ("Yes", "random,popular,adversarial", "yes and no"),
        ("No", "adversarial", None),
        ("No", "popular", "yes"),
        ("Yes", "popular", "It is yes"),
        ("No", "adversarial", "no"),
        ("Yes", "adversarial", "**Yes**"),
    ]
    rows = [{"index": i, "answer": a, "category": c, "prediction": p} for i, (a, c, p) in enumerate(told)]
    path = tmp_path / "model_POPE.json"
    path.write_text(json.dumps(rows))
    assert said("pope", responses=path, flavor="vlmevalkit")["results"] == {
        "Overall": 44.44444444444444,
        "acc": 45.45454545454545,
        "precision": 66.66666666666666,
        "recall": 33.33333333333333,
        "random": {"Overall": 66.66666666666666, "acc": 66.66666666666666, "precision": 100.0, "recall": 50.0},
        "popular": {"Overall": 50.0, "acc": 50.0, "precision": 50.0, "recall": 50.0},
        "adversarial": {"Overall": 0.0, "acc": 25.0, "precision": 0.0, "recall": 0.0},
    }


def test_of_a_repeated_index_vlmevalkit_keeps_the_last_answer():
    told = [
        {"index": i, "answer": "Yes", "category": c, "prediction": p}
        for i, c, p in ((0, "random", "no"), (1, "random", "no"), (0, "popular", "yes"))
    ]
    found = score("pope", told, flavor="vlmevalkit").results
    assert (found["acc"], found["random"]["acc"], found["popular"]["acc"]) == (pytest.approx(200 / 3), 50, 100)


def test_llava_s_answers_by_the_category_of_their_question(tmp_path):
    """Ids run on over the files, as in llava_pope_test.jsonl; lines as LLaVA's script prints them."""
    for split in ("random", "popular"):
        questions(tmp_path, split)
    asked = [{"question_id": i, "text": "?", "category": "random" if i > 4 else "popular"} for i in range(1, 9)]
    (tmp_path / "llava_pope_test.jsonl").write_text("\n".join(map(json.dumps, asked)))
    said = [
        {"question_id": i, "prompt": "?", "text": text}
        for i, text in enumerate(("Yes", "Yes", "no", "No, sir", "yes", "no", "a", "not"), 1)
    ]
    found = score("pope", said, tmp_path, flavor="llava")
    assert (found.results["popular"]["acc"], found.results["random"]["acc"]) == (0.5, 1.0)
    assert found.printed[:9] == (
        "Category: popular, # samples: 4",
        "TP\tFP\tTN\tFN\t",
        "1\t1\t1\t1",
        "Accuracy: 0.5",
        "Precision: 0.5",
        "Recall: 0.5",
        "F1 score: 0.5",
        "Yes ratio: 0.5",
        "0.500, 0.500, 0.500, 0.500, 0.500",
    )
    assert found.printed[9:11] == ("=" * 36, "Category: random, # samples: 4")


def test_an_lmms_eval_log_brings_its_labels(tmp_path, said):
    log = [
        {"doc_id": i, "doc": {"question_id": i, "answer": truth}, "filtered_resps": [text]}
        for i, (truth, text) in enumerate((("yes", "Yes"), ("no", "No."), ("no", "yes")))
    ]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, log)))
    found = said("pope", responses=tmp_path / "samples.jsonl", flavor="lmms-eval")["results"]
    assert found == {"accuracy": 1 / 3, "precision": 0.5, "recall": 1, "f1_score": 2 / 3, "yes_ratio": 1 / 3}
    assert said("pope", responses=tmp_path / "samples.jsonl")["results"]["acc"] == 2 / 3


def test_labels_that_are_neither_yes_nor_no(tmp_path):
    """VCD warns and counts the answer among all; lmms-eval asserts; for RUCAIBox it is a yes."""
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join(json.dumps({"question_id": i, "label": label}) for i, label in enumerate(("yes", "maybe", "No"), 1)))
    found = score("pope", rows("yes", "yes", "no"), path, flavor="vcd")
    assert (found.results["Accuracy"], found.results["unknow"]) == (2 / 3, 1 / 3)
    assert found.printed[0] == "Warning: unknown gt_answer: maybe"
    assert score("pope", rows("yes", "yes", "no"), path).results["acc"] == 2 / 3
    with pytest.raises(ValueError, match="question 2 has the label 'maybe'"):
        score("pope", rows("yes", "yes", "no"), path, flavor="lmms-eval")


def test_the_folder_of_a_response_file(tmp_path):
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, rows("yes", "no"))))
    assert score("pope", tmp_path, questions(tmp_path, labels="yn")).results["acc"] == 1
    assert score("pope", tmp_path, tmp_path).results["acc"] == 1  # questions and answers in one folder
    (tmp_path / "answers.jsonl").rename(tmp_path / "said.jsonl")
    with pytest.raises(ValueError, match=r"holds no response file: expected answers\.jsonl"):
        score("pope", tmp_path)
