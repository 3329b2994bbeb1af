"""`mmalign chat` and `mmalign score --judge` over an endpoint: its options, what was counted, what it cost."""

import json

import PIL.Image
import pytest
from endpoint_server import completion

from mm_align.backends.http import Endpoint
from mm_align.cli import main


@pytest.fixture(autouse=True)
def quick(monkeypatch, unprobed):
    monkeypatch.setattr(Endpoint.__init__, "__kwdefaults__", {"timeout": None, "attempts": 1, "first_wait": 0.01})


def counted(*texts):
    return completion(*texts) | {"usage": {"prompt_tokens": 200, "completion_tokens": 10}}


def test_an_answer_is_kept_and_its_cost_told(server, tmp_path, capsys):
    """200 tokens at 5 and 10 at 20 a million: 0.0012; the second command finds the answer."""
    server.answer = lambda body: counted("a red square")
    words = [
        "chat",
        f"openai:{server.url}#m",
        "What?",
        "--request-cache",
        str(tmp_path / "answers"),
        "--price-in",
        "5",
        "--price-out",
        "20",
    ]
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == "a red square\n"
    assert "endpoint: 1 requests, 200 tokens of prompts and 10 of answers, cost 0.0012" in said.err
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == "a red square\n"
    assert "endpoint: 0 requests, 1 answers from the request cache" in said.err
    assert len(server.asked) == 1


def test_an_answer_that_is_all_reasoning_is_no_long_conversation(server, capsys):
    """Cut at the limit before a word of the answer, tokens not counted."""
    server.answer = lambda body: {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
    assert main(["chat", f"openai:{server.url}#m", "What?"]) == 0
    said = capsys.readouterr()
    assert said.out == "\n"
    assert "too long" not in said.err


def test_a_silent_endpoint_is_not_waited_for(server, stall, capsys):
    server.faults = [stall] * 9
    assert main(["chat", f"openai:{server.url}#m", "What?", "--timeout", "0.2"]) == 2
    assert "no answer" in capsys.readouterr().err


def test_a_conversation_tells_what_it_cost_at_its_end(server, tmp_path, monkeypatch, capsys):
    PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    server.answer = lambda body: counted("yes")
    lines = iter(["one?", "two?", "exit"])
    monkeypatch.setattr("builtins.input", lambda prompt="": next(lines))
    assert main(["chat", f"openai:{server.url}#m", str(tmp_path / "red.png")]) == 0
    said = capsys.readouterr()
    assert said.out == "yes\nyes\n"
    assert said.err.count("endpoint: 2 requests, 400 tokens of prompts and 20 of answers") == 1


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("\n".join(json.dumps({"answer": text}) for text in ("red", "blue")))
    return path


def test_a_judge_is_asked_by_the_options_of_endpoints(server, answers, tmp_path, capsys):
    """Two answers; a second ledger asks again and finds both replies."""
    server.answer = lambda body: counted("Rating: 5")
    words = ["score", "mmhal", "--set", "options.limit=2", "--responses", str(answers), "--judge", f"openai:{server.url}#m"]
    words += ["--request-cache", str(tmp_path / "replies"), "--price-in", "5", "--concurrency", "2"]
    assert main([*words, "--ledger", str(tmp_path / "one.jsonl")]) == 0
    said = capsys.readouterr()
    assert "endpoint: 2 requests, 400 tokens of prompts and 20 of answers, cost 0.0020" in said.err
    assert main([*words, "--ledger", str(tmp_path / "two.jsonl")]) == 0
    assert "endpoint: 0 requests, 2 answers from the request cache" in capsys.readouterr().err
    assert len(server.asked) == 2


def test_a_judge_that_is_silent_stops(server, stall, answers, capsys):
    server.faults = [stall] * 40
    words = ["score", "mmhal", "--set", "options.limit=2", "--responses", str(answers), "--judge", f"openai:{server.url}#m"]
    assert main([*words, "--timeout", "0.2"]) == 75
    assert "the judge does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["chat", "null:yes", "What?"], ["score", "mmhal", "--judge", "null:5"]])
def test_a_cache_that_is_a_folder_is_refused(verb, answers, tmp_path, capsys):
    more = ["--responses", str(answers)] if verb[0] == "score" else []
    assert main([*verb, *more, "--request-cache", str(tmp_path)]) == 2
    assert "is a folder; give a file, or `off`" in capsys.readouterr().err
