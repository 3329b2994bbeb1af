"""MMStar: three evaluators' numbers on upstream's example and on odd answers, the sheet, the questions by index, what is refused."""

import base64
import io
import json
from pathlib import Path

import openpyxl
import PIL.Image
import pytest

from mm_align.cli import main
from mm_align.evals import MmstarBenchmark, score
from mm_align.evals.mmstar import begins_with

BLOCKS = {"official": "mmstar_official", "lmms-eval": "lmms_eval_mmstar", "vlmevalkit": None}
EXTRACTED = {"lmms-eval": "lmms_extracted_string", "vlmevalkit": "vlmevalkit_can_infer_option_string"}


@pytest.mark.parametrize("flavor", BLOCKS)
def test_the_example_gives_upstream_s_numbers(example, said, flavor):
    folder = example("mmstar/dev_half")
    expected = json.loads((folder / "expected.json").read_text())
    found = said("mmstar", responses=folder, data=folder, flavor=flavor)
    if block := BLOCKS[flavor]:
        assert found["results"] == expected[block]
    if name := EXTRACTED.get(flavor):
        assert found["raw"]["extracted"] == expected[name]
    if flavor == "official":
        assert "750 rows; the final score is still over 1500" in found["flags"][0]
        assert found["printed"][:2] == ["final score:0.2673333333333333", "coarse perception:0.292"]


@pytest.mark.parametrize(
    ("prediction", "truth", "right"),
    [
        ("B", "B", True),
        ("Bananas", "B", True),
        ("(c) x", "C", True),
        ("( c)", "C", False),
        ("Option D", "D", True),
        ("option", "D", False),
        ("The answer\nis a", "A", True),
        ("the answer is: a", "A", False),
        ("Answer: B", "A", True),
        ("**B**", "B", False),
        ("", "A", False),
        ("\n b", "B ", True),
    ],
)
def test_what_the_official_script_takes_for_right(prediction, truth, right):
    assert begins_with(prediction, truth) is right


PART = {"category": "math", "l2_category": "geometry"}
OTHER = {"category": "logical reasoning", "l2_category": "common reasoning"}


def rows(*said: object, **more: object) -> list[dict]:
    """The truth is A."""
    return [{"index": i, "answer": "A", **PART, "prediction": text, **more} for i, text in enumerate(said)]


def test_what_the_evaluators_divide_by():
    """Geometry 1 of 2 by the official rule, 2 of 2 by the ports; common reasoning 0 of 1."""
    told = [*rows("A", "so it is A"), *rows("B", **OTHER)]
    found = score("mmstar", told)
    assert found.results["final score"] == 1 / 1500
    assert (found.results["math"], found.results["math(geometry)"]) == (1 / 250, 0.5)
    assert sum("math(statistical reasoning): division by zero" in flag for flag in found.flags) == 1
    assert score("mmstar", told, flavor="lmms-eval").results == {"logical reasoning": 0, "math": 1, "average": 0.5}
    ported = score("mmstar", told, flavor="vlmevalkit")
    assert ported.results == {"Overall": 2 / 3, "logical reasoning": 0, "math": 1}
    assert "no options A to D" in ported.flags[0]


def test_texts_of_options_count_for_vlmevalkit_alone():
    told = rows("it is a red cat", A="Red cat", B="dog")
    assert score("mmstar", told, flavor="vlmevalkit").results["Overall"] == 1
    assert score("mmstar", told, flavor="lmms-eval").results["average"] == 0
    assert score("mmstar", rows(None, 3), flavor="vlmevalkit").raw["extracted"] == "--"


def test_the_sheet_and_gain_and_leakage(tmp_path):
    def sheet(name: str, *said: str) -> str:
        book = openpyxl.Workbook()
        table = rows(*said)
        for line in (list(table[0]), *([*row.values()] for row in table)):
            book.active.append(line)
        book.save(tmp_path / name)
        return str(tmp_path / name)

    seen, blind, text = sheet("a.xlsx", "A", "A", "A"), sheet("b.xlsx", "A", "A", "B"), sheet("c.xlsx", "A", "B", "B")
    found = score("mmstar", seen, without_images=blind, language_model=text)
    assert (found.raw["MG"], found.raw["ML"]) == (pytest.approx(1 / 1500), pytest.approx(1 / 1500))
    assert score("mmstar", seen, without_images=text, language_model=blind).raw["ML"] == 0


def test_asked_and_scored_by_the_table(tmp_path):
    picture = io.BytesIO()
    PIL.Image.new("RGB", (2, 2)).save(picture, "PNG")
    drawn = base64.b64encode(picture.getvalue()).decode()
    table = [
        {"index": 7, "question": "What?", "A": "cup", "B": "cat", "answer": "A", **PART, "image": drawn},
        {"index": 8, "question": "Who?\nOptions: A: x", "answer": "B", **PART},
    ]
    (tmp_path / "MMStar.jsonl").write_text("\n".join(map(json.dumps, table)))
    (tmp_path / "8.png").touch()
    first, second = MmstarBenchmark(str(tmp_path), images=str(tmp_path)).samples()
    assert first.images[0].data == picture.getvalue()
    assert first.messages[0].parts[1].text == "What?\nA. cup\nB. cat\nAnswer with the option's letter from the given choices directly"
    assert second.images[0].path == str(tmp_path / "8.png")
    told = [{"index": 8, "answer": "B"}, {"index": 7, "answer": "b"}]
    assert score("mmstar", told, str(tmp_path)).results["math(geometry)"] == 0.5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([{"index": 0, "answer": "A", **PART}], "row 1: expected prediction, answer (the truth)"),
        (rows("A", l2_category="algebra"), "part 'algebra'"),
        ([{"index": 0, "prediction": "A"}], "found the fields index, prediction"),
        ([], "holds no answers"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path: Path, capsys, content, sentence):
    (tmp_path / "said.json").write_text(json.dumps(content))
    assert main(["score", "mmstar", "--responses", str(tmp_path / "said.json"), "--json"]) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(ValueError, match="row 1: the prediction is 3"):
        score("mmstar", rows(3), flavor="lmms-eval")
