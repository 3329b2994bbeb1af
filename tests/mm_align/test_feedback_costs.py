"""What `rlaif`, `aitqe data` and `eval` ask of endpoints is counted over all starts, stage by stage, and its cost told."""

import json
import re

import pytest
from endpoint_server import Model, Refusal, completion, words

from mm_align.cli import main

PRICES = ("--price-in", "2", "--price-out", "10")
FEW = ("--concurrency", "2")  # at once, so that the server of the tests turns none away: what is tried again counts twice
PROMPT, ANSWER = 100, 10  # tokens of every answer that has a choice


@pytest.fixture
def model(server, fast):
    """The name of a model that answers with a dog, at every second time also with a cat, and judges; what it says counts tokens."""
    played = Model(frozenset({"images", "logprobs", "n"}))
    played.text = lambda body, light, i: "There is a dog. There is a cat." if i % 2 else "There is a dog."
    played.play(server)
    chat = server.answer
    server.answer = lambda body: chat(body) | {"usage": {"prompt_tokens": PROMPT, "completion_tokens": ANSWER}}
    return f"openai:{server.url}#m"


def answered(server):
    """What counts tokens: all but the look at what is served, and at how words are cut."""
    return sum(path.endswith("/completions") for path in server.paths)


def expected(server):
    """By what the server saw of requests, none of which failed."""
    n = answered(server)
    tokens = {"prompt_tokens": PROMPT * n, "completion_tokens": ANSWER * n}
    return tokens | {"cost": round((2 * PROMPT + 10 * ANSWER) * n / 1e6, 6), "requests": len(server.asked)}


def matches(told, server):
    return {name: told[name] for name in expected(server)} == expected(server)


def lines(text):
    """Stage (empty for all) -> requests, of the lines that tell of an endpoint."""
    return {stage: int(n) for stage, n in re.findall(r"^(?:(\w+): )?endpoint: (\d+) requests", text, re.MULTILINE)}


def test_feedback_tells_of_each_stage_and_of_all(server, model, pictures, tmp_path, fb, capsys):
    out = tmp_path / "out"
    command = [
        "rlaif",
        "feedback",
        "--images",
        str(pictures),
        "--model",
        model,
        "--judge",
        model,
        "--out",
        str(out),
        *PRICES,
        *FEW,
        *fb.TWO,
    ]
    assert main(command) == 0
    told = lines(capsys.readouterr().out)
    assert set(told) == {"candidates", "judged", ""}
    assert told[""] == told["candidates"] + told["judged"] == len(server.asked)
    assert matches(json.loads((out / "report.json").read_text())["endpoint"], server)
    before = len(server.asked)
    assert main(command) == 0
    assert len(server.asked) == before
    assert lines(capsys.readouterr().out) == {"": before}
    assert matches(json.loads((out / "report.json").read_text())["endpoint"], server)


def test_a_stages_verb_tells_of_that_stage(server, model, pictures, tmp_path, capsys):
    folder, so_far = str(tmp_path / "stages"), 0
    asked = {
        "candidates": ["candidates", "--images", str(pictures), "--model", model, "--out", folder, "--n", "2"],
        "claims": ["claims", folder, "--splitter", "llm", "--model", model],
        "questions": ["questions", folder, "--writer", "llm", "--model", model],
        "judged": ["judge", folder, "--model", model],
    }
    for stage, command in asked.items():
        assert main(["rlaif", *command, *PRICES, *FEW]) == 0
        said = capsys.readouterr().out
        assert lines(said) == {stage: len(server.asked) - so_far}
        assert re.search(r" and \d+ of answers, cost \d\.\d{4}", said)
        so_far = len(server.asked)
    assert main(["rlaif", *asked["judged"], "--overwrite", *FEW]) == 0
    said = capsys.readouterr().out
    assert lines(said)["judged"] > len(server.asked) - so_far, "what was spent before it was done again is spent"
    assert "cost" not in said


