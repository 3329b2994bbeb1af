"""`mmalign rlaif feedback` and its stages through their doors: pairs from pictures, reruns, stops, changed settings, bad input."""

import json
import os
import signal

import pytest

import mm_align.backends
from data_tools.calls import CallFailed, Decision
from data_tools.preference import read_pairs
from data_tools.records import Response
from mm_align.cli import main
from mm_align.config import load
from mm_align.jobs.feedback import FeedbackConfig, feedback
from mm_align.jobs.feedback_config import PRESETS

DOG, CAT = "There is a dog.", "There is a dog. There is a cat."
STAGES = ("samples", "candidates", "claims", "questions", "judged", "scores", "pairs")


class Scripted:
    """Answers every prompt with the same `answers`; as a judge, rejects what names one of `absent`. One sample in a block."""

    faces = frozenset({"generate", "decide"})
    batch_size = 1

    def __init__(self, answers=(DOG, CAT), absent=("cat",), name="scripted"):
        self.answers, self.absent, self.name = answers, absent, name
        self.prompts, self.judged, self.questions = [], [], []

    def describe(self):
        return {"model": self.name, "revision": "0"}

    def generate(self, samples, sampling):
        self.prompts += [sample.id for sample in samples]
        texts = [self.answers[j % len(self.answers)] for j in range(sampling.n)]
        return [Response(f"{s.id}:{j}", s.id, text, self.name, tokens=len(text.split())) for s in samples for j, text in enumerate(texts)]

    def decide(self, samples, questions):
        self.judged += [sample.id for sample in samples]
        self.questions += [question for asked in questions for question in asked]
        return [[self.decided(question) for question in asked] for asked in questions]

    def decided(self, question):
        return Decision(0.1, 0.8) if any(word in question for word in self.absent) else Decision(0.9, 0.05)


@pytest.fixture
def scripted(monkeypatch):
    """A function that makes a backend the model of every name."""

    def use(backend):
        monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
        return backend

    use(Scripted())
    return use


@pytest.fixture
def pictures(tmp_path, picture):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        picture(seed).save(folder / f"p{seed}.png")
    return folder


def command(pictures, out, *more):
    return main(["rlaif", "feedback", "--images", str(pictures), "--model", "a", "--judge", "b", "--out", str(out), *more])


TWO = ("--set", "candidates.n=2", "--set", "pairs.balance=false")


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(out):
    return {name: (out / f"{name}.jsonl").read_bytes() for name in STAGES}


# What comes out


def test_what_the_judge_rejects_loses(scripted, pictures, tmp_path, capsys):
    """4 pictures x 2 answers; the answer with the cat has one rejected claim of two, so each picture gives one pair."""
    backend, out = scripted(Scripted()), tmp_path / "out"
    assert command(pictures, out, *TWO) == 0
    pairs = list(read_pairs(out / "pairs.jsonl"))
    assert [(pair.chosen, pair.rejected, pair.margin) for pair in pairs] == [(DOG, CAT, 1.0)] * 4
    assert all(pair.sample.images[0].path.endswith(f"p{i}.png") for i, pair in enumerate(pairs))
    assert backend.questions.count("Is there a cat? Please answer yes or no.") == 4
    assert [score["value"] for score in rows(out / "scores.jsonl")] == [0, -1] * 4
    told = capsys.readouterr().out
    assert "candidates: 4 prompts in = 4 out (8 lines) + 0 quarantined" in told
    report = json.loads((out / "report.json").read_text())
    assert (report["judge"]["claims"], report["judge"]["rejected"], report["pairs"]["n"]) == (12, 4, 4)
    assert report["judge"]["outside"] == pytest.approx((8 * 0.05 + 4 * 0.1) / 12, abs=1e-6)
    assert report["stages"]["judged"]["rows"] == 8


