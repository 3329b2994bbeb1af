"""`mmalign aitqe data` through its door: the four kinds from pairs and a judge, stops and kills, bad judges, bad rows, bad wishes."""

import json
import os
import signal
from collections import Counter

import pytest

from data_tools.aitqe.parser import ASPECTS, TITLES
from data_tools.calls import CallFailed
from data_tools.records import Response
from mm_align.cli import main

STAGES = ("samples", "scored", "contrasts", "rescored", "aitqe")
KEYS = ("overall", *ASPECTS)


class Judge:
    """Scores 9 what holds "good" or "better" and 3 everything else; writes what it is asked for."""

    faces = frozenset({"generate"})
    batch_size = 1

    def __init__(self, name="scripted"):
        self.name, self.asked = name, []

    def describe(self):
        return {"model": self.name, "revision": "0"}

    def generate(self, samples, sampling):
        questions = [sample.messages[0].parts[-1].text for sample in samples]
        self.asked += questions
        return [Response(f"{s.id}:0", s.id, self.answer(s.id, q)) for s, q in zip(samples, questions, strict=True)]

    def answer(self, name, question):
        caption = next(json.loads(line) for line in question.splitlines() if line.startswith('"') and not line.startswith('"Text'))
        if '"Overall Score"' in question:
            return self.scores(caption)
        return json.dumps({"Caption": self.worse(name) if "has a good caption" in question else self.better(name)})

    def scores(self, caption):
        overall = 9 if "good" in caption or "better" in caption else 3
        return json.dumps(
            {f"{TITLES[key]} {what}": overall if what == "Score" else "so." for key in KEYS for what in ("Score", "Explanation")}
        )

    def worse(self, name):
        return f"nothing like {name}"

    def better(self, name):
        return f"a better caption of {name}"


@pytest.fixture
def pairs(pictures):
    """Four rows: two good captions, one poor, one empty; an unknown field."""
    captions = ("a good caption", "another good one", "IMG 3", None)
    rows = [{"id": f"r{k}", "image": f"p{k}.png", "caption": caption, "url": f"u{k}"} for k, caption in enumerate(captions)]
    path = pictures / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def command(pairs, out, *more):
    return main(["aitqe", "data", str(pairs), "--judge", "b", "--out", str(out), *more])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(out):
    return {name: (out / f"{name}.jsonl").read_bytes() for name in STAGES}


def reasons(out, stage):
    return Counter(row["reason"] for row in rows(out / "quarantine" / f"{stage}.jsonl"))


# What comes out


def test_every_picture_comes_once_good_and_once_bad(scripted, pairs, tmp_path, capsys):
    scripted(Judge())
    out = tmp_path / "out"
    assert command(pairs, out) == 0
    made = rows(out / "aitqe.jsonl")
    assert [row["id"] for row in made] == ["r0:A", "r0:B", "r1:A", "r1:B", "r2:C", "r2:D", "r3:C", "r3:D"]
    answers = {row["id"]: json.loads(row["messages"][1]["parts"][0]["text"]) for row in made}
    assert {name: answer.get("Recaption") for name, answer in answers.items()} == {
        "r0:A": None, "r0:B": "a good caption", "r1:A": None, "r1:B": "another good one",
        "r2:C": "a better caption of r2", "r2:D": None, "r3:C": "a better caption of r3", "r3:D": None,
    }  # fmt: skip
    assert {name: answer["Overall Score"] for name, answer in answers.items()} == {
        f"{r}:{kind}": f"{9 if kind in 'AD' else 3}<Overall>" for r, kind in (name.split(":") for name in answers)
    }
    shown = {row["id"]: row["messages"][0]["parts"][1]["text"].splitlines()[1] for row in made}
    assert shown["r0:B"] == "Evaluate the caption: nothing like r0"
    assert shown["r2:D"] == "Evaluate the caption: a better caption of r2"
    assert made[0]["meta"] == {"id": "r0", "url": "u0", "aitqe": made[0]["meta"]["aitqe"]}
    report = json.loads((out / "report.json").read_text())
    assert report["kinds"] == {"A": 2, "B": 2, "C": 2, "D": 2}
    assert report["rows"] == {"in": 4, "pictures": 4, "quarantined": 0}
    assert report["scores"]["B"] == {"3": 2}
    assert "(2 A, 2 B, 2 C, 2 D)" in capsys.readouterr().out


