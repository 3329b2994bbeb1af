"""`enhance-data --shard i/n` and `merge`: the slices of a run come to what one process makes, row for row, or it is said why not."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import engine_faults as faults
import pytest
import sliced_runs
from sliced_runs import merge_cut_short, same

from data_tools.engines import slices
from mm_align.cli import main

OPTIONS = ("--model", f"null:{sliced_runs.BAD}", "--max-rewrite-fraction", "0.3")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Every seventh id of a shard is one of the first shard; three shards of each slice of 2."""
    return faults.write_source(tmp_path_factory.mktemp("source") / "src", shards=5)


def command(source, out, *more):
    return sliced_runs.command(source, out, *OPTIONS, *more)


def divided(source, outs, of, *more):
    sliced_runs.divided(source, outs, of, *OPTIONS, *more)


@pytest.mark.parametrize("fate", ["keep", "quarantine"])
@pytest.mark.parametrize(("of", "places"), [(2, 1), (3, 3), (7, 2)])
def test_slices_merge_to_the_undivided_run(source, tmp_path, of, places, fate, capsys):
    """One shared --out, one a slice, and more slices than shards; ids that come again in another slice are found by merge."""
    outs = [tmp_path / f"out{i}" for i in range(places)]
    divided(source, outs, of, "--on-duplicate", fate)
    assert not [path for path in outs[0].iterdir() if path.name != ".mmalign"]
    capsys.readouterr()
    assert main(["merge", *map(str, outs)]) == 0
    said = capsys.readouterr()
    assert "200 rows in = " in said.out
    assert "in another slice" in said.err
    assert command(source, tmp_path / "one", "--on-duplicate", fate) == 0
    same(outs[0], tmp_path / "one")
    assert not list(outs[0].rglob("*-of-*"))
    assert main(["merge", *map(str, outs)]) == 0
    assert "already merged" in capsys.readouterr().err
    assert command(source, outs[0], "--on-duplicate", fate) == 0
    assert "already finished" in capsys.readouterr().err


def test_signals_and_parquet_in_slices(source, tmp_path, reported):
    more = ("--stages", "signals,aitqe", "--signals", "text.words,image.width", "--drop-if", "text.words < 3", "--format", "parquet")
    divided(source, [tmp_path / "out"], 2, *more, "--on-duplicate", "quarantine")
    told = reported("merge", tmp_path / "out")
    assert reported("merge", tmp_path / "out")["summary"] == told["summary"]
    assert told["summary"]["rows"] == 200
    command(source, tmp_path / "one", *more, "--on-duplicate", "quarantine")
    same(tmp_path / "out", tmp_path / "one")


def test_a_slice_by_workers_of_its_own(source, tmp_path):
    divided(source, [tmp_path / "out"], 2, "--workers", "2")
    assert main(["merge", str(tmp_path / "out")]) == 0
    command(source, tmp_path / "one")
    same(tmp_path / "out", tmp_path / "one")


@pytest.mark.parametrize("at", range(1, 21, 5))
def test_a_merge_that_is_cut_short_goes_on(source, tmp_path, at):
    """It stops before its n-th file is put in place."""
    divided(source, [tmp_path / "out"], 3, "--on-duplicate", "quarantine")
    assert merge_cut_short(tmp_path / "out", at, [slices]) == 130
    assert main(["merge", str(tmp_path / "out")]) == 0
    command(source, tmp_path / "one", "--on-duplicate", "quarantine")
    same(tmp_path / "out", tmp_path / "one")


