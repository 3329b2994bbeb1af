"""`mmalign rlaif rounds` with parts that only pretend: stages, kills, slices, selection, what is refused, and the page."""

import json
import math
from pathlib import Path

import pytest

from data_tools.records import Claim, PreferencePair, Response, Sample
from mm_align.cli import main
from mm_align.config import Stopped, UserError, load
from mm_align.jobs.feedback.feedback import FeedbackReport
from mm_align.jobs.rounds.rounds import Parts, RoundsConfig, rounds
from mm_align.jobs.train.results import TrainReport

START = "somebody/start"


class Killed(BaseException):
    """The process ended here."""


class Model:
    """Says "dog" of every picture, and with each round of fewer "cat" too, which is not there. Log-probabilities grow by 1 a round."""

    faces = frozenset({"generate", "likelihood"})

    def __init__(self, number: int) -> None:
        self.number = number

    def generate(self, samples, sampling):
        texts = ["a dog and a cat" if int(s.id[1:]) % 4 >= self.number else "a dog <b>" for s in samples]
        return [Response(f"{s.id}:0", s.id, text) for s, text in zip(samples, texts, strict=True)]

    def likelihood(self, samples, continuations, *, ended=False, temperature=1.0):
        return [[(self.number - 3.0 * ("cat" in text), -1.0) for text in texts] for texts in continuations]


class World:
    """Fake parts over real files. `fail`: (part, how often it has been called) at which the process is killed."""

    def __init__(self, fail=None, pairs=6) -> None:
        self.fail, self.pairs = fail, pairs
        self.calls: list[str] = []
        self.seen: dict[str, list] = {"feedback": [], "train": []}

    @property
    def parts(self) -> Parts:
        return Parts(self.feedback, self.train, self.load)

    def note(self, part: str) -> None:
        self.calls.append(part)
        if self.fail == (part, self.calls.count(part)):
            raise Killed

    def load(self, name):
        self.note("load")
        return Model(int(name.split("round-")[1][0]) if "round-" in name else 0)

    def feedback(self, config):
        self.note("feedback")
        self.seen["feedback"].append(config)
        out = Path(config.out)
        out.mkdir(exist_ok=True)
        rows = lines(Path(config.data))
        for row in rows:  # told from the feedback's folder, one below
            row["images"][0]["path"] = f"../{row['images'][0]['path']}"
        prompts = [Sample.from_dict(row) for row in rows]
        pairs = [PreferencePair(sample, "a dog", "a dog and a cat", 1.0).to_dict() for sample in prompts[: self.pairs]]
        write(out / "scores.jsonl", [{"subject_id": "x", "name": "rejected", "value": -0.5}])
        claims = [Claim("x", i, "c", "c?", p_yes, 1 - p_yes).to_dict() for i, p_yes in enumerate((0.9, 0.2))]
        write(out / "judged.jsonl", claims)
        write(out / "pairs.jsonl", pairs)
        return FeedbackReport(out, out / "pairs.jsonl")

    def train(self, config):
        self.note("train")
        self.seen["train"].append(config)
        out = Path(config.out)
        (out / "model").mkdir(parents=True, exist_ok=True)
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / ".mmalign").mkdir(exist_ok=True)
        (out / ".mmalign/finished.json").write_text(json.dumps({"step": 3, "selected_by": "objects/hallucinating", "selected_value": 0.5}))
        return TrainReport(out)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def data(tmp_path, picture) -> Path:
    """12 pictures to learn from in `learn`, 4 others in `seen` with what is on them."""
    for name, count in (("learn", 12), ("seen", 4)):
        (tmp_path / name).mkdir()
        for i in range(count):
            picture(i).save(tmp_path / name / f"{i}.png")
        rows = [{"id": f"{name[0]}{i}", "image": f"{i}.png", "objects": ["dog"], "distractors": ["cat"]} for i in range(count)]
        write(tmp_path / name / "rows.jsonl", rows)
    return tmp_path


@pytest.fixture
def config(data):
    def make(**changes):
        suite = {"type": "objects", "data": str(data / "seen/rows.jsonl")}
        given = {"model": START, "judge": "somebody/judge", "data": str(data / "learn/rows.jsonl"), "out": str(data / "out")}
        return load(RoundsConfig, given | {"rounds": 3, "eval": [suite], "title": "Dogs & <cats>"} | changes)

    return make


def hallucinating(report) -> list[float]:
    return [one["figures"]["objects/hallucinating"] for one in report.rounds]


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


KILLS = [("feedback", 1), ("feedback", 3), ("train", 2), *(("load", n) for n in range(1, 8))]