def test_the_page_escapes_everything_and_shows_pairs(scripted, pictures, tmp_path):
    scripted(Scripted(answers=(DOG, "There is a cat named <script>alert(1)</script>.")))
    assert command(pictures, tmp_path / "out", *TWO) == 0
    page = (tmp_path / "out" / "feedback.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("data:image/png;base64,") == 4
    assert "<del>There is a cat" in page


def test_the_python_face(pictures, tmp_path):
    config = load(
        FeedbackConfig, {"images": str(pictures), "model": "a", "judge": "b", "out": str(tmp_path / "out"), "candidates": {"n": 2}}
    )
    model, judge = Scripted(), Scripted()
    report = feedback(config, backends={"a": model, "b": judge})
    assert report.pairs == tmp_path / "out" / "pairs.jsonl"
    assert (report.summary["answers"]["n"], len(model.prompts), len(judge.judged)) == (8, 4, 4)
    assert model.questions == judge.prompts == []


def test_bundled_models_on_drawn_scenes(tmp_path, capsys):
    """The thin path for real: eight scenes, tiny-lvlm answers, tiny-judge judges."""
    scenes, out = tmp_path / "scenes", tmp_path / "out"
    assert main(["scenes", "make", "--n", "8", "--poor-share", "0", "--out", str(scenes)]) == 0
    assert main(["rlaif", "feedback", "tiny", "--data", str(scenes), "--out", str(out), "--set", "candidates.n=4"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["answers"]["n"] == 32
    assert report["judge"]["claims"] >= 4 * 32
    assert 0 < report["judge"]["rejected"] < report["judge"]["claims"]
    assert report["judge"]["outside"] < 0.02
    assert report["pairs"]["n"] > 0
    assert all(pair["margin"] >= 1 for pair in rows(out / "pairs.jsonl"))


def test_each_stage_is_a_verb_and_gives_the_same(scripted, pictures, tmp_path):
    """The verbs one by one write what feedback writes, and feedback finds it done."""
    backend, by_one, at_once = scripted(Scripted()), str(tmp_path / "by-one"), tmp_path / "at-once"
    assert main(["rlaif", "candidates", "--images", str(pictures), "--model", "a", "--out", by_one, "--n", "2"]) == 0
    for words in (["claims"], ["questions"], ["judge", "--model", "b"], ["pairs", "--no-balance"]):
        assert main(["rlaif", words[0], by_one, *words[1:]]) == 0
    assert command(pictures, at_once, *TWO) == 0
    assert files(tmp_path / "by-one") == files(at_once)
    assert len(backend.prompts) == 8
    assert command(pictures, by_one, *TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == (8, 8)


# Where prompts come from


def asked(out):
    return {row["id"]: row["messages"][0]["parts"][-1]["text"] for row in rows(out / "samples.jsonl")}


def test_questions_of_rows_are_asked(scripted, pictures, tmp_path):
    """Own fields, first turns, the default; fields that are not understood survive; RLAIF-V's names are known."""
    told = [
        {"id": "a", "image": "p0.png", "question": "What is this?", "more": [1]},
        {"id": "b", "image": "p1.png", "conversations": [{"from": "human", "value": "<image>\nWhere?"}, {"from": "gpt", "value": "Here."}]},
        {"id": "c", "image": "p2.png"},
        {"ds_question_id": "d", "image_path": "p3.png", "question": "Who?"},
    ]
    (pictures / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    assert main(["rlaif", "candidates", "--data", str(pictures / "rows.jsonl"), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    found = asked(tmp_path / "out")
    assert list(found.values()) == ["What is this?", "Where?", "Describe the image in detail.", "Who?"]
    assert list(found)[:3] == ["a", "b", "c"]
    kept = [row["meta"] for row in rows(tmp_path / "out" / "samples.jsonl")]
    assert kept[0]["more"] == [1]
    assert kept[3]["ds_question_id"] == "d"


def test_questions_of_a_text_file_are_drawn_by_picture(scripted, pictures, tmp_path):
    (tmp_path / "ask.txt").write_text("What?\n\nWhere?\nWho?\n")
    for name in ("one", "two"):
        assert command(pictures, tmp_path / name, "--questions", str(tmp_path / "ask.txt")) == 0
    assert asked(tmp_path / "one") == asked(tmp_path / "two")
    assert set(asked(tmp_path / "one").values()) <= {"What?", "Where?", "Who?"}
    assert len(set(asked(tmp_path / "one").values())) > 1


def test_questions_of_a_file_of_rows_with_pictures_elsewhere(scripted, pictures, tmp_path):
    (tmp_path / "ask.jsonl").write_text('{"image": "p1.png", "question": "What?"}\n{"image": "p1.png", "question": "Where?"}\n')
    assert command(pictures, tmp_path / "out", "--questions", str(tmp_path / "ask.jsonl")) == 0
    assert sorted(asked(tmp_path / "out").values()) == ["What?", "Where?"]


def test_embedded_pictures_are_put_beside_the_files(scripted, pictures, tmp_path, capsys):
    from data_tools.io import list_shards, read, write

    with write(tmp_path / "rows.parquet", "parquet") as writer:
        for row in read(list_shards(pictures)[0], caption_optional=True):
            writer.add(row)
    assert main(["rlaif", "candidates", "--data", str(tmp_path / "rows.parquet"), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    stored = sorted((tmp_path / "out" / "images").iterdir())
    assert sorted(path.read_bytes() for path in stored) == sorted(path.read_bytes() for path in pictures.glob("*.png"))


def test_rows_that_cannot_be_asked_leave_with_a_reason(scripted, pictures, tmp_path, capsys):
    told = ['{"id": "a", "image": "p0.png"}', '{"id": "a", "image": "p0.png"}', '{"id": "a", "image": "p0.png", "question": "Who?"}']
    told += ['{"id": "b", "image": "gone.png"}', '{"id": "c"}', "{", '{"id": "d", "image": "http://x/y.png"}']
    (pictures / "rows.jsonl").write_text("\n".join(told) + "\n")
    assert main(["rlaif", "candidates", "--data", str(pictures / "rows.jsonl"), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    assert list(asked(tmp_path / "out")) == ["a", "a#2"]
    reasons = [row["reason"] for row in rows(tmp_path / "out" / "quarantine" / "samples.jsonl")]
    assert sorted(reasons) == ["bad_json", "duplicate_prompt", "image_missing", "image_missing", "missing_image"]
    assert "samples: 7 rows in = 2 out + 5 quarantined" in capsys.readouterr().out


# Reruns and stops


def test_the_same_command_again_asks_nothing_and_says_so(scripted, pictures, tmp_path, capsys):
    backend = scripted(Scripted())
    assert command(pictures, tmp_path / "out") == 0
    before = files(tmp_path / "out")
    assert command(pictures, tmp_path / "out") == 0
    assert (len(backend.prompts), len(backend.judged)) == (4, 4)
    assert files(tmp_path / "out") == before
    assert "judged: done already" in capsys.readouterr().err


class Stops(Scripted):
    """Is told to stop while it answers or judges the `at`-th sample."""

    def __init__(self, at, face):
        super().__init__()
        self.at, self.face = at, face

    def _perhaps(self, face, n):
        if face == self.face and n == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def generate(self, samples, sampling):
        found = super().generate(samples, sampling)
        self._perhaps("generate", len(self.prompts))
        return found

    def decide(self, samples, questions):
        found = super().decide(samples, questions)
        self._perhaps("decide", len(self.judged))
        return found


@pytest.mark.parametrize("face", ["generate", "decide"])
def test_a_stop_signal_is_obeyed_and_the_same_command_continues(scripted, pictures, tmp_path, face, capsys):
    scripted(Stops(2, face))
    assert command(pictures, tmp_path / "out", *TWO) == 75
    assert "same command" in capsys.readouterr().err
    backend = scripted(Scripted())
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == ((2, 4) if face == "generate" else (0, 2))
    assert command(pictures, tmp_path / "fresh", *TWO) == 0
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


@pytest.mark.parametrize("stage", ["candidates", "claims", "questions", "judged", "scores"])
def test_a_kill_at_any_stage_costs_a_block_at_most(scripted, pictures, tmp_path, stage):
    """A stage's ledger with a torn tail, and nothing written behind it, is what a kill leaves."""
    out, backend = tmp_path / "out", scripted(Scripted())
    assert command(pictures, out, *TWO) == 0
    before = files(out)
    ledger = out / ".mmalign" / "journal" / f"{stage}.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    for later in STAGES[STAGES.index(stage) :]:
        (out / f"{later}.jsonl").unlink()
        (out / ".mmalign" / "done" / f"{later}.json").unlink()
    backend = scripted(Scripted())
    assert command(pictures, out, *TWO) == 0
    assert files(out) == before
    assert (len(backend.prompts), len(backend.judged)) == ({"candidates": 1}.get(stage, 0), {"judged": 1}.get(stage, 0))


def test_other_settings_are_refused_with_the_difference(scripted, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(pictures, out) == 0
    capsys.readouterr()
    assert command(pictures, out, "--set", "candidates.temperature=0.2") == 2
    assert "candidates.temperature: was 0.7, now 0.2" in capsys.readouterr().err
    assert main(["rlaif", "pairs", str(out), "--k", "7"]) == 2
    assert "pairs.k: was 2, now 7" in capsys.readouterr().err
    assert command(pictures, out, "--set", "candidates.temperature=0.2", "--overwrite") == 0


@pytest.mark.parametrize(
    ("change", "prompts", "judged"),
    [
        ("candidates.temperature=0.2", 4, 0),  # the answers come out the same here, so nothing else is asked again
        ("asking.ending= Yes or no?", 0, 4),
        ("scores.zero_claims=zero", 0, 0),
        ("pairs.k=1", 0, 0),
        ("judging.near=0.5", 0, 0),
    ],
)
def test_with_update_only_what_depends_on_a_change_is_done_again(scripted, pictures, tmp_path, change, prompts, judged):
    out = tmp_path / "out"
    assert command(pictures, out, *TWO) == 0
    backend = scripted(Scripted())
    assert command(pictures, out, *TWO, "--set", change, "--update") == 0
    assert (len(backend.prompts), len(backend.judged)) == (prompts, judged)
    assert command(pictures, tmp_path / "fresh", *TWO, "--set", change) == 0
    assert files(out) == files(tmp_path / "fresh")


def test_another_picture_under_the_same_name_is_asked_about_again(scripted, pictures, tmp_path, picture):
    (pictures / "rows.jsonl").write_text("".join(json.dumps({"id": f"r{i}", "image": f"p{i}.png"}) + "\n" for i in range(4)))
    words = ["rlaif", "feedback", "--data", str(pictures / "rows.jsonl"), "--model", "a", "--judge", "b", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    picture(99).save(pictures / "p2.png")
    backend = scripted(Scripted())
    assert main(words) == 0
    assert (backend.prompts, backend.judged) == (["r2"], ["r2"])


def test_a_file_that_was_edited_is_what_the_next_stage_reads(scripted, pictures, tmp_path):
    """An answer that somebody rewrote is divided and its picture judged again; the others are not."""
    out = tmp_path / "out"
    assert command(pictures, out, *TWO) == 0
    lines = (out / "candidates.jsonl").read_text().splitlines()
    (out / "candidates.jsonl").write_text("\n".join([lines[0].replace("dog", "cat"), *lines[1:]]) + "\n")
    backend = scripted(Scripted())
    assert command(pictures, out, *TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == (0, 1)
    assert [score["value"] for score in rows(out / "scores.jsonl")][:2] == [-1, -1]


# Presets and labellers


def test_presets_name_fields_that_there_are():
    for preset, parts in PRESETS.items():
        config = load(FeedbackConfig, {"model": "a", "judge": "b", "out": "c", "preset": preset}).model_dump()
        assert all(config[part][name] == value for part, told in parts.items() for name, value in told.items())
    paper = load(FeedbackConfig, {"model": "a", "judge": "b", "out": "c", "preset": "paper", "pairs": {"k": 3}})
    assert (paper.pairs.k, paper.pairs.per, paper.claims.splitter, paper.claims.cut_300_words) == (3, "image", "llm", False)
    assert load(FeedbackConfig, {"model": "a", "judge": "b", "out": "c", "preset": "reference_code"}).claims.cut_300_words


class Writing(Scripted):
    """Divides and writes questions too."""

    def generate(self, samples, sampling):
        if samples[0].images:
            return super().generate(samples, sampling)
        return [Response(f"{s.id}:0", s.id, self.listed(s.messages[0].parts[0].text)) for s in samples]

    @staticmethod
    def listed(prompt):
        if "Facts:" in prompt:
            answer = prompt.partition("Answer: ")[2].partition("\n\nFacts:")[0]
            return "\n".join(f"- {part}." for part in answer.rstrip(".").split(". "))
        lines = [line for line in prompt.splitlines() if line[:1].isdigit()]
        return "\n".join(line.replace("There is", "Is there").rstrip(".") + "?" for line in lines)


@pytest.mark.parametrize("preset", ["paper", "reference_code"])
def test_presets_run_with_a_model_that_divides(scripted, pictures, tmp_path, preset):
    backend = scripted(Writing())
    assert command(pictures, tmp_path / "out", "--preset", preset, "--divider", "c", *TWO) == 0
    assert len(rows(tmp_path / "out" / "pairs.jsonl")) == 4
    assert len(backend.questions) == 12


def test_a_preset_without_a_model_that_divides_is_told_at_once(scripted, pictures, tmp_path, capsys):
    backend = scripted(Scripted())
    assert command(pictures, tmp_path / "out", "--preset", "paper") == 2
    assert "--divider" in capsys.readouterr().err
    assert backend.prompts == []
    assert main(["rlaif", "candidates", "--images", str(pictures), "--model", "a", "--out", str(tmp_path / "out")]) == 0
    assert main(["rlaif", "claims", str(tmp_path / "out"), "--splitter", "llm"]) == 2
    assert "--model" in capsys.readouterr().err


def test_answers_are_judged_as_a_whole_where_asked(scripted, pictures, tmp_path):
    backend = scripted(Scripted())
    assert command(pictures, tmp_path / "out", *TWO, "--labeller", "whole") == 0
    assert set(backend.questions) == {f"{text}\nIs this description free of errors? Please answer yes or no." for text in (DOG, CAT)}
    assert len(rows(tmp_path / "out" / "pairs.jsonl")) == 4


# Cost


def test_a_dry_run_tells_the_cost_and_writes_nothing(scripted, pictures, tmp_path, picture, capsys):
    for seed in range(4, 30):
        picture(seed).save(pictures / f"p{seed}.png")
    assert command(pictures, tmp_path / "out", "--set", "candidates.n=2", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "candidates: 20 prompts in = 20 out (40 lines) + 0 quarantined" in told
    assert "asked for 20 rows, and for 30 in all at this rate" in told
    assert "in all 30 prompts shown, 60 answers" in told
    assert "rejected  p(yes) 0.100  Is there a cat?" in told
    assert not (tmp_path / "out").exists()


# Calibration


def test_a_judge_is_compared_with_the_truth(scripted, pictures, tmp_path, capsys):
    """Of 12 claims 8 name dogs, which are all there and accepted, and 4 cats, of which some are there and all are rejected."""
    out, truths = tmp_path / "out", tmp_path / "truths.jsonl"
    assert command(pictures, out, *TWO) == 0
    judged = rows(out / "judged.jsonl")
    true = ["dog" in claim["text"] or i % 2 == 0 for i, claim in enumerate(judged)]
    told = [
        {"response_id": claim["response_id"], "index": claim["index"], "true": is_true} for claim, is_true in zip(judged, true, strict=True)
    ]
    truths.write_text("".join(json.dumps(row) + "\n" for row in told))
    right = sum(is_true == ("dog" in claim["text"]) for claim, is_true in zip(judged, true, strict=True))
    capsys.readouterr()
    assert main(["rlaif", "calibration", str(out), "--truth", str(truths)]) == 0
    found = json.loads((out / "calibration.json").read_text())
    assert found["n"] == 12
    assert found["agreement"] == pytest.approx(right / 12)
    assert "<circle" in (out / "calibration.html").read_text()
    assert f"agreement {right / 12:.1%}" in capsys.readouterr().out
    assert main(["rlaif", "judge", str(out), "--model", "b", "--truth", str(truths)]) == 0
    assert "ECE" in capsys.readouterr().out


# Bad input


def test_a_judge_without_probabilities_is_told_and_what_was_drawn_is_kept(scripted, pictures, tmp_path, capsys):
    backend = Scripted()
    backend.faces = frozenset({"generate"})
    scripted(backend)
    assert command(pictures, tmp_path / "out", *TWO) == 2
    assert "b gives no probabilities of yes and no (`decide`); it offers: generate" in capsys.readouterr().err
    better = scripted(Scripted())
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert better.prompts == []


def test_answers_without_claims(scripted, pictures, tmp_path, capsys):
    """ "Sure!" claims nothing: unscored by default; scored 0 it wins over the answer with a cat."""
    scripted(Scripted(answers=("Sure!", CAT)))
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert "scores: quarantined: 4 no_claims" in capsys.readouterr().out
    assert rows(tmp_path / "out" / "pairs.jsonl") == []
    assert command(pictures, tmp_path / "out", *TWO, "--set", "scores.zero_claims=zero", "--update") == 0
    assert {pair["chosen"] for pair in rows(tmp_path / "out" / "pairs.jsonl")} == {"Sure!"}


def test_a_judge_that_says_neither_yes_nor_no(scripted, pictures, tmp_path, capsys):
    class Mumbles(Scripted):
        def decided(self, question):
            return Decision(0.001, 0.002 if "cat" in question else 0.0005)

    scripted(Mumbles())
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert "the judge says neither yes nor no" in capsys.readouterr().err
    assert len(rows(tmp_path / "out" / "pairs.jsonl")) == 4
    assert command(pictures, tmp_path / "out", *TWO, "--set", "scores.max_outside=0.5", "--update") == 0
    told = capsys.readouterr()
    assert "scores: quarantined: 8 neither_yes_nor_no" in told.out
    assert "no pair came out of 0 scored answers" in told.err


def test_equal_answers_are_never_paired(scripted, pictures, tmp_path):
    """A judge that contradicts itself scores the same text differently."""

    class Contradicts(Scripted):
        def decide(self, samples, questions):
            return [[Decision(0.1, 0.8) if k % 2 else Decision(0.9, 0.1) for k, _ in enumerate(asked)] for asked in questions]

    scripted(Contradicts(answers=(DOG,)))
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert {score["value"] for score in rows(tmp_path / "out" / "scores.jsonl")} == {0, -1}
    assert rows(tmp_path / "out" / "pairs.jsonl") == []


class Fails(Scripted):
    """An endpoint that breaks at the samples whose id holds one of `bad`."""

    def __init__(self, *bad, again=True):
        super().__init__()
        self.bad, self.again = bad, again

    def decide(self, samples, questions):
        if any(word in str(image.path) for sample in samples for image in sample.images for word in self.bad):
            raise CallFailed("HTTP 500 after 5 tries", again=self.again)
        return super().decide(samples, questions)


def test_rows_whose_call_fails_are_quarantined_and_tried_again(scripted, pictures, tmp_path, capsys):
    scripted(Fails("p1.png"))
    assert command(pictures, tmp_path / "out", *TWO) == 0
    told = capsys.readouterr().out
    assert "judged: quarantined: 2 call_failed" in told
    assert "the same command tries them again" in told
    assert "scores: quarantined: 2 not_judged" in told
    assert len(rows(tmp_path / "out" / "pairs.jsonl")) == 3
    backend = scripted(Scripted())
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert len(backend.judged) == 1
    assert len(rows(tmp_path / "out" / "pairs.jsonl")) == 4


def test_an_endpoint_that_is_gone_stops_the_run(scripted, pictures, tmp_path, capsys):
    scripted(Fails(".png"))
    assert command(pictures, tmp_path / "out", *TWO) == 75
    assert "HTTP 500 after 5 tries" in capsys.readouterr().err
    backend = scripted(Scripted())
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert (len(backend.prompts), len(backend.judged)) == (0, 4)


def test_a_picture_that_breaks_later_leaves_with_its_reason(scripted, pictures, tmp_path, capsys):
    (pictures / "p1.png").write_bytes(b"nothing of the kind")
    assert command(pictures, tmp_path / "out", *TWO) == 0
    assert "candidates: quarantined: 1 image_unreadable" in capsys.readouterr().out
    assert len(rows(tmp_path / "out" / "pairs.jsonl")) == 3


def test_nothing_to_ask_is_told(scripted, pictures, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert command(tmp_path / "empty", tmp_path / "out") == 2
    assert "Nothing to read" in capsys.readouterr().err
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "image": "gone.png"}\n')
    assert main(["rlaif", "candidates", "--data", str(tmp_path / "rows.jsonl"), "--model", "a", "--out", str(tmp_path / "out")]) == 2
    assert "none of the 1 rows can be asked about (1 image_missing)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "give either --data"),
        (["--images", "{pictures}", "--data", "{pictures}"], "give either --data"),
        (["--images", "{pictures}", "--questions", "{pictures}/no.txt"], "cannot read --questions"),
        (["--images", "{pictures}", "--set", "candidates.n=0"], "candidates.n"),
        (["--images", "{pictures}", "--set", "claims.spliter=llm"], "did you mean 'splitter'"),
        (["--images", "{pictures}", "--out", "{pictures}/out"], "choose a folder outside it"),
    ],
)
def test_impossible_wishes_are_bad_usage(scripted, pictures, tmp_path, flags, said, capsys):
    words = [flag.format(pictures=pictures) for flag in flags]
    assert main(["rlaif", "feedback", "--model", "a", "--judge", "b", "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["claims", "questions", "judge", "pairs", "calibration"])
def test_a_stage_without_the_file_before_it_says_who_writes_it(tmp_path, verb, capsys):
    more = {"judge": ["--model", "a"], "calibration": ["--truth", "t"]}.get(verb, [])
    before = {"claims": "candidates", "questions": "claims", "judge": "questions", "pairs": "judge", "calibration": "judge"}[verb]
    assert main(["rlaif", verb, str(tmp_path / "nothing"), *more]) == 2
    assert f"`mmalign rlaif {before}` writes" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


def test_a_folder_of_others_is_not_touched(scripted, pictures, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    assert command(pictures, tmp_path / "out") == 2
    assert "no mmalign run made" in capsys.readouterr().err


def test_a_broken_line_of_a_stages_file_is_told(scripted, pictures, tmp_path, capsys):
    out = tmp_path / "out"
    assert command(pictures, out, *TWO) == 0
    with (out / "candidates.jsonl").open("a") as file:
        file.write("{broken\n")
    assert command(pictures, out, *TWO) == 2
    assert "candidates.jsonl, line 9: no row of type Response" in capsys.readouterr().err
