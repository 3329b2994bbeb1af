"""What an endpoint offers, found out by trying: servers that honour an option, refuse it, or leave it out with HTTP 200."""

from __future__ import annotations

import json
import time

import PIL.Image
import pytest
from endpoint_server import ALL, Model, Refusal, completion, status, words

from data_tools.calls import CallFailed, Sampling
from mm_align.backends import load_backend
from mm_align.backends.capabilities import Capabilities, stored
from mm_align.backends.http import Endpoint
from mm_align.backends.openai_ import OpenAiBackend
from mm_align.backends.probing import probed
from mm_align.cli import main
from mm_align.config import Stopped, UserError


def found(server, skills: frozenset[str] = ALL, **options) -> Capabilities:
    Model(skills).play(server)
    return probed(Endpoint(server.url, timeout=5.0, attempts=3, first_wait=0.01), "m", **options)


# -- finding out -------------------------------------------------------------------------------------------------------


def test_an_endpoint_that_offers_everything(server):
    told = found(server)
    assert told.verdict_ids == {"yes": (1, 2, 3), "no": (4, 5)}
    assert (told.images, told.top_logprobs, told.typed) == (True, 3, "systemone (assets)")
    assert (told.n, told.seed, told.stop, told.structured) == (True, True, True, True)
    assert told.decisions == "systemone (assets)"


def test_options_left_out_with_http_200_count_as_none(server):
    told = found(server, frozenset({"images"}))
    assert told == Capabilities(images=True, n=False, seed=False, stop=False, structured=False, notes=told.notes)
    assert told.decisions is None
    assert told.notes["logprobs"] == "asked for and left out with HTTP 200"
    assert told.notes["n"] == "asked for 2 answers, got 1 with HTTP 200"


@pytest.mark.parametrize("skill", sorted(ALL - {"assets"}))
def test_each_option_is_noticed_by_itself(server, skill):
    def shown(told: Capabilities) -> dict[str, object]:
        return {
            "images": told.images, "logprobs": bool(told.top_logprobs), "ids": bool(told.verdict_ids),
            "n": told.n, "seed": told.seed, "stop": told.stop, "structured": told.structured,
        }  # fmt: skip

    lacking = shown(found(server, ALL - {skill}, refresh=True))
    linked = {"logprobs": {"ids"}}.get(skill, set())
    assert {name for name, value in lacking.items() if not value} == {skill} | linked


def test_a_picture_that_changes_nothing_is_not_called_seen(server):
    told = found(server, ALL - {"images"})
    assert told.images is None
    assert told.notes["pictures"] == "a black and a white one get the same answer"


def test_answers_that_change_by_themselves_prove_no_sight(server):
    """Each answer differs from the last, whatever the picture: so black and white differ too."""
    model, counted = Model(ALL - {"images"}), iter(range(1000))
    model.text = lambda body, light, i: f"answer {next(counted)}"  # type: ignore[method-assign]
    model.play(server)
    told = probed(Endpoint(server.url, first_wait=0.01), "m")
    assert told.images is None
    assert told.notes["pictures"] == "its answers change by themselves"


def test_a_refused_picture(server):
    def chat(body: dict) -> dict:
        if any(part["type"] == "image_url" for m in body["messages"] for part in m["content"]):
            raise Refusal(400, "this model takes no images")
        return Model(frozenset()).chat(body)

    Model(frozenset()).play(server)
    server.answer = chat
    backend = load_backend(f"openai:{server.url}#m")
    with pytest.raises(UserError, match="takes no pictures; choose an image-text model"):
        backend.generate([], Sampling())


def test_an_endpoint_that_refuses_to_be_tried_is_believed(server, samples, caplog):
    """One that knows its own pictures only: it may still answer about those."""

    def chat(body: dict) -> dict:
        if "colour" in words(body) or "random" in words(body):
            raise Refusal(400, "no such picture")
        return completion("fine")

    Model(frozenset()).play(server)
    server.answer = chat
    assert load_backend(f"openai:{server.url}#m").generate(samples[:1], Sampling())[0].text == "fine"
    assert "refuses the questions by which it is tried" in caplog.text


