"""Video-MME: three evaluators' numbers on upstream's example, what they divide by, the videos that count, and what is refused."""

import json

import pytest

from mm_align.evals import build_benchmark, score


def test_the_example_gives_upstream_s_numbers(example, said):
    folder = example("video_mme/dev_plain")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("video_mme", responses=folder / "results.json")
    assert found["results"] == expected["official_printed_percent"]
    assert {name: found["raw"][name] for name in expected["official_counts"]} == expected["official_counts"]
    assert found["raw"]["extracted"] == expected["official_extracted_string"]
    ported = said("video_mme", responses=folder, flavor="lmms-eval")
    assert ported["results"]["lmms_eval_overall_percent"] == expected["lmms_eval_overall_percent"]
    assert ported["raw"]["extracted"] == expected["lmms_extracted_string"]


def videos(*responses, duration="short", **more):
    place = {"duration": duration, "domain": "Knowledge", "sub_category": "Law"}
    fields = {"task_type": "OCR Problems", "question": "What?", "options": [], "answer": "A"}
    return [
        {"video_id": f"v{i}", **place, **more, "questions": [{"question_id": f"v{i}-1", **fields, "response": r}]}
        for i, r in enumerate(responses)
    ]


def counts(questions: int, answered: int, correct: int) -> dict[str, int]:
    return {"questions": questions, "answered": answered, "correct": correct}


def test_by_hand():
    """A, B and an answer without a letter: 1 of 2 answered."""
    found = score("video_mme", videos("A", "B", "no idea"), skip_missing=True)
    assert found.results["the entire dataset"]["Overall Performance"]["Overall"] == 50.0
    assert found.results["video Type: short"]["Video Categories"]["Life Record"] == 0.0
    assert found.raw == {"questions": 3, "answered": 2, "correct": 1, "extracted": "AB-", "short": counts(3, 2, 1)}
    assert "1 of 3 answers hold no letter" in found.flags[0]
    assert found.printed[:7] == (
        "=" * 37,
        "Evaluation on video Type: short",
        "=" * 37,
        "-" * 37,
        "Video Categories",
        "-" * 37,
        "Knowledge:  50.0%",
    )
    nothing = score("video_mme", videos("A", "B"), skip_missing=True, durations=["long"])
    assert (nothing.n, nothing.results["the entire dataset"]["Overall Performance"]["Overall"]) == (0, 0)


def test_the_ports_count_every_question():
    told = [*videos("A", "B", "I pick A"), *videos("dog", duration="long")]
    told[3]["questions"][0]["question"] = "What?\nA. dog\nB. cat"
    ported = score("video_mme", told, flavor="lmms-eval")
    assert ported.results["videomme_perception_score"] == 50
    assert ported.printed[0] == "Evaluation on video Type: short:  66.7%"
    assert ported.raw["extracted"] == "ABA-"
    found = score("video_mme", told, flavor="vlmevalkit")
    assert found.results["overall"]["overall"] == 0.75  # the text of an option in the question
    assert found.results["short"]["domain"] == {name: 0.667 if name == "Knowledge" else None for name in found.results["short"]["domain"]}


def test_rows_of_one_question_each_are_read(tmp_path):
    """lmms-eval's log and VLMEvalKit's sheet: `answer` is the truth."""
    doc = {
        "videoID": "v",
        "question_id": "v-1",
        "duration": "short",
        "domain": "Knowledge",
        "sub_category": "Law",
        "task_type": "OCR Problems",
    }
    log = [{"doc_id": i, "doc": {**doc, "question_id": f"v-{i}", "answer": "A"}, "filtered_resps": [text]} for i, text in enumerate("AB")]
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, log)))
    assert score("video_mme", tmp_path / "samples.jsonl", flavor="lmms-eval").results["videomme_perception_score"] == 50
    sheet = [
        {**{name: doc[name] for name in doc if name != "videoID"}, "index": 0, "video": "v", "answer": "B", "prediction": "Best answer: C"}
    ]
    assert score("video_mme", sheet, flavor="vlmevalkit").results["overall"]["overall"] == 1
    with pytest.raises(ValueError, match="row 1: expected a video with duration"):
        score("video_mme", [{"index": 0, "prediction": "A"}])


def test_missing_videos_count_or_are_left_out():
    with pytest.raises(ValueError, match="1 short videos, where upstream asserts 300"):
        score("video_mme", videos("A"))
    assert score("video_mme", [*videos("A"), *videos("B", missing=True)], skip_missing=True).raw["answered"] == 1


def test_one_that_was_asked_in_part_is_told(tmp_path):
    (tmp_path / "template.json").write_text(json.dumps(videos("A", "B")))
    benchmark = build_benchmark({"type": "video_mme", "data": str(tmp_path / "template.json"), "limit": 1})
    assert len(benchmark.samples()) == 1
    assert "1 short videos, where upstream asserts 300 of each: only some were asked" in benchmark.report(benchmark.answers({})).flags


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{}", "expected a list of videos"),
        ('[{"video_id": 1}]', "row 1: expected a video with duration"),
        (json.dumps(videos(None)), "row 1: the response to 'v0-1' is None"),
        (json.dumps(videos("A", domain="Cooking")), "row 1: the domain 'Cooking' is none of upstream's 6"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, content, sentence):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=sentence):
        score("video_mme", tmp_path, skip_missing=True)


def test_the_template_s_trailing_commas_are_read(tmp_path):
    text = json.dumps(videos("A")).replace("]", ",]").replace("[,]", "[]")
    (tmp_path / "results.json").write_text(text)
    assert score("video_mme", tmp_path, skip_missing=True).raw["correct"] == 1
    with pytest.raises(ValueError, match="give data"):
        build_benchmark({"type": "video_mme"}).samples()
