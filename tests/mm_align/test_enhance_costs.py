"""What endpoints are asked is counted whoever asks: workers, Ray actors and slices come to the counts of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image
import pytest
from endpoint_server import completion, words

from mm_align.backends.capabilities import store
from mm_align.backends.openai_ import ASSUMED
from mm_align.cli import main

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
ROWS = 24
PRICES = ("--price-in", "2", "--price-out", "10")
PROMPTS, ANSWERS = sum(100 + i for i in range(ROWS)), 10 * ROWS  # tokens, by `judge`


def judge(body: dict) -> dict:
    """100 + i tokens of prompt and 10 of answer for row i; nothing is counted of what only probes."""
    text = words(body)
    if "caption number" not in text:
        return completion("plain") | {"usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    i = int(text.rpartition("caption number ")[2].split()[0])
    score = f'{{"Overall Score": "{i % 10 + 1}<Overall>", "Overall Explanation": "plain"}}'
    return completion(score) | {"usage": {"prompt_tokens": 100 + i, "completion_tokens": 10}}


@pytest.fixture
def source(tmp_path):
    """Three shards of 8 rows."""
    folder = tmp_path / "source"
    folder.mkdir()
    PIL.Image.new("RGB", (8, 8), "red").save(folder / "x.png")
    for shard in range(3):
        rows = [{"id": f"r{i}", "image": "x.png", "caption": f"caption number {i} of a square"} for i in range(8 * shard, 8 * shard + 8)]
        (folder / f"part-{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def command(server, source, monkeypatch):
    """Arguments of `enhance-data` for an output; what the endpoint offers is known, so that only rows are asked about."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    server.answer = judge
    model = f"openai:{server.url}#m"
    store(server.url, "m", ASSUMED)
    return lambda out, *more: ["enhance-data", str(source), "--out", str(out), "--model", model, "--batch-size", "4", *PRICES, *more]


def told(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())["run"]["endpoint"]


def expected(requests: int = ROWS) -> dict:
    counts = {"requests": requests, "answers": requests, "untold": 0, "kept": 0, "prompt_tokens": PROMPTS, "completion_tokens": ANSWERS}
    return counts | {"cost": round((2 * PROMPTS + 10 * ANSWERS) / 1e6, 6)}


def test_one_process(command, tmp_path):
    assert main(command(tmp_path / "out")) == 0
    assert told(tmp_path / "out") == expected()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_workers_count_together(command, tmp_path, engine, capsys):
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
    assert main(command(tmp_path / "out", "--engine", engine, "--workers", "2")) == 0
    assert told(tmp_path / "out") == expected()
    assert f"endpoint: 24 requests, {PROMPTS} tokens of prompts and {ANSWERS} of answers, cost 0.0078" in capsys.readouterr().out


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_slices_tell_their_own_and_merge_the_sum(command, tmp_path, more, capsys):
    """Slice 0 has shards 0 and 2, slice 1 has shard 1: rows 8 to 15."""
    out = tmp_path / "out"
    assert main(command(out, "--shard", "0/2", *more)) == 0
    assert main(command(out, "--shard", "1/2")) == 0
    of_one = sum(100 + i for i in range(8, 16))
    places = [out / ".mmalign" / "slices" / f"{i}-of-2" for i in range(2)]
    assert [told(place)["prompt_tokens"] for place in places] == [PROMPTS - of_one, of_one]
    capsys.readouterr()
    assert main(["merge", str(out)]) == 0
    assert told(out) == expected()
    assert "cost 0.0078" in capsys.readouterr().out


def test_slices_at_different_prices_have_no_common_cost(command, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(out, "--shard", "0/2")) == 0
    assert main(command(out, "--shard", "1/2", "--price-in", "3")) == 0
    assert main(["merge", str(out)]) == 0
    assert "the slices were given different prices" in capsys.readouterr().err
    assert told(out) == {name: count for name, count in expected().items() if name != "cost"}


def test_merge_counts_what_it_asks_itself(command, tmp_path, server):
    """Rows that left in their slice and stay among all: what they cost is added to the slices'."""
    share = ("--stages", "signals,aitqe", "--drop-if", "text.chars in bottom 40%")
    for index in range(2):
        assert main(command(tmp_path / "out", "--shard", f"{index}/2", *share)) == 0
    before = len(server.asked)
    assert main(["merge", str(tmp_path / "out"), "--judge"]) == 0
    assert len(server.asked) > before, "the sample has no row that merge must ask about"
    rows = [int(words(body).rpartition("caption number ")[2].split()[0]) for body in server.asked]
    assert told(tmp_path / "out")["requests"] == len(rows)
    assert told(tmp_path / "out")["prompt_tokens"] == sum(100 + i for i in rows)


def slowly(body: dict) -> dict:
    time.sleep(0.1)
    return judge(body)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_continued_keeps_what_was_spent(command, tmp_path, server, number):
    """A stop loses nothing. A kill loses at most the block of each worker that was under way, and never counts too much."""
    out = tmp_path / "out"
    server.answer = slowly
    arguments = command(out, "--workers", "2", "--concurrency", "1", "--request-cache", "off")
    run = subprocess.Popen([sys.executable, "-m", "mm_align", *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 30
    while len(server.asked) < 10 and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(number)
    assert run.wait(timeout=30) == (75 if number == signal.SIGTERM else -number)
    time.sleep(0.5 if number == signal.SIGKILL else 0)
    first = len(server.asked)
    assert first < ROWS
    server.answer = judge
    assert main(command(out, "--workers", "2", "--concurrency", "1", "--request-cache", "off")) == 0
    asked = len(server.asked)
    assert asked - first < ROWS, "the second start asks about the rest only"
    lost = 0 if number == signal.SIGTERM else 8
    assert asked - lost <= told(out)["requests"] <= asked
    assert told(out)["requests"] > asked - first, "the first start is in the sum"
    if number == signal.SIGTERM:
        assert told(out) == expected()
