"""`mmalign rlaif judge` over an endpoint: by typed decisions where they are offered, else by the next best way, or it is said why not."""

from __future__ import annotations

import json

import PIL.Image
import pytest
from endpoint_server import Faulty, Model, Refusal, brightness, status

from data_tools.records import Image
from mm_align.backends.chat_completions import data_url
from mm_align.cli import main

CHAT, SYSTEMONE, DECISIONS = "/v1/chat/completions", "/v1/systemone", "/v1/decisions"
CLAIMS, ANSWERS, QUESTIONS = 12, 8, 8  # 4 pictures of 2 answers; one says that there is a dog, the other a dog and a cat


@pytest.fixture(autouse=True)
def quick(fast, monkeypatch):
    """Endpoints that do not wait long, and a doctor that looks at nothing else."""
    monkeypatch.setattr("mm_align.jobs.doctor.examine", list)


@pytest.fixture
def pictures(tmp_path):
    """p0.png to p3.png, each lighter than the one before."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        PIL.Image.new("RGB", (8, 8), (40 + 60 * i,) * 3).save(folder / f"p{i}.png")
    return folder


@pytest.fixture
def stages(fb, pictures, tmp_path, monkeypatch):
    """The folder behind `rlaif questions`."""
    folder = tmp_path / "stages"
    with monkeypatch.context() as patch:
        patch.setattr("mm_align.backends.load_backend", lambda *_, **__: fb.Scripted())
        asked = ["candidates", "--images", str(pictures), "--model", "a", "--out", str(folder), "--n", "2"]
        assert [main(["rlaif", *words]) for words in (asked, ["claims", str(folder)], ["questions", str(folder)])] == [0, 0, 0]
    return folder


def play(server, *skills: str) -> None:
    Model(frozenset({"images", *skills})).play(server)


def judge(server, folder, *more: str) -> int:
    return main(["rlaif", "judge", str(folder), "--model", f"openai:{server.url}#m", *more])


def asked_at(server, path: str) -> list[dict]:
    """The different requests about claims: two answers to a picture may make the same claim."""
    bodies = (body for body, place in zip(server.asked, server.paths, strict=True) if place == path and claims_in(body))
    return list({json.dumps(body): body for body in bodies}.values())


def claims_in(body: dict) -> bool:
    """Whether a request is about claims: probes ask about a picture's colour."""
    return "answer yes or no" in json.dumps(body)


def lights(fb, folder) -> dict[str, float]:
    """Of the picture that each answer is about, as the endpoint sees it."""
    light = {row["id"]: brightness(data_url(Image(str(folder / row["images"][0]["path"])))) for row in fb.rows(folder / "samples.jsonl")}
    return {row["id"]: light[row["sample_id"]] for row in fb.rows(folder / "candidates.jsonl")}


def asset_of(path) -> str:
    return data_url(Image(str(path))).partition("base64,")[2]


