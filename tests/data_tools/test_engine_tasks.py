"""What a worker may write: nothing once its shard was given to another, as when it is cut off and thought dead."""

import pipeline_cases as cases
import pytest

from data_tools.engines.local import told_of
from data_tools.engines.schedule import Judging, _Tallies
from data_tools.engines.tasks import Task, Worker, perform
from data_tools.io import list_shards
from data_tools.run.directory import RunStopped, fingerprint, open_run
from data_tools.run.plan import Watch


@pytest.fixture
def run_dir(tmp_path):
    source = cases.write_source(tmp_path / "src", shards=3)
    binding = {"source": {shard.name: fingerprint(shard.path) for shard in list_shards(source)}}
    with open_run(tmp_path / "out", binding, ()) as run_dir:
        yield run_dir


def do(run_dir, task, step=cases.batch_step, claim=None):
    message = task.to_message() | ({"claim": claim} if claim else {})
    return perform(Worker(cases.make_plan(step=step), run_dir, {}), message, lambda: False, lambda _: None)


def shards_of(run_dir):
    return list_shards(run_dir.root.parent / "src")


def test_a_worker_that_lost_its_claim_writes_nothing_more(run_dir):
    """Its shard is given to another while its model answers for the third block."""
    shard, blocks = shards_of(run_dir)[0], []
    run_dir.claim(shard.name).write_text("mine")

    def step(samples):
        blocks.append(run_dir.journal(shard.name).stat().st_size)
        if len(blocks) == 3:
            run_dir.claim(shard.name).write_text("another's")
        return cases.batch_step(samples)

    with pytest.raises(RunStopped, match="given to another worker"):
        do(run_dir, Task("judge", shard, {"limit": None}), step, claim="mine")
    assert run_dir.journal(shard.name).stat().st_size == blocks[2] > blocks[1]
    do(run_dir, Task("judge", shard, {"limit": None}), claim="another's")
    done = do(run_dir, Task("finalise", shard, {"repeated": []}), claim="another's")["result"]
    assert done["rows"] == 25
    run_dir.claim(shard.name).write_text("a third's")
    with pytest.raises(RunStopped):
        do(run_dir, Task("finalise", shard, {"repeated": []}), claim="another's")


def test_a_shard_is_finalised_once_all_before_it_are_judged(run_dir):
    """Judged in the order 2, 0, 1: nothing, then shard 0, then both others; a shard that is given up holds nobody."""
    shards = shards_of(run_dir)
    judging = Judging([(shard, None) for shard in shards], run_dir)
    tasks = judging.first(_Tallies(Watch()))
    assert [(task.kind, task.name) for task in tasks] == [("judge", shard.name) for shard in shards]

    def judged(number):
        do(run_dir, tasks[number])
        return [(task.kind, task.name) for task in judging.after(tasks[number], None)]

    assert judged(2) == []
    assert judged(0) == [("finalise", "part-0")]
    assert [(task.kind, task.name) for task in judging.without(tasks[1])] == [("finalise", "part-2")]


def test_want_of_memory_is_no_mistake():
    assert told_of(MemoryError("x")) == {"memory": "x"}
    assert "memory" in told_of(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    failed = told_of(KeyError("x"))["failed"]
    assert failed["kind"] == "KeyError"


def test_counts_of_workers_add_up_and_a_repeated_shard_counts_once(run_dir):
    """Worker 1 judged 2 rows of a shard and died; worker 2 finds them in the journal and judges 3 more."""
    shard, told = shards_of(run_dir)[0], []
    watch = Watch(progress=told.append)
    tallies, task = _Tallies(watch), Task("judge", shard, {})
    counts = {"seconds": 1.0, "scanned": 0}
    tallies.told(1, task, {**counts, "counts": {"keep": 2}, "fresh": 2})
    tallies.forget(1)
    tallies.told(2, task, {**counts, "counts": {"keep": 4, "rewrite": 1}, "fresh": 3}, last=True)
    assert dict(watch.counts) == {"keep": 4, "rewrite": 1}
    assert (watch.fresh_rows, watch.step_seconds, told[-1].rows) == (5, 2.0, 5)
