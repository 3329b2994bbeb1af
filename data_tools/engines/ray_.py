"""Engine Ray: actors that hold the model, on all machines of a cluster; the paths of shards travel to them and counts come back.

All machines must see the source and the output under the same paths (a shared file system), and have this toolkit installed. A machine
that is cut off may go on working for a while: a shard's claim says whose writing counts (see `tasks`).
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ..disk.durable import write_atomic
from ..run.directory import RunDir, RunRefused, RunStopped
from .local import OUT_OF_MEMORY, told_of
from .schedule import Pool, Wanted
from .tasks import Build, Message, Task, Worker, perform

log = logging.getLogger(__name__)

ASK_EVERY = 1.0  # seconds between questions for the counts of a worker
WAIT_LOG = 30.0  # seconds without any worker before that is said
LOOK_EVERY = 0.5  # seconds between looks for the head
RECONNECT = "RAY_gcs_rpc_server_reconnect_timeout_s"  # Ray's own setting, and its default
RECONNECT_SECONDS = 60.0
CPUS = 1
CONCURRENT = 3  # calls of one actor: its task, a question for counts, a stop


class Actor:
    """A worker inside a Ray actor: `prepare` and `perform` answer with an event of `schedule.Pool`, or raise."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.counts: Message | None = None
        self.worker: Worker | None = None

    def prepare(self, build: Build, setup: Mapping[str, Any], folder: str) -> Message:
        """Make the worker; `folder`: where the command was started, from which relative paths go."""
        os.chdir(folder)
        self.worker = build(setup)
        return {"ready": dict(self.worker.about)}

    def perform(self, task: Message) -> Message:
        assert self.worker is not None
        self.counts = None
        return {"done": perform(self.worker, task, self.stopped.is_set, self._tell)}

    def look(self) -> Message | None:
        """The counts of the task that is going on."""
        return self.counts

    def stop(self) -> None:
        self.stopped.set()

    def _tell(self, counts: Message) -> None:
        self.counts = counts


class Head:
    """The cluster's head, given up after a third of the time after which Ray itself ends this process, with exit code 1.

    The rest is for leaving: Ray's own shutdown takes five seconds without a head.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.patience = float(os.environ.get(RECONNECT, RECONNECT_SECONDS)) / 3
        self.looked = time.monotonic()
        self.missed: float | None = None  # since when

    def answers(self) -> bool:
        """To be asked before what waits for the head: some of Ray's calls never return without it."""
        error = _no_answer(self.address)
        self.looked = time.monotonic()
        self.missed = None if error is None else self.missed or self.looked
        return error is None

    def look(self) -> None:
        """Raises RunStopped where it is gone for good."""
        if time.monotonic() - self.looked < LOOK_EVERY or self.answers():
            return
        if self.missed is not None and self.looked - self.missed >= self.patience:
            raise RunStopped(
                f"the head of the Ray cluster at {self.address} is gone: it has not answered for {self.looked - self.missed:.0f} s. "
                f"Run the same command on a cluster that is up to continue"
            )


def pool(build: Build, setup: Callable[[], Mapping[str, Any]], run_dir: RunDir, wanted: Wanted) -> tuple[Pool, int]:
    """Without a number of workers there are as many as the cluster has room for. Raises as `connect`."""
    workers, ours = connect(wanted.address, wanted.gpus_per_worker, wanted.workers)
    log.info("%d Ray workers", workers)
    return RayPool(build, setup, run_dir, wanted.gpus_per_worker, ours), workers


