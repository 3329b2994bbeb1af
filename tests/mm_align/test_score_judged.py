"""`mmalign score --judge`: a response file judged by a model, whose replies are kept beside it."""

import json

import pytest

from data_tools.calls import CallFailed, Sampling
from data_tools.records import Response
from mm_align.cli import main
from mm_align.evals.judges import JudgeCall, ModelJudge


class Rates:
    """Rates answers with 5, those about "none" with nothing that can be read."""

    faces = frozenset({"generate"})

    def __init__(self, fails=False):
        self.asked, self.fails = 0, fails

    def describe(self):
        return {"model": "org/j", "revision": "0"}

    def generate(self, samples, sampling):
        if self.fails:
            raise CallFailed("503")
        self.asked += len(samples)
        texts = [sample.messages[0].parts[0].text for sample in samples]
        return [
            Response("r", s.id, "hm" if text.rstrip().endswith("none") else "Rating: 5") for s, text in zip(samples, texts, strict=True)
        ]


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps({"answer": text}) for text in ("red", "none")))
    return path


def score(capsys, *words):
    code = main(["score", "mmhal", "--set", "options.limit=2", "--json", *map(str, words)])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code == 0 else said.err


def test_the_judge_is_asked_once_and_its_ledger_are_replies(answers, monkeypatch, capsys):
    """Two answers: one reply, and five tries for the other, which counts as 0."""
    judge = Rates()
    monkeypatch.setattr("mm_align.backends.load_backend", lambda name, **_: judge)
    code, found = score(capsys, "--responses", answers, "--judge", "org/j")
    assert (code, found["results"]["mean"], judge.asked) == (0, 2.5, 6)
    assert found["raw"]["judge"] | {"unread": 1, "model": {"model": "org/j", "revision": "0"}} == found["raw"]["judge"]
    ledger = answers.with_name("answers.jsonl.judge_replies.jsonl")
    assert len(ledger.read_text().splitlines()) == 6
    assert score(capsys, "--responses", answers, "--judge", "org/j")[1]["results"] == found["results"]
    assert judge.asked == 6
    assert score(capsys, "--responses", answers, "--judge-replies", ledger)[1]["results"] == found["results"]
    assert score(capsys, "--responses", answers.parent, "--judge-replies", ledger)[1]["results"] == found["results"]


def test_a_judge_that_does_not_answer_stops(answers, monkeypatch, capsys):
    monkeypatch.setattr("mm_align.backends.load_backend", lambda name, **_: Rates(fails=True))
    code, told = score(capsys, "--responses", answers, "--judge", "org/j", "--ledger", answers.with_name("l.jsonl"))
    assert code == 75
    assert "the judge does not answer (503)" in told


def test_a_judge_has_to_be_of_use(answers, capsys):
    assert score(capsys, "--responses", answers, "--judge", "org/j", "--judge-replies", "x.json") == (
        2,
        "error: mmhal: --judge and --judge-replies are given; a judge is asked where there are no replies\n",
    )
    assert main(["score", "pope", "--responses", str(answers), "--judge", "org/j"]) == 2
    assert "pope: its answers are not judged by a model" in capsys.readouterr().err


def test_an_endless_judge_of_one_word(answers, capsys):
    """`null:REPLY` is a backend like any other, loaded by its name."""
    code, found = score(capsys, "--responses", answers, "--judge", "null:Rating: 4", "--ledger", answers.with_name("l.jsonl"))
    assert (code, found["results"]["per_item_score_as_upstream_rule"]) == (0, [4, 4])


def test_a_bundled_model_is_asked_without_pictures(tmp_path):
    """tiny-lvlm has no idea of ratings; that it can be asked a text alone is the point."""
    from mm_align.backends import load_backend

    backend = load_backend("tiny-lvlm", device="cpu")
    judge = ModelJudge(backend.generate, backend.describe(), tmp_path / "l.jsonl", sampling=Sampling(max_tokens=4), attempts=1)
    (said,) = judge.ask([JudgeCall("0", "How good is the answer?")], lambda reply: True)
    assert len(said) == 1
    assert json.loads((tmp_path / "l.jsonl").read_text())["model"] == judge.model == backend.describe()