def test_it_can_be_trained_on(scripted, pairs, tmp_path, capsys, reported):
    """The pictures are found from the folder of the rows, and the loss falls on the answer alone."""
    scripted(Judge())
    assert reported("aitqe", "data", pairs, "--judge", "b", "--out", tmp_path / "out", "--dry-run")["summary"] == {}
    assert reported("aitqe", "data", pairs, "--judge", "b", "--out", tmp_path / "out")["summary"]["kinds"]["A"] == 2
    (tmp_path / "train.yaml").write_text(
        f"model: {{from: tiny-aitqe}}\ndata: [{{path: {tmp_path}/out/aitqe.jsonl}}]\nsteps: 1\nbatch_size: 2\n"
    )
    capsys.readouterr()
    assert main(["train", str(tmp_path / "train.yaml"), "--out", str(tmp_path / "run"), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "8 of 8 rows" in told
    marked = [line.strip() for line in told.splitlines() if line.strip().startswith("+")]
    assert len(marked) == 1
    assert marked[0].startswith('+ \'{"Overall Score": "9<Overall>"')


def test_the_page_escapes_everything(scripted, pairs, tmp_path):
    class Hostile(Judge):
        def worse(self, name):
            return "<script>alert(1)</script>"

    scripted(Hostile())
    assert command(pairs, tmp_path / "out") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("data:image/png;base64,") == 4


def test_equal_kinds_drops_to_the_rarer_side(scripted, pairs, tmp_path):
    """Three poor captions stand against one good one when the cut moves above the others' score."""
    three = pairs.with_name("three.jsonl")
    three.write_text("".join(pairs.read_text().splitlines(keepends=True)[1:]))
    scripted(Judge())
    assert command(three, tmp_path / "out", "--equal-kinds") == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["kinds"] == {"A": 1, "B": 1, "C": 1, "D": 1}
    assert reasons(tmp_path / "out", "aitqe") == {"more_of_this_kind": 1}


def test_own_prompts_are_asked(scripted, pairs, tmp_path, capsys):
    """This judge likes everything it is asked in these words, so no worse caption is found to be worse, and no poor one is found."""

    class Asked(Judge):
        def answer(self, name, question):
            return self.scores("good") if question.startswith("Mark") else super().answer(name, question)

    judge = scripted(Asked())
    told = json.dumps(["Mark {caption} now.", "Mark this: {caption}"])
    assert command(pairs, tmp_path / "out", "--set", f"scoring.prompts={told}") == 0
    assert Counter(q.startswith("Mark") for q in judge.asked) == {True: 8, False: 4}
    assert {"now." in q for q in judge.asked if q.startswith("Mark")} == {True, False}
    assert reasons(tmp_path / "out", "rescored") == {"contrast_not_worse": 4}
    assert "no training row came out" in capsys.readouterr().err


def test_dry_run_shows_rows_and_cost_and_writes_nothing(scripted, pairs, tmp_path, capsys):
    scripted(Judge())
    assert command(pairs, tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    assert '  B  "nothing like r0" -> 3, rewritten: "a good caption"' in told
    assert "contrasts: 4 prompts shown, 4 answers" in told
    assert "Nothing was written" in told
    assert not (tmp_path / "out").exists()


# Again, stopped, killed


def test_the_same_command_again_asks_nothing(scripted, pairs, tmp_path, capsys):
    judge = scripted(Judge())
    assert command(pairs, tmp_path / "out") == 0
    before, asked = files(tmp_path / "out"), len(judge.asked)
    assert asked == 12
    assert command(pairs, tmp_path / "out") == 0
    assert (files(tmp_path / "out"), len(judge.asked)) == (before, asked)
    assert "scored: done already" in capsys.readouterr().err


@pytest.mark.parametrize("at", [2, 6, 10])
def test_a_stop_signal_is_obeyed_and_the_same_command_continues(scripted, pairs, tmp_path, at):
    """After the second question of the first, second or third stage that asks."""

    class Stops(Judge):
        def generate(self, samples, sampling):
            found = super().generate(samples, sampling)
            if len(self.asked) == at:
                os.kill(os.getpid(), signal.SIGTERM)
            return found

    scripted(Stops())
    assert command(pairs, tmp_path / "out") == 75
    judge = scripted(Judge())
    assert command(pairs, tmp_path / "out") == 0
    assert len(judge.asked) == 12 - at
    assert command(pairs, tmp_path / "fresh") == 0
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


@pytest.mark.parametrize(("stage", "lost"), [("scored", 1), ("contrasts", 1), ("rescored", 1), ("aitqe", 0)])
def test_a_kill_at_any_stage_costs_a_row_at_most(scripted, pairs, tmp_path, stage, lost):
    """A stage's ledger with a torn tail, and nothing written behind it, is what a kill leaves."""
    out = tmp_path / "out"
    scripted(Judge())
    assert command(pairs, out) == 0
    before = files(out)
    ledger = out / ".mmalign" / "journal" / f"{stage}.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    for later in STAGES[STAGES.index(stage) :]:
        (out / f"{later}.jsonl").unlink()
        (out / ".mmalign" / "done" / f"{later}.json").unlink()
    judge = scripted(Judge())
    assert command(pairs, out) == 0
    assert files(out) == before
    assert len(judge.asked) == lost


def test_other_settings_are_refused_and_update_redoes_what_depends_on_them(scripted, pairs, tmp_path, capsys):
    judge = scripted(Judge())
    assert command(pairs, tmp_path / "out") == 0
    capsys.readouterr()
    assert command(pairs, tmp_path / "out", "--set", "contrast.temperature=0.2") == 2
    assert "contrasts.temperature: was 0.7, now 0.2" in capsys.readouterr().err
    assert command(pairs, tmp_path / "out", "--set", "contrast.temperature=0.2", "--update") == 0
    assert len(judge.asked) == 12 + 4  # the new captions read as the old ones, so their scores are known


# Judges and rows that are no good


def test_an_answer_that_cannot_be_read_is_asked_for_again_in_other_words(scripted, pairs, tmp_path):
    class Slow(Judge):
        def answer(self, name, question):
            first = len(self.asked) == 1
            return "Hm." if first else super().answer(name, question)

    judge = scripted(Slow())
    assert command(pairs, tmp_path / "out") == 0
    assert len(judge.asked) == 13
    assert judge.asked[0] != judge.asked[1]
    assert len(rows(tmp_path / "out" / "aitqe.jsonl")) == 8


def test_rows_that_no_answer_fits_leave_with_their_reason(scripted, pairs, tmp_path, capsys):
    """r0: unparsable scores; r1: the worse caption is the old one; r2: the better one is still poor; r3 passes."""

    class Bad(Judge):
        def answer(self, name, question):
            return "No." if name == "r0" else super().answer(name, question)

        def worse(self, name):
            return "Another GOOD one!"

        def better(self, name):
            return "still poor" if name == "r2" else super().better(name)

    scripted(Bad())
    out = tmp_path / "out"
    assert command(pairs, out) == 0
    assert reasons(out, "scored") == {"judge_unparsable": 1}
    assert reasons(out, "contrasts") == {"contrast_too_similar": 1}
    assert reasons(out, "rescored") == {"contrast_not_better": 1}
    assert [row["id"] for row in rows(out / "aitqe.jsonl")] == ["r3:C", "r3:D"]
    assert json.loads((out / "report.json").read_text())["rows"] == {"in": 4, "pictures": 1, "quarantined": 3}
    assert "contrasts: quarantined: 1 contrast_too_similar" in capsys.readouterr().out


def test_bad_rows_leave_before_the_judge_is_asked(scripted, pairs, tmp_path):
    bad = [
        {"image": "gone.png", "caption": "x"},
        {"image": "p0.png"},
        {"image": "p0.png", "caption": 7},
        json.loads(pairs.read_text().split("\n")[0]),
    ]
    with pairs.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in bad)
        file.write("no json\n")
    judge = scripted(Judge())
    assert command(pairs, tmp_path / "out") == 0
    assert reasons(tmp_path / "out", "samples") == {
        "image_missing": 1, "missing_caption": 1, "caption_type": 1, "duplicate_prompt": 1, "bad_json": 1,
    }  # fmt: skip
    assert len(judge.asked) == 12


def test_an_endpoint_that_is_gone_stops_the_run_and_loses_nothing(scripted, pairs, tmp_path, capsys):
    """It fails from the first contrasting caption on; three failures in a row are the endpoint's fault and not the rows'."""

    class Gone(Judge):
        def generate(self, samples, sampling):
            if len(self.asked) >= 4:
                raise CallFailed("HTTP 503 after 5 tries")
            return super().generate(samples, sampling)

    scripted(Gone())
    assert command(pairs, tmp_path / "out") == 75
    assert "the model failed 3 times in a row (HTTP 503 after 5 tries)" in capsys.readouterr().err
    judge = scripted(Judge())
    assert command(pairs, tmp_path / "out") == 0
    assert len(judge.asked) == 8
    assert len(rows(tmp_path / "out" / "aitqe.jsonl")) == 8


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--set", "contrast.wrong=0", "--set", "contrast.poor=0", "--set", "contrast.irrelevant=0"], "give one of them a share"),
        (["--set", 'scoring.prompts=["Rate it."]'], "exactly once, this one 0 times"),
        (["--good-from", "11"], "good_from"),
        (["--set", "contrast.wrng=1"], "wrong"),
    ],
)
def test_wishes_that_cannot_be_fulfilled(scripted, pairs, tmp_path, capsys, more, told):
    assert command(pairs, tmp_path / "out", *more) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_sources_that_cannot_be_read(scripted, pairs, tmp_path, capsys):
    assert command(tmp_path / "nothing.jsonl", tmp_path / "out") == 2
    assert "nothing.jsonl" in capsys.readouterr().err
    assert command(pairs.parent, pairs.parent / "out") == 2
    assert "lies in the source" in capsys.readouterr().err
    empty = pairs.with_name("empty.jsonl")
    empty.write_text('{"image": "p0.png"}\n')
    assert command(empty, tmp_path / "out") == 2
    assert "none of the 1 rows is a pair of a picture and a caption (1 missing_caption)" in capsys.readouterr().err