def judged(body):
    """A good caption for one that is poor, and a poor one for one that is good."""
    text = words(body)
    if '"Overall Score"' in text:
        keys = ("Overall", "Text Quality", "Image-Text Matching", "Object Detail", "Semantic Understanding", "Text/Chart Description")
        score = 9 if "good" in text.rpartition("caption:")[2] else 3
        said = {f"{key} {what}": score if what == "Score" else "so." for key in keys for what in ("Score", "Explanation")}
        return completion(json.dumps(said))
    return completion(json.dumps({"Caption": "a worse one" if "has a good caption" in text else "a good one"}))


@pytest.fixture
def pairs(pictures):
    path = pictures / "pairs.jsonl"
    rows = [{"id": f"r{k}", "image": f"p{k}.png", "caption": ("a good caption", "IMG")[k % 2]} for k in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_aitqe_data_keeps_its_counts_over_a_stop(server, model, unprobed, pairs, tmp_path, capsys):
    """The endpoint is gone after the captions were scored: what was asked until then, refusals included, is in the sum of both starts."""
    counted = {"usage": {"prompt_tokens": PROMPT, "completion_tokens": ANSWER}}

    def gone(body):
        if '"Overall Score"' not in words(body):
            raise Refusal(503, "not now")
        return judged(body) | counted

    server.answer = gone
    command = ["aitqe", "data", str(pairs), "--judge", model, "--out", str(tmp_path / "out"), *PRICES, *FEW]
    assert main(command) == 75
    assert lines(capsys.readouterr().out) == {"scored": 4}
    refused = len(server.asked) - 4
    assert refused > 0
    server.answer = lambda body: judged(body) | counted
    assert main(command) == 0
    told = json.loads((tmp_path / "out" / "report.json").read_text())["endpoint"]
    assert (told["requests"], told["answers"], told["untold"]) == (12 + refused, 12, 0)
    assert (told["prompt_tokens"], told["completion_tokens"], told["cost"]) == (12 * PROMPT, 12 * ANSWER, 0.0036)
    assert lines(capsys.readouterr().out)[""] == 12 + refused


@pytest.mark.parametrize("verb", ["aitqe", "rlaif"])
def test_a_dry_run_tells_what_all_rows_would_cost(server, model, unprobed, pairs, tmp_path, verb, capsys):
    server.answer = lambda body: judged(body) | {"usage": {"prompt_tokens": PROMPT, "completion_tokens": ANSWER}}
    if verb == "rlaif":
        Model(frozenset({"images", "logprobs", "n"})).play(server)
    source = {"aitqe": ["aitqe", "data", str(pairs)], "rlaif": ["rlaif", "feedback", "--images", str(pairs.parent), "--model", model]}
    command = [*source[verb], "--judge", model, "--out", str(tmp_path / "out"), "--dry-run", *FEW]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert f"all 4 rows, by these: endpoint: {len(server.asked)} requests" in said
    assert "(--price-in and --price-out say what a million tokens cost)" in said
    assert main([*command, *PRICES]) == 0
    assert re.search(r"by these: endpoint: .*, cost 0\.00\d\d", capsys.readouterr().out)
    assert not (tmp_path / "out").exists()


def test_eval_counts_models_and_judge(server, model, unprobed, tmp_path, capsys):
    command = ["eval", model, "--bench", "scenes", "--limit", "2", "--out", str(tmp_path / "out"), *PRICES, *FEW]
    assert main(command) == 0
    assert lines(capsys.readouterr().out)[""] == len(server.asked)
    assert main(command) == 0
    assert lines(capsys.readouterr().out) == {}


@pytest.mark.parametrize("verb", ["aitqe data nowhere --judge j", "rlaif judge nowhere --model m", "rlaif feedback --model m --judge j"])
def test_a_price_below_nothing_is_refused(verb, capsys):
    assert main([*verb.split(), "--price-in", "-1"]) == 2
    assert "price_in" in capsys.readouterr().err