@pytest.mark.parametrize("fail", KILLS, ids=str)
def test_a_kill_anywhere_changes_nothing(config, data, fail):
    undisturbed = rounds(config(out=str(data / "calm")), World().parts)
    with pytest.raises(Killed):
        rounds(config(), World(fail).parts)
    second = World()
    report = rounds(config(), second.parts)
    assert [{k: v for k, v in one.items() if k != "model"} for one in report.rounds] == [
        {k: v for k, v in one.items() if k != "model"} for one in undisturbed.rounds
    ]
    assert (data / "out/rounds.json").read_text() == (data / "calm/rounds.json").read_text().replace("/calm/", "/out/")
    again = World()
    rounds(config(), again.parts)
    assert again.calls == []


def test_more_rounds_go_on_where_it_ended(config):
    rounds(config(rounds=1, images_per_round=3), World().parts)
    world = World()
    report = rounds(config(rounds=3, images_per_round=3), world.parts)
    assert world.calls.count("train") == 2
    assert len(report.rounds) == 4
    rounds(config(rounds=1, images_per_round=3, overwrite=True), World().parts)
    assert sorted(path.name for path in Path(config().out).glob("round-*")) == ["round-0", "round-1"]


def test_another_configuration_is_refused_and_overwrite_starts_anew(config, data):
    rounds(config(rounds=1, images_per_round=3), World().parts)
    with pytest.raises(UserError, match="config.judge: was 'somebody/judge', now 'self'"):
        rounds(config(judge="self"), World().parts)
    with pytest.raises(UserError, match="images_per_round: was 3, now 4"):
        rounds(config(), World().parts)
    world = World()
    rounds(config(judge="self", overwrite=True, rounds=2), world.parts)
    assert [c.judge for c in world.seen["feedback"]] == [START, str(data / "out/round-1/train/model")]
    assert not (data / "out/round-3").exists()


def test_a_round_without_pairs_ends_the_run(config, data, caplog):
    class Satisfied(World):
        def feedback(self, config):
            self.pairs = 6 if "round-1" in config.out else 0
            return super().feedback(config)

    report = rounds(config(), Satisfied().parts)
    assert report.exit_code == 1
    assert report.model == str(data / "out/round-1/train/model")
    assert "error: round 2: no pairs to train on: of 1 scored answers" in caplog.text
    assert len(json.loads((data / "out/rounds.json").read_text())["rounds"]) == 2


def test_a_training_that_fails_ends_the_run(config, caplog):
    class Diverged(World):
        def train(self, config):
            return TrainReport(Path(config.out), exit_code=1)

    assert rounds(config(), Diverged().parts).exit_code == 1
    assert "error: round 1: training failed" in caplog.text


def test_a_stop_between_parts_is_taken_at_the_next_round(config):
    import signal

    class Stopping(World):
        def train(self, config):
            signal.raise_signal(signal.SIGTERM)
            return super().train(config)

    with pytest.raises(Stopped, match="stopped before round 2; the same command continues"):
        rounds(config(), Stopping().parts)
    assert len(rounds(config(), World().parts).rounds) == 4


def test_a_model_that_is_gone_is_told(config, data):
    rounds(config(rounds=1, images_per_round=3), World().parts)
    (data / "out/round-1/train/model").rmdir()
    with pytest.raises(UserError, match="tells of the model .*round-1/train/model, which is gone"):
        rounds(config(rounds=1, images_per_round=3), World().parts)


def test_checkpoints_go_where_they_are_not_to_be_kept(config, data):
    rounds(config(keep_checkpoints=False), World().parts)
    assert not list((data / "out").glob("round-*/train/checkpoints"))
    assert (data / "out/round-3/train/model").is_dir()


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


