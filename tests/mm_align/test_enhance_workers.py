"""`mmalign enhance-data --workers N`: the end is that of one process, whatever happens to workers, their parent or a shard."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import engine_faults as faults
import pytest

import mm_align
from data_tools.engines import ENGINES, local
from mm_align.cli import main
from mm_align.config import UserError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")


@pytest.fixture
def machine(tmp_path):
    return faults.Machine(tmp_path)


def alone(machine, source, out, *more):
    """The undisturbed single-process run, whose model nothing kills any more."""
    for mark in ("killed", "memory", "limited", "cured"):
        (machine.marks / mark).touch()
    assert machine.run(source, out, *more)[0] == 0
    return faults.results(out)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_ends_as_one_process_does(machine, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
    source = faults.write_source(tmp_path / "src")
    code, said = machine.run(source, tmp_path / "two", "--engine", engine, "--workers", "2")
    assert code == 0, said
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


def test_workers_report_as_one_process_does(machine, tmp_path):
    source = faults.write_source(tmp_path / "src")
    code, said = machine.run(source, tmp_path / "two", "--workers", "2")
    assert code == 0, said
    alone(machine, source, tmp_path / "one")
    assert "200 rows in = " in said
    assert "duplicate_id" in said
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("one", "two")]
    one, two = ({key: value for key, value in report.items() if key != "run"} for report in reports)
    assert one == two
    code, said = machine.run(source, tmp_path / "two")  # the engine does not bind a run
    assert code == 0
    assert "already finished" in said


@pytest.mark.parametrize("limit", ["1", "47", "80", "999"])
def test_a_limit_counts_the_rows_of_the_source(machine, tmp_path, limit):
    source = faults.write_source(tmp_path / "src", shards=3)
    assert machine.run(source, tmp_path / "two", "--workers", "3", "--limit", limit)[0] == 0
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one", "--limit", limit)


def test_a_cascade_is_calibrated_once(machine, tmp_path):
    source = faults.write_source(tmp_path / "src", shards=4, rows=60)
    more = (
        "--stages",
        "signals,aitqe",
        "--signals",
        "text.words,text.chars",
        "--cascade",
        "--calibration",
        "150",
        "--agreement",
        "0.7",
    )
    code, said = machine.run(source, tmp_path / "two", "--workers", "2", *more)
    assert code == 0, said
    assert said.count("cascade: rows to keep are told without the model") + said.count("the cascade decides nothing") == 1
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one", *more)


def test_signals_are_scanned_before_anything_is_judged(machine, tmp_path):
    source = faults.write_source(tmp_path / "src", shards=3)
    more = (
        "--stages",
        "signals,aitqe",
        "--signals",
        "exact,text.words,image.width",
        "--drop-if",
        "exact.caption_copies > 3 or text.words < 3",
    )
    code, said = machine.run(source, tmp_path / "two", "--workers", "2", *more)
    assert code == 0, said
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one", *more)


@pytest.mark.parametrize("word", ["KILLONCE", "MEMORYONCE", "LIMITED"])
def test_a_worker_that_dies_is_replaced(machine, tmp_path, word):
    source = faults.write_source(tmp_path / "src", words={2: word})
    code, said = machine.run(source, tmp_path / "two", "--workers", "2")
    assert code == 0, said
    assert "a worker died at judge of 'part-2'" in said
    assert ("SIGKILL" in said) == (word == "KILLONCE")
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


def test_a_poisoned_shard_is_named_and_takes_no_other_with_it(machine, tmp_path):
    """Ids of the first shard come again behind it: what was finalised without them is finalised again once it is cured."""
    source = faults.write_source(tmp_path / "src", words={0: "POISON"})
    code, said = machine.run(source, tmp_path / "two", "--workers", "2")
    assert code == 75, said
    assert "1 of 5 shards killed 3 workers each" in said
    assert "'part-0' (SIGKILL" in said
    done = {path.stem for path in (tmp_path / "two" / ".mmalign" / "done").iterdir()}
    assert done == {"part-1", "part-2", "part-3", "part-4"}
    assert not (tmp_path / "two" / "report.html").exists()
    (machine.marks / "cured").touch()
    assert machine.run(source, tmp_path / "two", "--workers", "2")[0] == 0
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_is_killed_by_hand(machine, tmp_path, number):
    """SIGKILL: another takes its place. SIGTERM: the run stops in good order, and the same command continues it."""
    source = faults.write_source(tmp_path / "src")
    run = machine.start(source, tmp_path / "two", "--workers", "2", slow=0.05)
    os.kill(machine.worker(run), number)
    code, said = faults.end_of(run)
    assert code == (0 if number == signal.SIGKILL else 75), said
    if number == signal.SIGTERM:
        assert "run the same command to continue" in said
        assert machine.run(source, tmp_path / "two", "--workers", "2")[0] == 0
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


def gone(process, seconds=10.0):
    """Whether it has ended: an orphan that ended stays in /proc until whoever inherited it asks how."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_parent_is_killed_and_another_continues_at_once(machine, tmp_path, number):
    source = faults.write_source(tmp_path / "src")
    run = machine.start(source, tmp_path / "two", "--workers", "2", slow=0.05)
    worker = machine.worker(run)
    time.sleep(0.3)
    run.send_signal(number)
    if number == signal.SIGKILL:
        assert run.wait(timeout=20) == -9
    else:
        assert faults.end_of(run)[0] == 75
    code, said = machine.run(source, tmp_path / "two", "--workers", "3")
    assert code == 0, said
    assert "continuing the unfinished run" in said
    assert gone(worker)
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


