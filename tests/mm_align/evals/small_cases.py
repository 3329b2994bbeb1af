"""A small response file of every published benchmark that can be scored, with the files that its command needs."""

import json
from typing import Any, NamedTuple

from mm_align.evals.mme import TASKS

FOREVER = "word " * 20_000  # 100 kB


class Case(NamedTuple):
    """A small file that can be scored. rows: its content; `place` leads to what repeats in it, `text` from one of these to an answer,
    `id` to its name. second: what an error calls the second one. files: written beside it. words: of the command, {} is the folder."""

    file: str
    rows: Any
    text: tuple[str | int, ...]
    id: str | None = None
    place: tuple[str, ...] = ()
    second: str = "row 2"
    files: dict[str, Any] = {}
    words: tuple[str, ...] = ()


def lines(*rows: dict) -> str:
    return "\n".join(map(json.dumps, rows))


def judged(category: str, part: str, figure: int, code: str) -> dict:
    key = [category, part, "0", str(figure), "0"]
    return {"key_category_subcategory_set_figure_question": key, "model_prediction": "x", "correctness": code, "same": "0"}


def video(name: str) -> dict:
    question = {"question_id": f"{name}-1", "task_type": "OCR Problems", "question": "What?", "options": ["A. a", "B. b"], "answer": "B"}
    place = {"video_id": name, "duration": "short", "domain": "Knowledge", "sub_category": "Law"}
    return {**place, "questions": [{**question, "response": "B"}]}


def facts(number: int) -> dict:
    stages = {"labelled": ["a dog [D] "], "stage2": {"a dog ": "Entities: There is a dog."}, "verify": {"There is a dog.": "yes"}}
    return {"answer": f"a dog {number}", **stages}


COCO = {
    "images": [{"id": i, "file_name": f"{i}.jpg"} for i in (1, 2)],
    "annotations": [{"image_id": 1, "category_id": 1}, {"image_id": 2, "category_id": 5}],
    "categories": [{"id": 1, "name": "cup"}, {"id": 5, "name": "dog"}],
}
FOIL = {"image_file": "a.jpg", "caption": "a dog", "foil": "a cat", "classes": "dog", "mturk": {"caption": 3, "foil": 0}}
ASKED = [{"question_id": i, "image": "a.jpg", "text": f"Is there a {i}?", "label": label} for i, label in ((1, "yes"), (2, "no"))]
EVENTS = {video: {"qa": [{"question": "?", "answer": "No.", "prediction": "No"}], "judgement": "yes"} for video in ("e1", "e2")}

CASES = {
    "amber": Case(
        "responses.json",
        [{"id": 1005, "response": "Yes"}, {"id": 1006, "response": "No"}, {"id": 1007, "response": "Yes"}],
        ("response",),
        "id",
    ),
    "cceval": Case(
        "captions.json",
        [{"image_id": i, "caption": f"a cup {i}"} for i in (1, 2)],
        ("caption",),
        "image_id",
        files={
            "vg_info_100.json": {str(i): {"gt_objs": ["cup"]} for i in (1, 2, 3)},
            "replies.json": {
                "obj": dict.fromkeys(("a cup 1", "a cup 2", FOREVER), "['cup']"),
                "hall": {"1": "[]", "2": "['cup']", "3": "[]"},
            },
        },
        words=("--data", "{}/vg_info_100.json", "--judge-replies", "{}/replies.json"),
    ),
    "chair": Case(
        "captions.jsonl",
        [{"image_id": i, "caption": "A dog on a chair."} for i in (1, 2)],
        ("caption",),
        "image_id",
        files={"truth.json": {"1": ["dog"], "2": ["cat"], "3": []}},
        words=("--data", "{}/truth.json"),
    ),
    "eventhallusion": Case(
        "predictions.json", {"entire": EVENTS}, ("qa", 0, "prediction"), place=("entire",), second="video 'e2' of entire"
    ),
    "faithscore": Case("input.json", [facts(1), facts(2)], ("answer",)),
    "foil": Case(
        "scores.json",
        {"7": [[0.1, 0.9], [0.8, 0.2]], "8": [[0.1, 0.9], [0.3, 0.7]]},
        (),
        second="'8'",
        files={"foil-it.json": {"7": FOIL, "8": FOIL}},
        words=("--data", "{}/foil-it.json"),
    ),
    "hallusionbench": Case(
        "judged.jsonl",
        [judged(*of, figure, code) for *of, code in (("VD", "illusion", "1"), ("VS", "chart", "0")) for figure in (0, 1)],
        ("correctness",),
        "key_category_subcategory_set_figure_question",
    ),
    "mme": Case(
        "rows.jsonl",
        [
            {"category": t, "image_name": f"{t}.jpg", "question": f"q{a}", "annotation": a, "answer": a}
            for t in TASKS
            for a in ("Yes", "No")
        ],
        ("answer",),
        "image_name",
    ),
    "mmhal": Case(
        "model.mmhal_test_eval.json",
        [{"choices": [{"message": {"content": f"Rating: {score}"}}]} for score in (1, 5)],
        ("choices", 0, "message", "content"),
    ),
    "mmstar": Case(
        "rows.jsonl",
        [{"index": i, "answer": "B", "category": "math", "l2_category": "geometry", "prediction": "B"} for i in (1, 2)],
        ("prediction",),
        "index",
    ),
    "object_halbench": Case(
        "answers.jsonl",
        [{"image_id": i, "question": "What?", "answer": "A dog in a picture."} for i in (1, 2)],
        ("answer",),
        "image_id",
        files={
            "synonyms_refine.txt": "person, man\ndog, puppy",
            "ground_truth.json": {"1": ["dog"], "2": ["person"]},
            "replies.jsonl": lines(*({"answer": t, "replies_in_order": ['["dog"]']} for t in ("A dog in a picture.", FOREVER.strip()))),
            "analyses.json": {"a dog": [["a", "a", "DT"], ["dog", "dog", "NN"]]},
        },
        words=("--data", "{}", "--judge-replies", "{}/replies.jsonl", "--analyses", "{}/analyses.json"),
    ),
    "pope": Case(
        "answers.jsonl",
        [{"question_id": i, "answer": "Yes"} for i in (1, 2)],
        ("answer",),
        "question_id",
        files={"labels.jsonl": lines(*ASKED)},
        words=("--data", "{}/labels.jsonl"),
    ),
    "refomb": Case(
        "answers.jsonl",
        [{"row": i, "answer": f"a{i}"} for i in (0, 1)],
        ("answer",),
        "row",
        files={
            "RefoMB_dev.jsonl": lines(*({"question": f"q{i}", "image_url": f"http://x/{i}.png", "type": "OCR"} for i in range(2))),
            "judge_replies.json": {"0": ["[[B]]"], "1": ["[[C]]"]},
        },
        words=("--data", "{}/RefoMB_dev.jsonl", "--judge-replies", "{}/judge_replies.json"),
    ),
    "throne": Case(
        "evaluator0.json",
        {"1": ["yes", "no"], "2": ["no", "yes"]},
        (0,),
        second="image 2",
        files={"instances_val2017.json": COCO},
        words=("--data", "{}/instances_val2017.json"),
    ),
    "video_mme": Case(
        "results.json", [video("v1"), video("v2")], ("questions", 0, "response"), "video_id", words=("--set", "options.skip_missing=true")
    ),
    "videohallucer": Case(
        "fact.jsonl", [{"i": i, "basic_predict": "yes", "halluc_predict": "no"} for i in (0, 1)], ("basic_predict",), "i"
    ),
}