@pytest.mark.parametrize(
    ("skills", "path", "way", "expected"),
    [
        ({"assets", "logprobs", "ids"}, SYSTEMONE, "systemone (assets)", lambda light: (0.1 + 0.8 * light, 0.9 - 0.8 * light)),
        ({"listed", "logprobs", "mass"}, SYSTEMONE, "systemone (images)", lambda light: (0.05 + 0.4 * light, 0.45 - 0.4 * light)),
        ({"decisions", "logprobs"}, DECISIONS, "decisions", lambda light: (0.2 + 0.6 * light, 0.8 - 0.6 * light)),
        ({"blind", "logprobs", "ids"}, CHAT, "logprob_token_ids", lambda light: (0.05 + 0.8 * light, 0.08)),
        ({"logprobs", "ids"}, CHAT, "logprob_token_ids", lambda light: (0.05 + 0.8 * light, 0.08)),
        ({"logprobs"}, CHAT, "top_logprobs", lambda light: (0.05 + 0.8 * light, 0.08)),
    ],
)
def test_the_best_way_that_is_offered(server, fb, stages, skills, path, way, expected, capsys):
    """Typed decisions first, all claims of a picture in one request; a dialect that answers blindly is not used. By chat, one request a
    question, with one token to write."""
    play(server, *skills)
    assert judge(server, stages) == 0
    told = capsys.readouterr()
    assert f"m says yes or no by {way}" in told.err
    assert f"judged: {ANSWERS} answers in = {ANSWERS} out ({CLAIMS} lines) + 0 quarantined" in told.out
    assert len(asked_at(server, path)) == (QUESTIONS if path == CHAT else 4)
    assert sum(len(asked_at(server, other)) for other in {CHAT, SYSTEMONE, DECISIONS} - {path}) == 0
    for body in asked_at(server, path) if path == CHAT else ():
        assert ("logprob_token_ids" in body, body["max_tokens"]) == (way == "logprob_token_ids", 1)
    rows, light = fb.rows(stages / "judged.jsonl"), lights(fb, stages)
    assert len(set(light.values())) == 4
    for row in rows:
        assert (row["p_yes"], row["p_no"]) == pytest.approx(expected(light[row["response_id"]]), abs=1e-6)


def test_no_way_at_all(server, stages, capsys):
    """A sentence, and what is there stays; once the server was started anew and asked anew, the same command judges."""
    play(server, "blind")
    assert judge(server, stages) == 2
    said = capsys.readouterr().err
    assert "so it cannot judge: choose one that does" in said
    assert "Traceback" not in said
    assert not (stages / "judged.jsonl").exists()
    play(server, "logprobs", "assets")
    assert main(["doctor", "--endpoint", f"openai:{server.url}#m", "--refresh"]) == 0
    assert judge(server, stages) == 0
    assert len(asked_at(server, SYSTEMONE)) == 4


def test_typed_decisions_that_are_gone(server, stages, capsys):
    """Offered when it was tried, not any more: no other way is taken without a word, since scores would not compare."""
    play(server, "logprobs", "assets")
    assert judge(server, stages) == 0
    play(server, "logprobs")
    assert judge(server, stages, "--overwrite") == 2
    said = capsys.readouterr().err
    assert f"mmalign doctor --endpoint openai:{server.url}#m --refresh" in said
    assert main(["doctor", "--endpoint", f"openai:{server.url}#m", "--refresh"]) == 0
    assert judge(server, stages, "--overwrite") == 0
    assert len(asked_at(server, CHAT)) == QUESTIONS


def test_a_declined_question_and_a_server_that_dies(server, fb, stages, pictures, capsys):
    """One picture's questions are declined: its answers leave with the reason. A dead endpoint: exit code 75; the rest is asked later."""
    play(server, "assets")
    model, chat = server.paths_too["systemone"], server.answer
    first = asset_of(pictures / "p0.png")
    alive: list[bool] = []

    def sometimes(body: dict) -> object:
        shown = [asset["data_base64"] for asset in body["assets"].values()]
        if shown == [first]:
            return {"answers": {name: {"type": "refusal"} for name in body["questions"]}}
        if claims_in(body) and not alive and shown == [asset_of(pictures / "p2.png")]:
            raise Faulty(status(503))
        return model(body)

    def dead(body: dict) -> dict:
        if probed and not alive:
            raise Refusal(503, "not now")
        return chat(body)

    probed = []
    server.answer, server.paths_too["systemone"] = dead, sometimes
    main(["doctor", "--endpoint", f"openai:{server.url}#m"])
    probed.append(True)
    assert judge(server, stages) == 75
    assert "run the same command to continue" in capsys.readouterr().err
    alive.append(True)
    assert judge(server, stages) == 0
    left = fb.rows(stages / "quarantine" / "judged.jsonl")
    assert [row["reason"] for row in left] == ["call_failed"] * 2
    assert "declines to answer" in left[0]["detail"]
    assert len(fb.rows(stages / "judged.jsonl")) == CLAIMS - 3
