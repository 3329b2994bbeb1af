"""THRONE: upstream's numbers on its example and on votes that tie, sums as torch adds them, and answers that cannot be scored."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import build_benchmark, score
from mm_align.evals.judges import ModelJudge
from mm_align.evals.single_precision import torch_nanmean, torch_sum

# Three evaluators, two prompts, four images; categories in order of ids are person, skis, tie, cup.
WORDS = {"y": "yes", "Y": " YES\n", "n": "no", "x": "yes.", "0": ""}
SAID = [
    {"5": "yYnn yynn", "6": "nnyn nnyy", "8": "nxny yx0y", "4": "nnnn nnnn"},
    {"5": "ynnn yyny", "6": "nnnn nnyn", "8": "ynnY ynny", "4": "nnnn nnnn"},
    {"5": "yynn ynyn", "6": "yyyn nyyn", "8": "nnny nnny", "4": "nn0n nnyn"},
]
CATEGORIES = [{"id": 7, "name": "tie"}, {"id": 1, "name": "person"}, {"id": 3, "name": "skis"}, {"id": 90, "name": "cup"}]
ANNOTATED = [(5, 1), (5, 1), (5, 3), (6, 7), (8, 90), (8, 1), (4, 3)]
# throne_score_aqa.py at 45badbb: F1, F0.5, P, R by class, and by image with the number of images without F1
NAN = math.nan
UPSTREAM = {
    1: ((0.575, 0.496, 0.458, 0.875), (0.689, 0.617, 0.438, 0.75), 1),
    2: ((0.875, 0.875, 0.875, 0.875), (0.889, 0.852, 0.625, 0.75), 1),
    3: ((0.917, 0.958, 1.0, 0.875), (1.0, 1.0, 0.75, 0.75), 1),
    4: ((0.917, 0.958, 1.0, 0.875), (1.0, 1.0, 0.75, 0.75), 1),
    5: ((1.0, 1.0, 1.0, 0.75), (1.0, 1.0, 0.75, 0.75), 1),
    6: ((1.0, 1.0, 1.0, 0.667), (1.0, 1.0, 0.5, 0.5), 2),
    7: ((NAN, NAN, NAN, 0.0), (NAN, NAN, 0.0, 0.0), 4),
}


@pytest.fixture
def made(tmp_path) -> Path:
    (tmp_path / "aqa").mkdir()
    for number, said in enumerate(SAID):
        answers = {image: [WORDS[letter] for letter in text if letter != " "] for image, text in said.items()}
        (tmp_path / f"aqa/evaluator{number}.json").write_text(json.dumps(answers))
    instances(tmp_path)
    return tmp_path


def instances(folder: Path) -> None:
    annotations = [{"id": k, "image_id": image, "category_id": category} for k, (image, category) in enumerate(ANNOTATED)]
    images = [{"id": image, "file_name": f"{image}.jpg"} for image in (5, 6, 8, 4)]
    (folder / "instances_val2017.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": CATEGORIES}))


def test_the_example_gives_upstream_s_numbers(example, published_data, said):
    folder = example("throne/dev_single")
    expected = json.loads((folder / "expected.json").read_text())
    for options in ({"data": published_data("chair/coco_format_80_images")}, {}):
        found = said("throne", responses=folder, **options)
        for how in ("class", "micro"):
            numbers = {t: {name: float(value) for name, value in figures.items()} for t, figures in expected[how]["printed"].items()}
            assert found["results"][how] == numbers


def test_votes_of_several_evaluators_and_prompts(made):
    found = score("throne", made, thresholds=" ".join(map(str, UPSTREAM)))
    for threshold, (by_class, by_image, undefined) in UPSTREAM.items():
        names = ("F1", "F0.5", "P", "R")
        assert found.results["class"][str(threshold)] == pytest.approx(dict(zip(names, by_class, strict=True)), nan_ok=True, abs=0)
        expected = {**dict(zip(names, by_image, strict=True)), "N": 4, "NaNs": undefined}
        assert found.results["micro"][str(threshold)] == pytest.approx(expected, nan_ok=True, abs=0)
    assert found.flags == (
        "class, threshold 7: F1, F0.5, P of nothing, printed as nan by upstream",
        "micro, threshold 7: F1, F0.5 of nothing, printed as nan by upstream",
    )
    assert found.printed[:2] == ("voting threshold: 1", "F1 (classwise): 0.575")
    assert found.printed[-4:] == ("P: 0.000", "R:0.000", "N:4", "NaNs: 4")
    assert list(score("throne", made / "aqa", made).results["class"]) == ["1", "2", "3", "4", "5", "6"]


def test_by_hand_what_most_doubt_is_ignored_on_both_sides(tmp_path):
    """Three evaluators, threshold 3. Category 0: three votes, there. Category 1: two votes, more than 3 - 3 and fewer than 3: ignored,
    though it is there. Category 2: nobody, there: missed. P 1, R 1/2."""
    (tmp_path / "instances_x.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.jpg"}],
                "categories": [{"id": c, "name": f"c{c}"} for c in (1, 2, 3)],
                "annotations": [{"image_id": 1, "category_id": c} for c in (1, 2, 3)],
            }
        )
    )
    rows = [{"image_id": 1, "answers": [["yes", "yes", "no"], ["yes", "yes", "no"], ["yes", "no", "no"]]}]
    found = score("throne", rows, tmp_path / "instances_x.json", thresholds=3)
    assert found.results["micro"]["3"] == {"F1": 0.667, "F0.5": 0.833, "P": 1.0, "R": 0.5, "N": 1, "NaNs": 0}
    assert found.results["class"]["3"]["R"] == 0.5


@pytest.mark.skipif(not torch.backends.cpu.get_cpu_capability().startswith("AVX"), reason="torch adds in other lanes here")
def test_sums_are_those_of_torch_to_the_last_bit():
    """With more numbers than one step of every level holds, and with fewer than a vector."""
    draw = np.random.default_rng(0)
    for size in (0, 1, 3, 5, 7, 8, 9, 31, 80, 600, 5000, 20_000):
        values = draw.random(size).astype(np.float32)
        assert float(torch_sum(values)) == torch.from_numpy(values).sum().item()
        values[draw.random(size) < 0.2] = np.nan
        assert torch_nanmean(values) == pytest.approx(torch.from_numpy(values).nanmean().item(), abs=0, nan_ok=True)


def test_descriptions_are_scored_by_replies_about_them(made):
    (made / "replies.json").write_text(json.dumps({"A person.": [["yes", "no", "no", "no"]], "x": [["no"] * 4]}))
    benchmark = build_benchmark({"type": "throne", "data": str(made), "judge_replies": str(made / "replies.json"), "images": "coco"})
    assert benchmark.samples()[0].images[0].path == "coco/5.jpg"
    found = benchmark.score({"5": Response("r", "5", "A person."), "6": Response("r", "6", "x")})
    assert (found["micro P"], found["class P"]) == (0.25, 1.0)
    assert benchmark.score({})["class F0.5"] == 0.0
    with pytest.raises(ValueError, match="image 8: .* has no evaluators' answers about 'A cup'"):
        benchmark.score({"8": Response("r", "8", "A cup")})
    with pytest.raises(ValueError, match="give them as judge_replies"):
        build_benchmark({"type": "throne", "data": str(made)}).score({})


def test_a_live_judge_votes_by_three_prompts_of_ours_or_the_user_s(made):
    """It says yes to skis and to a necktie, whatever the description."""
    asked = []

    def generate(samples, sampling):
        texts = [sample.messages[0].parts[0].text for sample in samples]
        asked.extend(texts)
        replies = ["**Yes**." if "skis" in text.splitlines()[-1] or "a necktie" in text else "No, it is not." for text in texts]
        return [Response("r", sample.id, reply) for sample, reply in zip(samples, replies, strict=True)]

    benchmark = build_benchmark({"type": "throne", "data": str(made)})
    benchmark.judge = ModelJudge(generate, {"model": "m"}, made / "ledger.jsonl")
    answers = benchmark.answers({"5": Response("r", "5", "A room."), "6": Response("r", "6", "A room.")})
    assert len(asked) == 3 * 4
    assert answers.rows[0].text == answers.rows[1].text == [["no", "yes", "yes", "no"] * 3]
    found = benchmark.report(answers)
    assert found.results["micro"]["3"]["P"] == 0.25  # skis of image 5, the tie of image 6: half of each, of four images
    assert any("this project's wording" in flag for flag in found.flags)
    assert len(found.raw["judge"]["prompts_sha256"]) == 3
    (made / "mine.txt").write_text("{text}\n{object}")
    mine = build_benchmark({"type": "throne", "data": str(made), "prompt": str(made / "mine.txt")})
    mine.judge = benchmark.judge
    assert mine.answers({"5": Response("r", "5", "x" * 2000 + "skis")}).rows[0].text == [["no", "yes", "yes", "no"]]
    assert asked[-1] == "x" * 1024 + "\na cup"
    assert mine.flags == []
    empty = build_benchmark({"type": "throne", "data": str(made), "prompt": str(made / "aqa")})
    empty.judge = benchmark.judge
    with pytest.raises(ValueError, match="aqa holds no prompts"):
        empty.answers({"5": Response("r", "5", "x")})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"5": ["yes", null, "no", "no"]}', "image 5: an evaluator's answer is None"),
        ('{"5": "yes"}', "image 5 has no list of answers"),
        ('{"five": ["yes"]}', "is no file of answers by image id"),
        ("[]", "is no file of answers by image id"),
        ("{}", "there are no answers"),
    ],
)
def test_what_cannot_be_scored_is_named(made, capsys, content, sentence):
    (made / "one.json").write_text(content)
    assert main(["score", "throne", "--responses", str(made / "one.json"), "--data", str(made), "--json"]) == 2
    assert sentence in capsys.readouterr().err


def test_files_that_do_not_fit_are_named(made, tmp_path_factory):
    (made / "aqa/evaluator1.json").write_text('{"5": []}')
    with pytest.raises(ValueError, match=r"evaluator1.json has no answers for image 6, which evaluator0.json has"):
        score("throne", made)
    odd = score("throne", [{"image_id": 5, "answers": [["yes", "no", "no", "no", "yes"]]}], made)
    assert "no multiple of 4 categories" in odd.flags[0]
    assert odd.results["micro"]["1"]["P"] == 1
    strange = [{"image_id": 99, "answers": [["yes"] * 4]}]
    assert "99 for one" in score("throne", strange, made).flags[0]
    with pytest.raises(ValueError, match="image 99 is not among the 60 that are packaged"):
        score("throne", [{"image_id": 99, "answers": [["yes"] * 80]}])
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(ValueError, match="holds no evaluators' answers"):
        score("throne", empty, made)
    (empty / "instances_val2017.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="no instances file of COCO"):
        score("throne", strange, empty)
    with pytest.raises(ValueError, match="thresholds are numbers from 1 on"):
        score("throne", strange, made, thresholds="two")
    with pytest.raises(ValueError, match="row 1: expected image_id and answers"):
        score("throne", [{"image_id": 5}], made)
