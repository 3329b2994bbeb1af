"""Verbs that ask an endpoint, through their doors: a refusal costs one row, and a run that a dead endpoint stops goes on later."""

from __future__ import annotations

import json

import PIL.Image
import pytest
from endpoint_server import Refusal, completion, first_token, status, words

from mm_align.cli import main

PROFILE = '{"Overall Score": "9<Overall>", "Overall Explanation": "fine"}'


@pytest.fixture
def pictures(tmp_path):
    """A folder of four rows with a picture each; the words of the third are the ones the endpoint will not have."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    captions = ["a red square", "a blue square", "a poisoned square", "a green square"]
    for i in range(4):
        PIL.Image.new("RGB", (8, 8), (60 * i, 9, 9)).save(folder / f"{i}.png")
    rows = [{"id": f"r{i}", "image": f"{i}.png", "caption": text, "question": f"What is here? {text}"} for i, text in enumerate(captions)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def refusing(text: str, status_code: int = 400):
    def answer(body: dict) -> dict:
        if "poisoned" in words(body):
            raise Refusal(status_code, "no")
        logprobs = first_token(No=0.75, Yes=0.2) if "cat" in words(body).lower() else first_token(Yes=0.75, No=0.2)
        return completion(text, logprobs=logprobs)

    return answer


@pytest.mark.parametrize("status_code", [400, 500])
def test_enhancing_quarantines_the_row_that_fails(server, pictures, tmp_path, fast, unprobed, status_code):
    server.answer = refusing(PROFILE, status_code)
    out = tmp_path / "out"
    assert main(["enhance-data", str(pictures / "rows.jsonl"), "--out", str(out), "--model", f"openai:{server.url}#m"]) == 0
    assert [json.loads(line)["id"] for line in (out / "rows.jsonl").read_text().splitlines()] == ["r0", "r1", "r3"]
    (gone,) = map(json.loads, (out / "quarantine" / "rows.jsonl").read_text().splitlines())
    assert gone["reason"] == "call_failed"
    assert f"HTTP {status_code}" in gone["detail"]


def test_enhancing_stops_where_the_endpoint_is_gone_and_continues(server, pictures, tmp_path, fast, unprobed):
    server.answer = refusing(PROFILE)
    command = ["enhance-data", str(pictures / "rows.jsonl"), "--out", str(tmp_path / "out"), "--model", f"openai:{server.url}#m"]
    server.faults = [status(503)] * 100
    assert main(command) == 75
    server.faults = []
    assert main(command) == 0
    assert len((tmp_path / "out" / "rows.jsonl").read_text().splitlines()) == 3


def test_feedback_by_an_endpoint(server, pictures, tmp_path, fast, unprobed):
    """Candidates and judgements of an endpoint: the row that fails is in quarantine, the others become pairs."""

    def answer(body: dict) -> dict:
        if "logprobs" in body or "poisoned" in words(body):
            return refusing("Yes")(body)
        return completion("There is a dog.", "There is a dog. There is a cat.")

    server.answer = answer
    out = tmp_path / "out"
    model = f"openai:{server.url}#m"
    asked = ["--questions", str(pictures / "rows.jsonl"), "--images", str(pictures)]
    assert main(["rlaif", "feedback", *asked, "--model", model, "--judge", model, "--set", "candidates.n=2", "--out", str(out)]) == 0
    pairs = [json.loads(line) for line in (out / "pairs.jsonl").read_text().splitlines()]
    assert {(pair["chosen"], pair["rejected"]) for pair in pairs} == {("There is a dog.", "There is a dog. There is a cat.")}
    assert len(pairs) == 3


def test_chat_says_that_nobody_answers(server, fast, unprobed, capsys):
    assert main(["chat", f"openai:{server.url}#m", "Who is there?"]) == 0
    assert capsys.readouterr().out.strip() == "Who is there? 0"
    server.faults = [status(503)] * 4
    assert main(["chat", f"openai:{server.url}#m", "Who is there?"]) == 2
    assert "no answer: the endpoint did not answer in 3 attempts: HTTP 503" in capsys.readouterr().err


def test_evaluating_an_endpoint(server, pictures, tmp_path, fast, unprobed, capsys):
    """Greedy, in order; the row that it refuses is counted, the others are scored. Beam search it cannot do."""
    labels = ("yes", "no", "no", "no")
    told = ["red", "blue", "poisoned", "green"]
    asked = [
        {"image": f"{i}.png", "text": f"Is it {text}?", "label": label} for i, (text, label) in enumerate(zip(told, labels, strict=True))
    ]
    (pictures / "q.json").write_text("".join(json.dumps(row) + "\n" for row in asked))

    def answer(body: dict) -> dict:
        if "poisoned" in words(body):
            raise Refusal(400, "no")
        return completion("yes" if "red" in words(body) else "No.")

    server.answer = answer
    where = ["--data", f"pope={pictures / 'q.json'}", "--images", f"pope={pictures}", "--out", str(tmp_path / "out")]
    assert main(["eval", f"openai:{server.url}#m", "--bench", "pope", *where]) == 0
    assert {body["temperature"] for body in server.asked if body} == {0.0}
    (path,) = (tmp_path / "out").glob("*/results.json")
    found = json.loads(path.read_text())
    assert found["errors"] == {"pope": {"call_failed": 1}}
    assert found["results"]["pope"]["acc,none"] == 0.75
    assert main(["eval", f"openai:{server.url}#m", "--bench", "pope", *where, "--set", "sampling.beams=3", "--overwrite"]) == 2
    assert "an endpoint does no beam search" in capsys.readouterr().err
