"""Who does what next: shards are given to workers in an order that makes the end that of one process; workers that die are replaced.

Scan, comparison of all scans, calibration, then judging, where the plan has them: each waits for all shards of the one before. A shard
is finalised as soon as all shards before it are judged, for only then is it known which of its ids came before.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..io import Shard, SourceError
from ..pipeline import reopen
from ..run.directory import RunDir, RunRefused, RunStopped
from ..run.plan import Summary, Watch, check_identity
from ..run.seen_ids import SeenIds
from .tasks import Message, Task

log = logging.getLogger(__name__)

DEATHS = 3  # of workers at one shard without any row judged in between: then it is the shard
TICK = 0.2  # seconds
KNOWN: Mapping[str, type[Exception]] = {"RunStopped": RunStopped, "RunRefused": RunRefused, "SourceError": SourceError}


class WorkerFailed(RuntimeError):
    """A worker met an error that is no bad row, no stop and no refusal. `kind`: the name of the exception's class there."""

    def __init__(self, kind: str, message: str, trace: str) -> None:
        super().__init__(message if kind == "UserError" else f"a worker failed with {kind}: {message}\n{trace}")
        self.kind = kind


class Pool(Protocol):
    """Workers somewhere. An event is (worker, message), with one of the keys "ready" (what it is about, once), "told" (counts), "done"
    (a task's result and counts), "failed" ({"kind", "message", "trace"}), "died" (why, in words: it takes no more tasks)."""

    def start(self) -> int: ...
    def send(self, worker: int, task: Task) -> None: ...
    def events(self, timeout: float) -> list[tuple[int, Message]]: ...
    def stop(self) -> None:
        """Ask all workers to finish their block and no more."""
        ...

    def close(self) -> None:
        """End all workers at once."""
        ...


class Wanted(NamedTuple):
    """What a run asks of its engine. `workers`: None where the engine may choose; `gpus`: whether they may use this machine's.

    Of a cluster: its `address`, and `gpus_per_worker`.
    """

    workers: int | None
    gpus: bool = False
    address: str | None = None
    gpus_per_worker: float = 0


