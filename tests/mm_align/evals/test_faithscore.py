"""FaithScore: upstream's numbers on its example and on rows made up here (run through upstream's class), slips included."""

import json

import pytest

from data_tools.records import Response
from mm_align.evals import build_benchmark, score
from mm_align.evals.judges import ModelJudge


def test_the_example_gives_upstream_s_numbers(example, said):
    folder = example("faithscore/dev_single")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("faithscore", responses=folder / "input.json")
    names = ("faithscore", "sentence_faithscore", "per_answer", "sentence_per_answer", "fact_scores", "atomic_facts")
    assert {name: found["results"].get(name, found["raw"].get(name)) for name in names} == {
        name: expected["sentence_faithscore" if name == "sentence_faithscore" else name] for name in names
    }
    assert found["raw"]["descriptive_sub_sentences"] == expected["descriptive_sub_sentences"]


def row(labelled, stage2, **verify):
    return {"answer": "x", "labelled": labelled, "stage2": stage2, "verify": verify}


TWICE = {
    "a cat ": "Entities: A cat\nColors: The cat is red\nColors: The cat is big",
    "a dog ": "Entities: A dog\nColors: The dog is blue",
}
# (rows, faithscore, sentence_faithscore): the numbers of upstream's FaithScore class, its LLaMA path, on these rows
UPSTREAM = [
    # a capital D in the text is a mark too: "A Dog" is cut before it
    ([row(["A Dog runs [D]"], {"Dog runs ": "Entities: There is a dog."}, **{"There is a dog.": "yes"})], 0.0, 1.0),
    # no marks: no facts, and a sentence score of 1
    ([row(["it runs"], {})], 0.0, 1.0),
    # the entity's last token is a full stop, so the false relation fails every sub-sentence
    (
        [row(["a dog runs [D]"], {"a dog runs ": "Entities: There is a dog.\nRelations: The dog runs."}, **{"There is a dog.": "yes"})],
        0.5,
        0.0,
    ),
    # a second line of entities ends the reply
    (
        [
            row(
                ["a cat [D]"],
                {"a cat ": "Entities: A cat.\nEntities: A dog.\nColors: Red."},
                **{"A cat.": "Yes", "A dog.": "no", "Red.": "no"},
            )
        ],
        1.0,
        1.0,
    ),
    # a category that comes twice takes the place of the next sub-sentence's
    (
        [row(["a cat [D]", "a dog [D]"], TWICE, **{"A cat": "Yes", "A dog": "Yes", "The cat is red": "yes", "The cat is big": "no"})],
        0.75,
        0.5,
    ),
]


@pytest.mark.parametrize("case", range(len(UPSTREAM)))
def test_slips_are_kept(case):
    rows, whole, sentences = UPSTREAM[case]
    found = score("faithscore", rows).results
    assert (found["faithscore"], found["sentence_faithscore"]) == (whole, sentences)


def test_what_lacks_a_reply_is_told_and_what_lacks_a_stage_is_refused():
    found = score("faithscore", [row(["a cat [D]", "a dog [D]"], {"a cat ": "Entities: A cat."})])
    assert found.results["faithscore"] == 0
    assert len(found.flags) == 2
    with pytest.raises(ValueError, match="row 1: `stage2` should be a dict"):
        score("faithscore", [{"answer": "x", "labelled": []}])
    with pytest.raises(ValueError, match="row 1: an entity's fact is empty"):
        score("faithscore", [row(["a cat [D]"], {"a cat ": "Entities: . A cat"})])


def test_a_live_judge_labels_divides_and_sees_the_picture(tmp_path):
    """Two sub-sentences, the second analytical; two facts of the first, of which the relation is wrong. The judge's first label cannot
    be read, so it is asked again."""
    asked = []

    def generate(samples, sampling):
        asked.extend(samples)
        return [Response("r", sample.id, reply(sample.messages[0].parts[-1].text, sampling.temperature)) for sample in samples]

    def reply(text, temperature):
        if text.endswith("This sub-sentence is "):
            return ("analytical." if "happy" in text else "descriptive.") if temperature else "hm"
        if text.startswith("Statement: "):
            return "No." if "sits" in text else "Yes, it is."
        return "Entities: There is a dog\nRelations: A dog sits\n\nAnswer: more" if text.endswith("Answer: a dog sits ") else "?"

    (tmp_path / "rows.json").write_text(json.dumps([{"image": "a.jpg"}, {"id": "000000000007"}]))
    benchmark = build_benchmark({"type": "faithscore", "data": str(tmp_path / "rows.json"), "images": "pictures"})
    with pytest.raises(ValueError, match="or a judge"):
        benchmark.answers({})
    benchmark.judge = ModelJudge(generate, {"model": "m"}, tmp_path / "ledger.jsonl")
    found = benchmark.report(benchmark.answers({"1": Response("r", "1", 'a "dog" sits, so it is happy.')}))
    assert found.raw["atomic_facts"][0] == [["There is a dog"], [], ["A dog sits"], [], [], [], [], [], [], []]
    assert found.results["per_answer"] == {"0": 0.5, "1": 0}
    assert found.results["sentence_per_answer"]["0"] == [False]
    assert {sample.images[0].path for sample in asked if sample.images} == {"pictures/a.jpg"}
    assert found.raw["judge"]["unread"] == 0
    assert set(found.raw["judge"]["prompts_sha256"]) == {"label", "facts"}