def test_a_model_that_only_judges_yes_or_no_is_refused(fb, scripted, pairs, tmp_path, capsys):
    backend = fb.Scripted()
    backend.faces = frozenset({"decide"})
    scripted(backend)
    assert command(pairs, tmp_path / "out") == 2
    assert "b gives no answers (`generate`); it offers: decide" in capsys.readouterr().err


def test_a_misspelt_judge_binds_nobody(pairs, tmp_path, capsys):
    """The real loader says that there is no such model; the corrected command is not held against the wrong one."""
    for judge, code, said in (("nosuch-judge", 2, "no model 'nosuch-judge'"), ("null:none", 0, "no training row came out")):
        assert main(["aitqe", "data", str(pairs), "--judge", judge, "--out", str(tmp_path / "out")]) == code
        assert said in capsys.readouterr().err
    assert main(["aitqe", "data", str(pairs), "--judge", "null:other", "--out", str(tmp_path / "out")]) == 2
    assert "scored.model.name: was 'null:none', now 'null:other'" in capsys.readouterr().err


@pytest.mark.parametrize("first", ["enhance-data", "rlaif candidates"])
def test_the_folder_of_another_verb_is_refused_and_nothing_in_it_changes(fb, scripted, pairs, tmp_path, capsys, first):
    """Both write report.json and samples.jsonl."""
    out = tmp_path / "out"
    made = {
        "enhance-data": [str(pairs), "--stages", "signals"],
        "rlaif candidates": ["--images", str(pairs.parent), "--model", "a", "--n", "2"],
    }
    scripted(fb.Scripted())
    assert main([*first.split(), *made[first], "--out", str(out)]) == 0
    scripted(Judge())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert command(pairs, out) == 2
    assert "and this one is of aitqe data. Choose another --out." in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert command(pairs, tmp_path / "mine") == 0
    for words in (["eval", "b", "--bench", "scenes", "--limit", "1"], [*first.split(), *made[first]]):
        assert main([*words, "--out", str(tmp_path / "mine")]) == 2
        assert len(capsys.readouterr().err.split("error: ")) == 2
