"""The endpoint backend against a server of our own on loopback: what it sends, what it makes of answers, keys, names, pictures."""

from __future__ import annotations

import base64
import io
import logging
import subprocess
import sys
import time

import PIL.Image
import pytest
from endpoint_server import Refusal, answer_with, completion, first_token, status, words

from data_tools.calls import CallFailed, CallNotSupported, Sampling
from data_tools.records import Image
from mm_align.backends import load_backend
from mm_align.backends.chat_completions import data_url
from mm_align.backends.openai_ import seed_of, until_stop
from mm_align.config import UserError

# Answers


def test_answers_in_order_and_what_is_sent(server, samples):
    sampling = Sampling(n=2, temperature=0.7, top_p=0.9, max_tokens=9, seed=5)
    answers = server.backend().generate(samples, sampling)
    assert [(a.id, a.sample_id, a.model, a.tokens) for a in answers[:3]] == [
        ("s0:0", "s0", "m", 3),
        ("s0:1", "s0", "m", 3),
        ("s1:0", "s1", "m", 3),
    ]
    for sample, first, second in zip(samples, answers[::2], answers[1::2], strict=True):
        text = sample.messages[0].parts[1].text
        assert (first.text, second.text) == (f"{text} 0".strip(), f"{text} 1".strip())
    assert len(server.asked) == 5, "one request for all candidates of a sample"
    body = next(body for body in server.asked if words(body) == samples[0].messages[0].parts[1].text)
    expected = {"model": "m", "temperature": 0.7, "top_p": 0.9, "max_tokens": 9, "n": 2, "seed": seed_of(5, "s0", 0)}
    assert {key: value for key, value in body.items() if key != "messages"} == expected
    shown = base64.b64decode(body["messages"][0]["content"][0]["image_url"]["url"].removeprefix("data:image/png;base64,"))
    assert PIL.Image.open(io.BytesIO(shown)).tobytes() == samples[0].images[0].pixels.tobytes()


@pytest.mark.parametrize("refused", [False, True])
def test_several_answers_a_request_not_to_be_had(server, samples, caplog, refused):
    """n is ignored with 200, or refused with 400: each candidate is asked for by itself, with a seed of its own, and it is said."""

    def answer(body: dict) -> dict:
        if refused and body.get("n", 1) > 1:
            raise Refusal(400, "Only one completion choice is allowed")
        return completion(str(body["seed"]))

    server.answer = answer
    backend = server.backend()
    sampling = Sampling(n=3, temperature=1.0, seed=2)
    answers = backend.generate(samples[:2], sampling)
    assert [a.text for a in answers] == [str(seed_of(2, s, j)) for s in ("s0", "s1") for j in range(3)]
    assert caplog.text.count("fewer answers than asked for") == 1
    before = len(server.asked)
    assert [a.text for a in backend.generate(samples[:1], sampling)] == [a.text for a in answers[:3]]
    assert len(server.asked) - before == 3


def test_stop_strings_are_applied_here(server, samples):
    server.answer = lambda body: completion("score 9<end> and more", reason="length")
    stopped, cut = (server.backend().generate(samples[:1], Sampling(stop=stop))[0] for stop in (("more", "<end>"), ()))
    assert (stopped.text, stopped.truncated) == ("score 9<end>", False)
    assert (cut.text, cut.truncated) == ("score 9<end> and more", True)
    assert until_stop("ab", ["x"]) == "ab"


def test_an_answer_withheld_is_the_row_s_failure(server, samples):
    server.answer = lambda body: {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}
    with pytest.raises(CallFailed, match="withholds its answer") as caught:
        server.backend().generate(samples[:1], Sampling())
    assert not caught.value.again


def test_what_an_endpoint_cannot_do(server, samples):
    with pytest.raises(UserError, match="cannot be made to begin"):
        server.backend().generate(samples, Sampling(prefix="{"))
    with pytest.raises(CallNotSupported, match="model in this process"):
        server.backend().likelihood(samples, [["a"]] * 5)
    assert "likelihood" not in server.backend().faces


# Yes or no


def test_yes_and_no_are_summed_over_their_spellings(server, samples):
    """0.5 + 0.125 + 0.0625 say yes, 0.125 + 0.03125 no; "yesterday" and "nope" are neither, and the drawn token counts once."""
    shares = {"Yes": 0.5, " yes": 0.125, "\u2581YES": 0.0625, "No": 0.125, "\u0120no": 0.03125, "yesterday": 0.01, "nope": 0.01}
    server.answer = lambda body: completion("Yes", logprobs=first_token(**shares))
    found = server.backend().decide(samples[:2], [["Is it red?", "Is it blue?"], []])
    assert [len(row) for row in found] == [2, 0]
    assert found[0][0] == pytest.approx((0.6875, 0.15625))
    assert [words(body) for body in server.asked] in (["Is it red?", "Is it blue?"], ["Is it blue?", "Is it red?"])
    asked = server.asked[0]
    assert (asked["max_tokens"], asked["temperature"], asked["logprobs"], asked["top_logprobs"]) == (1, 1.0, True, 20)
    assert [part["type"] for part in asked["messages"][0]["content"]] == ["image_url", "text"]


