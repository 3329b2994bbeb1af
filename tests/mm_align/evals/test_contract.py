"""The contract of benchmarks, over the table: built from a config, scored twice alike, no model asked for a score."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from data_tools.records import Response, Sample
from mm_align.evals import BENCHMARKS, Benchmark, Official, build_benchmark
from mm_align.evals.mme import TASKS


def qa(folder: Path) -> dict[str, Any]:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "x"}]
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"id": f"q{i}", "conversations": turns}) for i in range(4)), encoding="utf-8")
    return {"data": str(folder / "rows.jsonl"), "question": None}


def objects(folder: Path) -> dict[str, Any]:
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"id": f"p{i}", "image": "a.png", "objects": ["x"]}) for i in range(4)))
    return {"data": str(folder / "rows.jsonl")}


def pope(folder: Path) -> dict[str, Any]:
    rows = [{"question_id": i, "image": "a.png", "text": f"Is there a thing {i}?", "label": "no" if i % 2 else "yes"} for i in range(4)]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"data": str(folder / "labels.jsonl")}


def amber_answer(sample: Sample) -> str:
    truth = sample.meta["truth"]
    return truth.title() if isinstance(truth, str) else f"There is a {truth[0]}."


def foil(folder: Path) -> dict[str, Any]:
    item = {"image_file": "a.jpg", "caption": "a dog", "foil": "a cat", "classes": "dog", "mturk": {"caption": 3, "foil": 0}}
    (folder / "foil-it.json").write_text(json.dumps({"7": item, "8": item}))
    return {"data": str(folder)}


def cceval(folder: Path) -> dict[str, Any]:
    (folder / "vg_info_100.json").write_text(json.dumps({str(i): {"gt_objs": ["cup"]} for i in (1, 2)}))
    replies = {"obj": {"x": "['cup']", "": "['cup']"}, "hall": {"x": "[]", "": "['cup']"}}
    (folder / "replies.json").write_text(json.dumps(replies))
    return {"data": str(folder), "judge_replies": str(folder / "replies.json")}


def eventhallusion(folder: Path) -> dict[str, Any]:
    asked = [{"question": "Does he fall?", "answer": "No."}, {"question": "Does he stand?", "answer": "Yes."}]
    (folder / "entire_questions.json").write_text(json.dumps([{"id": "e1", "questions": asked}]))
    return {"data": str(folder)}


def faithscore(folder: Path) -> dict[str, Any]:
    (folder / "rows.json").write_text(json.dumps([{"image": "a.jpg", "question": f"What is {i}?"} for i in (1, 2)]))
    stage = {"labelled": ["it [D]"], "stage2": {"it ": "Entities: A dog."}}
    replies = [{"answer": "x", **stage, "verify": {"A dog.": "yes"}}, {"answer": "", **stage, "verify": {"A dog.": "no"}}]
    (folder / "replies.json").write_text(json.dumps(replies))
    return {"data": str(folder / "rows.json"), "judge_replies": str(folder / "replies.json")}


def throne(folder: Path) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)]
    truth = {"images": images, "annotations": [{"image_id": i, "category_id": 1} for i in (1, 2)], "categories": [{"id": 1, "name": "cup"}]}
    (folder / "instances_val2017.json").write_text(json.dumps(truth))
    (folder / "replies.json").write_text(json.dumps({"x": [["yes"]]}))
    return {"data": str(folder), "judge_replies": str(folder / "replies.json")}


def video_mme(folder: Path) -> dict[str, Any]:
    fields = {"task_type": "OCR Problems", "question": "What?", "options": ["A. a", "B. b"], "answer": "B"}
    place = {"duration": "short", "domain": "Knowledge", "sub_category": "Law"}
    videos = [{"video_id": f"v{i}", **place, "questions": [{"question_id": f"v{i}-1", **fields}]} for i in range(2)]
    (folder / "template.json").write_text(json.dumps(videos))
    return {"data": str(folder / "template.json"), "skip_missing": True}


def mme(folder: Path) -> dict[str, Any]:
    for task in TASKS:
        (folder / f"{task}.txt").write_text("a.png\tIs it?\tYes\na.png\tIs it not?\tNo\n")
    return {"data": str(folder)}


def mmstar(folder: Path) -> dict[str, Any]:
    fields = {"category": "math", "l2_category": "geometry", "question": "What?", "answer": "B"}
    (folder / "table.jsonl").write_text("\n".join(json.dumps({"index": i, **fields}) for i in range(4)))
    return {"data": str(folder)}


def chair(folder: Path) -> dict[str, Any]:
    (folder / "truth.json").write_text(json.dumps({image: ["dog"] for image in range(1, 5)}))
    return {"data": str(folder / "truth.json")}


def refomb(folder: Path) -> dict[str, Any]:
    rows = [{"question": "What?", "image_url": f"http://x/{i}.png", "type": "OCR"} for i in range(2)]
    (folder / "RefoMB_dev.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "judge_replies.json").write_text(json.dumps({"0": ["[[B]]"], "1": ["[[C]]"]}))
    return {"data": str(folder), "judge_replies": str(folder / "judge_replies.json")}


def object_halbench(folder: Path) -> dict[str, Any]:
    (folder / "synonyms_refine.txt").write_text("person, man\ndog, puppy")
    (folder / "ground_truth.json").write_text(json.dumps({image: ["dog"] for image in range(1, 5)}))
    rows = [{"image_id": image, "question": "What?", "image": ""} for image in range(1, 5)]
    (folder / "obj_halbench_300_with_image.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return {"data": str(folder)}


def mmhal(folder: Path) -> dict[str, Any]:
    (folder / "replies.json").write_text(json.dumps({"x": "Rating: 6", "": "Rating: 1"}))
    return {"limit": 4, "judge_replies": str(folder / "replies.json")}


def hallusionbench(folder: Path) -> dict[str, Any]:
    replies = {"correctness": {"x": "correct", "": "incorrect"}, "same": {"": "different"}}
    (folder / "replies.json").write_text(json.dumps(replies))
    return {"limit": 8, "judge_replies": str(folder / "replies.json")}


class Row(NamedTuple):
    """options: writes a benchmark's data, gives its options. right: the best answer to a sample; none at all is worse."""

    options: Callable[[Path], dict[str, Any]]
    right: Callable[[Sample], str] = lambda sample: "x"