def test_refused_options(server):
    model = Model(frozenset({"images"}))

    def chat(body: dict) -> dict:
        if {"logprobs", "n", "stop", "response_format"} & body.keys():
            raise Refusal(422, "Unexpected keys in the request")
        return model.chat(body)

    model.play(server)
    server.answer = chat
    told = probed(Endpoint(server.url, first_wait=0.01), "m")
    assert (told.top_logprobs, told.n, told.stop, told.structured) == (0, False, False, False)
    assert told.notes["logprobs"] == "refused"


@pytest.mark.parametrize(
    ("skills", "typed"),
    [
        ({"listed"}, "systemone (images)"),
        ({"assets"}, "systemone (assets)"),
        ({"decisions"}, "decisions"),
        ({"blind"}, None),
        (set(), None),
    ],
)
def test_dialects_of_typed_decisions(server, skills, typed):
    """Each is used where its pictures are seen; `blind` answers with HTTP 200 and sees none."""
    told = found(server, frozenset({"images", *skills}))
    assert told.typed == typed
    assert ("typed decisions" in told.notes) is (skills == {"blind"})


# -- keeping -----------------------------------------------------------------------------------------------------------


def test_found_once_a_day(server, tmp_path):
    first = found(server)
    asked = len(server.asked)
    assert found(server, frozenset()) == first
    assert len(server.asked) == asked
    assert found(server, frozenset({"images"}), refresh=True).n is False
    assert stored(server.url, "m").n is False
    (kept,) = (tmp_path / "cache" / "mm_align" / "endpoints").iterdir()
    record = json.loads(kept.read_text())
    kept.write_text(json.dumps(record | {"found": time.time() - 90_000}))
    assert stored(server.url, "m") is None
    for broken in ("", "[]", "{", json.dumps(record | {"format": 0}), json.dumps(record | {"capabilities": {"images": True, "later": 1}})):
        kept.write_text(broken)
        assert stored(server.url, "m") is None


def test_a_cache_folder_that_cannot_be_written_is_said(server, tmp_path, caplog):
    (tmp_path / "cache").write_text("no folder")
    assert found(server).n
    assert "cannot be kept" in caplog.text


def test_a_dead_endpoint_is_not_remembered(server):
    Model().play(server)
    endpoint = Endpoint(server.url, attempts=2, first_wait=0.01)
    server.faults = [status(503)] * 2
    with pytest.raises(CallFailed, match="did not answer in 2 attempts"):
        probed(endpoint, "m")
    assert stored(server.url, "m") is None
    assert probed(endpoint, "m").n


# -- use ---------------------------------------------------------------------------------------------------------------


def backend(server, skills: set[str]) -> OpenAiBackend:
    Model(frozenset({"images", *skills})).play(server)
    return load_backend(f"openai:{server.url}#m")


@pytest.mark.parametrize(
    ("skills", "path", "expected"),
    [
        ({"logprobs", "ids", "listed"}, "/v1/systemone", (0.9, 0.1)),
        ({"logprobs", "ids", "listed", "mass"}, "/v1/systemone", (0.45, 0.05)),
        ({"logprobs", "assets"}, "/v1/systemone", (0.9, 0.1)),
        ({"decisions"}, "/v1/decisions", (0.8, 0.2)),
        ({"logprobs", "ids"}, "/v1/chat/completions", (0.85, 0.08)),
        ({"logprobs"}, "/v1/chat/completions", (0.85, 0.08)),
    ],
)
def test_decides_by_the_best_way_there_is(server, samples, skills, path, expected):
    white = samples[0].__class__(
        samples[0].id, samples[0].messages, (samples[0].images[0].__class__(pixels=PIL.Image.new("RGB", (8, 8), "white")),)
    )
    judge = backend(server, skills)
    judge.decide([], [])
    before = len(server.paths)
    (row, none) = judge.decide([white, samples[1]], [[f"Is it {i}?" for i in range(20)], []])
    assert [tuple(decision) for decision in row] == [pytest.approx(expected)] * 20
    assert none == []
    assert set(server.paths[before:]) == {path}
    assert len(server.paths) - before == (20 if path.endswith("completions") else 2)


