"""The endpoint backend against a server of our own on loopback, which answers, errs, stalls and breaks off as told."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
import threading
import time

import PIL.Image
import pytest
from endpoint_server import Fault, Refusal, answer_with, completion, first_token, half, reset, status, words

from data_tools.calls import CallFailed, CallNotSupported, Sampling
from data_tools.records import Image
from mm_align.backends import load_backend
from mm_align.backends.chat_completions import data_url
from mm_align.backends.http import retry_after
from mm_align.backends.openai_ import seed_of, until_stop
from mm_align.cli import main
from mm_align.config import UserError

# -- answers -----------------------------------------------------------------------------------------------------------


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


# -- yes or no ---------------------------------------------------------------------------------------------------------


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


# -- trouble -----------------------------------------------------------------------------------------------------------

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


# -- keys and names ----------------------------------------------------------------------------------------------------


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


# -- pictures ----------------------------------------------------------------------------------------------------------


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


# -- through the doors -------------------------------------------------------------------------------------------------

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
