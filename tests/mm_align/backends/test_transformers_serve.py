"""A real `transformers serve` over loopback with a tiny model: what it offers is found out, and every way of asking it works."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from data_tools.calls import Sampling
from mm_align.backends import load_backend
from mm_align.cli import main

ABSENT = [name for name in ("fastapi", "uvicorn", "openai") if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(ABSENT), reason=f"transformers serve needs {', '.join(ABSENT)}")
START_S = 90


@pytest.fixture(scope="module")
def served(decided_folder, tmp_path_factory):
    """openai:URL#MODEL of a server that runs as long as this file's tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = (tmp_path_factory.mktemp("serve") / "log").open("wb")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(decided_folder), "--port", str(port), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=said, stderr=said, env=environment) as server:
        try:
            _wait(f"http://127.0.0.1:{port}/health", server, said.name)
            yield f"openai:http://127.0.0.1:{port}/v1#{decided_folder}"
        finally:
            server.kill()


def _wait(url, server, log):
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    said = Path(log).read_text(encoding="utf-8", errors="replace")
    pytest.fail(f"transformers serve did not come up:\n{said[-2000:]}")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_what_it_ignores_is_noticed(served, capsys):
    assert main(["doctor", "--endpoint", served, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["endpoint"]
    assert "pictures: seen" in told
    assert "logprobs: none (asked for and left out with HTTP 200)" in told
    assert "typed decisions: systemone (assets)" in told
    assert any(line.startswith("n: has no effect") for line in told)


def test_answers_about_pictures_are_those_of_this_process(served, decided_folder, samples):
    asked = samples[:3]
    here = load_backend(str(decided_folder), device="cpu").generate(asked, Sampling(max_tokens=6))
    there = load_backend(served).generate(asked, Sampling(max_tokens=6))
    assert [r.text for r in there] == [r.text for r in here]


def test_typed_decisions(served, samples):
    backend = load_backend(served)
    ((one, two),) = backend.decide(samples[:1], [["Is it red?", "Is it blue?"]])
    for decision in (one, two):
        assert 0 < decision.p_yes < 1
        assert decision.p_yes + decision.p_no == pytest.approx(1, abs=1e-3)
    assert one != two


def test_enhance_data_asks_it(served, tmp_path, capsys):
    assert main(["scenes", "make", "--n", "3", "--out", str(tmp_path / "raw")]) == 0
    words = ["enhance-data", str(tmp_path / "raw"), "--out", str(tmp_path / "out"), "--model", served, "--max-tokens", "4", "--json"]
    capsys.readouterr()
    assert main(words) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert (summary["rows"], summary["out"], summary["quarantined"]) == (3, 3, 0)
    endpoint = json.loads((tmp_path / "out/report.json").read_text())["run"]["endpoint"]
    assert endpoint["requests"] >= 3
