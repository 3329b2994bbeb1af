"""MME: three evaluators' numbers on upstream's example and on odd answers, upstream's files, subsets, and what is refused."""

import json
from pathlib import Path

import pytest

from mm_align.cli import main
from mm_align.evals import MmeBenchmark, score
from mm_align.evals.mme import TASKS
from mm_align.evals.mme_rules import first_four, lmms_eval_reading


def agree(found: dict, expected: dict) -> bool:
    return all(agree(found[key], value) if isinstance(value, dict) else found[key] == value for key, value in expected.items())


@pytest.mark.parametrize(
    ("flavor", "block"), [("official", "official_calculation"), ("lmms-eval", "lmms_eval"), ("vlmevalkit", "vlmevalkit")]
)
def test_the_example_gives_upstream_s_numbers(example, said, flavor, block):
    folder = example("mme/dev_mixed")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("mme", responses=folder / "rows.jsonl", flavor=flavor)
    assert agree(found["results"], expected[block])
    assert found["flags"] == []
    if flavor == "official":
        assert agree(found["results"]["totals"], expected["totals"])
        assert agree(found["raw"]["detail_hallucination_subset"], expected["detail_hallucination_subset"])
        assert found["printed"][1] == "total score: 986.0831332533013 "
        assert said("mme", responses=folder, flavor=flavor)["results"] == found["results"]


@pytest.mark.parametrize(
    ("answer", "official", "lmms_eval"),
    [
        ("Yes", "yes", "yes"),
        ("    no", "other", "no"),
        ("   yes", "other", "yes"),
        ("snow", "no", "no"),
        ("none", "no", "no"),
        ("No, yes", "no", "no"),
        ("a yes", "other", "other"),
        ("Y", "other", "yes"),
        ("n.o.", "other", "no"),
        ("", "other", "other"),
        ("yes\n", "yes", "yes"),
    ],
)
def test_how_an_answer_is_read(answer, official, lmms_eval):
    assert first_four(answer) == official
    assert lmms_eval_reading(answer) == lmms_eval


def rows(*answers: str, task: str = "count", **more: object) -> list[dict]:
    """Two questions an image, yes then no."""
    fields = [
        {"category": task, "image_name": f"{i // 2}.png", "question": "?", "annotation": "No" if i % 2 else "Yes"}
        for i in range(len(answers))
    ]
    return [{**field, "answer": answer, **more} for field, answer in zip(fields, answers, strict=True)]


def everywhere(*answers: str) -> list[dict]:
    return [row for task in TASKS for row in rows(*answers, task=task)]


def test_by_hand(tmp_path):
    """Images (right, right), (right, wrong), (other, right): acc 4/6, acc+ 1/3, so 100 a task; of yes and no TP 2, TN 2, FP 1."""
    found = score("mme", everywhere("Yes", "No", "yes", "yes", "hm", "now"))
    assert found.results["Perception-count"] == pytest.approx(100)
    assert found.results["totals"]["perception"] == pytest.approx(1000)
    assert found.results["totals"]["hallucination_subset_existence_count_position_color"] == pytest.approx(400)
    assert found.raw["detail"]["OCR"] == {
        **{"TP": 2, "FN": 0, "TN": 2, "FP": 1, "precision": 2 / 3, "recall": 1.0, "other_num": 1},
        **{"acc": 4 / 6, "acc_plus": 1 / 3},
    }
    assert sum(item.score for item in found.items) / len(found.items) == found.raw["accuracy"] == pytest.approx(4 / 6)


def test_odd_answers_give_the_evaluators_own_digits():
    odd = everywhere("Yes", "No", " yes", "y.", "none", "now, no")
    assert score("mme", odd).results["totals"]["perception"] == 999.9999999999999
    assert score("mme", odd, flavor="lmms-eval").results["mme_perception_score"] == 1000
    assert score("mme", odd, flavor="vlmevalkit").results["reasoning"] == 399.99999999999994


def test_a_task_without_yes_and_no_is_guarded_and_told():
    answers = [row for task in TASKS for row in rows("hm" if task == "OCR" else "Yes", "hm" if task == "OCR" else "No", task=task)]
    found = score("mme", answers)
    assert found.results["Perception-OCR"] == 0
    assert found.results["Perception-scene"] == 200
    assert "OCR: no answer is yes or no" in found.flags[0]