def test_a_command_that_fails_or_is_stopped():
    import os
    import signal
    import sys
    import threading

    from mm_align.jobs.rounds.launch import wait

    assert wait([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert wait([sys.executable, "-c", ""]) == 0
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Stopped, match="training was stopped"):
        wait([sys.executable, "-c", "import time; time.sleep(30)"])


@pytest.mark.slow
def test_training_in_two_processes(tmp_path, capfd):
    """torchrun takes the config that is written beside the run, and what is wrong in it is told."""
    from mm_align.jobs.rounds.launch import train_in
    from mm_align.jobs.train.config import TrainConfig

    config = {"model": {"from": "tiny-lvlm"}, "data": [{"path": str(tmp_path / "none")}], "out": str(tmp_path / "run"), "device": "cpu"}
    report = train_in(2)(load(TrainConfig, config))
    assert report.exit_code == 1
    assert "No such file or folder" in capfd.readouterr().err
    assert (tmp_path / "run.yaml").is_file()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rounds": 5, "images_per_round": 3}, "5 rounds of 3 pictures each need 15, and the data has 12"),
        ({"rounds": 13}, "13 rounds of 1 pictures each need 13, and the data has 12"),
        ({"judge": "tiny-jugde"}, "no model 'tiny-jugde' (did you mean 'tiny-judge'?)"),
        ({"model": "tiny-lvml"}, "no model 'tiny-lvml' (did you mean 'tiny-lvlm'?)"),
        ({"data": None}, "give either --data"),
        ({"data": "nowhere"}, "No such file or folder: nowhere"),
        ({"feedback": {"candidats": {}}}, "feedback: unknown key 'candidats'; did you mean 'candidates'?"),
        ({"feedback": {"judge": "x"}}, "feedback.judge: the rounds say this themselves"),
        ({"feedback": {"candidates": {"seed": 3}}}, "feedback.candidates.seed: the rounds say this themselves"),
        ({"train": {"lr": 0}}, "train: 'lr': "),
        ({"train": {"objective": {"bata": 0.2}}}, "train.objective: no option 'bata'; did you mean 'beta'?"),
        ({"train": {"objective": {"type": "lm"}}}, "rounds train on pairs, which 'lm' does not read"),
        ({"train": {"data": []}}, "train.data: the rounds say this themselves"),
        ({"train": {"model": {"from": "x"}}}, "train.model.from: the rounds say this themselves"),
        ({"select": {"by": "objects/hallucinatin"}}, "did you mean 'objects/hallucinating'?"),
        ({"select": {"lose": {"objects/cover": 0.1}}}, "select_limits 'objects/cover' is none"),
        ({"eval": [{"type": "object"}]}, "unknown benchmark 'object'; did you mean 'objects'?"),
        ({"eval": [], "select": {"lose": {"objects/coverage": 0.1}}}, "give `eval`"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_asked(config, changes, told):
    world = World()
    with pytest.raises(UserError) as error:
        rounds(config(**changes), world.parts)
    assert told in str(error.value)
    assert world.calls == []


def test_the_verb_refuses_with_2(tmp_path, capsys):
    words = [
        "rlaif",
        "rounds",
        "--model",
        "tiny-lvlm",
        "--judge",
        "tiny-judge",
        "--data",
        str(tmp_path / "none"),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 2
    assert "No such file or folder" in capsys.readouterr().err


# -- for real ----------------------------------------------------------------------------------------------------------


def test_a_round_with_bundled_models_through_the_door(tmp_path, capsys, reported):
    """Six drawn scenes, two checkpoints; the chosen one answers, the figures are those of its answers, and again there is nothing to do."""
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert main(["scenes", "make", "--n", "6", "--poor-share", "0", "--out", str(scenes)]) == 0
    suite = f"eval=[{{type: objects, data: {scenes}, vocabulary: {scenes}/vocabulary.json, max_tokens: 40, limit: 3}}]"
    feedback = "feedback={candidates: {n: 3, max_tokens: 40}, scores: {by: p_yes}, pairs: {min_difference: 0.001, balance: false}}"
    training = "train={lr: 1.0e-4, epochs: 1, batch_size: 6, precision: fp32}"
    words = ["rlaif", "rounds", "--model", "tiny-lvlm", "--judge", "tiny-judge", "--data", str(scenes), "--out", str(out), "--rounds", "1"]
    words += ["--checks", "1", "--drift-rows", "2", "--device", "cpu", "--set", suite, "--set", feedback, "--set", training]
    told = reported(*words)
    assert main(words) == 0
    assert f"model: {out}/round-1/train/model, report: {out}/rounds.html" in capsys.readouterr().out
    _, last = json.loads((out / "rounds.json").read_text())["rounds"]
    assert told == {"out": str(out), "model": f"{out}/round-1/train/model", "rounds": told["rounds"], "exit_code": 0}
    assert told["rounds"][1]["figures"] == last["figures"]
    assert last["feedback"]["pairs"] > 6
    assert last["selected_value"] == last["figures"]["objects/hallucinating"]
    assert all(value is not None and math.isfinite(value) for value in last["drift"].values())
    assert last["drift"]["chosen"] > last["drift"]["rejected"]
    assert last["drift"]["kl_step"] == last["drift"]["kl_start"]


def test_a_model_that_judges_itself(tmp_path, capsys):
    """tiny-lvlm answers questions with yes and no too."""
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert main(["scenes", "make", "--n", "2", "--poor-share", "0", "--out", str(scenes)]) == 0
    feedback = "feedback={candidates: {n: 3, max_tokens: 40}, scores: {by: p_yes}, pairs: {min_difference: 0.0001, balance: false}}"
    words = ["rlaif", "rounds", "--model", "tiny-lvlm", "--judge", "self", "--data", str(scenes), "--out", str(out), "--rounds", "1"]
    words += ["--drift-rows", "0", "--device", "cpu", "--set", feedback, "--set", "train={steps: 1, precision: fp32}"]
    assert main(words) == 0
    assert json.loads((out / "round-1/round.json").read_text())["drift"] == {
        "chosen": None, "rejected": None, "kl_step": None, "kl_start": None, "kl_start_token": None,
    }  # fmt: skip
    assert (out / "round-1/train/model/config.json").is_file()
