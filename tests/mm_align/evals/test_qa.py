"""Questions with known answers: rules by hand, files end to end with a fake model."""

import json
from pathlib import Path

import pytest

from data_tools.calls import Sampling
from data_tools.records import Response, Sample
from mm_align.evals import QaBenchmark, evaluate
from mm_align.evals.qa import choice_of, holds, is_right, normalised


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  The Velm-Tower! ", ("velm", "tower")),
        ("a red house", ("red", "house")),
        ("STRASSE", ("strasse",)),
        ("Straße", ("strasse",)),
        ("ｆｕｌｌ", ("full",)),
        ("A", ("a",)),
        ("3", ("3",)),
        ("...", ()),
    ],
)
def test_normalised(text, expected):
    assert normalised(text) == expected


def test_exact_match_takes_any_alias_and_nothing_more():
    assert is_right("The velm tower.", ["Old Tower", "Velm Tower"])
    assert not is_right("It is the Velm Tower", ["Velm Tower"])
    assert not is_right("", ["Velm Tower"])


def test_holds_wants_whole_words_in_order():
    assert holds("It is the Velm Tower.", ["Velm Tower"])
    assert not holds("A tower of Velm", ["Velm Tower"])
    assert not holds("ninety", ["nine"])
    assert not holds("", ["nine"])


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("B", 1),
        ("(B)", 1),
        ("B. a dog", 1),
        (" b", None),
        ("a cat", 0),
        ("A cat", 0),
        ("Dog", None),
        ("E", None),
        ("Bees", None),
        ("", None),
    ],
)
def test_choice_of(text, chosen):
    assert choice_of(text, ["a cat", "a dog house"]) == chosen


def test_a_choice_that_is_a_letter_is_meant_by_its_text():
    assert choice_of("B", ["B", "A"]) == 0


# -- files -------------------------------------------------------------------------------------------------------------

PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def write(folder: Path, rows: list[dict]) -> str:
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def row(id_: str, question: str = "What?", **fields) -> dict:
    return {"id": id_, "image": PNG, "question": question, **fields}


class Says:
    """A model that knows one answer a question id, and notes what it was asked."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[Sample] = []

    def __call__(self, samples, sampling: Sampling) -> list[Response]:
        self.asked = list(samples)
        return [Response(f"{s.id}-0", s.id, self.answers[s.id]) for s in samples if s.id in self.answers]


def test_a_file_end_to_end(tmp_path):
    """Right: q1 by alias, q3 by letter. Wrong: q2 (but it holds the answer), q4 has no response. By kind: known 1 of 2, unknown 1 of 1."""
    data = write(
        tmp_path,
        [
            row("q1", "Which tower?", answers=["Velm Tower", "Old Tower"], kind="known"),
            row("q2", answer="red", kind="known"),
            row("q3", "Which animal?", answer="dog", choices=["cat", "dog"], kind="unknown"),
            row("q4", answer=3),
        ],
    )
    model = Says({"q1": "the old tower", "q2": "It is red", "q3": "B"})
    benchmark = QaBenchmark(data)
    found = evaluate(benchmark, model)
    assert found["accuracy"] == 0.5
    assert 0 <= found["accuracy_low"] < 0.5 < found["accuracy_high"] <= 1
    counts = {"contains": 0.5, "rows": 4, "unanswered": 1, "accuracy/known": 0.5, "rows/known": 2, "accuracy/unknown": 1, "rows/unknown": 1}
    assert {key: found[key] for key in counts} == counts
    assert [(j.sample_id, j.score, j.kind) for j in benchmark.judged({})] == [
        ("q1", 0, "known"), ("q2", 0, "known"), ("q3", 0, "unknown"), ("q4", 0, "")
    ]  # fmt: skip
    texts = [s.messages[0].parts[1].text for s in model.asked]
    assert texts[0] == "Which tower?"
    assert texts[2] == "Which animal?\nA. cat\nB. dog\nAnswer with the option's letter from the given choices directly."
    assert [p.kind for p in model.asked[0].messages[0].parts] == ["image", "text"]
    assert benchmark.main in found


def test_conversations_with_and_without_a_picture(tmp_path):
    turns = [{"from": "human", "value": "Where is Velm?"}, {"from": "gpt", "value": "In Arro."}, {"from": "human", "value": "Why?"}]
    rows = [{"id": "a", "conversations": turns}, {"id": "b", "image": PNG, "conversations": turns, "answers": ["Arro", "Arro Bay"]}]
    benchmark = QaBenchmark(write(tmp_path, rows), question=None)
    model = Says({"a": "in arro", "b": "Arro Bay"})
    assert evaluate(benchmark, model)["accuracy"] == 1
    assert [[m.role for m in s.messages] for s in model.asked] == [["user"], ["user"]]
    assert [len(s.images) for s in model.asked] == [0, 1]


def test_groups_widen_the_interval(tmp_path):
    rows = [row(f"q{i}", answer="yes", picture=i // 10) for i in range(60)]
    data = write(tmp_path, rows)
    responses = {f"q{i}": Response("r", f"q{i}", "yes" if (i // 10) % 2 else "no") for i in range(60)}
    alone, together = QaBenchmark(data).score(responses), QaBenchmark(data, group="picture").score(responses)
    assert alone["accuracy"] == together["accuracy"] == 0.5
    assert together["accuracy_high"] - together["accuracy_low"] > 2 * (alone["accuracy_high"] - alone["accuracy_low"])


def test_prompt_and_limit(tmp_path):
    data = write(tmp_path, [row("a", answer="x"), row("b", answer="x")])
    benchmark = QaBenchmark(data, prompt="{question} In one word.", limit=1)
    assert [s.messages[0].parts[1].text for s in benchmark.samples()] == ["What? In one word."]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "has no rows to ask"),
        ([row("a")], "question 'a' has no answer"),
        ([row("a", answers=[])], "question 'a' has no answer"),
        ([row("a", answer="x"), row("a", answer="y")], "rows of the same id"),
        ([row("a", answer="cow", choices=["cat", "dog"])], "the answer 'cow', which is none of its 2 choices"),
        ([row("a", answer=2, choices=["cat", "dog"])], "the answer 2, which is none"),
        ([{"id": "a", "image": PNG, "answer": "x"}], "row 0 of .* cannot be asked: no field 'question'"),
        ([{"id": "a", "question": "What?", "answer": "x"}], "row 0 of .* cannot be asked: no picture"),
    ],
)
def test_rows_that_cannot_be_asked(tmp_path, rows, told):
    with pytest.raises(ValueError, match=told):
        QaBenchmark(write(tmp_path, rows)).samples()


def test_responses_to_other_questions(tmp_path):
    benchmark = QaBenchmark(write(tmp_path, [row("a", answer="x")]))
    with pytest.raises(ValueError, match="1 responses answer no sample of this benchmark, 'z' for one"):
        benchmark.score({"z": Response("r", "z", "x")})
