"""The endpoint backend in trouble: faults, silence, refusals, and who pays for them."""

from __future__ import annotations

import threading
import time

import pytest
from endpoint_server import Fault, Refusal, answer_with, completion, half, reset, status, words

from data_tools.calls import CallFailed, Sampling
from mm_align.backends.http import retry_after
from mm_align.config import UserError

FAULTS = {
    "429": status(429), "500": status(500), "503": status(503), "reset": reset, "half": half,
    "no_json": lambda handler: answer_with(handler, 200, b"<html>one moment</html>"),
    "no_completion": lambda handler: answer_with(handler, 200, {"object": "error"}),
    "no_choice": lambda handler: answer_with(handler, 200, {"choices": []}),
    "no_message": lambda handler: answer_with(handler, 200, {"choices": [{"text": "a"}]}),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_asks_again_after(server, samples, fault):
    server.faults = [FAULTS[fault]]
    assert server.backend().generate(samples[:1], Sampling())[0].text.endswith("0")
    assert len(server.asked) == 2


@pytest.mark.parametrize("kind", ["stall", "drip"])
def test_asks_again_after_silence(server, samples, kind, request):
    server.faults = [request.getfixturevalue(kind)]
    started = time.monotonic()
    assert server.backend(timeout=0.2).generate(samples[:1], Sampling())[0].text.endswith("0")
    assert len(server.asked) == 2
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("fault", FAULTS)
def test_gives_up_after_so_many_attempts(server, samples, fault):
    """Then a plain question tells whether anybody is answered; here nobody is."""
    server.faults = [FAULTS[fault]] * 4 if "no_" not in fault else [FAULTS[fault]] * 3 + [status(500)]
    with pytest.raises(CallFailed, match="did not answer in 3 attempts: ") as caught:
        server.backend().generate(samples[:1], Sampling())
    assert (caught.value.again, caught.value.gone) == (True, True)
    assert len(server.asked) == 4
    assert words(server.asked[3]) == "Say yes."


def test_where_others_are_answered_it_is_the_request_that_fails(server, samples):
    """Three attempts, a plain question that is answered, one attempt more."""
    server.faults = [status(500)] * 3
    assert server.backend().generate(samples[:1], Sampling())[0].text.endswith("0")
    assert len(server.asked) == 5

    def answer(body: dict) -> dict:
        raise Refusal(500 if words(body) != "Say yes." else 400, "no")

    server.answer = answer
    with pytest.raises(CallFailed) as caught:
        server.backend().generate(samples[:1], Sampling())
    assert (caught.value.again, caught.value.gone) == (True, False)


def test_nobody_there(server, samples):
    backend = server.backend()
    server.close()
    with pytest.raises(CallFailed, match="the connection failed"):
        backend.generate(samples, Sampling())


def test_waits_as_long_as_it_is_told(server, samples):
    server.faults = [status(429, Retry_After="0.4")]
    started = time.monotonic()
    server.backend().generate(samples[:1], Sampling())
    assert time.monotonic() - started >= 0.4


def test_retry_after_in_all_its_forms():
    assert [retry_after(told) for told in ("7", "0.5", "-3", "soon", None, "nan")] == [7, 0.5, 0, 0, 0, 0]
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert 3e9 < retry_after("Wed, 21 Oct 2150 07:28:00 GMT") < 5e9


def test_one_bad_row_takes_no_other_with_it(server, samples):
    """The call fails for it; asked row by row, the others' answers are there already and only the bad one is asked again."""

    def answer(body: dict) -> dict:
        if "green star" in words(body):
            raise Refusal(400, "prompt is longer than the maximum context length")
        return completion("fine")

    server.answer = answer
    backend = server.backend()
    with pytest.raises(CallFailed, match="HTTP 400: .*maximum context length") as caught:
        backend.generate(samples, Sampling())
    assert not caught.value.again
    assert len(server.asked) == 5
    texts = []
    for sample in samples:
        try:
            texts.append(backend.generate([sample], Sampling())[0].text)
        except CallFailed:
            texts.append("quarantined")
    assert texts == ["fine", "fine", "quarantined", "fine", "fine"]
    assert len(server.asked) == 6
    backend.generate(samples[:1], Sampling())
    assert len(server.asked) == 7, "answers are kept for one asking only"


def test_a_dead_endpoint_is_not_asked_for_every_row(server, samples):
    """Four are under way when it gives up; the sixteen behind them are not sent."""
    server.faults = [status(500)] * 100
    with pytest.raises(CallFailed):
        server.backend().decide(samples[:1], [[str(i) for i in range(20)]])
    assert len(server.asked) < 40


def test_an_error_ends_the_call_at_once(server, samples):
    """A wrong key while another request waits for a minute."""
    both = threading.Barrier(2, timeout=10)

    def later(fault: Fault) -> Fault:
        return lambda handler: (both.wait(), fault(handler))

    server.faults = [later(status(429, Retry_After="60")), later(status(401))]
    started = time.monotonic()
    with pytest.raises(UserError, match="refuses the key"):
        server.backend().generate(samples[:2], Sampling())
    assert time.monotonic() - started < 5


def test_no_such_model(server, samples):
    server.faults = [lambda handler: answer_with(handler, 404, {"error": {"message": "The model `m` does not exist"}})]
    with pytest.raises(UserError, match="no such model or path.*`m` does not exist"):
        server.backend().generate(samples[:1], Sampling())