def test_no_way_to_judge(server, samples):
    with pytest.raises(UserError, match=r"cannot judge.*left out with HTTP 200"):
        backend(server, set()).decide(samples[:1], [["Is it red?"]])


def test_a_declined_question_is_the_row_s_failure(server, samples):
    judge = backend(server, {"decisions"})
    judge.decide([], [])
    server.paths_too["decisions"] = lambda body: {"answers": [{"type": "refusal", "name": "q0"}]}
    with pytest.raises(CallFailed, match="declines") as caught:
        judge.decide(samples[:1], [["Is it red?"]])
    assert not caught.value.again


@pytest.mark.parametrize("answer", [{}, {"answers": []}, {"answers": [{"type": "predicate", "probability": 3}]}, {"answers": [7]}])
def test_decisions_that_are_none(server, samples, fast, answer):
    judge = backend(server, {"decisions"})
    judge.decide([], [])
    server.paths_too["decisions"] = lambda body: answer
    with pytest.raises(CallFailed) as caught:
        judge.decide(samples[:1], [["Is it red?"]])
    assert caught.value.again


def test_the_way_is_part_of_what_a_judge_is(server, fast):
    assert backend(server, {"assets"}).describe_decisions() == {"model": "m", "revision": "endpoint", "decisions": "systemone (assets)"}
    server.faults = [status(503)] * 100
    other = load_backend(f"openai:{server.url}#other")
    with pytest.raises(Stopped, match="run the same command"):
        other.describe_decisions()


def test_several_answers_are_asked_for_one_by_one_from_the_start(server, samples):
    model = backend(server, set())
    model.generate([], Sampling())
    model.offered  # noqa: B018
    before = len(server.asked)
    model.generate(samples[:1], Sampling(n=3, temperature=1.0))
    assert [body.get("n") for body in server.asked[before:]] == [None] * 3


# -- the door ----------------------------------------------------------------------------------------------------------


def test_doctor_tells_what_an_endpoint_offers(server, capsys, monkeypatch, fast):
    monkeypatch.setattr("mm_align.jobs.doctor.examine", list)
    Model(frozenset({"images", "logprobs", "assets"})).play(server)
    assert main(["doctor", "--endpoint", f"openai:{server.url}"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "model: m",
        "pictures: seen",
        "logprobs: of the 3 likeliest tokens",
        "yes and no by: systemone (assets)",
        "n: has no effect",
    ):
        assert line in shown
    Model().play(server)
    assert main(["doctor", "--endpoint", f"openai:{server.url}#m"]) == 0
    assert "n: has no effect" in capsys.readouterr().out
    assert main(["doctor", "--endpoint", f"openai:{server.url}#m", "--refresh", "--json"]) == 0
    assert "n: works" in json.loads(capsys.readouterr().out)["endpoint"]


def test_doctor_where_nobody_is(server, capsys, monkeypatch, fast):
    monkeypatch.setattr("mm_align.jobs.doctor.examine", list)
    server.faults = [status(503)] * 9
    assert main(["doctor", "--endpoint", f"openai:{server.url}#m"]) == 2
    assert "HTTP 503" in capsys.readouterr().err
    assert main(["doctor", "--endpoint", "tiny-lvlm"]) == 2
    assert "is no endpoint; give --endpoint openai:http://HOST:PORT/v1#MODEL" in capsys.readouterr().err