class Schedule:
    """One run over `shards`, each with the number of its rows that are wanted (None: all).

    meet(about, ...): what a worker says of its model and plan; the first is asked for before any other starts, and a worker that is not
    like it is refused there. shrunk(rows): a model that takes fewer rows at once from now on.
    """

    def __init__(
        self,
        pool: Pool,
        workers: int,
        shards: Sequence[tuple[Shard, int | None]],
        run_dir: RunDir,
        watch: Watch,
        meet: Callable[[Mapping[str, Any]], None],
        shrunk: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.pool, self.workers, self.shards, self.run_dir, self.watch = pool, workers, shards, run_dir, watch
        self.meet, self.shrunk = meet, shrunk
        self.about: Mapping[str, Any] | None = None
        self.starting: set[int] = set()
        self.idle: set[int] = set()
        self.busy: dict[int, Task] = {}
        self.queue: deque[Task] = deque()
        self.deaths: dict[tuple[str, str] | None, tuple[int, int]] = {}
        self.lost: dict[str, str] = {}
        self.tallies = _Tallies(watch)

    def run(self) -> Summary:
        """The summary of all shards. Raises RunStopped (also where a shard kills every worker), RunRefused, SourceError, WorkerFailed."""
        order = [shard for shard, _ in self.shards]
        reopen(order, self.run_dir)
        try:
            self._first_worker()
            self._prepare(order)
            judging = Judging(self.shards, self.run_dir)
            self._all(judging.first(self.tallies), judging.after, judging.without)
            self._refuse_lost([name for name in judging.lost if name in self.lost])
        finally:
            self.pool.close()
        total = Summary()
        for shard in order:
            total = total.plus(Summary.from_dict(self.run_dir.done(shard.name) or {}))
        check_identity(total, "the run")
        return total

    def _prepare(self, order: Sequence[Shard]) -> None:
        """The scan of all shards and what follows of it, where the workers' plan has one."""
        everything = [dataclasses.asdict(shard) for shard in order]
        if self._about.get("scan"):
            self._all([Task("scan", shard, {"limit": limit}) for shard, limit in self.shards])
            self._refuse_lost(())
            self._all([Task("settle", None, {"shards": everything})])
        if self._about.get("calibration"):
            self._all([Task("calibrate", None, {"shards": everything})])
        self._refuse_lost(())

    @property
    def _about(self) -> Mapping[str, Any]:
        if self.about is None:
            raise RuntimeError("no worker has started yet")
        return self.about

    def _first_worker(self) -> None:
        while self.about is None:
            self._turn(lambda task, result: [], lambda task: [])

    def _all(
        self,
        tasks: Sequence[Task],
        after: Callable[[Task, Any], list[Task]] = lambda task, result: [],
        without: Callable[[Task], list[Task]] = lambda task: [],
    ) -> None:
        """Have these tasks done and those that follow of each: `after` its result, or `without` it where its shard was given up."""
        self.queue.extend(tasks)
        while self.queue or self.busy:
            self._turn(after, without)

    def _turn(self, after: Callable[[Task, Any], list[Task]], without: Callable[[Task], list[Task]]) -> None:
        self._staff()
        for worker in sorted(self.idle):
            if self.queue:
                self.idle.discard(worker)
                task = self.busy[worker] = self.queue.popleft()
                self.pool.send(worker, task)
        for worker, event in self.pool.events(TICK):
            try:
                self.queue.extendleft(reversed(self._note(worker, event, after, without)))
            except (RunStopped, RunRefused, SourceError, WorkerFailed):
                self._wind_down(after, without)
                raise
        if self.watch.stop():
            self._wind_down(after, without)
            self.watch.check()

    def _staff(self) -> None:
        """As many workers as are wanted and have something to do; one until it is known what they are about."""
        wanted = 1 if self.about is None else min(self.workers, len(self.queue) + len(self.busy))
        for _ in range(wanted - len(self.starting) - len(self.idle) - len(self.busy)):
            self.starting.add(self.pool.start())

    def _note(
        self, worker: int, event: Message, after: Callable[[Task, Any], list[Task]], without: Callable[[Task], list[Task]]
    ) -> list[Task]:
        """What an event changes; the tasks that are to be done next because of it."""
        task = self.busy.get(worker)
        if "ready" in event:
            self.meet(event["ready"])
            self.about = self.about or event["ready"]
            self.starting.discard(worker)
            self.idle.add(worker)
            self.deaths.pop(None, None)
        elif task is not None and "told" in event:
            self.tallies.told(worker, task, event["told"])
        elif task is not None and "done" in event:
            return self._done(worker, task, event["done"], after)
        elif "failed" in event:
            self._failed(event["failed"])
        elif "died" in event:
            return self._died(worker, event["died"], without)
        return []

    def _done(self, worker: int, task: Task, done: Message, after: Callable[[Task, Any], list[Task]]) -> list[Task]:
        del self.busy[worker]
        self.idle.add(worker)
        self.tallies.told(worker, task, done, last=True)
        if done["batch_rows"] is not None:
            self.shrunk(done["batch_rows"])
        return after(task, done["result"])

    def _failed(self, failed: Message) -> None:
        if failed["kind"] in KNOWN:
            raise KNOWN[failed["kind"]](failed["message"])
        raise WorkerFailed(failed["kind"], failed["message"], failed["trace"])

    def _died(self, worker: int, why: str, without: Callable[[Task], list[Task]]) -> list[Task]:
        """Its task is done again by another, unless it is the task that kills."""
        self.starting.discard(worker)
        self.idle.discard(worker)
        self.tallies.forget(worker)
        task = self.busy.pop(worker, None)
        size = _size(self._journal(task)) if task is not None else 0
        key = None if task is None else (task.kind, task.name)
        before, deaths = self.deaths.get(key, (size, 0))
        deaths = deaths + 1 if size == before else 1
        self.deaths[key] = size, deaths
        where = "while it started" if task is None else f"at {task.kind} of '{task.name}'"
        log.warning("a worker died %s: %s (%d of %d)", where, why, deaths, DEATHS)
        if deaths < DEATHS:
            return [] if task is None else [task]
        if task is None:
            raise RunStopped(f"{DEATHS} workers in a row died before they did anything, the last: {why}. Try fewer --workers.")
        self.lost[task.name] = why
        return without(task)

    def _journal(self, task: Task) -> Path | None:
        if task.shard is None:
            return self.run_dir.calibration if task.kind == "calibrate" else None
        places = {"judge": self.run_dir.journal, "scan": self.run_dir.scan_journal}
        return places[task.kind](task.shard.name) if task.kind in places else None

    def _refuse_lost(self, without: Sequence[str]) -> None:
        """RunStopped that names what killed every worker that took it. without: shards whose ids are not known to those behind them."""
        if not self.lost:
            return
        if without:
            self.run_dir.remember("without", sorted(without))
        told = "; ".join(f"'{name}' ({why})" for name, why in sorted(self.lost.items()))
        raise RunStopped(
            f"{len(self.lost)} of {len(self.shards)} shards killed {DEATHS} workers each without getting further: {told}. Everything else "
            f"that does not wait for them is done. Give a worker more memory or mend the shard's rows; the same command tries again"
        )

    def _wind_down(self, after: Callable[[Task, Any], list[Task]], without: Callable[[Task], list[Task]]) -> None:
        """Let busy workers finish their block; what they finish meanwhile counts."""
        self.pool.stop()
        while self.busy:
            for worker, event in self.pool.events(TICK):
                if "done" in event and worker in self.busy:
                    self._done(worker, self.busy[worker], event["done"], after)
                elif "died" in event or "failed" in event:
                    self.busy.pop(worker, None)


class Judging:
    """Which tasks follow of which: all shards are judged in any order, and finalised once all before them are judged or given up."""

    def __init__(self, shards: Sequence[tuple[Shard, int | None]], run_dir: RunDir) -> None:
        self.shards, self.run_dir = shards, run_dir
        self.seen = SeenIds()
        self.at = 0
        self.judged: set[str] = set()
        self.lost: set[str] = set()

    def first(self, tallies: _Tallies) -> list[Task]:
        tasks = []
        for shard, limit in self.shards:
            done = self.run_dir.done(shard.name)
            if done is None:
                tasks.append(Task("judge", shard, {"limit": limit}))
            else:
                self.judged.add(shard.name)
                tallies.done(shard.name, done)
        return self._advanced() + tasks

    def after(self, task: Task, result: Any) -> list[Task]:
        if task.kind == "finalise":
            self.run_dir.mark_done(task.name, result)
            return []
        self.judged.add(task.name)
        return self._advanced()

    def without(self, task: Task) -> list[Task]:
        """The shards behind one that cannot be judged do not wait for it; `reopen` finalises them again once it can."""
        if task.kind == "judge":
            self.lost.add(task.name)
        return self._advanced()

    def _advanced(self) -> list[Task]:
        tasks = []
        while self.at < len(self.shards) and self.shards[self.at][0].name in self.judged | self.lost:
            shard = self.shards[self.at][0]
            self.at += 1
            if shard.name in self.lost:
                continue
            ids = np.fromfile(self.run_dir.ids(shard.name), dtype="<u8")
            if self.run_dir.done(shard.name) is None:
                tasks.append(Task("finalise", shard, {"repeated": np.flatnonzero(self.seen.repeated(ids)).tolist()}))
            self.seen.add(ids)
        return tasks


class _Tallies:
    """The counts of all workers as one Watch: a shard that is judged again after a death counts once."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.shards: dict[str, Counter[str]] = {}
        self.last: dict[int, Message] = {}

    def told(self, worker: int, task: Task, now: Message, *, last: bool = False) -> None:
        before = self.last.pop(worker, {"fresh": 0, "seconds": 0.0, "scanned": 0})
        if not last:
            self.last[worker] = now
        self.watch.fresh_rows += now["fresh"] - before["fresh"]
        self.watch.step_seconds += now["seconds"] - before["seconds"]
        if task.kind == "judge":
            self._count(task.name, Counter(now["counts"]))
        elif task.kind == "scan" and task.shard is not None and now["scanned"] > before["scanned"]:
            self.watch.scanned(task.shard, now["scanned"] - before["scanned"])

    def done(self, name: str, summary: Mapping[str, Any]) -> None:
        """A shard of an earlier start."""
        self._count(name, Counter(keep=summary["kept"], rewrite=summary["rewritten"], rejected=summary["quarantined"]))

    def forget(self, worker: int) -> None:
        self.last.pop(worker, None)

    def _count(self, name: str, now: Counter[str]) -> None:
        self.watch.counts.subtract(self.shards.get(name, Counter()))
        self.watch.counts.update(now)
        self.shards[name] = now
        self.watch.tell(name)


def _size(path: Path | None) -> int:
    return path.stat().st_size if path is not None and path.exists() else 0
