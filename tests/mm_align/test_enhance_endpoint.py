"""`mmalign enhance-data` over an endpoint that errs in every way: the same output as from one that does not, and what it cost."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path

import PIL.Image
import pytest
from endpoint_server import Faulty, Refusal, answer_with, completion, half, reset, status, words

from mm_align.backends.http import Endpoint
from mm_align.cli import main

ROWS = 40
KEY = "sk-very-secret-9f31"


@pytest.fixture
def source(tmp_path):
    """Two shards of 20 rows with a picture each."""
    folder = tmp_path / "source"
    folder.mkdir()
    for shard in range(2):
        rows = []
        for i in range(20 * shard, 20 * shard + 20):
            PIL.Image.new("RGB", (8, 8), (6 * i, 9, 9)).save(folder / f"{i}.png")
            rows.append({"id": f"r{i}", "image": f"{i}.png", "caption": f"caption number {i} of a square"})
        (folder / f"part{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch, unprobed):
    """Endpoints that try four times without waiting long."""
    monkeypatch.setattr(Endpoint.__init__, "__kwdefaults__", {"timeout": None, "attempts": 4, "first_wait": 0.01})


def number(body: dict) -> int:
    """Of the row that a question is about."""
    return int(words(body).rpartition("caption number ")[2].split()[0])


def judge(body: dict) -> dict:
    """A score and some rewrites by the row's number; two rows are always withheld, and one is refused."""
    if "caption number" not in words(body):
        return completion("plain")
    i = number(body)
    if i in (7, 23):
        return completion("", reason="content_filter")
    if i == 11:
        raise Refusal(400, "no")
    text = f'{{"Overall Score": "{i % 10 + 1}<Overall>", "Overall Explanation": "plain"}}'
    if i % 4 == 0:
        text = f'{{"Recaption": "a small square, number {i}, on white ground", {text[1:]}'
    return completion(text) | {"usage": {"prompt_tokens": 100 + i, "completion_tokens": 10}}


def enhance(server, source: Path, out: Path, *more: str) -> int:
    words = ["enhance-data", str(source), "--out", str(out), "--model", f"openai:{server.url}#m", "--prompt", "aitqe", "--batch-size", "8"]
    return main([*words, *more])


def written(out: Path) -> dict[str, bytes]:
    """Output and quarantine."""
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.jsonl")) if ".mmalign" not in p.parts}


def ids(out: Path) -> list[str]:
    rows = [json.loads(line) for data in written(out).values() for line in data.splitlines()]
    return [row["id"] if "id" in row else json.loads(row["raw"])["id"] for row in rows]


@pytest.fixture
def undisturbed(server, source, tmp_path):
    server.answer = judge
    assert enhance(server, source, tmp_path / "undisturbed") == 0
    found = written(tmp_path / "undisturbed")
    assert sorted(ids(tmp_path / "undisturbed")) == sorted(f"r{i}" for i in range(ROWS))
    assert b'"action": "rewrite"' in found["part0.jsonl"]
    assert sum(len(data.splitlines()) for name, data in found.items() if name.startswith("quarantine")) == 3
    return found


FAULTS = {
    "429": status(429, Retry_After="0.05"), "500": status(500), "503": status(503), "reset": reset, "half": half,
    "wrong_json": lambda handler: answer_with(handler, 200, b"<html>one moment</html>"),
    "other_json": lambda handler: answer_with(handler, 200, {"object": "error", "message": "later"}),
    "no_choice": lambda handler: answer_with(handler, 200, {"choices": []}),
    "truncated_usage": lambda handler: answer_with(handler, 200, {"choices": [{"message": {"content": 7}}]}),
}  # fmt: skip


# -- faults ------------------------------------------------------------------------------------------------------------


