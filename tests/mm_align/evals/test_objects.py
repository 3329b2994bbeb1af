"""Objects in descriptions: by hand, with broken rows, and against the measure that a bundled model's card was made with."""

import json
import sys
from pathlib import Path

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import ObjectsBenchmark, build_benchmark, evaluate

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts"))


def write(folder: Path, rows: list[dict]) -> str:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"image": "a.png"} | row) for row in rows), encoding="utf-8")
    return str(path)


def says(**texts: str) -> dict[str, Response]:
    return {key: Response(f"{key}:0", key, text) for key, text in texts.items()}


ROWS = [
    {"id": "a", "objects": ["dog", ["sofa", "couch"]], "distractors": ["cat"]},
    {"id": "b", "objects": ["cat", "cat"], "question": "What do you see?"},
    {"id": "c", "objects": ["person"]},
]


def test_by_hand(tmp_path):
    """a: mentions dog, sofa, dog, cat: 1 of 4 invented, 2 of 2 named. b: a cat three times, none invented, 1 of 1. c: no response.

    hallucinating: a and c of 3. invented 1 of 7. coverage (2 + 1 + 0) of 4. f1: 2 (6/7) (3/4) / (6/7 + 3/4) = 0.8. words: (7 + 5) / 2.
    """
    benchmark = ObjectsBenchmark(write(tmp_path, ROWS))
    found = benchmark.score(says(a="A dog on a couch. Dogs! Cats.", b="cat, cat and a cat"))
    assert found["hallucinating"] == pytest.approx(2 / 3)
    assert found["invented"] == pytest.approx(1 / 7)
    assert (found["coverage"], found["words"], found["rows"], found["unanswered"]) == (0.75, 6, 3, 1)
    assert found["f1"] == pytest.approx(0.8)
    assert found["naming"] == pytest.approx(2 / 3)
    assert 0 <= found["invented_low"] <= found["invented"] <= found["invented_high"] <= 1
    assert [row.score for row in benchmark.judged(says(a="dog", b="a dog", c=""))] == [0, 1, 0]


def test_a_counted_thing_is_there_as_often_as_it_is_listed(tmp_path):
    """b lists two cats: the third is invented, and one cat alone names half of what is there."""
    data = write(tmp_path, ROWS[1:2])
    assert ObjectsBenchmark(data, counted=True).score(says(b="cat, cat and a cat"))["invented"] == pytest.approx(1 / 3)
    assert ObjectsBenchmark(data, counted=True).score(says(b="a cat"))["coverage"] == 0.5
    assert ObjectsBenchmark(data).score(says(b="a cat"))["coverage"] == 1


def test_questions_are_the_row_s_own_or_the_same_for_all(tmp_path):
    samples = ObjectsBenchmark(write(tmp_path, ROWS), prompt="Describe it.", max_tokens=9).samples()
    assert [sample.messages[0].parts[1].text for sample in samples] == ["Describe it.", "What do you see?", "Describe it."]
    assert [part.kind for part in samples[0].messages[0].parts] == ["image", "text"]
    assert ObjectsBenchmark("any", max_tokens=9).sampling.max_tokens == 9


@pytest.mark.parametrize(
    ("name", "text"),
    [("words.json", '[["dog", "puppy"], "zebra"]'), ("words.txt", "dog, puppy\n\nzebra\n")],
)
def test_a_vocabulary_adds_synonyms_and_things(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    benchmark = ObjectsBenchmark(write(tmp_path, ROWS[:1]), vocabulary=str(tmp_path / name))
    (told,) = benchmark.told(says(a="A puppy and a zebra."))
    assert (told.mentions, told.invented, told.named) == (2, 1, 1)
    assert ObjectsBenchmark(write(tmp_path, ROWS[:1])).told(says(a="A puppy and a zebra."))[0].mentions == 0


def test_fields_within_fields(tmp_path):
    row = {"id": "a", "truth": {"objects": ["dog"], "absent": ["cat"]}}
    benchmark = ObjectsBenchmark(write(tmp_path, [row]), objects="truth.objects", others=["truth.absent", "no.such"])
    assert benchmark.score(says(a="a dog and a cat"))["invented"] == 0.5


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "has no rows to ask"),
        ([{"id": "a"}], "row 'a': field 'objects' should be a list of phrases, or of lists of synonyms, found 'None'"),
        ([{"id": "a", "objects": "dog"}], "should be a list of phrases"),
        ([{"id": "a", "objects": ["dog", 3]}], "should be a list of phrases"),
        ([{"id": "a", "objects": ["?"]}], "needs words in each of its phrases"),
        ([{"id": "a", "objects": []}] * 2, "rows of the same id"),
    ],
)
def test_rows_that_cannot_be_judged(tmp_path, rows, told):
    with pytest.raises(ValueError, match=told):
        ObjectsBenchmark(write(tmp_path, rows)).samples()


def test_a_vocabulary_that_is_none(tmp_path):
    (tmp_path / "v.json").write_text('{"dog": 1}')
    with pytest.raises(ValueError, match="should hold a list of phrases"):
        ObjectsBenchmark(write(tmp_path, ROWS), vocabulary=str(tmp_path / "v.json")).samples()
    with pytest.raises(ValueError, match="vocabulary should be a valid string"):
        build_benchmark({"type": "objects", "data": "any", "vocabulary": 3})


def test_it_agrees_with_the_measure_of_the_bundled_model_s_card(tmp_path):
    """Greedy descriptions of 24 held-out scenes by tiny-lvlm: every figure that both have is the same."""
    from zoo.describing import figures, told

    from data_tools.scenes.world import Scene
    from mm_align.backends import load_backend

    out = tmp_path / "scenes"
    assert main(["scenes", "make", "--n", "24", "--seed", "1", "--split", "heldout", "--out", str(out)]) == 0
    benchmark = ObjectsBenchmark(str(out), vocabulary=str(out / "vocabulary.json"), counted=True, max_tokens=200)
    texts: dict[str, str] = {}

    def generate(samples, sampling):
        responses = load_backend("tiny-lvlm", device="cpu").generate(samples, sampling)
        texts.update({response.sample_id: response.text for response in responses})
        return responses

    ours = evaluate(benchmark, generate)
    theirs = figures([told(texts[row.id], Scene.from_dict(row.meta["sceneworld"]["scene"])) for row in benchmark.rows])
    assert 0 < ours["hallucinating"] < 1
    assert ours["hallucinating"] == pytest.approx(theirs["hallucinating"], abs=1e-4)
    assert ours["invented"] == pytest.approx(theirs["invented_objects"], abs=1e-4)
    assert ours["coverage"] == pytest.approx(theirs["coverage"], abs=1e-4)
    assert ours["words"] == pytest.approx(theirs["words"], abs=1e-2)
