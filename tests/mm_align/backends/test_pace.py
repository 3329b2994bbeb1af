"""How many requests are under way at once: rises with answers, halves with push-backs, and settles under what a server bears."""

from __future__ import annotations

import dataclasses
import threading
import time

from endpoint_server import answer_with, completion

from data_tools.calls import Sampling
from mm_align.backends.endpoint_options import EndpointOptions
from mm_align.backends.http import Endpoint
from mm_align.backends.openai_ import OpenAiBackend
from mm_align.backends.pace import SLOW, WINDOW, Pace

NEVER = threading.Event()


def test_doubles_with_each_round_until_the_first_push_back():
    """4, then one more an answer: after 4 answers 8. Halved to 4; then a quarter, a fifth ... more an answer."""
    pace = Pace(16)
    assert pace.limit == 4
    for _ in range(4):
        pace.answered("a", 1.0)
    assert pace.limit == 8
    pace.pushed_back(time.monotonic())
    assert pace.limit == 4
    pace.answered("a", 1.0)
    assert pace.limit == 4.25
    for _ in range(1000):
        pace.answered("a", 1.0)
    assert pace.limit == 16


def test_a_wave_of_push_backs_is_one_and_one_request_is_always_allowed():
    pace = Pace(64)
    for _ in range(60):
        pace.answered("a", 1.0)
    begun = time.monotonic()
    for _ in range(10):
        pace.pushed_back(begun)
    assert pace.limit == 32
    for _ in range(10):
        pace.pushed_back(time.monotonic())
    assert pace.limit == 1


def test_fewer_at_once_where_answers_take_much_longer_than_the_best():
    pace = Pace(64)
    for _ in range(WINDOW):
        pace.answered("a", 1.0)
        pace.answered("long", 50.0)  # another kind of request is no slower endpoint
    high = pace.limit
    for _ in range(2 * WINDOW):
        pace.answered("a", SLOW + 1)
    assert pace.limit < high + WINDOW
    before = pace.limit
    for _ in range(8 * WINDOW):
        pace.answered("a", SLOW + 1)
    assert pace.limit < before


def test_never_more_than_allowed_and_a_closed_endpoint_lets_all_go():
    pace, under_way, most, closed = Pace(3), 0, 0, threading.Event()
    lock, go = threading.Lock(), threading.Event()

    def work() -> None:
        nonlocal under_way, most
        with pace.turn(closed):
            with lock:
                under_way += 1
                most = max(most, under_way)
            go.wait(5)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    assert most == 3
    closed.set()
    go.set()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)


def test_settles_under_what_a_server_bears(server, samples, monkeypatch):
    """A server that turns away whatever is beyond three at once: everything is answered, and far fewer requests are turned away than
    with sixteen at once all the time."""
    adaptive = turned_away(server, samples)
    monkeypatch.setattr(Pace, "pushed_back", lambda self, begun: None)
    monkeypatch.setattr("mm_align.backends.pace.START", 16)
    fixed = turned_away(server, samples)
    assert adaptive < 0.7 * fixed


def turned_away(server, samples) -> int:
    """How often, until 150 requests are answered."""
    busy, away, lock = 0, 0, threading.Lock()

    def serve(handler: object) -> None:
        nonlocal busy, away
        with lock:
            full = busy >= 3
            busy += not full
            away += full
        if full:
            answer_with(handler, 429, {"error": {"message": "slow down"}})
            return
        time.sleep(0.02)
        with lock:
            busy -= 1
        answer_with(handler, 200, completion("fine"))

    server.faults = [serve] * 10_000
    endpoint = Endpoint(server.url, EndpointOptions(concurrency=16), timeout=5.0, attempts=60, first_wait=0.02)
    rows = [dataclasses.replace(samples[i % 5], id=f"r{i}") for i in range(150)]
    answers = OpenAiBackend(endpoint, "m").generate(rows, Sampling())
    assert [answer.text for answer in answers] == ["fine"] * 150
    return away