class RayPool:
    """Actors of one CPU each and `gpus` GPUs. Build it with `connect`, which says how many there is room for."""

    def __init__(self, build: Build, setup: Callable[[], Mapping[str, Any]], run_dir: RunDir, gpus: float, ours: bool) -> None:
        import ray

        self.build, self.setup, self.run_dir, self.gpus, self.ours = build, setup, run_dir, gpus, ours
        self.kind = ray.remote(num_cpus=CPUS, num_gpus=gpus, max_restarts=0, max_concurrency=CONCURRENT)(Actor)
        self.actors: dict[int, Any] = {}
        self.calls: dict[Any, tuple[int, str]] = {}
        self.asked: dict[int, float] = {}
        self.count = 0
        self.working = time.monotonic()  # when a worker was last known to be there
        self.head = Head(ray.get_runtime_context().gcs_address)

    def start(self) -> int:
        self.count += 1
        actor = self.actors[self.count] = self.kind.remote()
        self.calls[actor.prepare.remote(self.build, dict(self.setup()), os.getcwd())] = self.count, "prepare"  # noqa: PTH109
        return self.count

    def send(self, worker: int, task: Task) -> None:
        message = task.to_message()
        if task.shard is not None:
            message["claim"] = str(uuid.uuid4())
            write_atomic(self.run_dir.claim(task.name), message["claim"].encode("ascii"))
        self.calls[self.actors[worker].perform.remote(message)] = worker, "perform"
        self.asked[worker] = time.monotonic()

    def events(self, timeout: float) -> list[tuple[int, Message]]:
        import ray

        self.head.look()
        self._ask()
        if not self.calls:
            time.sleep(timeout)
            return []
        ready, _ = ray.wait(list(self.calls), num_returns=1, timeout=timeout)
        found = [event for call in ready for event in self._answer(call)]
        self._watch_room()
        return found

    def stop(self) -> None:
        for actor in self.actors.values():
            actor.stop.remote()

    def close(self) -> None:
        import ray

        for actor in self.actors.values():
            self._kill(actor)
        if self.ours:
            ray.shutdown()

    def _ask(self) -> None:
        """For the counts of workers that were not asked for a while."""
        for worker, asked in list(self.asked.items()):
            if time.monotonic() - asked >= ASK_EVERY:
                del self.asked[worker]
                self.calls[self.actors[worker].look.remote()] = worker, "look"

    def _answer(self, call: Any) -> list[tuple[int, Message]]:
        import ray

        worker, what = self.calls.pop(call)
        try:
            answer = ray.get(call)
        except ray.exceptions.RayTaskError as error:
            answer = _error_of(error)
        except ray.exceptions.RayError as error:
            return self._ended(worker, _cause(error)) if worker in self.actors else []
        if what == "look":
            self.asked[worker] = time.monotonic()
            return [(worker, {"told": answer})] if answer else []
        self.asked.pop(worker, None)
        return self._ended(worker, OUT_OF_MEMORY) if "memory" in answer else [(worker, answer)]

    def _ended(self, worker: int, why: str) -> list[tuple[int, Message]]:
        self._kill(self.actors.pop(worker))
        self.asked.pop(worker, None)
        self.calls = {call: told for call, told in self.calls.items() if told[0] != worker}
        return [(worker, {"died": why})]

    def _kill(self, actor: Any) -> None:
        import ray

        if self.head.answers():  # without it nobody can be told, and actors end with their owner
            with suppress(ray.exceptions.RayError):
                ray.kill(actor)

    def _watch_room(self) -> None:
        """Nobody waits for ever for a place that no machine has any more."""
        if any(what != "prepare" for _, what in self.calls.values()) or not self.calls:
            self.working = time.monotonic()
        elif time.monotonic() - self.working > WAIT_LOG and self.head.answers():
            self.working = time.monotonic()
            if not room(self.gpus):
                raise RunStopped(f"the Ray cluster has no room for a worker any more: {_found(self.gpus)}")
            log.warning("waiting for a worker to start: the cluster's places may be taken by others")


def connect(address: str | None, gpus: float, workers: int | None) -> tuple[int, bool]:
    """How many workers there are to be, and whether the connection is this process's to end.

    address: "auto" or HOST:PORT of a cluster's head; None starts Ray on this machine alone. Raises RunRefused where there is no cluster, or
    none of its machines has the GPUs.
    """
    import ray

    ours = not ray.is_initialized()
    if ours:
        _init(address, workers)
    places = room(gpus)
    if not places:
        told = _found(gpus)
        if ours:
            ray.shutdown()
        raise RunRefused(f"no machine of the Ray cluster has room for a worker: {told}")
    if workers is not None and workers > places:
        log.warning("%d workers were asked for; the cluster has room for %d", workers, places)
    return min(workers or places, places), ours


def _init(address: str | None, workers: int | None) -> None:
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _refuse_unreachable(address)
    alone: dict[str, Any] = {} if address else {"num_cpus": max(workers or 0, os.cpu_count() or 1), "include_dashboard": False}
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        ray.init(address=address or "local", log_to_driver=True, logging_level=logging.ERROR, **alone)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise RunRefused(f"no Ray cluster at {address!r}: {' '.join(str(error).split())}. Start one by `ray start --head`.") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in kept.items():
            signal.signal(number, handler)  # Ray's own end the process where ours let workers finish their block


def _refuse_unreachable(address: str | None) -> None:
    """Ray itself would try for a minute."""
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdigit() or "://" in host:
        raise RunRefused(f"--ray-address {address!r} should be auto, or HOST:PORT of the cluster's head as `ray start --head` prints it")
    error = _no_answer(str(address))
    if error is not None:
        raise RunRefused(f"no Ray cluster at {address!r}: {error}. Start one by `ray start --head`.") from error


def _no_answer(address: str) -> OSError | None:
    """Why nobody takes a connection at HOST:PORT; None where somebody does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError as error:
        return error
    return None


def room(gpus: float) -> int:
    """Workers that the machines of the cluster could hold, were they free."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(min(has.get("CPU", 0) // CPUS, has.get("GPU", 0) // gpus if gpus else float("inf"))) for has in alive)


def _found(gpus: float) -> str:
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    told = ", ".join(
        f"{n['NodeManagerHostname']}: {n['Resources'].get('CPU', 0):g} CPU, {n['Resources'].get('GPU', 0):g} GPU" for n in alive
    )
    return f"each needs {CPUS} CPU and {gpus:g} GPU, found {told or 'no machine'}"


def _error_of(error: Any) -> Message:
    """An exception that a worker's method raised, as an event."""
    cause = getattr(error, "cause", None)
    told = told_of(cause if isinstance(cause, Exception) else error)
    return {"failed": {**told["failed"], "trace": str(error)}} if "failed" in told else told


def _cause(error: Exception) -> str:
    """The first lines of what Ray says of a dead actor that tell something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if any(word in line for word in ("cause", "node", "memory", "died", "exit"))]
    return " ".join((told or lines or [type(error).__name__])[:3])[:300]
