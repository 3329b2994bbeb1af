"""AMBER: upstream's numbers on its examples and on odd responses, in three evaluators' ways; similarities; what cannot be scored."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals import AmberBenchmark, score
from mm_align.evals.amber_rules import Words, read_nouns
from mm_align.evals.similarity import read_table, similarity_of

CAPTIONS = [
    (1, "Dog and people near the lake. A bird, two clouds, a boat and a TV."),
    (2, "Two ships and a vessel under the bridge; the ground, a sailing boat and an oar."),
    (12, "A line of kids plays football. The chair is on the grass, a dog and a dog watch."),
    (201, ""),
    (2, "A plane, a cow."),
]
ANSWERS = [
    *[(1005, "Yes"), (1006, "No"), (1007, "no"), (5000, "No"), (6900, "Yes"), (8000, "No."), (3000, "Yes"), (9000, "No"), (13500, "No")],
    *[(13193, ""), (14500, "No"), (14000, "No"), (15220, " No"), (13600, None), (6000, "Yes"), (0, "No"), (1006, "No")],
]
NEAR = {"boat": {"lake": 0.81, "cloud": 0.9}, "chair": {"grass": 0.8, "bench": 0.95}, "cow": {"plane": 0.85, "ship": 0.83}}
NEAR["dog"] = {"child": 0.79, "rugby": 0.9}


def four(*values: float) -> dict[str, float]:
    return dict(zip(("Accuracy", "Precision", "Recall", "F1"), values, strict=True))


# inference.py at 534babf on the rows above, NLTK 3.9.4
QUESTIONS = {
    "Descriminative Task": four(52.9, 100.0, 53.3, 69.5),
    "Exsitence": four(66.6, 100.0, 66.6, 79.9),
    "Attribute": four(44.4, 99.9, 42.8, 59.9),
    "State": four(60.0, 100.0, 66.6, 79.9),
    "Number": four(25.0, 99.9, 25.0, 40.0),
    "Action": four(0.0, 0.0, 0.0, 0.0),
    "Relation": four(60.0, 100.0, 60.0, 75.0),
}
BY_EQUALITY = {"CHAIR": 52.2, "Cover": 18.4, "Hal": 80.0, "Cog": 28.0}
BY_TABLE = {"CHAIR": 34.8, "Cover": 21.1, "Hal": 80.0, "Cog": 28.0}
VLMEVALKIT = {"Attribute": 50.0, "Existence": 66.66666666666666, "Relation": 50.0, "Avg ACC": 55.55555555555555}


def rows(*pairs: tuple[object, object]) -> list[dict]:
    return [{"id": key, "response": text} for key, text in pairs]


@pytest.fixture
def table(tmp_path) -> Path:
    (tmp_path / "near.json").write_text(json.dumps(NEAR))
    return tmp_path / "near.json"


@pytest.mark.parametrize(("name", "block"), [("discriminative_400", "type_d_sim_identity"), ("generative_60", "type_g_sim_identity")])
def test_the_examples_give_upstream_s_numbers(example, published_data, said, name, block):
    folder = example(f"amber/dev_{name}")
    expected = json.loads((folder / "expected.json").read_text())[block]
    found = said("amber", responses=folder / "responses.json", data=published_data("amber"), similarity=expected["similarity"])
    assert found["results"] == expected["printed"]
    assert found["raw"] == expected["raw_counters_start_at_0.001_where_num"]
    assert found["n"] == expected["n"]
    assert said("amber", responses=folder)["results"] == expected["printed"]  # packaged data, the folder of responses


def test_descriptions_and_questions_together_give_upstream_s_numbers_and_the_paper_s_score(table):
    found = score("amber", rows(*CAPTIONS, *ANSWERS), similarity="identity")
    assert found.results == {"Generative Task": BY_EQUALITY, **QUESTIONS}
    assert found.raw["AMBER"] == pytest.approx((100 - 52.2 + 69.5) / 2)
    assert found.printed[:6] == ("Generative Task:", "CHAIR:\t\t 52.2", "Cover:\t\t 18.4", "Hal:\t\t 80.0", "Cog:\t\t 28.0 ", "")
    assert found.printed[-4:] == ("Accuracy:\t 60.0", "Precision:\t 100.0", "Recall:\t\t 60.0", "F1:\t\t 75.0")
    assert any("id 0 is read as item 15220" in flag for flag in found.flags)
    assert any('5 answers are neither "Yes" nor "No"' in flag for flag in found.flags)
    assert score("amber", rows(*CAPTIONS), similarity=str(table)).results == {"Generative Task": BY_TABLE}


@pytest.mark.parametrize(
    ("kind", "headings"),
    [("g", ["Generative Task"]), ("de", ["Exsitence"]), ("da", ["Attribute", "State", "Number", "Action"]), ("dr", ["Relation"])],
)
def test_types_choose_what_is_shown_and_items_have_its_mean(kind, headings):
    found = score("amber", rows(*CAPTIONS, *ANSWERS), similarity="identity", evaluation_type=kind)
    assert found.results == {heading: {"Generative Task": BY_EQUALITY, **QUESTIONS}[heading] for heading in headings}
    heading, name = AmberBenchmark(evaluation_type=kind).items_metric.split(".")
    mean = sum(item.score for item in found.items) / len(found.items)
    assert mean * 100 == pytest.approx(found.results[heading][name], abs=0.1)


def test_lmms_eval_s_numbers(table):
    """tasks/amber_g/utils.py at 75571cf, which stops at an answer that is no text."""
    found = score("amber", rows(*CAPTIONS, *(pair for pair in ANSWERS if pair[1] is not None)), flavor="lmms-eval", similarity=str(table))
    expected = {"amber_chair": 34.75087963164064, "amber_cover": 21.041003655874405, "amber_hal": 80.08364867556266}
    assert found.results == pytest.approx({**expected, "amber_cog": 27.97649974021819}, abs=1e-12)
    with pytest.raises(ValueError, match="row 1: the response is None"):
        score("amber", rows((9000, None)), flavor="lmms-eval")


def test_vlmevalkit_s_numbers_and_its_sheet():
    """AMBER_rating and YOrN_Extraction at 3804690."""
    words = {3000: "Yes, it is", 13500: "There is no cat", 14500: "No!", 14000: "Yes or no"}
    pairs = {key: words.get(key, text) for key, text in ANSWERS[:15]}
    found = score("amber", rows(*pairs.items()), flavor="vlmevalkit")
    assert found.results == pytest.approx(VLMEVALKIT, abs=1e-12)
    sheet = [{"index": 7, "category": "relation", "answer": "No", "prediction": "no."}, {"index": 8, "answer": "Yes", "prediction": "no"}]
    sheet[1]["category"] = "discriminative-relation"
    assert score("amber", sheet, flavor="vlmevalkit").results == {"Relation": 50.0, "Avg ACC": 50.0}
    with pytest.raises(ValueError, match="no answer to a question"):
        score("amber", rows(*CAPTIONS), flavor="vlmevalkit")


def test_by_hand_a_word_near_to_both_kinds_counts_for_both():
    """Truth ship, lake; hallu cat, cow. "boat" equals a related word. "kitten" is near to cat and to lake: imagined, covered and not
    hallucinated. "cow" is imagined and hallucinated. "sign" is safe, "sofa" is hallucinated, "Ship" is no object."""
    near = {("kitten", "cat"): 0.9, ("kitten", "lake"): 0.81}
    words = Words(
        frozenset({"boat", "kitten", "cow", "sign", "sofa"}), {"ship": ["boat"]}, frozenset({"sign"}), lambda a, b: near.get((a, b), 0.0)
    )
    nouns = ["boat", "boat", "kitten", "cow", "sign", "sofa", "Ship"]
    assert read_nouns(nouns, ["ship", "lake"], ["cat", "cow"], words) == (6, 2, {0, 1}, {0, 1})


@pytest.mark.parametrize(
    "content",
    [
        '{"a": {"b": 0.9}}',
        '{"a|b": 0.9}',
        '{"meaning": "cosines", "similarity": {"b,a": 0.9}}',
        '[["b", "a", 0.9]]',
        '[{"word1": "a", "word2": "b", "similarity": 0.9}]',
        "a\tb\t0.9\n",
        '{"a": [1, 0], "b": [0.9, 0.43588989435406733]}',
    ],
)
def test_tables_of_similarities(tmp_path, content):
    (tmp_path / "near.json").write_text(content)
    near = read_table(tmp_path / "near.json")
    assert (near("a", "b"), near("b", "a"), near("c", "c"), near("a", "c")) == (pytest.approx(0.9), pytest.approx(0.9), 1, 0)


def test_spacy_is_asked_where_it_is_installed_and_its_lack_is_told(monkeypatch):
    loaded = []

    def load(name: str) -> object:
        if name != "en_core_web_sm":
            raise OSError(name)
        loaded.append(name)
        return lambda word: SimpleNamespace(similarity=lambda other: 0.5)

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=load))
    near = similarity_of(None, ("en_core_web_md", "en_core_web_sm"))
    assert near.between is not None
    assert (near.between("a", "b"), near.told, loaded) == (0.5, (), ["en_core_web_sm"])
    assert "string equality" in similarity_of(None, ("en_core_web_lg",)).told[0]
    monkeypatch.setitem(sys.modules, "spacy", None)
    assert any("string equality" in flag for flag in score("amber", rows(*CAPTIONS)).flags)


def test_asked_and_scored_by_its_own_samples():
    assert len(AmberBenchmark().samples()) == 15220
    assert len(AmberBenchmark(evaluation_type="g").samples()) == 1004
    benchmark = AmberBenchmark(images="pictures", limit=6, similarity="identity")
    assert len(benchmark.samples()) == 7 * 6
    samples = benchmark.samples()
    assert (samples[0].images[0].path, samples[0].messages[0].parts[1].text) == ("pictures/AMBER_1.jpg", "Describe this image.")
    assert samples[-1].messages[0].parts[1].text.endswith("?\nAnswer the question using a single word or phrase.")
    assert benchmark.score({})["AMBER"] == 50.0
    right = {s.id: Response("r", s.id, s.meta["truth"].title() if isinstance(s.meta["truth"], str) else "") for s in samples}
    assert benchmark.score(right)["AMBER"] > 99
    with pytest.raises(ValueError, match="answer no sample"):
        benchmark.score({"15221": Response("r", "15221", "Yes")})


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"id": 15221, "response": "No"}]', "row 1: there is no item 15221; ids go from 1 to 15220"),
        ('[{"id": 1005, "response": "No"}, {"id": "x.jpg", "response": "No"}]', "row 2: the id is 'x.jpg'"),
        ('[{"id": 1005, "response": "No"}, {"id": "1006", "response": "No"}]', "row 2: the id is '1006'"),
        ('[{"id": 1005, "response": "No"}, {"response": "No"}]', "row 2: the id is None"),
        ('[{"id": 1005, "response": "No"}, {"id": 1006}]', "row 2 has no `response`"),
        ('[{"id": 1, "response": null}]', "row 1: the response is None; expected a text"),
        ('[{"id": 1, "label": "yes"}]', "no answer in it"),
        ("[]", "holds no answers"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, capsys, content, sentence):
    (tmp_path / "said.json").write_text(content)
    assert main(["score", "amber", "--responses", str(tmp_path / "said.json"), "--json"]) == 2
    assert sentence in capsys.readouterr().err


def test_tables_hold_ids_as_text(tmp_path):
    (tmp_path / "said.csv").write_text("id,response\n1005,Yes\n1006,No\n")
    assert score("amber", tmp_path / "said.csv").results["State"]["Accuracy"] == 100.0


def test_other_files_are_refused_or_told(tmp_path):
    with pytest.raises(ValueError, match="no evaluation_type 'x'; there are a, g, d"):
        AmberBenchmark(evaluation_type="x")
    (tmp_path / "near.json").write_text('{"a": "b"}')
    with pytest.raises(ValueError, match="no table of similarities"):
        score("amber", rows(*CAPTIONS), similarity=str(tmp_path / "near.json"))
    (tmp_path / "near.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no similarities"):
        score("amber", rows(*CAPTIONS), similarity=str(tmp_path / "near.json"))
    (tmp_path / "annotations.json").write_text('[{"question": "Is there a dog?"}]')
    with pytest.raises(ValueError, match="no annotations of AMBER"):
        score("amber", rows((1, "No")), tmp_path)
    (tmp_path / "annotations.json").write_text('[{"id": 1, "type": "relation", "truth": "no"}]')
    for data in (tmp_path, tmp_path / "annotations.json"):
        found = score("amber", rows((1, "No")), data)
        assert found.results["Relation"]["Accuracy"] == 99.9
        assert "differs from the published annotations.json" in found.flags[0]
    with pytest.raises(FileNotFoundError, match="there is no nowhere"):
        score("amber", rows((1, "No")), "nowhere")
    with pytest.raises(ValueError, match=r"holds no responses\.json"):
        score("amber", tmp_path)
