"""CHAIR: upstream's numbers on its examples and on captions with every quirk, whose ground truth, and captions that have no score."""

import gzip
import json
from pathlib import Path

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import ChairBenchmark, score

BLOCKS = {
    "pattern_singularize": "pattern_singularize (CHAIR-metric-standalone)",
    "wordnet_pos_lemma": "wordnet_pos_lemma (OPERA port)",
    "opera": "wordnet_pos_lemma (OPERA port)",
}
EXAMPLES = ("dev_shikra_greedy_80", "dev_coco_format_40")

CATEGORIES = {1: "person", 5: "bus", 9: "dog", 12: "sports ball", 62: "chair", 70: "toilet", 67: "dining table", 46: "wine glass"}
INSTANCES = {"val": {1: [5, 1], 2: [70], 3: [12, 9]}, "train": {4: [46, 67, 67], 6: [62]}}
WRITTEN = {
    "val": {1: ["Two buses and some men.", "People waiting for a bus"], 2: ["A toilet seat is up"], 3: ["A baby elephant plays"]},
    "train": {4: ["Wine glasses on a table."], 5: ["An old sofa"]},
}
# each row a quirk: men and bus by family, the seat rule and its wrong places, phrases that are lost, three blanks, repeated images
CAPTIONS = [
    (1, "The bus and two buses wait for men, women and a policeman. A cat sits inside."),
    (1, "A passenger train and a passenger; a baby dog beside an adult."),
    (2, "A toilet and a seat near the cat. The dog's seat is the toilet's."),
    (2, "The toilet seat by a sink - a cheesecake, a motor bike and a motorbike!"),
    (3, "Sports balls, a sports ball and tennis rackets. Doggies on home plate."),
    (3, "The glass of wine, wine glasses and a wine glass; mice with knives."),
    (4, "Four police officers (people) sat at the dining table, slicing pizza slices."),
    (5, 'Sofas... couches? "Chairs" - a hot dog; hot-dog stands. An iPhone, a cell phone\'s screen.'),
    (6, "   "),
    (777, "A zebra."),
    (4, "Nothing that COCO knows."),
    (None, "Tables, tables and a desk"),
]
UPSTREAM = {
    "pattern_singularize": {"CHAIRs": 0.8333333333333334, "CHAIRi": 0.6111111111111112, "Recall": 0.4444444444444444},
    "wordnet_pos_lemma": {"CHAIRs": 0.8333333333333334, "CHAIRi": 0.5945945945945946, "Recall": 0.5, "Len": 0.11916666666666666},
}
PLACES = {
    "pattern_singularize": [[15], [1, 8], [6, 9], [5, 15], [8], [5, 9, 12, 14], [2, 4, 13], [5, 9, 19], [], [1], [], [0, 2, 5]],
    "wordnet_pos_lemma": [[15], [1, 8], [6, 9], [5, 15], [7], [5, 9, 12, 14], [2, 4, 13], [5, 9, 19], [], [1], [], [0, 2, 5]],
}
HARNESS = {"coco_cap_chair_i": 54.54545454545454, "coco_cap_chair_s": 80.0, "coco_cap_recall": 50.0}


def annotations(folder: Path) -> Path:
    """COCO's four files for the images above."""
    names = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    folder.mkdir(parents=True, exist_ok=True)
    for part, images in INSTANCES.items():
        marks = [{"image_id": image, "category_id": number} for image, numbers in images.items() for number in numbers]
        notes = [{"image_id": image, "caption": text} for image, texts in WRITTEN[part].items() for text in texts]
        rows = [{"id": image, "file_name": f"COCO_{part}2014_{image:012d}.jpg"} for image in images]
        head = {"info": {}, "licenses": [], "images": rows}
        (folder / f"instances_{part}2014.json").write_text(json.dumps({**head, "annotations": marks, "categories": names}))
        (folder / f"captions_{part}2014.json").write_text(json.dumps({**head, "annotations": notes}))
    return folder


