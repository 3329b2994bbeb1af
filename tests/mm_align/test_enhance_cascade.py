"""`mmalign enhance-data --cascade` through its door: calibration, sure rows, the audit, kills, and what cannot be decided."""

import json
import random
import signal

import PIL.Image
import pytest

import mm_align.backends
from data_tools.records import Response
from mm_align.backends.null import NullBackend
from mm_align.cli import main

ROWS = 900
SMALL = ["--calibration", "300", "--agreement", "0.88", "--audit", "0.3", "--batch-size", "25"]
WORDS = ["red", "green", "blue", "round", "square", "small", "large", "left", "right", "above", "below", "near", "far", "old", "new"]


def caption(i):
    """A third has 2 words, a third 12, a third 6; of the last, half say "odd"."""
    rng = random.Random(i)
    n = (2, 12, 6)[i % 3]
    odd = ["odd"] if n == 6 and rng.random() < 0.5 else ["even"] if n == 6 else [rng.choice(WORDS)]
    return " ".join([*rng.choices(WORDS, k=n - 1), *odd])


class Judge(NullBackend):
    """Captions of 2 words and those that say "odd" are poor, others good."""

    def __init__(self, stop_at=0):
        super().__init__(batch_size=25)
        self.asked, self.stop_at = [], stop_at

    def generate(self, samples, sampling):
        self.asked += [s.id for s in samples]
        if self.stop_at and len(self.asked) >= self.stop_at:
            self.stop_at = 0
            signal.raise_signal(signal.SIGTERM)
        return [Response(f"{s.id}:0", s.id, self.answer(s.messages[0].parts[1].text)) for s in samples]

    @staticmethod
    def answer(question):
        said = question.splitlines()[1].partition(": ")[2].split()
        if len(said) < 3 or "odd" in said:
            return '{"Recaption": "a small red square on white", "Overall Score": "2<Overall>"}'
        return '{"Overall Score": "9<Overall>"}'


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    PIL.Image.new("RGB", (8, 8), "red").save(folder / "x.png")
    for part in range(3):
        mine = range(part * ROWS // 3, (part + 1) * ROWS // 3)
        lines = [json.dumps({"id": f"r{i}", "image": "x.png", "caption": caption(i)}) for i in mine]
        (folder / f"part{part}.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


@pytest.fixture
def judge(monkeypatch):
    backend = Judge()
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
    return backend


def run(source, out, *more):
    stages = ["--stages", "signals,aitqe", "--signals", "text.words,text.chars", "--cascade"]
    return main(["enhance-data", str(source), "--out", str(out), *stages, *SMALL, *more])


def rows_of(out, folder="."):
    paths = sorted((out / folder).glob("part*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def told(out):
    return json.loads((out / "report.json").read_text())["run"]["cascade"]


def snapshot(out):
    names = ("report.html", "report.json", "config.yaml", "run.json", "lock")
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name not in names}


def test_sure_rows_are_kept_without_the_model_and_the_rest_is_judged(source, tmp_path, judge, capsys):
    """Only rows of 12 words are surely good; poor ones need the model's words, so it is asked about all of these."""
    out = tmp_path / "out"
    assert run(source, out) == 0
    rows = rows_of(out)
    assert [row["id"] for row in rows] == [f"r{i}" for i in range(ROWS)]
    spared = [row for row in rows if row["aitqe"]["reason"] == "cascade:keep"]
    assert spared
    assert {row["aitqe"]["signals"]["text.words"] for row in spared} == {12}
    assert {row["id"] for row in spared} == {f"r{i}" for i in range(ROWS)} - set(judge.asked)
    assert all(row["aitqe"]["action"] == "rewrite" for row in rows if len(row["caption_raw"].split()) == 2)
    assert len(judge.asked) == len(set(judge.asked))
    cascade = told(out)
    assert (cascade["rows"], cascade["calls"], cascade["kept"]) == (ROWS, len(judge.asked), len(spared))
    assert cascade["calibration"] == 300
    assert cascade["audited"] == cascade["agrees"] > 10
    printed = capsys.readouterr().out
    assert f"cascade: {len(spared)} of 900 rows decided without the model ({len(spared)} kept)" in printed
    assert f"{cascade['agrees']} of {cascade['audited']} agree (1.000, 95 % interval" in printed


def test_a_dry_run_says_what_the_cascade_may_spare(source, tmp_path, judge, capsys):
    """300 to calibrate, and of the other 600 three tenths for the audit: 480 at least, of 900."""
    assert run(source, tmp_path / "out", "--dry-run", "--limit", "900") == 0
    assert "it judges at least 480 of 900 (300 to calibrate, 180 of the audit)" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_where_poor_rows_leave_both_sides_are_decided(source, tmp_path, judge):
    out = tmp_path / "out"
    assert run(source, out, "--poor", "drop") == 0
    gone = rows_of(out, "quarantine")
    assert {row["reason"] for row in gone} == {"cascade:poor", "poor:model"}
    kept = {row["id"] for row in rows_of(out)}
    assert kept == {f"r{i}" for i in range(ROWS) if "odd" not in caption(i) and len(caption(i).split()) > 2}
    cascade = told(out)
    assert cascade["dropped"] > 50
    assert cascade["kept"] > 50
    assert cascade["saved"] == pytest.approx((cascade["kept"] + cascade["dropped"]) / ROWS, abs=1e-6)
    assert not [row for row in rows_of(out) if row["aitqe"]["action"] == "rewrite"]


@pytest.mark.parametrize("stop_at", [60, 300, 450])
def test_a_stopped_run_ends_as_if_it_had_not_been(source, tmp_path, judge, stop_at):
    """Stopped in the calibration, at its end, and among the rows after it."""
    assert run(source, tmp_path / "whole", "--poor", "drop") == 0
    whole = len(judge.asked)
    judge.asked.clear()
    judge.stop_at = stop_at
    assert run(source, tmp_path / "out", "--poor", "drop") == 75
    assert run(source, tmp_path / "out", "--poor", "drop") == 0
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
    assert len(judge.asked) == whole


def test_the_audit_tells_where_the_model_would_have_said_otherwise(source, tmp_path, judge, monkeypatch):
    """After the calibration the model changes its mind about every long caption: the audit must show it, and its word counts."""
    answers, plain = [], judge.answer

    def moody(question):
        answers.append(question)
        long = len(question.splitlines()[1].split()) > 12
        return '{"Recaption": "a small red square on white", "Overall Score": "2"}' if long and len(answers) > 300 else plain(question)

    monkeypatch.setattr(judge, "answer", moody)
    out = tmp_path / "out"
    assert run(source, out) == 0
    cascade = told(out)
    assert cascade["audited"] > 10
    assert cascade["agreement"] == 0
    differs = [row for row in rows_of(out) if "cascade:audit:differs" in row["aitqe"]["flags"]]
    assert len(differs) == cascade["audited"]
    assert {row["aitqe"]["action"] for row in differs} == {"rewrite"}


def test_where_nothing_can_be_decided_the_model_judges_all(source, tmp_path, judge, monkeypatch, capsys):
    monkeypatch.setattr(judge, "answer", lambda q: Judge.answer("\nx: odd" if sum(map(ord, q)) % 2 else "\nx: a b c"))
    assert run(source, tmp_path / "out") == 0
    assert sorted(judge.asked) == sorted(f"r{i}" for i in range(ROWS))
    said = capsys.readouterr()
    assert "the cascade decides nothing: among 300 rows that the model judged" in said.err
    assert "0 of 900 rows decided without the model" in said.out


def test_rules_come_first_and_their_rows_are_not_calibrated_on(source, tmp_path, judge):
    out = tmp_path / "out"
    assert run(source, out, "--drop-if", "text.words < 3") == 0
    assert {row["reason"] for row in rows_of(out, "quarantine")} == {"rule:text.words < 3"}
    cascade = told(out)
    assert cascade["calibration"] == 300
    assert cascade["rows"] == ROWS * 2 // 3


def test_slices_calibrate_each_their_own_cascade_and_merge_says_so(source, tmp_path, judge, capsys):
    """What each cascade decided stays, the report counts over all slices, and copies of another slice leave all the same."""
    rule = ["--signals", "exact.caption_repeats", "--drop-if", "exact.caption_repeats is known"]
    (source / "part1.jsonl").open("a").write(json.dumps({"id": "again", "image": "x.png", "caption": caption(0)}) + "\n")
    for index in range(2):
        assert run(source, tmp_path / "out", *rule, "--shard", f"{index}/2") == 0
    assert "calibrated on this slice alone" in capsys.readouterr().err
    asked = len(judge.asked)
    assert main(["merge", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "each of 2 slices calibrated a cascade of its own" in said.err
    assert len(judge.asked) == asked
    cascade = told(tmp_path / "out")
    gone = [row["raw"] for row in rows_of(tmp_path / "out", "quarantine")]
    assert any('"again"' in row for row in gone)
    assert cascade["rows"] == ROWS + 1 - len(gone)
    assert cascade["calls"] + cascade["kept"] == cascade["rows"]
    assert f"cascade: {cascade['kept']} of {cascade['rows']} rows decided without the model" in said.out


def test_a_limit_and_a_source_smaller_than_the_sample(source, tmp_path, judge):
    assert run(source, tmp_path / "out", "--limit", "400") == 0
    assert {int(name[1:]) for name in judge.asked} <= set(range(400))
    judge.asked.clear()
    assert run(source, tmp_path / "small", "--limit", "250") == 0
    assert len(judge.asked) == 250
    assert told(tmp_path / "small")["calls"] == 250


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--agreement", "0.995"], "300 rows cannot show an agreement of 0.995: that takes"),
        (["--agreement", "1"], "a rate from 0.5 to below 1"),
        (["--policy", "always"], "has no effect with policy 'always'"),
        (["--poor", "drop", "--max-rewrite-fraction", "0.5"], "--max-rewrite-fraction has no effect with --poor drop"),
        (["--audit", "2"], "audit"),
    ],
)
def test_what_cannot_work_is_refused(source, tmp_path, capsys, more, said):
    assert run(source, tmp_path / "out", *more) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cascade"], "add signals to --stages, as in --stages signals,aitqe"),
        (["--cascade", "--stages", "signals"], "add aitqe to --stages"),
        (["--stages", "signals", "--poor", "drop"], "--poor drop is about what the quality model says"),
        (["--stages", "signals,aitqe", "--agreement", "0.9"], "--agreement has no effect without --cascade"),
        (["--poor", "drop", "--policy", "score-only"], "--poor drop has no effect with policy 'score-only'"),
    ],
)
def test_options_that_need_others_say_so(source, tmp_path, capsys, options, said):
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err