# one row a benchmark
ROWS: dict[str, Row] = {
    "qa": Row(qa),
    "objects": Row(objects),
    "cceval": Row(cceval),
    "eventhallusion": Row(eventhallusion, lambda sample: sample.meta["answer"]),
    "faithscore": Row(faithscore),
    "foil": Row(foil, lambda sample: "yes" if sample.meta["fits"] else "no"),
    "refomb": Row(refomb),
    "videohallucer": Row(lambda folder: {"limit": 2}, lambda sample: sample.meta["answer"]),
    "throne": Row(throne),
    "video_mme": Row(video_mme, lambda sample: sample.meta["answer"]),
    "amber": Row(lambda folder: {"limit": 6, "similarity": "identity"}, amber_answer),
    "chair": Row(chair, lambda sample: "A dog."),
    "mme": Row(mme, lambda sample: sample.meta["annotation"]),
    "object_halbench": Row(object_halbench, lambda sample: "A dog."),
    "hallusionbench": Row(hallusionbench),
    "mmhal": Row(mmhal),
    "mmstar": Row(mmstar, lambda sample: sample.meta["answer"]),
    "pope": Row(pope, lambda sample: sample.meta["label"]),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_contract(name: str, tmp_path: Path) -> None:
    benchmark = build_benchmark({"type": name, **ROWS[name].options(tmp_path)})
    assert isinstance(benchmark, Benchmark)
    samples = list(benchmark.samples())
    ids = [sample.id for sample in samples]
    assert ids == [sample.id for sample in benchmark.samples()]
    assert len(set(ids)) == len(ids) > 0
    assert all(sample.messages[-1].role == "user" for sample in samples)
    responses = {sample.id: Response(f"{sample.id}-0", sample.id, ROWS[name].right(sample)) for sample in samples}
    found = benchmark.score(responses)
    assert found == benchmark.score(responses)
    assert all(isinstance(value, int | float) for value in found.values())
    nothing = benchmark.score({})
    assert nothing.keys() == found.keys() >= benchmark.lower
    right, wrong = found[benchmark.main], nothing[benchmark.main]
    assert right < wrong if benchmark.main in benchmark.lower else right > wrong
    assert benchmark.sampling.temperature == 0
    with pytest.raises(ValueError, match="answer no sample"):
        benchmark.score({"somebody else's": Response("r", "somebody else's", "x")})


@pytest.mark.parametrize("name", [name for name, kind in BENCHMARKS.items() if issubclass(kind, Official)])
def test_official_contract(name: str, tmp_path: Path) -> None:
    """Items have the mean that the benchmark says they have; the report can be written and says whose rules it has."""
    benchmark = build_benchmark({"type": name, **ROWS[name].options(tmp_path)})
    assert isinstance(benchmark, Official)
    half = {sample.id: Response("r", sample.id, ROWS[name].right(sample)) for sample in list(benchmark.samples())[::2]}
    report = benchmark.report(benchmark.answers(half))
    told = json.loads(json.dumps(report.to_dict()))
    assert list(told) == ["benchmark", "flavor", "rules_version", "n", "results", "flags", "raw", "printed"]
    assert (told["benchmark"], told["flavor"]) == (name, next(iter(benchmark.flavors)))
    scores = [item.score for item in report.items]
    assert sum(scores) / len(scores) * benchmark.items_scale == pytest.approx(benchmark.figures(report)[benchmark.items_metric], abs=0.051)
    with pytest.raises(ValueError, match="has no flavor 'no such'"):
        build_benchmark({"type": name, **ROWS[name].options(tmp_path), "flavor": "no such"})


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown benchmark 'qaa'; did you mean 'qa'"):
        build_benchmark({"type": "qaa"})
    with pytest.raises(ValueError, match="has no option 'limits'; did you mean 'limit'"):
        build_benchmark({"type": "qa", "data": "x", "limits": 3})