def captions(rows: list = CAPTIONS, **more: object) -> list[dict]:
    return [{"image_id": image, "caption": text, **more} for image, text in rows]


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("flavor", BLOCKS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_give_upstream_s_numbers(example, published_data, said, name, flavor):
    folder = example(f"chair/{name}")
    expected = json.loads((folder / "expected.json").read_text())
    data = published_data("chair") / Path(expected["ground_truth"]).name
    found = said("chair", responses=folder / "captions.jsonl", data=data, flavor=flavor)
    assert found["results"] == expected[BLOCKS[flavor]]["overall_metrics"]
    assert found["printed"] == expected[BLOCKS[flavor]]["printed"]
    assert found["n"] == expected["n_captions"]
    assert found["flavor"] == BLOCKS[flavor].split()[0]
    assert said("chair", responses=folder, flavor=flavor)["results"] == found["results"]  # the packaged truth says the same of them


@pytest.mark.parametrize("flavor", UPSTREAM)
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_sentence_by_sentence(example, name, flavor):
    folder = example(f"chair/{name}")
    benchmark = ChairBenchmark(flavor=flavor)
    told = benchmark.told(benchmark.read(folder), [])
    words = [{"image_id": one.image, "words": one.words, "gt": sorted(one.there)} for one in told]
    assert words == rows_of(folder / f"words_{flavor}.jsonl")
    expected = rows_of(folder / f"per_sentence_{flavor}.jsonl")
    assert [one.image for one in told] == [row["image_id"] for row in expected]
    assert [[mention.name for mention in one.mentions] for one in told] == [row["node_words"] for row in expected]
    assert [[[mention.word, mention.name] for mention in one.wrong] for one in told] == [row["hallucinated"] for row in expected]
    assert [[mention.place for mention in one.wrong] for one in told] == [row["hallucination_idxs"] for row in expected]
    assert [one.metrics for one in told] == [{key: row["metrics"][key] for key in ("CHAIRs", "CHAIRi", "Recall")} for row in expected]


@pytest.mark.parametrize("flavor", UPSTREAM)
def test_quirks_give_upstream_s_numbers_with_a_ground_truth_built_from_annotations(tmp_path, said, flavor):
    annotations(tmp_path / "coco" / "annotations")
    (tmp_path / "captions.jsonl").write_text("\n".join(map(json.dumps, captions())))
    found = said("chair", responses=tmp_path / "captions.jsonl", data=tmp_path / "coco", flavor=flavor)
    assert found["results"] == UPSTREAM[flavor]
    assert found["flags"] == [
        "2 captions are of images without ground truth, 777 for one: all their mentions count as hallucinated, as upstream has it"
    ]
    one_file = tmp_path / "coco" / "annotations" / "captions_val2014.json"
    assert score("chair", captions(), one_file, flavor=flavor).results == found["results"]
    benchmark = ChairBenchmark(str(tmp_path / "coco"), flavor=flavor)
    told = benchmark.told(benchmark.read(captions()), [])
    assert [[mention.place for mention in one.wrong] for one in told] == PLACES[flavor]


@pytest.mark.parametrize("name", EXAMPLES)
def test_words_that_need_no_tag_change_no_mention(example, name):
    benchmark = ChairBenchmark(flavor="opera")
    answers = benchmark.read(example(f"chair/{name}"))
    whole, fast = benchmark.told(answers, []), benchmark.told(answers, [], benchmark.mentions)
    assert [one.mentions for one in fast] == [one.mentions for one in whole]
    assert [len(one.words) for one in fast] == [len(one.words) for one in whole]


def test_an_lmms_eval_log_carries_its_ground_truth(tmp_path, said):
    truth = ChairBenchmark(str(annotations(tmp_path / "coco"))).truth()
    known = [(image, text) for image, text in CAPTIONS if image in truth]
    docs = [{"question_id": str(image), "gt_object": sorted(truth[image])} for image, _ in known]
    logs = [{"doc_id": at, "doc": docs[at], "filtered_resps": [text]} for at, (_, text) in enumerate(known)]
    (tmp_path / "log.json").write_text(json.dumps({"logs": logs}))
    found = said("chair", responses=tmp_path / "log.json", flavor="lmms-eval")
    assert found["results"] == HARNESS
    assert found["flags"] == []


def test_ground_truth_is_a_file_packed_or_not_or_lies_in_the_folder(tmp_path):
    rows = captions([(1, "a dog and a cat")])
    (tmp_path / "ground_truth_built.json").write_text('{"1": ["dog", "bus"]}')
    (tmp_path / "mine.json.gz").write_bytes(gzip.compress(b'{"2": ["dog"], "1": ["dog", "bus"]}'))
    for data in (tmp_path / "mine.json.gz", tmp_path / "ground_truth_built.json", tmp_path):
        assert score("chair", rows, data).results == {"CHAIRs": 1.0, "CHAIRi": 0.5, "Recall": 0.5}
    (tmp_path / "above" / "below").mkdir(parents=True)
    (tmp_path / "above" / "below" / "coco2014_chair_gt_objects.json").write_text('{"1": ["dog", "bus"]}')
    assert score("chair", rows, tmp_path / "above").results["Recall"] == 0.5
    (tmp_path / "empty").mkdir()
    other = score("chair", captions([(139, "a dog")]), tmp_path / "empty")
    assert "holds no ground truth; the packaged one" in other.flags[0]
    built = score("chair", captions([(139, "a dog")]), flavor="opera").flags
    assert any("built with pattern's singulars" in flag for flag in built)


def test_the_packaged_ground_truth_found_in_one_sweep_is_the_whole_one_s():
    whole = ChairBenchmark().truth()
    assert len(whole) == 123_287
    some = [image for at, image in enumerate(whole) if at % 1000 == 0]
    assert ChairBenchmark().truth(some) == {image: whole[image] for image in some}
    assert ChairBenchmark().truth([9, -1, 10**9]) == {9: {"bowl", "broccoli", "orange"}}


@pytest.mark.parametrize(
    ("content", "flag"),
    [
        ('{"overall": {}, "imgToEval": {"9": {"image_id": 9, "caption": "a bowl and a dog", "Bleu_1": 0}}}', None),
        ('{"sentences": [{"image_id": 9, "caption": "a bowl and a dog"}], "overall_metrics": {}}', None),
        ('{"question_id": 0, "image_id": "000000000009.jpg", "prompt": "Describe", "text": "a bowl and a dog"}', "as less-is-more does"),
        ('{"question_id": 0, "image": "COCO_val2014_000000000009.jpg", "text": "a bowl and a dog"}', "as less-is-more does"),
    ],
)
def test_shapes_of_captions(tmp_path, content, flag):
    (tmp_path / "said.json").write_text(content)
    found = score("chair", tmp_path / "said.json")
    assert (found.results["CHAIRi"], found.results["Recall"]) == (0.5, 1 / 3)
    assert [bool(flag) and flag in one for one in found.flags] == ([True] if flag else [])


def test_divisions_that_stop_upstream_are_guarded_and_told():
    found = score("chair", captions([(777, "Nothing to see"), (-1, "")]))
    assert found.results == {"CHAIRs": 0.0, "CHAIRi": 0.0, "Recall": 0.0}
    assert [flag.partition(":")[0] for flag in found.flags[:2]] == ["2 captions are of images without ground truth, 777 for one", "CHAIRi"]
    assert "Recall: division by zero" in found.flags[2]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "is empty"),
        ('{"image_id": 9, "caption": null}', "row 1 (image 9): the caption is None; expected a text"),
        ('{"image_id": 9, "caption": "a"}\n{"image_id": 9}', "row 2 (image 9): the caption is None"),
        ('{"image_id": 9, "caption": "a"}\n{"caption": "a"}', "row 2 has no image id"),
        ('{"image_id": [9], "caption": "a"}', "row 1: the image id is [9]"),
        ('{"image_id": "dog", "caption": "a"}', "row 1: there is no image id in 'dog'"),
        ('{"question_id": 1, "answer": "no"}', "row 1 has no image id"),
        ('{"id": 1, "truth": "yes"}', "no answer in it; expected one of the fields caption, text"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, content, sentence):
    (tmp_path / "said.jsonl").write_text(content)
    assert main(["score", "chair", "--responses", str(tmp_path / "said.jsonl"), "--json"]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert told.out == ""


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("truth.json", "[1, 2]", "is no ground truth: expected a JSON object of classes by image id"),
        ("truth.json", '{"dog": ["a"]}', "is no ground truth"),
        ("instances_val2014.json", "{}", "found instances_val2014.json without its captions"),
    ],
)
def test_data_that_is_no_ground_truth_is_named(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=sentence):
        score("chair", captions(), tmp_path if name.startswith("instances") else tmp_path / name)


def test_asked_and_scored_by_its_own_samples(tmp_path):
    benchmark = ChairBenchmark(str(annotations(tmp_path / "coco")), images="pictures")
    samples = benchmark.samples()
    assert [sample.id for sample in samples] == ["4", "6", "1", "2", "3"]  # train's file comes first
    assert samples[0].images[0].path == "pictures/COCO_train2014_000000000004.jpg"
    responses = {sample.id: Response("r", sample.id, "A bench") for sample in samples[:2]}
    found = benchmark.score(responses)
    assert found["CHAIRs"] == 1  # three unanswered ones count as hallucinating
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "COCO_val2014_000000000002.jpg").touch()
    only = ChairBenchmark(str(tmp_path / "coco"), images=str(tmp_path / "pictures")).samples()
    assert [sample.id for sample in only] == ["2"]


def test_very_long_captions_are_scored():
    found = score("chair", captions([(9, "A bowl sits by a bowl. " * 5_000), (9, "bowl," * 20_000), (9, "s" * 100_000)]))
    assert found.results["CHAIRs"] == 0