KILLED = """
import os, shutil, signal, sys
left, rmtree = int(sys.argv[1]), shutil.rmtree

def dying(path, **options):
    global left
    if path.name.endswith(".gone") or "-of-" in path.name:
        left -= 1
    if left < 0:
        next(file for file in path.rglob("run.json")).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    rmtree(path, **options)

shutil.rmtree = dying
from mm_align.cli import main
main(["merge", *sys.argv[2:]])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_merge_that_is_killed_in_the_middle_of_removing_a_slice_is_done(source, tmp_path, removed, capsys):
    """The folder that was being removed has lost its record, the others are whole."""
    outs = [tmp_path / "a", tmp_path / "b"]
    divided(source, outs, 3)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(removed), *map(str, outs)], env=environ, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    command(source, tmp_path / "one")
    capsys.readouterr()
    assert main(["merge", *map(str, outs)]) == 0
    said = capsys.readouterr().err
    assert "already merged" in said
    assert f"not yet removed are removed now: {', '.join(f'{i}-of-3' for i in (1, 2) if i > removed) or 'none whole'}" in said
    same(outs[0], tmp_path / "one")
    assert not [path for out in outs for path in out.rglob("*-of-*")]


@pytest.mark.parametrize("what", ["made anew", "of another configuration"])
def test_slices_that_a_finished_run_did_not_take_over_stay(source, tmp_path, what, capsys):
    """One that was made anew costs what a model costs: nobody removes it because the run was merged before."""
    a, b = tmp_path / "a", tmp_path / "b"
    divided(source, [a, b], 2)
    assert main(["merge", str(a), str(b)]) == 0
    command(source, b, *(() if what == "made anew" else ("--policy", "never")), "--shard", "1/2")
    if what != "made anew":
        (b / ".mmalign" / "slices" / "1-of-2" / ".mmalign" / slices.MERGED).touch()
    capsys.readouterr()
    assert main(["merge", str(a), str(b)]) == 2
    assert "of 2 slices (0 to 1) some are not done: missing: 0" in capsys.readouterr().err
    assert (b / ".mmalign" / "slices" / "1-of-2" / ".mmalign" / "run.json").exists()


def test_slices_that_are_not_all_there(source, tmp_path, capsys):
    out = tmp_path / "out"
    for index in (0, 3):
        assert command(source, out, "--shard", f"{index}/4") == 0
    shutil.copytree(out / ".mmalign" / "slices" / "0-of-4", out / ".mmalign" / "slices" / "1-of-4")
    (out / ".mmalign" / "slices" / "1-of-4" / ".mmalign" / "finished.json").unlink()
    capsys.readouterr()
    assert main(["merge", str(out)]) == 2
    assert "of 4 slices (0 to 3) some are not done: missing: 2; unfinished: 1" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "empty")]) == 2
    assert "nothing was made there with --shard" in capsys.readouterr().err


def lose_record(folder):
    (folder / "run.json").write_text("{broken")


def lose_ids(folder):
    next(folder.joinpath("ids").iterdir()).unlink()


def lose_done(folder):
    (folder.parents[1] / "0-of-2/.mmalign/done/part-0.json").write_text("{")  # no id of it comes before, so it is moved as it is


def lose_journal(folder):
    next(folder.joinpath("journal").iterdir()).unlink()


@pytest.mark.parametrize("lose", [lose_record, lose_ids, lose_done, lose_journal])
def test_a_slice_that_lost_something_is_named_and_can_be_made_again(source, tmp_path, lose, capsys):
    out = tmp_path / "out"
    divided(source, [out], 2)
    lose(out / ".mmalign" / "slices" / "1-of-2" / ".mmalign")
    capsys.readouterr()
    assert main(["merge", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert ("0-of-2" if lose is lose_done else "1-of-2") in said
    assert "Run its command again with --overwrite, then merge again." in said


def test_what_slices_told_of_their_rows_may_be_damaged(source, tmp_path, capsys):
    sliced_runs.divided(source, [tmp_path / "out"], 2, "--stages", "signals", "--drop-if", "text.words in bottom 10%")
    (tmp_path / "out/.mmalign/slices/1-of-2/.mmalign/scan/part-1.marks.npz").write_bytes(b"no archive")
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "error: what the slices told of their rows cannot be read" in said
    assert "Traceback" not in said


def test_an_out_without_slices_is_a_mistake(source, tmp_path, capsys):
    divided(source, [tmp_path / "a"], 2)
    (tmp_path / "b").mkdir()
    capsys.readouterr()
    for other in ("b", "nowhere"):
        assert main(["merge", str(tmp_path / "a"), str(tmp_path / other)]) == 2
        assert f"no slices of a run in '{tmp_path / other}'" in capsys.readouterr().err
    assert main(["merge", str(tmp_path / "b"), str(tmp_path / "a")]) == 0, "the first may be only where the merged run is to be"
    assert (tmp_path / "b" / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("SLURM_ARRAY_TASK_ID", "x"), ("SLURM_ARRAY_TASK_STEP", "0"), ("WORLD_SIZE", "-2"), ("RANK", "1.5")]
)
def test_a_launcher_that_says_nonsense(source, tmp_path, name, value, capsys, monkeypatch):
    for known in (*slices.SLURM, *slices.TORCHRUN):
        monkeypatch.setenv(known, "1")
    monkeypatch.setenv(name, value)
    assert command(source, tmp_path / "out", "--shard", "auto") == 2
    assert f"--shard auto: {name} is '{value}', which is no place in a job array" in capsys.readouterr().err


def test_slices_that_do_not_belong_together(source, tmp_path, capsys):
    a, b, c = (tmp_path / name for name in "abc")
    command(source, a, "--shard", "0/2")
    command(source, b, "--shard", "1/2", "--policy", "never")
    command(source, c, "--shard", "0/2")
    capsys.readouterr()
    assert main(["merge", str(a), str(b)]) == 2
    assert "config.policy: was 'model', now 'never'" in capsys.readouterr().err
    assert main(["merge", str(a), str(c)]) == 2
    assert "slice 0 of 2 is there twice" in capsys.readouterr().err
    assert main(["merge", str(a)]) == 2
    less = faults.write_source(tmp_path / "less", shards=4)
    command(less, c, "--overwrite", "--shard", "0/2")
    other = tmp_path / "d"
    command(source, other, "--shard", "1/2")
    capsys.readouterr()
    assert main(["merge", str(c), str(other)]) == 2
    assert "division.total: was 4, now 5" in capsys.readouterr().err


def test_a_place_is_divided_in_one_way(source, tmp_path, capsys):
    out = tmp_path / "out"
    command(source, out, "--shard", "0/2")
    capsys.readouterr()
    assert command(source, out, "--shard", "0/3") == 2
    assert "holds slices of 2 and not of 3" in capsys.readouterr().err
    assert command(source, out) == 2
    assert "mmalign merge" in capsys.readouterr().err
    command(source, tmp_path / "one")
    assert command(source, tmp_path / "one", "--shard", "0/2") == 2
    assert "a run that is not divided" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shard", "said"),
    [
        ("2/2", "the last of 2 is 1/2"),
        ("1:2", "should look like 0/8"),
        ("1/0", "into one slice at least"),
        ("auto", "found neither"),
        ("-1/2", "0/8"),
    ],
)
def test_slices_that_do_not_exist(source, tmp_path, shard, said, capsys, monkeypatch):
    for name in (*slices.SLURM, *slices.TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    assert command(source, tmp_path / "out", f"--shard={shard}") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_limit_is_of_the_whole_source(source, tmp_path, capsys):
    assert command(source, tmp_path / "out", "--shard", "0/2", "--limit", "9") == 2
    assert "--limit counts rows of the whole source" in capsys.readouterr().err


def test_places_that_launchers_give():
    """Slurm's array 1-7:2 has four tasks: 1, 3, 5, 7. Two torchrun worlds of 3 make 6 slices."""
    array = {"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"}
    assert slices.parse_slice("auto", array) == (2, 4)
    assert slices.parse_slice("auto", {"RANK": "3", "WORLD_SIZE": "8"}) == (3, 8)
    worlds = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "2", "RANK": "2", "WORLD_SIZE": "3"}
    assert slices.parse_slice("auto", worlds) == (5, 6)


def test_a_slurm_array(source, tmp_path, monkeypatch):
    """--array=1-2, its tasks told by the environment alone."""
    for name in slices.TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for task in "12":
        given = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "1"}
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        assert command(source, tmp_path / "out", "--shard", "auto") == 0
    assert main(["merge", str(tmp_path / "out")]) == 0
    command(source, tmp_path / "one")
    same(tmp_path / "out", tmp_path / "one")


@pytest.mark.skipif(sys.platform == "win32", reason="files' times")
def test_no_clock_matters(source, tmp_path):
    """Slices of machines whose clocks are a century apart."""
    divided(source, [tmp_path / "out"], 2)
    for number, path in enumerate(sorted((tmp_path / "out").rglob("*"))):
        os.utime(path, (number % 2 * 3e9, number % 2 * 3e9))
    assert main(["merge", str(tmp_path / "out")]) == 0
    command(source, tmp_path / "one")
    same(tmp_path / "out", tmp_path / "one")