def test_each_question_gets_its_own_answer(server, samples):
    def answer(body: dict) -> dict:
        time.sleep(0.02 if "0" in words(body) else 0)  # answers come back in another order
        return completion("Yes", logprobs=first_token(Yes=0.1 + 0.01 * int(words(body)), maybe=0.5))

    server.answer = answer
    found = server.backend().decide(samples[:2], [[str(i) for i in range(8)], [str(i) for i in range(8, 20)]])
    assert [d.p_yes for row in found for d in row] == pytest.approx([0.1 + 0.01 * i for i in range(20)])
    assert {d.p_no for row in found for d in row} == {0.0}


@pytest.mark.parametrize("logprobs", [None, {"content": None}, {"content": [{"token": "Yes", "logprob": 0.0}]}, {"tokens": []}])
def test_a_judge_without_logprobs(server, samples, logprobs):
    """They were asked for, and the endpoint answers 200 without them."""
    server.answer = lambda body: completion("Yes", logprobs=logprobs)
    if logprobs == {"content": None}:
        with pytest.raises(CallFailed, match="no token"):
            server.backend().decide(samples[:1], [["Is it red?"]])
        return
    with pytest.raises(UserError, match="told no log-probabilities.*cannot judge"):
        server.backend().decide(samples[:1], [["Is it red?"]])


def test_a_judge_that_refuses_logprobs(server, samples):
    def answer(body: dict) -> dict:
        raise Refusal(400, "logprobs are not supported for this model")

    server.answer = answer
    with pytest.raises(UserError, match="cannot judge.*not supported for this model"):
        server.backend().decide(samples[:1], [["Is it red?"]])


def test_lists_of_different_length_are_refused(server, samples):
    with pytest.raises(ValueError, match="2 samples but 1 lists"):
        server.backend().decide(samples[:2], [["a"]])


# Keys and names


def test_the_key_is_sent_and_never_shown(server, samples, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    echo = lambda handler: answer_with(handler, 500, {"error": "bad " + handler.headers["Authorization"]})  # noqa: E731
    server.faults = [echo] * 4
    with caplog.at_level(logging.DEBUG), pytest.raises(CallFailed) as caught:
        server.backend().generate(samples[:1], Sampling())
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-secret"}
    assert "bad Bearer ***" in str(caught.value)
    assert "sk-secret" not in caplog.text + str(caught.value) + repr(caught.value.__context__)
    monkeypatch.setenv("MM_ALIGN_API_KEY", "of-this-toolkit")
    server.backend().generate(samples[:1], Sampling())
    assert server.headers[-1]["Authorization"] == "Bearer of-this-toolkit"


def test_a_redirect_is_not_followed(server, samples):
    server.faults = [status(302, Location=f"{server.url}/elsewhere")]
    with pytest.raises(UserError, match="HTTP 302"):
        server.backend().generate(samples[:1], Sampling())
    assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://host/v1", "http://", "http://host:port/v1", "http://ho st/v1"])
def test_no_url(url):
    with pytest.raises(UserError, match="is no URL of an endpoint"):
        load_backend(f"openai:{url}#m")


@pytest.mark.parametrize("url", ["http://me:secret@host/v1", "http://host/v1?key=secret"])
def test_keys_do_not_belong_into_the_name(url):
    with pytest.raises(UserError, match="MM_ALIGN_API_KEY") as caught:
        load_backend(f"openai:{url}#m")
    assert "secret" not in str(caught.value)


def test_the_only_model_needs_no_name(server):
    backend = load_backend(f"openai:{server.url}/", batch_size=3)
    assert (backend.name, backend.batch_size, backend.describe()) == ("m", 3, {"model": "m", "revision": "endpoint"})
    server.models = ["a", "b"]
    with pytest.raises(UserError, match="serves a, b; choose one: openai:http"):
        load_backend(f"openai:{server.url}")
    assert load_backend(f"openai:{server.url}#owner/b").name == "owner/b"


def test_no_torch_is_needed():
    code = "import sys, mm_align.backends.openai_; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Pictures


def stored(picture: PIL.Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def test_plain_files_are_sent_as_they_are(tmp_path):
    picture = PIL.Image.new("RGB", (8, 4), "red")
    for form, kind in (("JPEG", "jpeg"), ("PNG", "png"), ("WEBP", "webp")):
        data = stored(picture, form)
        assert data_url(Image(data=data)) == f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        (tmp_path / "picture").write_bytes(data)
        assert data_url(Image(path=str(tmp_path / "picture"))) == data_url(Image(data=data))


def test_others_are_sent_as_they_are_seen():
    """Turned by EXIF, transparent, of a rare format: as the decoded picture."""
    turned = PIL.Image.new("RGB", (8, 4), "red")
    exif = turned.getexif()
    exif[0x0112] = 6
    for data, size in (
        (stored(turned, "JPEG", exif=exif), (4, 8)),
        (stored(PIL.Image.new("RGBA", (8, 4)), "PNG"), (8, 4)),
        (stored(turned, "BMP"), (8, 4)),
    ):
        url = data_url(Image(data=data))
        seen = PIL.Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
        assert (seen.size, seen.mode) == (size, "RGB")
