"""Video-MME: upstream's numbers on its example, the letter rule with its fused phrases, counts and refusals."""

import json

import pytest

from mm_align.evals import build_benchmark, score
from mm_align.evals.video_mme import letter_of


def test_the_example_gives_upstream_s_numbers(example, said):
    folder = example("video_mme/dev_plain")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("video_mme", responses=folder / "results.json")
    assert found["results"] == expected["official_printed_percent"]
    counts = expected["official_counts"].values()
    assert found["raw"] == {name: sum(one[name] for one in counts) for name in ("questions", "answered", "correct")}
    letters = [letter_of(q["response"]) for video in json.loads((folder / "results.json").read_text()) for q in video["questions"]]
    assert "".join(letter or "-" for letter in letters) == expected["official_extracted_string"]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("(C) a dog", "C"),
        ("The answer is D.", "D"),
        ("Best answer: C", "B"),  # the phrase is fused with the next one, so its own B is found
        ("Based on the video, C", "B"),
        ("Actually D", "A"),
        ("certainly c", ""),
        ("", ""),
        ("one two three four five six seven eight nine ten eleven", ""),
    ],
)
def test_how_a_letter_is_found(response, letter):
    assert letter_of(response) == letter


def videos(*responses, duration="short", **more):
    place = {"duration": duration, "domain": "Knowledge", "sub_category": "Law"}
    fields = {"task_type": "OCR Problems", "question": "What?", "options": [], "answer": "A"}
    return [
        {"video_id": f"v{i}", **place, **more, "questions": [{"question_id": f"v{i}-1", **fields, "response": r}]}
        for i, r in enumerate(responses)
    ]


def test_by_hand(tmp_path):
    """A, B and an answer without a letter: 1 of 2 answered."""
    found = score("video_mme", videos("A", "B", "no idea"), skip_missing=True)
    assert found.results["the entire dataset"]["Overall Performance"]["Overall"] == 50.0
    assert found.results["video Type: short"]["Video Categories"]["Life Record"] == 0.0
    assert found.raw == {"questions": 3, "answered": 2, "correct": 1}
    assert "1 of 3 answers hold no letter" in found.flags[0]
    assert score("video_mme", videos("A", "B"), skip_missing=True, durations=["long"]).n == 0


def test_missing_videos_count_or_are_left_out():
    with pytest.raises(ValueError, match="1 short videos, where upstream asserts 300"):
        score("video_mme", videos("A"))
    assert score("video_mme", [*videos("A"), *videos("B", missing=True)], skip_missing=True).raw["answered"] == 1


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
        score("video_mme", tmp_path)


def test_the_template_s_trailing_commas_are_read(tmp_path):
    text = json.dumps(videos("A")).replace("]", ",]").replace("[,]", "[]")
    (tmp_path / "results.json").write_text(text)
    assert score("video_mme", tmp_path, skip_missing=True).raw["correct"] == 1
    with pytest.raises(ValueError, match="give data"):
        build_benchmark({"type": "video_mme"}).samples()
