"""What a user gets wrong costs one sentence and exit code 2, for every verb alike; `--debug` alone shows where in the code it arose."""

from importlib import import_module

import PIL.Image
import pytest

from mm_align.backends.load import ZOO
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


# Places that cannot be written to, `taken` a file and `folder` a folder with something in it: neither is touched.
PLACES = {
    "scenes make": "--n 1 --out taken",
    "convert": "tiny --out taken/sub",
    "rlaif reference": "rows.jsonl --model tiny-lvlm --out taken",
    "rlaif convert": "pairs.jsonl --out taken/pairs.jsonl",
    "video plan": "--window 6000 --out folder",
    "video fit": "--design 25 --out taken/runs.csv",
    "enhance-data": "pairs --stages signals --out taken",
    "tour": "--quick --out taken",
}


@pytest.mark.parametrize("name", PLACES)
def test_an_output_that_cannot_be_is_a_sentence_and_nothing_is_lost(told, name, tmp_path):
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").write_text("mine")
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "a.jsonl").write_text('{"image": "a.png", "caption": "a dog"}\n')
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "What?", "chosen": "A dog.", "rejected": "A cat."}\n')
    (tmp_path / "tiny").symlink_to(ZOO / "tiny-lvlm")
    code, errors = told(*name.split(), *PLACES[name].split())
    assert (code, "Traceback" in errors) == (2, False)
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert "taken" in line or "folder" in line
    assert (tmp_path / "taken").read_text() == "mine"
    assert (tmp_path / "folder" / "kept").read_text() == "mine"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_several_answers_without_chance_are_refused(told):
    code, errors = told("rlaif", "candidates", "--images", "p", "--model", "a", "--out", "o", "--temperature", "0")
    assert code == 2
    assert "n 10 answers at temperature 0 are all the same" in errors


WRONG = {
    "merge": ("afile", "no slices of a run in 'afile'"),
    "merge --judge yes": ("pairs", "unrecognized arguments: yes"),
    "completion csh": ("", "invalid choice: 'csh'"),
    "completion bash zsh": ("", "unrecognized arguments: zsh"),
    "completion --shell bash": ("", "unrecognized arguments: --shell"),
    "aitqe data --judge null: --out pairs/inside": ("pairs", "lies in the source pairs"),
    "aitqe data --judge null: --out taken": ("pairs", "cannot write to 'taken'"),
    "aitqe data --judge nosuch --out a": ("pairs", "no model 'nosuch'"),
    "aitqe data --judge null: --out a --caption-key captoin": ("pairs", "none of the 1 rows is a pair"),
    "aitqe data --judge null: --out a --image-root nowhere": ("pairs", "(1 image_missing)"),
    "aitqe data --judge null: --out a --attempts 0": ("pairs", "'attempts': should be greater than or equal to 1"),
    "aitqe data --judge null: --out a --set scoring.temperature=hot": ("pairs", "'scoring.temperature': should be a valid number"),
    "aitqe data --judge null: --out a --set contrast.max_similarity=0": ("pairs", "should be greater than 0"),
    "aitqe data --judge tiny-judge --out a --device gpu": ("pairs", "unknown device 'gpu'"),
    "aitqe data --judge openai:http://127.0.0.1:9/v1#m --out a --request-cache .": ("pairs", "is a folder; give a file"),
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_inputs_of_building_data_are_a_sentence(told, words, tmp_path):
    first, said = WRONG[words]
    (tmp_path / "pairs").mkdir()
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / "pairs" / "a.png")
    (tmp_path / "pairs" / "a.jsonl").write_text('{"image": "a.png", "caption": "a dog"}\n')
    (tmp_path / "taken").write_text("mine")
    (tmp_path / "afile").write_text("mine")
    verb = next(name for name in VERBS if words.startswith(name))
    code, errors = told(*verb.split(), *([first] if first else []), *words.removeprefix(verb).split(), "--quiet")
    assert (code, "Traceback" in errors, errors.count("error: ")) == (2, False, 1), errors
    assert said in errors
    assert (tmp_path / "taken").read_text() == (tmp_path / "afile").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "pairs").iterdir()) == ["a.jsonl", "a.png"]
