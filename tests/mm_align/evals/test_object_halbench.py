"""Object HalBench: upstream's numbers on its examples and on answers with every quirk, by a judge and without, and what has no score."""

import base64
import json
from pathlib import Path

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import ObjectHalbenchBenchmark, score
from mm_align.evals.analysis import tagged
from mm_align.evals.judged import OWN_WORDS
from mm_align.evals.judges import ModelJudge
from mm_align.evals.object_halbench import read_objects

EXAMPLES = ("dev_gpt_path", "dev_no_gpt")
SYNONYMS = """person, man, woman, people
dog, puppy
chair, seat
toilet
sink
car,  sports car
dining table, table, coffee table
tie, bow tie
"""
TRUTH = {1: ["dog", "person"], 2: ["toilet"], 3: ["car", "dining table"], 4: ["tie"], 5: []}
# image, answer, replies; each row a quirk: men, the seat rule, compounds, phrases, one name twice, replies that are asked for again
ROWS = [
    (1, "Assistant: Men and people walk two dogs.", ['["men", "people", "dogs", "dog"]']),
    (1, "A baby dog sits.  It is by a kitchen table!", ["Sure: []", 'Objects:\n["baby dog", "kitchen table"]']),
    (2, "The toilet has a seat and a sink.", ['["toilet", "seat", "sink"]']),
    (2, "A toilet seat, open.", ['["toilet seat", "lid"]']),
    (3, "A sports car near a coffee table in the city.", ["None:\n[]", '["sports car", "coffee table", "city car"]']),
    (3, "A red car, another car, a car.", ['{"car": 2, "wooden chair": 1}']),
    (4, "A bow tie on a man in the bow.", [' ["bow tie", "man"]\n']),
    (4, "Two dogs.", []),
    (5, "", []),
    (5, "Nothing to be seen here at all.", ["[]"]),
    (9, "A chair in an unknown room.", ['["chair", "room"]']),
]
UPSTREAM = {
    True: {
        "CHAIRs": 0.36363636363636365,
        "CHAIRs_refine": 0.5,
        "CHAIRi": 0.3333333333333333,
        "obj_rec": 0.6666666666666666,
        "sentence_num": 11.0,
        "coco_sentence_num": 8.0,
        "coco_word_count": 8.0,
        "gt_word_count": 12.0,
        "avg_word_len": 6.454545454545454,
        "correct_rate": 0.5,
        "object_correct_rate": 0.6666666666666667,
    },
    False: {
        "CHAIRs": 0.45454545454545453,
        "CHAIRs_refine": 0.5555555555555556,
        "CHAIRi": 0.3125,
        "obj_rec": 0.75,
        "sentence_num": 11.0,
        "coco_sentence_num": 9.0,
        "coco_word_count": 9.0,
        "gt_word_count": 12.0,
        "avg_word_len": 6.454545454545454,
        "correct_rate": 0.4444444444444444,
        "object_correct_rate": 0.6875,
    },
}
WORDS = {
    0: ["men", "people", "dog"],
    1: ["dog", "kitchen table"],
    4: ["sport car", "coffee table", "city car"],
    5: ["car", "chair"],
    6: ["tie", "man"],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """Answers, replies, analyses, synonyms and ground truth in one folder, with nobody's folders near."""
    tmp_path = tmp_path / "some" / "where" / "else"
    tmp_path.mkdir(parents=True)
    answers = [{"image_id": image, "question": "What is there?", "answer": text} for image, text, _ in ROWS]
    replies = [{"answer": text.replace("Assistant:", "").strip(), "replies_in_order": given} for _, text, given in ROWS if given]
    objects = {f"a {one}" for _, _, given in ROWS for one in read_objects(given[-1] if given else "[]")}
    (tmp_path / "answers.jsonl").write_text("\n".join(map(json.dumps, answers)))
    (tmp_path / "judge_replies.jsonl").write_text("\n".join(map(json.dumps, replies)))
    (tmp_path / "analyses.json").write_text(json.dumps({text: tagged(text) for text in sorted(objects)}))
    (tmp_path / "synonyms_refine.txt").write_text(SYNONYMS)
    (tmp_path / "ground_truth_built.json").write_text(json.dumps(TRUTH))
    return tmp_path


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_give_upstream_s_numbers(example, published_data, said, name):
    answers = example(f"object_halbench/{name}")
    expected = json.loads((answers / "expected.json").read_text())
    data = published_data("nc_only/object_halbench")
    found = said("object_halbench", responses=answers / "answers.jsonl", data=data)
    assert found["results"] == expected["overall_metrics"]
    assert found["printed"] == expected["printed"]
    assert f"model\n{found['raw']['summary_script_output']}\n" == expected["summary_script_output"]
    assert found["flags"] == ["80 different images; upstream's command line stops unless there are 300"]


def test_the_judged_example_with_its_files_named_and_its_ground_truth_built(example, published_data, said):
    answers = example("object_halbench/dev_gpt_path")
    expected = json.loads((answers / "expected.json").read_text())["overall_metrics"]
    files = {"judge_replies": answers / "judge_replies.jsonl", "analyses": answers / "analyses.json"}
    built = said("object_halbench", responses=answers, data=published_data("chair") / "coco_format_80_images", **files)
    assert built["results"] == expected
    assert said("object_halbench", responses=answers, data=answers / "ground_truth_built.json")["results"] == expected
    plain = said("object_halbench", responses=answers, data=published_data("nc_only"), set="options.use_gpt=false")
    assert plain["results"] != expected


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_sentence_by_sentence(example, published_data, name):
    answers = example(f"object_halbench/{name}")
    benchmark = ObjectHalbenchBenchmark(str(published_data("nc_only/object_halbench")))
    told = benchmark.told(benchmark.read(answers), [])
    rows = [json.loads(line) for line in (answers / "per_sentence.jsonl").read_text().splitlines()]
    assert [one.said.image for one in told] == [row["image_id"] for row in rows]
    assert [[[mention.word, mention.name] for mention in one.mentions] for one in told] == [row["generated"] for row in rows]
    wrong = [[[mention.word, [mention.word, mention.name]] for mention in one.wrong] for one in told]
    assert wrong == [row["hallucinated"] for row in rows]
    if rows[0]["raw_words"] is not None:
        assert [one.words for one in told] == [row["raw_words"] for row in rows]


@pytest.mark.parametrize("judged", UPSTREAM)
def test_quirks_give_upstream_s_numbers(folder, judged):
    found = score("object_halbench", folder, folder, use_gpt=judged)
    assert found.results == UPSTREAM[judged]
    assert found.flags[1:] == (
        "1 images are not in the ground truth, 9 for one: whatever is mentioned of them is wrong",
        "6 different images; upstream's command line stops unless there are 300",
    )
    assert "synonyms_refine.txt differs from the published" in found.flags[0]
    assert sum(item.score for item in found.items) / len(found.items) == found.results["CHAIRs_refine"]


def test_a_live_judge_lists_objects_and_its_ledger_can_be_given_later(folder, tmp_path):
    """It replies as the file does, and a reply that cannot be read is asked for again. Row 5's is never one: it has no objects then."""
    replies = {text.replace("Assistant:", "").strip(): [*given, "none"] for _, text, given in ROWS}
    replies[ROWS[4][1]] = ["none"]
    asked: list[str] = []

    def generate(samples, sampling):
        told = []
        for sample in samples:
            asked.append(sample.messages[0].parts[0].text)
            answer = next(text for text in replies if text and f"Answer:\n{text}\n" in asked[-1])
            at = sum(f"Answer:\n{answer}\n" in prompt for prompt in asked) - 1
            told.append(Response("r", sample.id, replies[answer][min(at, len(replies[answer]) - 1)]))
        return told

    benchmark = ObjectHalbenchBenchmark(str(folder))
    benchmark.judge = ModelJudge(generate, {"model": "m"}, tmp_path / "ledger.jsonl", attempts=2)
    found = benchmark.report(benchmark.read(folder))
    assert "Question:\nWhat is there?\n" in asked[0]
    assert len(asked) == len([text for _, text, _ in ROWS if len(text.split()) > 3]) + 2
    assert found.raw["judge"]["unread"] == 1
    assert found.flags[1].startswith("1 of 9 answers have no reply of the judge that can be read (5 for one)")
    assert OWN_WORDS in found.flags
    rest = [{"image_id": image, "question": "?", "answer": text} for at, (image, text, _) in enumerate(ROWS) if at != 4]
    without = score("object_halbench", rest, folder, judge_replies=str(folder / "judge_replies.jsonl"))
    assert found.results["coco_word_count"] == without.results["coco_word_count"]
    again = score("object_halbench", folder, folder, judge_replies=str(tmp_path / "ledger.jsonl"))
    assert again.results == found.results


def test_a_judge_s_objects_become_names(folder):
    benchmark = ObjectHalbenchBenchmark(str(folder))
    told = benchmark.told(benchmark.read(folder), [])
    assert {at: told[at].words for at in WORDS} == WORDS


@pytest.mark.parametrize(
    ("reply", "objects"),
    [
        ('["dog", "cat"]', ["dog", "cat"]),
        (' \n["dog"]\n', ["dog"]),
        ('Here they are:\n["dog"]', ["dog"]),
        ('The objects are ["dog"]', None),
        ("None:\n[]", None),
        ("['dog']", None),
        ("[]", []),
        ('{"dog": 1}', ["dog"]),
        ('["dog"]\nThat is all.', None),
    ],
)
def test_which_replies_upstream_can_read(reply, objects):
    assert read_objects(reply) == objects


def test_without_spacy_or_a_table_our_own_tagger_stands_in_and_is_named(folder):
    (folder / "analyses.json").unlink()
    found = score("object_halbench", folder, folder)
    assert any("no spaCy model en_core_web_trf is installed" in flag for flag in found.flags) or found.results == UPSTREAM[True]


def test_without_annotations_the_ground_truth_of_chair_is_used_and_named(folder):
    (folder / "ground_truth_built.json").unlink()
    rows = [{"image_id": 9, "prompt": "What?", "text": "A car and a table"}]
    found = score("object_halbench", rows, folder, use_gpt=False)
    assert any("ground truth is CHAIR's" in flag for flag in found.flags)
    assert found.results["CHAIRi"] == 1


def test_divisions_that_stop_upstream_are_guarded_and_told(folder):
    found = score("object_halbench", [{"image_id": 5, "prompt": "What?", "text": "Nothing"}], folder, use_gpt=False)
    assert (found.results["CHAIRs_refine"], found.results["CHAIRi"], found.results["obj_rec"]) == (0.0, 0.0, 0.0)
    assert [flag.partition(":")[0] for flag in found.flags if "division" in flag] == ["CHAIRs_refine", "CHAIRi", "obj_rec"]


def test_ids_come_from_the_question_file_line_by_line(folder):
    questions(folder)
    rows = [{"question": "What?", "answer": text} for text in ("A dog", "A dog", "A car")]
    found = score("object_halbench", rows, folder, use_gpt=False)
    assert found.results["CHAIRi"] == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="row 4 has no image_id, and .* has 3 lines"):
        score("object_halbench", [*rows, *rows], folder, use_gpt=False)


