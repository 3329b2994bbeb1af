"""Engine local: processes on this machine that take tasks as lines of JSON and answer with lines of JSON.

A worker is a fresh interpreter. It leaves at once when the process that started it is gone (its input ends), keeps the run's lock
until then, and leaves SIGINT to that process; SIGTERM to a worker alone stops the run as SIGTERM to the run does.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .tasks import Build, Message, Task, perform

if TYPE_CHECKING:
    from ..run.directory import RunDir
    from .schedule import Pool, Wanted

START = "import sys; from data_tools.engines.local import serve; serve(*sys.argv[1:])"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
MEMORY = ("can't allocate memory", "not enough memory", "out of memory")  # in the words of torch's allocators
LEFT = 75  # exit code of a worker that nobody waits for
OUT_OF_MEMORY = "it ran out of memory"


def pool(build: Build, setup: Callable[[], Mapping[str, Any]], run_dir: RunDir, wanted: Wanted) -> tuple[Pool, int]:
    """Its workers keep the run's lock; without a number there is one."""
    workers = wanted.workers or 1
    return LocalPool(build, setup, workers, keep=run_dir.lock, gpus=gpus_here() if wanted.gpus else []), workers


class LocalPool:
    """Worker processes of one torch thread each, so many at a time. With the first all are launched, and the others import what they need
    while they wait for their start.

    setup(): what `build` is given, asked for at each start. keep: see `RunDir.lock`. gpus: CUDA's names of the GPUs that they are to be
    spread over, each seeing one; none: they see what this process sees.
    """

    def __init__(
        self, build: Build, setup: Callable[[], Mapping[str, Any]], workers: int, *, keep: int | None = None, gpus: Sequence[str] = ()
    ) -> None:
        self.build, self.setup, self.keep, self.gpus = build, setup, keep, gpus
        self.decoders = max(1, min(4, (os.cpu_count() or 1) // workers))
        self.on: dict[int, str] = {}
        self.workers: dict[int, subprocess.Popen[bytes]] = {}
        self.count = 0
        self.waiting: deque[int] = deque(range(1, workers + 1))
        self.news: queue.Queue[tuple[int, Message]] = queue.Queue()

    def start(self) -> int:
        if not self.waiting:
            self.waiting.append(self.count + 1)
        while self.count < self.waiting[-1]:
            self._launch()
        number = self.waiting.popleft()
        self._say(number, dict(self.setup()))
        threading.Thread(target=self._listen, args=(number, self.workers[number]), daemon=True).start()
        return number

    def _launch(self) -> None:
        command = [sys.executable, "-P", "-c", START, self.build.__module__, self.build.__qualname__]
        keep = () if self.keep is None or os.name == "nt" else (self.keep,)
        self.count += 1
        self.workers[self.count] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self._environment(), pass_fds=keep
        )

    def send(self, worker: int, task: Task) -> None:
        self._say(worker, task.to_message())

    def events(self, timeout: float) -> list[tuple[int, Message]]:
        with suppress(queue.Empty):
            return [self.news.get(timeout=timeout)]
        return []

    def stop(self) -> None:
        for worker in list(self.workers):
            self._say(worker, {"stop": True})

    def close(self) -> None:
        for worker in self.workers.values():
            worker.kill()
            worker.wait()

    def _environment(self) -> dict[str, str]:
        """This process's, with the same search path; one thread, so that workers do not take each other's core; the GPU with the fewest."""
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        given = {
            **dict.fromkeys(THREADS, "1"),
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONPATH": path,
            "MMALIGN_DECODERS": str(self.decoders),
        }
        if self.gpus:
            taken = Counter(gpu for worker, gpu in self.on.items() if self.workers[worker].poll() is None)
            given["CUDA_VISIBLE_DEVICES"] = self.on[self.count] = min(self.gpus, key=lambda gpu: taken[gpu])
        return {**os.environ, **given}

    def _say(self, worker: int, message: Message) -> None:
        pipe = self.workers[worker].stdin
        assert pipe is not None
        with suppress(BrokenPipeError):  # it is dead, and `_listen` will say so
            pipe.write(json.dumps(message).encode("ascii") + b"\n")
            pipe.flush()

    def _listen(self, number: int, worker: subprocess.Popen[bytes]) -> None:
        assert worker.stdout is not None
        memory = False
        for line in worker.stdout:
            if not line.endswith(b"\n"):
                break
            message = json.loads(line)
            memory = memory or "memory" in message
            self.news.put((number, message))
        code = worker.wait()
        self.news.put((number, {"died": OUT_OF_MEMORY if memory else _cause(code)}))


def gpus_here() -> list[str]:
    """CUDA's names of the GPUs that this process may use, found without CUDA; none where there are none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    return sorted((path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*")), key=int)


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"{name}, as the system sends it when memory runs out" if name == "SIGKILL" else name


def serve(module: str, name: str) -> None:
    """A worker process: build what the function `name` of `module` makes of the setup, then do tasks until there are no more."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    stopped = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.set())
    with suppress(ImportError):  # it is told below, where somebody listens
        import_module(module)
    setup = json.loads(sys.stdin.buffer.readline() or b"null")
    if setup is None:
        return
    tasks: queue.Queue[Message] = queue.Queue()
    threading.Thread(target=_take, args=(sys.stdin.buffer, tasks, stopped), daemon=True).start()

    def say(message: Message) -> None:
        with suppress(BrokenPipeError):
            out.write(json.dumps(message).encode("ascii") + b"\n")
            out.flush()

    try:
        worker = getattr(import_module(module), name)(setup)
        say({"ready": dict(worker.about)})
        while True:
            say({"done": perform(worker, _next(tasks, stopped), stopped.is_set, lambda counts: say({"told": counts}))})
    except Exception as error:
        say(told_of(error))
        raise SystemExit(1) from None


def told_of(error: Exception) -> Message:
    """An error as an event; want of memory is the end of a worker and not of the run."""
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in MEMORY):
        return {"memory": str(error)}
    trace = "".join(traceback.format_exception(error))
    return {"failed": {"kind": type(error).__name__, "message": str(error), "trace": trace}}


def _next(tasks: queue.Queue[Message], stopped: threading.Event) -> Message:
    from ..run.directory import RunStopped

    while not stopped.is_set():
        with suppress(queue.Empty):
            return tasks.get(timeout=0.5)
    raise RunStopped("stopped on request; run the same command to continue")


def _take(lines: IO[bytes], tasks: queue.Queue[Message], stopped: threading.Event) -> None:
    for line in lines:
        message = json.loads(line)
        if "stop" in message:
            stopped.set()
        else:
            tasks.put(message)
    os._exit(LEFT)  # whoever started this worker is gone: what is journaled is safe, and somebody else may go on at any moment