def test_every_kind_of_fault_once_a_request(server, source, tmp_path, undisturbed, stall, drip):
    """The first time a question is asked something goes wrong, by turns; the second time it is answered."""
    kinds = [*FAULTS.values(), stall, drip]
    seen: Counter[bytes] = Counter()
    used: Counter[int] = Counter()

    def answer(body: dict) -> object:
        payload = json.dumps(body, sort_keys=True).encode()
        seen[payload] += 1
        if seen[payload] == 1 and "caption number" in words(body):
            used[kind := number(body) % len(kinds)] += 1
            raise Faulty(kinds[kind])
        return judge(body)

    server.answer = answer
    assert enhance(server, source, tmp_path / "out", "--timeout", "0.4") == 0
    assert written(tmp_path / "out") == undisturbed
    assert set(used) == set(range(len(kinds)))


@pytest.mark.parametrize("more", [2, 3])
def test_more_choices_than_asked_for(server, source, tmp_path, undisturbed, more):
    def answer(body: dict) -> dict:
        answered = judge(body)
        return answered | {"choices": answered["choices"] * more}

    server.answer = answer
    assert enhance(server, source, tmp_path / "out") == 0
    assert written(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("death", [status(503), reset], ids=["503", "reset"])
def test_an_endpoint_that_dies_half_way(server, source, tmp_path, undisturbed, death, capsys):
    """Exit code 75; the same command later comes to the same output, and no answer that came is asked for again."""
    answered: Counter[int] = Counter()

    def dying(body: dict) -> dict:
        if sum(answered.values()) >= 13 and not alive:
            raise Faulty(death)
        if "caption number" in words(body):
            answered[number(body)] += 1
        return judge(body)

    alive: list[bool] = []
    server.answer = dying
    out = tmp_path / "out"
    assert enhance(server, source, out) == 75
    assert "run the same command to continue" in capsys.readouterr().err
    alive.append(True)
    assert enhance(server, source, out) == 0
    assert written(out) == undisturbed
    assert {i: n for i, n in answered.items() if n > 1} == {11: answered[11]}, "a refusal is no answer"
    assert not list(out.rglob("requests.sqlite*")), "the journal holds all answers of a finished run"


def test_a_start_without_an_endpoint_can_be_continued(server, source, tmp_path, undisturbed):
    server.faults = [status(503)] * 1000
    assert enhance(server, source, tmp_path / "out", "--request-cache", "off") == 75
    server.faults = []
    assert enhance(server, source, tmp_path / "out", "--concurrency", "2") == 0
    assert written(tmp_path / "out") == undisturbed


# -- costs -------------------------------------------------------------------------------------------------------------


def test_what_it_cost_over_all_starts(server, source, tmp_path, undisturbed, capsys):
    """37 rows are answered: 100 + i tokens in, 10 out; 2 are withheld without a word of tokens. Two starts, one sum."""
    server.answer = judge
    out = tmp_path / "out"
    capsys.readouterr()
    assert enhance(server, source / "part0.jsonl", out, "--price-in", "2", "--price-out", "10") == 0
    told = json.loads((out / "report.json").read_text())["run"]["endpoint"]
    rows = [i for i in range(20) if i not in (7, 11)]
    expected = (sum(100 + i for i in rows), 10 * len(rows) + 3)
    assert (told["prompt_tokens"], told["completion_tokens"]) == expected
    assert told["cost"] == pytest.approx((2 * expected[0] + 10 * expected[1]) / 1e6, abs=1e-6)
    assert told["untold"] == 1
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("endpoint: "))
    assert f"{expected[0]} tokens of prompts and {expected[1]} of answers, cost 0.0058" in line


def test_a_run_in_two_starts_counts_both(server, source, tmp_path, undisturbed):
    answered = 0

    def dying(body: dict) -> dict:
        nonlocal answered
        answered += 1
        if 15 < answered < 60:
            raise Faulty(status(503))
        return judge(body)

    server.answer = dying
    out = tmp_path / "out"
    while enhance(server, source, out) == 75:
        pass
    whole, parts = (json.loads((f / "report.json").read_text())["run"]["endpoint"] for f in (tmp_path / "undisturbed", out))
    assert parts["prompt_tokens"] == whole["prompt_tokens"]
    assert parts["requests"] > whole["requests"]