def questions(folder: Path) -> Path:
    picture = base64.b64encode(b"no picture").decode()
    rows = [{"org_idx": at, "image_id": image, "question": f"Describe {image}.", "image": picture} for at, image in enumerate((1, 2, 3))]
    (folder / "obj_halbench_300_with_image.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def test_asked_and_scored_by_its_own_samples(folder):
    benchmark = ObjectHalbenchBenchmark(str(questions(folder)), use_gpt=False)
    samples = benchmark.samples()
    assert [(sample.id, sample.messages[0].parts[1].text, sample.images[0].data) for sample in samples][1] == (
        "2",
        "Describe 2.",
        b"no picture",
    )
    assert benchmark.score({"1": Response("r", "1", "A dog"), "2": Response("r", "2", "A dog")})["CHAIRs"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="has no questions; obj_halbench_300_with_image.jsonl comes from https"):
        ObjectHalbenchBenchmark(None).samples()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ('{"image_id": 1, "question": "?", "answer": null}', "row 1: the answer is None"),
        ('{"image_id": "x", "question": "?", "answer": "a"}', "row 1: the image_id is 'x'"),
        ('{"image_id": 1, "answer": "a"}', "row 1 has neither `prompt` nor `question`"),
        ('{"question": "?", "answer": "a"}', "row 1 has no image_id, and there is no question file"),
        ('{"image_id": 1, "question": "?", "answer": "A dog that nobody judged"}', "row 1: there is no reply of a judge"),
        ('{"image_id": 1, "question": "?", "answer": "A dog on the moon"}', "none of the judge's 2 replies can be read, the last is 'No.'"),
        ('{"image_id": 1, "question": "?", "answer": "A dog in the sun"}', "a judge's reply is '3'; expected a JSON list"),
        ('{"image_id": 1, "question": "?", "answer": "A cat in the sun"}', "analyses.json has no analysis of 'a cat'"),
    ],
)
def test_what_cannot_be_scored_is_named(folder, capsys, content, sentence):
    (folder / "answers.jsonl").write_text(content)
    with (folder / "judge_replies.jsonl").open("a") as file:
        for text, replies in (("A dog on the moon", ["Hm.", "No."]), ("A dog in the sun", ["3"]), ("A cat in the sun", ['["cat"]'])):
            file.write("\n" + json.dumps({"answer": text, "replies_in_order": replies}))
    assert main(["score", "object_halbench", "--responses", str(folder), "--data", str(folder), "--json"]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("judge_replies.jsonl", '{"answer": "a"}', "row 1: expected a judge's replies"),
        ("analyses.json", "[1]", "is no table of analyses"),
        ("synonyms_refine.txt", None, "needs synonyms_refine.txt; it comes from https://github.com/RLHF-V/RLAIF-V"),
    ],
)
def test_files_of_another_kind_are_named(folder, name, content, sentence):
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        score("object_halbench", folder, folder)
