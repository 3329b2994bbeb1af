"""`mmalign rlaif feedback` through its door: pairs from pictures, with the bundled models and with scripted ones."""

import json

import pytest

import mm_align.backends
from data_tools.calls import Decision
from data_tools.records import Response
from mm_align.cli import main


class Scripted:
    """Answers prompt after prompt with the same `answers`; as a judge, rejects what names one of `absent`."""

    faces = frozenset({"generate", "decide"})

    def __init__(self, answers=("There is a dog.", "There is a dog. There is a cat."), absent=("cat",)):
        self.answers, self.absent = answers, absent
        self.prompts, self.questions = [], []

    def describe(self):
        return {"model": "scripted", "revision": "0"}

    def generate(self, samples, sampling):
        self.prompts += [sample.id for sample in samples]
        texts = [self.answers[j % len(self.answers)] for j in range(sampling.n)]
        return [Response(f"{s.id}:{j}", s.id, text, "scripted", tokens=len(text.split())) for s in samples for j, text in enumerate(texts)]

    def decide(self, samples, questions):
        self.questions += [q for asked in questions for q in asked]
        return [[self.decided(question) for question in asked] for asked in questions]

    def decided(self, question):
        return Decision(0.1, 0.8) if any(word in question for word in self.absent) else Decision(0.9, 0.05)


@pytest.fixture
def scripted(monkeypatch):
    """The model of every name."""
    backend = Scripted()
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
    return backend


@pytest.fixture
def pictures(tmp_path, picture):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        picture(seed).save(folder / f"p{seed}.png")
    return folder


def command(pictures, out, *more):
    return main(["rlaif", "feedback", "--images", str(pictures), "--model", "a", "--judge", "b", "--out", str(out), *more])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_the_judge_rejects_loses(scripted, pictures, tmp_path, capsys):
    """4 pictures x 2 answers; the answer with the cat has one rejected claim of two, so each picture gives one pair."""
    out = tmp_path / "out"
    assert command(pictures, out, "--set", "candidates.n=2", "--set", "pairs.balance=false") == 0
    pairs = rows(out / "pairs.jsonl")
    assert len(pairs) == 4
    assert {(pair["chosen"], pair["rejected"], pair["margin"]) for pair in pairs} == {(*scripted.answers, 1.0)}
    assert scripted.questions.count("Is there a cat? Please answer yes or no.") == 4
    assert [score["value"] for score in rows(out / "scores.jsonl")] == [0, -1] * 4
    assert "candidates: 4 prompts in = 4 out (8 lines) + 0 quarantined" in capsys.readouterr().out


def test_the_same_command_again_asks_nothing(scripted, pictures, tmp_path):
    for _ in range(2):
        assert command(pictures, tmp_path / "out") == 0
    assert len(scripted.prompts) == 4
