"""Judges: how files of replies are read, what a model is asked and how often, what a ledger saves."""

import hashlib
import json

import pytest

from data_tools.calls import CallFailed
from data_tools.records import Response
from mm_align.evals.judges import CannedJudge, JudgeCall, ModelJudge, read_replies

CALLS = [JudgeCall("0", "first?"), JudgeCall("1", "second?"), JudgeCall("2", "third?")]


def accept(reply: str) -> bool:
    return reply.startswith("ok")


class Model:
    """Says `replies` in turn, to every prompt its own; remembers what it was asked."""

    def __init__(self, *replies: str, fails: str = "", again: bool = False) -> None:
        self.replies, self.fails, self.again = replies, fails, again
        self.seen: list[tuple[str, float, int]] = []

    def __call__(self, samples, sampling):
        texts = [sample.messages[0].parts[0].text for sample in samples]
        if self.fails in texts:
            raise CallFailed("no", again=self.again)
        self.seen += [(text, sampling.temperature, sampling.seed) for text in texts]
        times = [sum(seen[0] == text for seen in self.seen) for text in texts]
        return [Response("r", s.id, self.replies[min(n, len(self.replies)) - 1]) for s, n in zip(samples, times, strict=True)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"0": "a", "1": ["b", "c"]}, {"0": ["a"], "1": ["b", "c"]}),
        ({"same": {"x": "a"}, "": "b"}, {"same/x": ["a"], "": ["b"]}),
        (["a", ["b", "c"], {"choices": [{"message": {"content": "d"}}]}], {"0": ["a"], "1": ["b", "c"], "2": ["d"]}),
        ([{"row": 7, "reply": "a"}, {"row": 7, "reply": "b"}], {"7": ["a", "b"]}),
        ([{"key": "x", "topic": "same", "replies": ["a", "b"]}], {"same/x": ["a", "b"]}),
    ],
)
@pytest.mark.parametrize("lines", [False, True])
def test_shapes_of_files_of_replies(tmp_path, content, found, lines):
    path = tmp_path / "replies.json"
    lines = lines and isinstance(content, list)
    path.write_text("\n".join(map(json.dumps, content)) if lines else json.dumps(content))
    assert read_replies(path) == found


@pytest.mark.parametrize(
    ("text", "told"), [("[]", "no replies"), ('{"0": 3}', "'0': expected a judge's reply"), ("[{}]", "row 1"), ("{x", "line 1")]
)
def test_what_is_no_file_of_replies_is_refused(tmp_path, text, told):
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(ValueError, match=told):
        read_replies(tmp_path / "r.json")


def test_canned_replies_end_with_the_first_that_is_accepted():
    judge = CannedJudge({"0": ["no", "ok", "ok 2"], "1": ["no"], "what was said": ["ok"]})
    assert judge.ask([*CALLS[:2], JudgeCall("9", "?", subject="what was said")], accept) == [["no", "ok"], ["no"], ["ok"]]
    assert judge.describe() == {"replies": "the judge's replies", "calls": 3, "unread": 1}
    with pytest.raises(ValueError, match="no reply for 'same/2'"):
        judge.ask([JudgeCall("2", "?", topic="same")], accept)


def test_a_model_is_asked_again_at_another_temperature_and_a_bounded_number_of_times(tmp_path):
    model = Model("no", "no", "ok")
    judge = ModelJudge(model, {"model": "m"}, tmp_path / "deep" / "ledger.jsonl", attempts=2)
    assert judge.ask(CALLS[:1], accept) == [["no", "no"]]
    assert model.seen == [("first?", 0.0, 0), ("first?", 0.7, 1)]
    assert judge.describe() == {
        "model": {"model": "m"},
        "temperature": 0.0,
        "attempts": 2,
        "calls": 1,
        "asked": 2,
        "failed": 0,
        "unread": 1,
    }
    rows = [json.loads(line) for line in (tmp_path / "deep" / "ledger.jsonl").read_text().splitlines()]
    assert [(row["key"], row["attempt"], row["reply"], row["sampling"]["temperature"]) for row in rows] == [
        ("0", 0, "no", 0),
        ("0", 1, "no", 0.7),
    ]
    assert {row["prompt_sha256"] for row in rows} == {hashlib.sha256(b"first?").hexdigest()}
    assert rows[0]["model"] == {"model": "m"}


def test_a_ledger_saves_calls_and_can_be_given_as_replies(tmp_path):
    ledger = tmp_path / "ledger.jsonl"
    ModelJudge(Model("no", "ok 1"), {"model": "m"}, ledger).ask(CALLS[:2], accept)
    with ledger.open("ab") as file:
        file.write(b'{"topic": "", "key": "2", "rep')  # a kill
    model = Model("ok 2")
    judge = ModelJudge(model, {"model": "m"}, ledger)
    assert judge.ask(CALLS, accept) == [["no", "ok 1"], ["no", "ok 1"], ["ok 2"]]
    assert [text for text, _, _ in model.seen] == ["third?"]
    assert CannedJudge.read(ledger).ask(CALLS, accept) == [["no", "ok 1"], ["no", "ok 1"], ["ok 2"]]
    other = Model("ok 3")
    assert ModelJudge(other, {"model": "another"}, ledger).ask(CALLS[:1], accept) == [["ok 3"]]


def test_the_same_prompt_is_asked_once(tmp_path):
    model, twice = Model("ok"), [CALLS[0], JudgeCall("5", "first?")]
    assert ModelJudge(model, {"model": "m"}, tmp_path / "ledger.jsonl").ask(twice, accept) == [["ok"], ["ok"]]
    assert len(model.seen) == 1
    assert CannedJudge.read(tmp_path / "ledger.jsonl").ask(twice, accept) == [["ok"], ["ok"]]


def test_a_call_that_never_succeeds_takes_no_other_with_it():
    judge = ModelJudge(Model("ok", fails="second?"), {"model": "m"})
    assert judge.ask(CALLS, accept) == [["ok"], [], ["ok"]]
    assert (judge.counts["failed"], judge.counts["unread"]) == (1, 1)
    with pytest.raises(CallFailed):
        ModelJudge(Model("ok", fails="second?", again=True), {"model": "m"}).ask(CALLS, accept)
