"""What a user gets wrong costs one sentence and exit code 2, for every verb alike; `--debug` alone shows where in the code it arose."""

from importlib import import_module

import pytest

from mm_align.cli import VERBS, main

# Words that name what is not there: `nowhere` in each. Verbs that read no file are given a value that is none of theirs.
MISSING = {
    "enhance-data": "nowhere --out out",
    "merge": "nowhere",
    "train": "nowhere.yaml --out out",
    "chat": "tiny-lvlm nowhere.png What?",
    "convert": "./nowhere --out out",
    "scenes make": "--config nowhere",
    "vision knowledge": "nowhere.jsonl --encoder ./nowhere --out out",
    "vision landmarks": "nowhere.csv --hierarchy nowhere.csv --images . --out out",
    "video fit": "nowhere.csv --out law.json",
    "video plan": "--window 6000 --law nowhere.json",
    "video sample": "nowhere.mp4 --out sheet.png",
    "aitqe data": "nowhere --judge tiny-judge --out out",
    "rlaif feedback": "--images nowhere --questions default --model tiny-lvlm --judge tiny-judge --out out",
    "rlaif candidates": "--images nowhere --model tiny-lvlm --out out",
    "rlaif claims": "nowhere",
    "rlaif questions": "nowhere",
    "rlaif judge": "nowhere --model tiny-judge",
    "rlaif calibration": "nowhere --truth truths.jsonl",
    "rlaif pairs": "nowhere",
    "rlaif rounds": "--model tiny-lvlm --judge tiny-judge --data nowhere --out out",
    "rlaif audit": "nowhere --model tiny-lvlm --reference tiny-lvlm",
    "rlaif reference": "nowhere.jsonl --model tiny-lvlm --out out",
    "rlaif convert": "nowhere.jsonl --out pairs.parquet --format trl",
    "eval": "tiny-lvlm --bench pope --data nowhere --out out",
    "score": "pope --responses nowhere.jsonl",
    "doctor": "--model ./nowhere",
    "memory": "./nowhere",
    "completion": "--config nowhere",
}


@pytest.fixture
def told(monkeypatch, tmp_path, capsys):
    """The exit code and what standard error holds of a command, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        try:
            code = main(words)
        except SystemExit as stopped:  # argparse
            code = stopped.code
        return code, capsys.readouterr().err

    return call


def missing(name):
    return [*name.split(), *MISSING.get(name, "--config nowhere").split()]


@pytest.mark.parametrize("name", VERBS)
def test_a_missing_file_is_one_sentence_that_names_it(told, name, tmp_path):
    code, errors = told(*missing(name), "--quiet")
    assert code == 2
    assert "Traceback" not in errors
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "nowhere" in line
    written = {path.name for path in tmp_path.rglob("*") if path.is_file() and ".mmalign" not in path.parts}
    assert written <= {"config.yaml"}
    code, errors = told(*(word.replace("nowhere", "elsewhere") for word in missing(name)), "--quiet")
    assert (code, "elsewhere" in errors) == (2, True), "the corrected command must not be held against the wrong one"


@pytest.mark.parametrize("name", VERBS)
def test_debug_shows_where_a_mistake_arose(told, name):
    code, errors = told(*missing(name), "--quiet", "--debug")
    assert code == 2
    assert errors.startswith("Traceback")
    assert any(line.startswith("error: ") for line in errors.splitlines())


@pytest.mark.parametrize("name", VERBS)
def test_an_unknown_option_is_refused_with_the_place_to_look(told, name):
    code, errors = told(*name.split(), "--no-such-option")
    assert code == 2
    assert errors.startswith("error: unrecognized arguments: --no-such-option; ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", VERBS)
def test_an_unknown_key_and_a_wrong_value_are_named(told, name):
    key = next(iter(getattr(import_module(VERBS[name].module), VERBS[name].config).model_fields))
    code, errors = told(*name.split(), "--set", "no_such_key=1", "--set", f"{key}={{a: {{b: 1}}}}")
    assert code == 2
    assert "unknown key 'no_such_key'" in errors
    assert f"'{key}': should be" in errors
    assert "Traceback" not in errors
