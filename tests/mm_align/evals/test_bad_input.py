"""Bad input of every published benchmark, over one table: scored as upstream does, or refused in one sentence that names file and row."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mm_align.cli import main
from mm_align.evals.scoring import published_names

GONE = object()
Change = Callable[[Any, Any], None]  # of one of `small_cases.py` and a copy of what repeats in it
BENCHES = published_names()
VIDEO = "the entire dataset/Overall Performance/Overall"

# -- what is done to a file --------------------------------------------------------------------------------------------


def at(tree: Any, path: tuple[str | int, ...]) -> Any:
    for step in path:
        tree = tree[step]
    return tree


def put(tree: Any, path: tuple[str | int, ...], value: Any) -> None:
    if value is GONE:
        del at(tree, path[:-1])[path[-1]]
    else:
        at(tree, path[:-1])[path[-1]] = value


def second(case: Any, rows: Any, path: tuple[str | int, ...], value: Any) -> None:
    put(rows, (list(rows)[1] if isinstance(rows, dict) else 1, *path), value)


def answer(value: Any) -> Change:
    return lambda case, rows: second(case, rows, case.text, value)


def name(value: Any) -> Change:
    """The second one is called otherwise; nothing where the format has no names."""

    def change(case: Any, rows: Any) -> None:
        if case.id is not None:
            second(case, rows, (case.id,), value)
        elif isinstance(rows, dict) and value is not GONE:
            rows[str(value)] = rows.pop(list(rows)[1])

    return change


def row(value: Any) -> Change:
    return lambda case, rows: second(case, rows, (), value)


def again(case: Any, rows: Any) -> None:
    if isinstance(rows, list):
        rows.append(copy.deepcopy(rows[-1]))


def more(case: Any, rows: Any) -> None:
    """One that the benchmark does not have."""
    if isinstance(rows, dict):
        rows["3"] = copy.deepcopy(list(rows.values())[-1])
    else:
        rows.append(copy.deepcopy(rows[-1]))
        if case.id is not None:
            rows[-1][case.id] = ["VD", "chart", "99", "0", "0"] if case.id.startswith("key_") else 30_000


def fewer(case: Any, rows: Any) -> None:
    del rows[list(rows)[-1] if isinstance(rows, dict) else -1]


CHANGES: dict[str, Change] = {
    "answer null": answer(None),
    "answer a number": answer(3),
    "answer a list": answer(["yes"]),
    "answer missing": answer(GONE),
    "answer of 100 kB": answer("word " * 20_000),
    "id a text": name("zz"),
    "id unknown": name(99_999),
    "id missing": name(GONE),
    "row null": row(None),
    "row a text": row("x"),
    "row empty": row({}),
    "duplicated": again,
    "extra": more,
    "short": fewer,
}


def changed(case: Any, change: Change) -> Any:
    content = copy.deepcopy(case.rows)
    change(case, at(content, case.place))
    return content


# -- what becomes of it ------------------------------------------------------------------------------------------------


class Figure(NamedTuple):
    """Scored as upstream scores it: a figure of `results`, and what a flag says."""

    path: str
    value: float
    flag: str = ""


WRONG_NAME = "id a text, id unknown, id missing"
# Changes, commas between: what upstream does not stop at.
SCORED: dict[str, dict[str, Figure]] = {
    "amber": {
        "answer null, answer a number, answer a list, answer of 100 kB": Figure(
            "Descriminative Task/Accuracy", 66.6, "1 answers are neither"
        ),
        "duplicated, short": Figure("Descriminative Task/Accuracy", 100.0),
    },
    "cceval": {  # objects are those of the row's place, whatever its id
        f"answer of 100 kB, {WRONG_NAME}": Figure("CHAIRi", 0.5),
        "duplicated, extra": Figure("CHAIRi", 1 / 3),
        "short": Figure("CHAIRi", 0.0),
    },
    "chair": {
        "answer of 100 kB": Figure("CHAIRi", 0.5),
        "id a text, id unknown": Figure("CHAIRi", 0.75, "1 captions are of images without ground truth"),
        "duplicated": Figure("CHAIRi", 5 / 6),
        "extra": Figure("CHAIRi", 5 / 6, "1 captions are of images without ground truth"),
        "short": Figure("CHAIRi", 0.5),
    },
    "eventhallusion": {  # the truth is in the file, a video's name plays no part
        "answer null, answer of 100 kB": Figure("entire_qs/acc", 0.5),
        f"{WRONG_NAME}, duplicated": Figure("entire_qs/n", 2),
        "extra": Figure("entire_qs/n", 3),
        "short": Figure("entire_qs/n", 1),
    },
    "faithscore": {  # replies are scored, rows have no ids
        f"answer missing, answer of 100 kB, {WRONG_NAME}, duplicated, extra, short": Figure("faithscore", 1.0),
    },
    "foil": {
        "id missing, duplicated": Figure("Caption fits p_c", 100.0),  # not possible in a JSON object: unchanged
        "extra": Figure("Caption fits p_c", 100.0, "1 items that do not count"),
    },
    "hallusionbench": {"short": Figure("Acc per figure (fAcc)", 100.0, "1126 of 1129 questions have no answer")},
    "mme": {"answer of 100 kB": Figure("Perception-existence", 50.0)},
    "mmhal": {  # the type is that of a review's place
        "answer of 100 kB, row a text": Figure("mean", 0.5, "1 reviews have no rating"),
        WRONG_NAME: Figure("mean", 3.0, "2 reviews: LLaVA-RLHF's script asserts 96"),
        "duplicated, extra": Figure("mean", 11 / 3, "3 reviews"),
        "short": Figure("mean", 1.0, "1 reviews"),
    },
    "mmstar": {  # divided by 1,500 and 250; the truth is in the row
        "answer null, answer a number, answer a list, answer of 100 kB": Figure("math", 1 / 250),
        WRONG_NAME: Figure("math", 2 / 250),
        "duplicated, extra": Figure("math", 3 / 250, "3 rows; the final score is still over 1500"),
        "short": Figure("math", 1 / 250, "1 rows; the final score is still over 1500"),
    },
    "object_halbench": {
        "answer of 100 kB": Figure("CHAIRi", 0.5),
        "id unknown": Figure("CHAIRi", 0.5, "1 images are not in the ground truth"),
        "duplicated": Figure("CHAIRi", 2 / 3),
        "extra": Figure("CHAIRi", 2 / 3, "1 images are not in the ground truth"),
        "short": Figure("CHAIRi", 0.0, "1 different images"),
    },
    "pope": {  # paired by place
        f"answer of 100 kB, {WRONG_NAME}": Figure("acc", 0.5),
        "duplicated, extra": Figure("acc", 0.5, "3 answers for 2 questions"),
        "short": Figure("acc", 1.0, "1 answers for 2 questions"),
    },
    "refomb": {
        "answer of 100 kB": Figure("score_full", 0.75),
        "duplicated": Figure("score_full", 0.75, "row 3 answers question 1 as row 2 does"),
        "extra": Figure("score_full", 0.75, "1 rows answer no question"),
    },
    "throne": {
        "answer missing": Figure("class/1/R", 0.5, "no multiple of 2 categories"),
        "answer of 100 kB, id missing, duplicated, short": Figure("class/1/R", 1.0),
        "id unknown": Figure("class/1/P", 0.5, "1 images without annotations"),
        "extra": Figure("class/1/P", 0.75, "1 images without annotations"),
    },
    "video_mme": {  # the truth is in the file
        "answer of 100 kB": Figure(VIDEO, 100.0, "1 of 2 answers hold no letter"),
        f"{WRONG_NAME}, duplicated, extra, short": Figure(VIDEO, 100.0),
    },
    "videohallucer": {
        "answer of 100 kB": Figure("per_type/fact/accuracy", 0.5),
        "id missing": Figure("per_type/fact/accuracy", 1.0),  # then the place counts
        "short": Figure("per_type/fact/accuracy", 1.0, "1 of 200 pairs"),
    },
}
# Refused by another name than the case's `second`.
NAMED: dict[str, dict[str, str]] = {
    "amber": {"extra": "row 4: there is no item 30000"},
    "hallusionbench": {"duplicated": "rows 4 and 5 both", "extra": "row 5 answers question VD_chart_99_0_0"},
    "mme": {
        "id a text, id unknown": "row 1: image 'existence.jpg' of existence has 1 answers",
        "duplicated": "row 29: image 'code_reasoning.jpg' of code_reasoning has 3 answers",
        "extra": "row 29: image '30000' of code_reasoning has 1 answers",
        "short": "row 27: image 'code_reasoning.jpg' of code_reasoning has 1 answers",
    },
    "refomb": {"id unknown, short": "question 1 has a judge's reply and no answer"},
    "throne": {"id a text": "'zz'"},
    "videohallucer": {"duplicated": "row 3: pair 1 of fact comes twice", "extra": "row 3: pair 30000"},
}


def found_in(table: dict[str, dict[str, Any]], bench: str, change: str) -> Any:
    return next((expected for changes, expected in table.get(bench, {}).items() if change in changes.split(", ")), None)


def written(path: Path, content: Any) -> Path:
    """As it is, as JSON, or as JSON lines."""
    path.parent.mkdir(exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content)
    else:
        path.write_text(
            "\n".join(map(json.dumps, content)) if path.suffix == ".jsonl" and isinstance(content, list) else json.dumps(content)
        )
    return path


class Run(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], cases: dict[str, Any]) -> Callable[..., Run]:
    """run("pope", content): what `mmalign score pope --json` says of a file with that content, or of the path `responses`."""

    def score(bench: str, content: Any = None, responses: Path | None = None, files: dict[str, Any] | None = None) -> Run:
        case = cases[bench]
        for file, beside in (files or case.files).items():
            written(tmp_path / file, beside)
        path = responses or written(tmp_path / "said" / case.file, content)
        words = [word.replace("{}", str(tmp_path)) for word in case.words]
        capsys.readouterr()
        return Run(main(["score", bench, "--responses", str(path), *words, "--json", "--quiet"]), *capsys.readouterr())

    return score


def assert_refused(found: Run, *names: str) -> None:
    """Exit code 2, nothing on standard output, one sentence with `names`, and one that a check foresaw."""
    assert (found.code, found.out) == (2, "")
    assert found.err.count("\n") == 1
    assert found.err.startswith("error: ")
    assert not [name for name in names if name not in found.err], found.err
    assert "of a shape that" not in found.err


def strict(text: str) -> dict:
    """One line of JSON without NaN."""

    def no(constant: str) -> None:
        raise AssertionError(constant)

    assert text.count("\n") == 1
    return json.loads(text, parse_constant=no)


def test_every_benchmark_has_its_case(cases: dict[str, Any]) -> None:
    assert sorted(cases) == published_names()


@pytest.mark.parametrize("bench", BENCHES)
def test_the_case_itself_is_scored(bench: str, run: Callable[..., Run], cases: dict[str, Any]) -> None:
    found = run(bench, cases[bench].rows)
    assert found.code == 0, found.err
    assert strict(found.out)["benchmark"] == bench


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("bench", BENCHES)
def test_a_row_that_is_not_as_it_should_be(bench: str, change: str, run: Callable[..., Run], cases: dict[str, Any]) -> None:
    case = cases[bench]
    found, expected = run(bench, changed(case, CHANGES[change])), found_in(SCORED, bench, change)
    if expected is None:
        assert_refused(found, case.file, found_in(NAMED, bench, change) or case.second)
        return
    assert found.code == 0, found.err
    told = strict(found.out)
    assert at(told["results"], tuple(expected.path.split("/"))) == pytest.approx(expected.value)
    assert expected.flag in " ".join(told["flags"])


FILES: dict[str, str | bytes] = {
    "empty": "",
    "blank": " \n\n",
    "no JSON": "yes\nno\n",
    "cut off": '[{"id": 1, "answer": "ye',
    "broken UTF-8": b'[{"id": 1, "answer": "caf\xe9"}]',
    "bytes": b"\x00\x01\x02\xff",
    "deep": "[" * 100_000,
    "null": "null",
    "a number": "3",
    "a text": '"yes"',
    "no rows": "[]",
    "an empty object": "{}",
    "a row of nothing": "[{}]",
    "numbers": "[1, 2]",
    "nan": "[NaN]",
    "lists": "[[1]]",
    "nulls": "[null]",
    "an object of a number": '{"a": 1}',
    "an object of a list": '{"a": [1]}',
    "an object of an object": '{"a": {"b": 1}}',
    "a row and a number": '[{"id": 1, "answer": "no"}, 3]',
}


@pytest.mark.parametrize("bench", BENCHES)
def test_a_file_that_is_something_else(bench: str, run: Callable[..., Run], cases: dict[str, Any]) -> None:
    for what, content in FILES.items():
        print(what)
        assert_refused(run(bench, content), cases[bench].file)


@pytest.mark.parametrize("bench", BENCHES)
def test_a_path_that_leads_to_no_file(bench: str, run: Callable[..., Run], cases: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "in" / cases[bench].file  # a folder that is called as the file
    folder.mkdir(parents=True)
    assert_refused(run(bench, responses=folder), str(folder))
    assert_refused(run(bench, responses=tmp_path / "nowhere.json"), "nowhere.json")


# The same kind of file: captions of COCO's images; answers in the order of the questions, of which POPE's scripts read nothing else.
ALIKE = {("chair", "cceval"), ("chair", "object_halbench"), ("object_halbench", "cceval"), ("pope", "amber"), ("pope", "object_halbench")}


@pytest.mark.parametrize("bench", BENCHES)
def test_the_file_of_another_benchmark(bench: str, run: Callable[..., Run], cases: dict[str, Any], tmp_path: Path) -> None:
    for other, case in cases.items():
        if other != bench and (bench, other) not in ALIKE:
            print(other)
            found = run(bench, responses=written(tmp_path / "other" / case.file, case.rows))
            if bench == "pope" and found.code == 0:  # upstream's scripts read any answer as a yes or a no: scored as they do, and told
                assert any("another benchmark?" in flag or "made for other questions?" in flag for flag in strict(found.out)["flags"])
                continue
            assert_refused(found, "has no reply for" if "replies.json" in found.err else case.file)


@pytest.mark.parametrize("bench", BENCHES)
def test_files_beside_it_that_are_something_else(bench: str, run: Callable[..., Run], cases: dict[str, Any], tmp_path: Path) -> None:
    """The benchmark's data, replies of a judge, analyses: those that the command names."""
    case = cases[bench]
    for file in [word[3:] for word in case.words if word.startswith("{}/")]:
        for what in ("empty", "no JSON", "broken UTF-8", "deep", "a number", "numbers", "an object of a number"):
            print(file, what)
            broken = {**case.files, file: FILES[what]}
            assert_refused(run(bench, case.rows, files=broken), file)