def test_a_dry_run_estimates(server, source, tmp_path, capsys):
    server.answer = judge
    assert enhance(server, source, tmp_path / "out", "--dry-run", "--price-in", "2") == 0
    shown = capsys.readouterr().out
    assert "all 40 rows, by these: endpoint: " in shown
    assert ", cost 0.00" in shown
    assert not (tmp_path / "out").exists()
    assert enhance(server, source, tmp_path / "out", "--dry-run") == 0
    assert "--price-in and --price-out say what a million tokens cost" in capsys.readouterr().out


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_a_cache_of_the_user_s_serves_the_next_run(server, source, tmp_path, undisturbed, capsys):
    cache = ["--request-cache", str(tmp_path / "answers.sqlite")]
    assert enhance(server, source, tmp_path / "a", *cache) == 0
    before = len(server.asked)
    assert enhance(server, source, tmp_path / "b", *cache) == 0
    assert [number(body) for body in server.asked[before:]] == [11, 11], "only the refusal is asked for again, in its block and alone"
    assert written(tmp_path / "b") == undisturbed
    assert "39 answers from the request cache" in capsys.readouterr().out


def test_a_cache_that_is_a_folder(server, source, tmp_path, capsys):
    assert enhance(server, source, tmp_path / "out", "--request-cache", str(tmp_path)) == 2
    assert "is a folder; give a file, or `off`" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "value"), [("--concurrency", "0"), ("--timeout", "0"), ("--timeout", "-3"), ("--price-in", "-1")])
def test_options_that_cannot_be(server, source, tmp_path, capsys, flag, value):
    assert enhance(server, source, tmp_path / "out", flag, value) == 2
    assert flag.strip("-").replace("-", "_") in capsys.readouterr().err.replace("-", "_")


# -- the key -----------------------------------------------------------------------------------------------------------


def test_the_key_is_nowhere(server, source, tmp_path, monkeypatch, caplog, capsys):
    """An endpoint that sends the key back in answers, refusals and headers: no file, log or output holds it, and --verbose does not."""

    def echo(body: dict) -> dict:
        key = server.headers[-1]["Authorization"]
        assert KEY in key
        i = number(body) if "caption number" in words(body) else -1
        if i % 5 == 1:
            raise Refusal(400, f"bad key {key}")
        if i % 5 == 2:
            raise Refusal(500, f"bad key {key}")
        return completion(f'{{"Overall Score": "9<Overall>", "Overall Explanation": "{key}"}}')

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.answer = echo
    with caplog.at_level(logging.DEBUG):
        enhance(server, source, tmp_path / "out", "--request-cache", str(tmp_path / "answers.sqlite"), "--verbose")
        main(["doctor", "--endpoint", f"openai:{server.url}#m", "--refresh"])
    shown = capsys.readouterr()
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(path.name == "answers.sqlite" for path in files)
    assert any("endpoints" in path.parts for path in files), "what was found out about the endpoint"
    assert b"***" in b"".join(files.values()), "the echo came through, without the key"
    for text in (shown.out, shown.err, caplog.text, *map(repr, caplog.records)):
        assert KEY not in text
    assert not [path for path, data in files.items() if KEY.encode() in data]


def test_enhancing_over_an_endpoint_needs_no_torch(server, source, tmp_path):
    server.answer = judge
    code = "import sys; from mm_align.cli import main; main(sys.argv[1:]); sys.exit(3 if 'torch' in sys.modules else 0)"
    command = ["enhance-data", str(source), "--out", str(tmp_path / "out"), "--model", f"openai:{server.url}#m"]
    assert subprocess.run([sys.executable, "-c", code, *command], check=False).returncode == 0
