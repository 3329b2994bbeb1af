"""Answers kept on disk: found by all that was sent, shared by processes, and never a reason to fail."""

from __future__ import annotations

import subprocess
import sys

import pytest
from endpoint_server import completion, status, words

from data_tools.calls import CallFailed, Sampling
from mm_align.backends.endpoint_options import EndpointOptions
from mm_align.backends.http import Endpoint
from mm_align.backends.openai_ import OpenAiBackend
from mm_align.backends.request_cache import RequestCache, request_key
from mm_align.backends.usage import Usage, cost, together

WRITER = """
import sys
from pathlib import Path
from mm_align.backends.request_cache import RequestCache
cache = RequestCache(Path(sys.argv[1]))
for i in range(60):
    cache.put(f"{sys.argv[2]}-{i}".encode(), {"text": i})
"""


def asked_with(server, cache, model="m") -> OpenAiBackend:
    options = EndpointOptions(concurrency=4, cache=cache)
    return OpenAiBackend(Endpoint(server.url, options, timeout=5.0, attempts=2, first_wait=0.01), model)


def test_what_was_answered_is_not_asked_again(server, samples, tmp_path):
    path = tmp_path / "answers.sqlite"
    first = asked_with(server, RequestCache(path)).generate(samples, Sampling())
    again = asked_with(server, RequestCache(path))
    assert again.generate(samples, Sampling()) == first
    assert len(server.asked) == 5
    assert again.requests.endpoint.options.usage.to_dict()["kept"] == 5
    again.generate(samples[:1], Sampling(seed=1))
    asked_with(server, RequestCache(path), "other").generate(samples[:1], Sampling())
    assert len(server.asked) == 7, "another seed or model is another request"


def test_what_failed_is_not_kept(server, samples, tmp_path):
    path = tmp_path / "answers.sqlite"
    server.faults = [status(500)] * 3
    with pytest.raises(CallFailed):
        asked_with(server, RequestCache(path)).generate(samples[:1], Sampling())
    server.answer = lambda body: completion("fine")
    assert asked_with(server, RequestCache(path)).generate(samples[:1], Sampling())[0].text == "fine"


def test_several_processes_write_at_once(tmp_path):
    path = tmp_path / "answers.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    cache = RequestCache(path)
    assert all(cache.get(f"{name}-{i}".encode()) == {"text": i} for name in "ab" for i in range(60))
    assert cache.get(b"c-0") is None


def test_a_file_that_cannot_be_used_is_said_and_done_without(server, samples, tmp_path, caplog):
    path = tmp_path / "answers.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    backend = asked_with(server, RequestCache(path))
    assert len(backend.generate(samples, Sampling())) == 5
    assert caplog.text.count("cannot be used") == 1


def test_the_key_tells_requests_apart():
    keys = {request_key(url, path, body) for url in "ab" for path in "cd" for body in ({"x": 1}, {"x": 2}, {"y": 1})}
    assert len(keys) == 12
    assert request_key("a", "b", {"x": 1, "y": 2}) == request_key("a", "b", {"y": 2, "x": 1})


def test_tokens_are_counted_by_either_naming():
    """2 prompts of 7 and 5 tokens, answers of 3 and 0; one answer tells nothing. At 2 and 10 a million: (12 * 2 + 3 * 10) / 1e6."""
    usage = Usage()
    usage.sent()
    for told in ({"prompt_tokens": 7, "completion_tokens": 3}, {"input_tokens": 5, "output_tokens": 0}, None, {"prompt_tokens": "many"}):
        usage.answered({"usage": told})
    usage.answered([])
    counts = usage.to_dict()
    assert counts == {"requests": 1, "answers": 5, "untold": 3, "kept": 0, "prompt_tokens": 12, "completion_tokens": 3}
    assert cost(counts, 2.0, 10.0) == pytest.approx(54e-6)
    assert cost(counts, None, 10.0) == pytest.approx(30e-6)
    assert cost(counts, None, None) is None
    assert together(counts, {"requests": 2})["requests"] == 3


def test_attempts_are_counted_as_requests(server, samples):
    server.faults = [status(500)]
    server.answer = lambda body: completion(words(body))
    backend = asked_with(server, None)
    backend.generate(samples[:1], Sampling())
    counts = backend.requests.endpoint.options.usage.to_dict()
    assert (counts["requests"], counts["answers"], counts["completion_tokens"]) == (2, 1, 3)
