"""`mmalign eval --judge`: two answers that a judge likes or not; his replies are kept and never asked for twice."""

import json

import pytest

from data_tools.records import Message, Part, Response, Sample
from mm_align.cli import main
from mm_align.evals import BENCHMARKS, Judged
from mm_align.evals.judged import JudgedBenchmark
from mm_align.evals.judges import JudgeCall
from mm_align.evals.official import Flavor, rows_of


class Liked(JudgedBenchmark):
    """The share of answers of which the judge says "good". pictures: a folder of what he is shown, if anything."""

    pictures = ""

    name = "liked"
    main = items_metric = "share"
    flavors = {"official": Flavor("made up")}

    def samples(self):
        return [Sample(f"q{i}", (Message("user", (Part("text", f"question {i}"),)),)) for i in range(2)]

    def answers(self, responses):
        return rows_of([f"q{i}" for i in range(2)], responses, [{"id": f"q{i}"} for i in range(2)])

    def report(self, answers):
        shown = [f"{self.pictures}/{row.key}.png" if self.pictures else "" for row in answers.rows]
        calls = [JudgeCall(row.key, f"Is this good? {row.text}", picture=path) for row, path in zip(answers.rows, shown, strict=True)]
        replies = self.ask(calls, lambda reply: reply in ("good", "bad"))
        items = tuple(Judged(row.key, float(said[-1:] == ["good"])) for row, said in zip(answers.rows, replies, strict=True))
        return self.scored(2, {"share": sum(item.score for item in items) / 2}, items=items)


class Says:
    """As a model it answers with its name and the sample's; as a judge it likes answers to q0, at the second try."""

    faces = frozenset({"generate"})
    batch_size = 8

    def __init__(self, name):
        self.name, self.asked = name, []

    def describe(self):
        return {"model": self.name, "revision": "0"}

    def generate(self, samples, sampling):
        texts = [sample.messages[-1].parts[-1].text for sample in samples]
        self.asked += texts
        return [Response(f"{s.id}:0", s.id, self.said(s.id, text, sampling)) for s, text in zip(samples, texts, strict=True)]

    def said(self, name, text, sampling):
        if not text.startswith("Is this good?"):
            return f"{self.name} on {name}"
        return "hm" if "q0" in text and sampling.temperature == 0 else "good" if "q0" in text else "bad"


@pytest.fixture
def loaded(monkeypatch):
    """What was loaded, by name."""
    import mm_align.backends

    monkeypatch.setitem(BENCHMARKS, "liked", Liked)
    found = {}
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda name, **_: found.setdefault(name, Says(name)))
    return found


def test_a_judge_is_asked_once_and_his_replies_are_kept(loaded, tmp_path, capsys):
    """Two answers, the first judged at the second try: three replies. The same command again loads nothing."""
    words = ["eval", "org/a", "org/b", "--bench", "liked", "--judge", "org/j", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert len(loaded["org/j"].asked) == 6
    told = json.loads((tmp_path / "out/org__a/results.json").read_text())
    assert told["results"]["liked"]["share,none"] == 0.5
    assert told["judges"]["liked"]["model"] == {"model": "org/j", "revision": "0"}
    rows = [json.loads(line) for line in (tmp_path / "out/org__a/judge/liked.jsonl").read_text().splitlines()]
    assert [row["reply"] for row in rows] == ["hm", "bad", "good"]
    loaded.clear()
    assert main(words) == 0
    assert not loaded
    assert "liked  share  0.500" in capsys.readouterr().out


def test_a_picture_that_the_judge_cannot_see_costs_its_own_call_only(loaded, tmp_path, monkeypatch, picture):
    picture(0).save(tmp_path / "q0.png")

    monkeypatch.setattr(Liked, "pictures", str(tmp_path))
    assert main(["eval", "org/a", "--bench", "liked", "--judge", "org/j", "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/org__a/results.json").read_text())
    assert told["results"]["liked"]["share,none"] == 0.5
    assert told["judges"]["liked"]["failed"] == 1


def test_without_a_judge_the_answers_wait_for_one(loaded, tmp_path, capsys):
    words = ["eval", "org/a", "--bench", "liked", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "liked  needs --judge or --judge-replies" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/org__a/results.json").read_text())["not_scored"] == {"liked": "needs --judge or --judge-replies"}
    assert main([*words, "--judge", "org/j"]) == 0
    assert len(loaded["org/a"].asked) == 2
    assert "liked  share  0.500" in capsys.readouterr().out


def test_replies_that_are_there_already(loaded, tmp_path):
    (tmp_path / "replies.json").write_text(json.dumps({"q0": "good", "q1": "good"}))
    where = ["--judge-replies", f"liked={tmp_path / 'replies.json'}", "--out", str(tmp_path / "out")]
    assert main(["eval", "org/a", "--bench", "liked", *where]) == 0
    assert json.loads((tmp_path / "out/org__a/results.json").read_text())["results"]["liked"]["share,none"] == 1
    (tmp_path / "replies.json").write_text(json.dumps({"q0": "good"}))
    assert main(["eval", "org/a", "--bench", "liked", *where]) == 1


def test_a_judge_that_does_not_answer_stops_the_run(loaded, tmp_path, monkeypatch, capsys):
    from data_tools.calls import CallFailed

    def fails(self, samples, sampling):
        raise CallFailed("HTTP 500")

    words = ["eval", "org/a", "--bench", "liked", "--judge", "org/j", "--out", str(tmp_path / "out")]
    assert main(words[:4] + words[6:]) == 0
    with monkeypatch.context() as broken:
        broken.setattr(Says, "generate", fails)
        assert main(words) == 75
    assert "the judge does not answer (HTTP 500)" in capsys.readouterr().err
    assert main(words) == 0