def test_similarities_that_are_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = written(tmp_path / "responses.json", [{"id": 1, "response": "A dog."}])
    for what in ("empty", "no JSON", "broken UTF-8", "deep", "a number", "numbers"):
        near = written(tmp_path / "near.json", FILES[what])
        code = main(["score", "amber", "--responses", str(said), "--similarity", str(near), "--json", "--quiet"])
        assert_refused(Run(code, *capsys.readouterr()), "near.json")


def test_json_has_no_nan(run: Callable[..., Run]) -> None:
    """THRONE's means of nothing, which upstream prints as nan."""
    told = strict(run("throne", {"1": ["no", "no"], "2": ["no", "no"]}).out)
    assert told["results"]["class"]["1"]["F1"] is None
    assert any("null where upstream has nan" in flag and "results.class.1.F1" in flag for flag in told["flags"])


def test_what_no_check_foresaw_is_a_sentence_too(run: Callable[..., Run], cases: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_align.evals import PopeBenchmark

    monkeypatch.setattr(PopeBenchmark, "report", lambda self, answers: {}["x"])
    found = run("pope", cases["pope"].rows)
    assert (found.code, found.out) == (2, "")
    assert found.err == "error: pope: answers.jsonl: of a shape that pope cannot score (KeyError('x')); -v shows where\n"


def test_a_reader_that_leaves_is_no_traceback(cases: dict[str, Any], tmp_path: Path) -> None:
    """As `mmalign score ... --json | true` has it: the pipe is closed before anything is written."""
    said = written(tmp_path / "fact.jsonl", cases["videohallucer"].rows)
    words = [sys.executable, "-m", "mm_align", "score", "videohallucer", "--responses", str(said), "--json", "--quiet"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        found = subprocess.run(words, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert (found.returncode, found.stderr) == (1, "")