def test_subsets(tmp_path):
    four = [row for row in everywhere("Yes", "No") if row["category"] in ("existence", "count", "position", "color")]
    with pytest.raises(ValueError, match="no answers for posters, celebrity, .* option `subset`"):
        score("mme", four)
    found = score("mme", four, subset="hallucination")
    assert found.results["totals"] == {"hallucination_subset_existence_count_position_color": 800}
    assert score("mme", everywhere("Yes", "No"), subset="color,OCR").results["Perception-color"] == 200
    assert score("mme", four, flavor="lmms-eval").results["mme_perception_score"] == 800
    assert score("mme", four, flavor="vlmevalkit", subset="count").results["count"] == 200
    with pytest.raises(ValueError, match="no subset or task 'colour'"):
        score("mme", four, subset="colour")


def results_folder(folder: Path, lines: str) -> Path:
    for task in TASKS:
        (folder / f"{task}.txt").write_text(lines)
    return folder


def test_upstream_s_result_files_are_paired_by_lines(tmp_path, said):
    """The same image twice in a row makes two pairs of lines, where rows would have four answers for one image."""
    lines = "a.png\tIs it?\tYes\tYes\r\na.png\tIs it not?\tNo\tno, it is\na.png\tIs it?\tYes\tNo\na.png\tIs it not?\tNo\tNo\n"
    found = said("mme", responses=results_folder(tmp_path, lines))
    assert found["results"]["Perception-count"] == 75 + 50
    with pytest.raises(ValueError, match=r"existence\.txt, line 2: expected image, question, truth and answer"):
        score("mme", results_folder(tmp_path, "a\tb\tYes\tYes\na\tb"))


def test_files_of_the_ports_are_read(tmp_path):
    log = [
        {"doc": {"question_id": "count/0.png", "category": "count", "answer": truth}, "filtered_resps": [said]}
        for truth, said in (("Yes", "y"), ("No", "n."))
    ]
    (tmp_path / "samples.json").write_text(json.dumps(log))
    assert score("mme", tmp_path / "samples.json", flavor="lmms-eval").results["per_category"] == {"count": 200}
    sheet = [
        {"index": i, "category": "count", "image_path": "0.png", "answer": truth, "prediction": said}
        for i, (truth, said) in enumerate((("Yes", "Yes."), ("No", "Never")))
    ]
    assert score("mme", sheet, flavor="vlmevalkit", subset="count").results["count"] == 50


def test_asked_by_upstream_s_files(tmp_path):
    data = results_folder(
        tmp_path,
        "0.png\tIs it? Please answer yes or no.\tYes\n0.png\tIs it not? Please answer yes or no.\tNo\n1.png\ta\tNo\n1.png\tb\tNo\n",
    )
    (tmp_path / "OCR" / "images").mkdir(parents=True)
    (tmp_path / "OCR" / "images" / "0.png").touch()
    benchmark = MmeBenchmark(str(data), images=str(tmp_path), subset="OCR,count", limit=1)
    samples = benchmark.samples()
    assert [sample.id for sample in samples] == ["count/0.png/0", "count/0.png/1", "OCR/0.png/0", "OCR/0.png/1"]
    assert samples[2].images[0].path == str(tmp_path / "OCR" / "images" / "0.png")
    assert samples[0].messages[0].parts[1].text == "Is it?\nAnswer the question using a single word or phrase."
    told = score("mme", [{"answer": "Yes"}, {"answer": "Yes"}, {"answer": "no"}, {"answer": "no"}], str(data), subset="count")
    assert told.results["Perception-count"] == 75 + 50


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([{"answer": "Yes"}], "row 1 has no `category`"),
        ([{"category": "count", "answer": "Yes"}], "row 1: expected category, image_name"),
        (rows("Yes", None), "row 2: the answer is None"),
        (rows("Yes"), "row 1: image '0.png' of count has 1 answers; upstream asserts two"),
        (rows("Yes", "No", annotation="maybe"), "row 1: the annotation is 'maybe'"),
        (rows("Yes", "No", task="counting"), "no row has a category of count; found counting"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, content, sentence):
    (tmp_path / "said.json").write_text(json.dumps(content))
    assert main(["score", "mme", "--responses", str(tmp_path / "said.json"), "--set", "options.subset=count", "--json"]) == 2
    assert sentence in capsys.readouterr().err
