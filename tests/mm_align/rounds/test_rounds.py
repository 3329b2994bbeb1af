"""`mmalign rlaif rounds` with parts that only pretend: each round's start, pictures, settings and measures, and the page of all."""

import json
import math
from pathlib import Path

import pytest
from pretended import START, Model, World, hallucinating, lines, write

from mm_align.jobs.rounds.rounds import rounds, run


def test_each_round_starts_from_the_one_before_on_pictures_of_its_own(config, data):
    world = World()
    report = rounds(config(), world.parts)
    out = data / "out"
    assert report.exit_code == 0
    assert [c.model for c in world.seen["feedback"]] == [START, str(out / "round-1/train/model"), str(out / "round-2/train/model")]
    assert [c.model.from_ for c in world.seen["train"]] == [c.model for c in world.seen["feedback"]]
    assert [c.data[0].path for c in world.seen["train"]] == [str(out / f"round-{n}/feedback/pairs.jsonl") for n in (1, 2, 3)]
    assert hallucinating(report) == [1.0, 0.75, 0.5, 0.25]
    slices = [{row["id"] for row in lines(out / f"round-{n}/rows.jsonl")} for n in (1, 2, 3)]
    assert [len(rows) for rows in slices] == [4, 4, 4]
    assert set.union(*slices) == {f"l{i}" for i in range(12)}
    for part in ("feedback", "train"):
        seeds = [c.candidates.seed if part == "feedback" else c.seed for c in world.seen[part]]
        assert len(set(seeds)) == 3
    picture = lines(out / "round-1/rows.jsonl")[0]["images"][0]["path"]
    assert (out / "round-1" / picture).is_file()


def test_the_slices_hang_on_the_seed_and_not_on_the_place(config, data):
    def first_slice(out: str, **changes) -> list[str]:
        rounds(config(out=str(data / out), rounds=1, images_per_round=6, **changes), World().parts)
        return [row["id"] for row in lines(data / out / "round-1/rows.jsonl")]

    (data / "deep/er").mkdir(parents=True)
    assert first_slice("a") == first_slice("deep/er/b") != first_slice("c", seed=1)


def test_training_is_the_papers_and_checked_every_quarter_epoch(config):
    """6 pairs in batches of 1 are 6 steps an epoch: an evaluation every 1.5, so every 2."""
    world = World()
    rounds(config(rounds=1, train={"batch_size": 1, "lr": 1e-6}, images_per_round=6), world.parts)
    (trained,) = world.seen["train"]
    assert trained.objective == {"type": "preference", "preset": "rlaifv"}
    assert (trained.lr, trained.epochs, trained.weight_decay, trained.schedule.warmup) == (1e-6, 4, 0.01, 0.05)
    assert (trained.eval_steps, trained.save_steps) == (2, 2)
    assert (trained.select_by, trained.select_ties) == ("objects/hallucinating", "last")


def test_what_may_be_lost_is_reckoned_from_the_start_model(config, data):
    """The start model covers everything, and hallucinates everywhere: 1 - 0.02, and 1 + 0.1 of what is better when less."""
    world = World()
    rounds(config(select={"lose": {"objects/coverage": 0.02, "objects/hallucinating": 0.1}}), world.parts)
    expected = pytest.approx({"objects/coverage": 0.98, "objects/hallucinating": 1.1})
    assert [c.select_limits for c in world.seen["train"]] == [expected] * 3


def test_the_measures_of_a_round(config, data):
    """Chosen answers gain 1 a round, rejected too; own answers 1 against the model before and 3 against the start, of 2 tokens."""
    report = rounds(config(), World().parts)
    last = report.rounds[-1]
    assert last["feedback"] == {"pairs": 4, "answers": 1, "score": -0.5, "rejected": 0.5}
    assert last["drift"] == pytest.approx({"chosen": 1, "rejected": 1, "kl_step": 1, "kl_start": 3, "kl_start_token": 1.5})
    assert [row["text"] for row in lines(data / "out/round-3/answers.jsonl")] == ["a dog <b>"] * 3 + ["a dog and a cat"]


def test_numbers_that_are_none_are_left_out(config, data):
    class Overflowing(Model):
        def likelihood(self, samples, continuations, *, ended=False, temperature=1.0):
            return [[(math.nan,) for _ in texts] for texts in continuations]

    class Broken(World):
        def load(self, name):
            return Overflowing(1)

    report = rounds(config(rounds=1), Broken().parts)
    assert report.rounds[1]["drift"] == {"chosen": None, "rejected": None, "kl_step": None, "kl_start": None, "kl_start_token": None}
    assert "NaN" not in (data / "out/rounds.json").read_text()


def test_the_page_shows_every_round_and_escapes_everything(config, data):
    rounds(config(), World().parts)
    page = (data / "out/rounds.html").read_text(encoding="utf-8")
    assert "<h1>Dogs &amp; &lt;cats&gt;</h1>" in page
    assert "a dog &lt;b&gt;" in page
    assert "<b>" not in page.partition("<main>")[2].replace("<b></b>", "")
    assert page.count("<dt>round 3</dt>") == 4
    assert page.count('src="data:image/png;base64,') == 4
    for told in ("objects/hallucinating", "objects/coverage", "objects/words", "Reward", "Drift of the pairs", "Drift from the start"):
        assert told in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_what_the_judge_of_all_rounds_was_asked_is_added_up(config, data, monkeypatch, capsys):
    """Two rounds of two starts each: 4 times 5 requests of 1000 tokens and 50 of answers, at 2 and 10 a million."""
    asked = {"requests": 5, "answers": 5, "untold": 0, "kept": 0, "prompt_tokens": 1000, "completion_tokens": 50}

    class Asking(World):
        def feedback(self, config):
            report = super().feedback(config)
            kept = report.out / ".mmalign" / "usage"
            kept.mkdir(parents=True)
            for start in range(2):
                (kept / f"judged.{start}.json").write_text(json.dumps(asked))
            return report

    monkeypatch.setattr("mm_align.jobs.rounds.rounds.own_parts", lambda _: Asking().parts)
    run(config(rounds=2, price_in=2, price_out=10))
    told = json.loads((data / "out/rounds.json").read_text())["endpoint"]
    assert told == {name: 4 * n for name, n in asked.items()} | {"cost": 0.01}
    assert "endpoint: 20 requests, 4000 tokens of prompts and 200 of answers, cost 0.0100\n" in capsys.readouterr().out
    run(config(rounds=2))
    assert "and 200 of answers\n" in capsys.readouterr().out, "prices do not bind a run"


def test_without_benchmarks_there_is_no_selection(config, data):
    class Prompted(World):
        def feedback(self, config):
            report = super().feedback(config)
            write(report.out / "samples.jsonl", lines(Path(config.data))[:0])
            return report

    world = Prompted()
    report = rounds(config(eval=[], rounds=1), world.parts)
    assert world.seen["train"][0].select_by is None
    assert report.rounds[1]["figures"] == {}
    assert "no picture" not in (data / "out/rounds.html").read_text()