def test_two_runs_on_one_output(machine, tmp_path):
    source = faults.write_source(tmp_path / "src")
    run = machine.start(source, tmp_path / "two", "--workers", "2", slow=0.15)
    machine.worker(run)
    code, said = machine.run(source, tmp_path / "two", "--workers", "2")
    assert code == 2
    assert "another mmalign run is writing to" in said
    assert faults.end_of(run)[0] == 0
    assert faults.results(tmp_path / "two") == alone(machine, source, tmp_path / "one")


def test_a_shard_that_changes_during_the_run(machine, tmp_path):
    """Refused with its name, whether it had been judged or not, and nothing of it is put in place."""
    source = faults.write_source(tmp_path / "src", shards=3)
    run = machine.start(source, tmp_path / "two", "--workers", "2", slow=0.1)
    machine.worker(run)
    text = (source / "part-2.jsonl").read_text()
    (source / "part-2.jsonl").write_text(text.replace('"id": "s2', '"id": "S2'))
    code, said = faults.end_of(run)
    assert code == 2, said
    assert "part-2.jsonl' " in said
    assert "the source changed while the run went on" in said
    assert not (tmp_path / "two" / "part-2.jsonl").exists()


def test_a_mistake_in_a_worker_is_told_with_its_place(machine, tmp_path):
    source = faults.write_source(tmp_path / "src", shards=2, words={1: "BUG"})
    code, said = machine.run(source, tmp_path / "two", "--workers", "2")
    assert code == 1
    assert "a worker failed with KeyError: 'a mistake in the model'" in said
    assert "sitecustomize.py" in said


def test_what_a_worker_refuses_is_bad_usage(tmp_path, capsys):
    source = faults.write_source(tmp_path / "src", shards=2)
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), "--model", "./nowhere", "--workers", "2"]) == 2
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(UserError, match="cannot travel to workers"):
        mm_align.enhance(source, tmp_path / "out", backend=object(), workers=2)


def test_a_worker_that_dies_while_it_waits_for_its_start_is_told_of_then():
    """All are launched with the first; nobody listens to one before its start."""
    pool = local.LocalPool(json.loads, dict, 2)
    assert pool.start() == 1
    pool.workers[2].kill()
    assert (pool.start(), pool.start()) == (2, 3)
    told = [event for _ in range(3) for number, event in pool.events(2) if number == 2]
    pool.close()
    assert told == [{"died": "SIGKILL, as the system sends it when memory runs out"}]


def test_each_worker_sees_the_gpu_with_the_fewest_workers(monkeypatch):
    """Three workers on two GPUs: 4, 7, 4; when the second ends, its GPU is the next one's."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 7")
    assert local.gpus_here() == ["4", "7"]
    pool = local.LocalPool(json.loads, dict, 3, gpus=local.gpus_here())
    places = []
    for worker in (1, 2, 3):
        pool.count, pool.workers[worker] = worker, subprocess.Popen(["sleep", "60"])
        places.append(pool._environment()["CUDA_VISIBLE_DEVICES"])
    assert places == ["4", "7", "4"]
    pool.workers[2].kill()
    pool.workers[2].wait()
    pool.count, pool.workers[4] = 4, pool.workers[1]
    assert pool._environment()["CUDA_VISIBLE_DEVICES"] == "7"
    pool.close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.gpus_here() == []


@pytest.mark.slow
def test_a_model_in_two_workers(tmp_path):
    """The bundled model: rows, scores and probabilities to the byte as one process of one thread computes them."""
    from data_tools.scenes.rows import scene_rows

    source = tmp_path / "src"
    source.mkdir()
    rows = list(scene_rows(24, 2))
    for row in rows:
        (source / row.images[0].path).write_bytes(row.images[0].data)
    for shard in range(3):
        told = [{"id": row.id, "image": row.images[0].path, "caption": row.caption} for row in rows[shard::3]]
        (source / f"part-{shard}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in told))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    for out, more in (("one", ()), ("two", ("--workers", "2"))):
        command = [sys.executable, "-m", "mm_align", "enhance-data", str(source), "--out", str(tmp_path / out), "--batch-size", "4", *more]
        subprocess.run(command, env=env, check=True)
    assert faults.results(tmp_path / "one") == faults.results(tmp_path / "two")
    records = [json.loads((tmp_path / out / ".mmalign" / "run.json").read_text()) for out in ("one", "two")]
    assert records[0]["resolved"] == records[1]["resolved"]
