"""Running a tour's commands as a user would: processes of their own in the work folder, with their output, time and memory on record."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import Stopped
from .config import words_of

if TYPE_CHECKING:
    from data_tools.run.directory import RunDir

    from .config import Stage

LOOK = 0.1  # seconds between looks at whether a command has ended
STOPPED = 75  # exit code: the same command continues


class Cost(NamedTuple):
    """What a command took, all its starts together. cpu: seconds of all its processes; memory: bytes of its largest process."""

    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, self.cpu + other.cpu, max(self.memory, other.memory))


class Place(NamedTuple):
    """A command of a stage, and where its output goes."""

    stage: Stage
    number: int  # among the stage's commands, from 1
    command: str
    root: Path

    @property
    def name(self) -> str:
        return f"{self.stage.name}-{self.number}"

    @property
    def log(self) -> Path:
        return self.root / "logs" / f"{self.name}.log"

    @property
    def work(self) -> Path:
        return self.root / "work"


class Failed(Exception):
    """A command ended with this exit code."""

    def __init__(self, place: Place, code: int) -> None:
        super().__init__(f"`{place.command}` ended with exit code {code}; what it said is in {place.log}:\n{last_lines(place.log, 8)}")
        self.code = code


def last_lines(path: Path, lines: int) -> str:
    """The end of what a command said, blank lines left out; "" where there is none. What triton's nanobind adds at exit is none of it."""
    with suppress(OSError):
        said = path.read_text(encoding="utf-8", errors="replace").partition("\nnanobind: leaked ")[0]
        return "\n".join([line for line in said.splitlines() if line.strip()][-lines:])
    return ""


def places_of(stage: Stage, root: Path) -> list[list[Place]]:
    """The stage's commands, in groups that run side by side."""
    numbers = iter(range(1, len(stage.every) + 1))
    return [[Place(stage, next(numbers), command, root) for command in group] for group in stage.groups]


@dataclass
class Running:
    """A command that was started."""

    place: Place
    process: subprocess.Popen[bytes]
    began: float = field(default_factory=time.monotonic)

    def ended(self) -> tuple[int, Cost] | None:
        """Its exit code and what it took, None while it runs."""
        if not hasattr(os, "wait4"):  # Windows: nobody tells CPU seconds and memory there
            code = self.process.poll()
            return None if code is None else (code, Cost(time.monotonic() - self.began))
        pid, status, used = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return None
        self.process.returncode = os.waitstatus_to_exitcode(status)
        unit = 1 if sys.platform == "darwin" else 1024
        return self.process.returncode, Cost(time.monotonic() - self.began, used.ru_utime + used.ru_stime, used.ru_maxrss * unit)


def start(place: Place, lock: int | None) -> Running:
    """The command as a process. It holds the tour's lock too: a tour that is killed is not continued while its command still runs."""
    place.log.parent.mkdir(exist_ok=True)
    env = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"} | os.environ  # small models: more threads only fight each other
    words = [sys.executable, "-P", "-m", "mm_align", *words_of(place.command)[1:]]  # -P: a folder `video` there is not our package
    with place.log.open("wb") as file:
        file.write(f"$ {place.command}\n".encode())
        file.flush()
        process = subprocess.Popen(
            words,
            cwd=place.work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=() if lock is None else (lock,),
            start_new_session=True,  # a stop comes from us, once, and not from the terminal too
        )
    return Running(place, process)


def known_cost(run: RunDir, place: Place) -> Cost:
    told = run.done(place.name) or {}
    return Cost(*(told.get(name, 0) for name in Cost._fields))


def stage_cost(run: RunDir, stage: Stage, jobs: int) -> Cost:
    """What a stage took. Commands that ran side by side count the seconds of the longest, or their share of all, whichever is more."""
    whole = Cost()
    for group in places_of(stage, run.root):
        costs = [known_cost(run, place) for place in group]
        seconds = max(max(cost.seconds for cost in costs), sum(cost.seconds for cost in costs) / min(jobs, len(costs)))
        whole = whole.plus(reduce(Cost.plus, costs)._replace(seconds=seconds))
    return whole


def is_done(run: RunDir, place: Place) -> bool:
    return (run.done(place.name) or {}).get("code") == 0


def run_group(run: RunDir, group: Sequence[Place], jobs: int, stop: Callable[[], bool], show: Callable[[Sequence[Place]], Any]) -> None:
    """All commands of a group that are not done yet, `jobs` at a time. Raises Failed, and `Stopped` where a stop was asked for."""
    waiting, running = [place for place in group if not is_done(run, place)], list[Running]()
    failed: Failed | None = None
    told = False
    try:
        while running or (waiting and not failed and not stop()):
            while waiting and len(running) < jobs and not failed and not stop():
                running.append(start(waiting.pop(0), run.lock))
            if stop() and not told:
                told = True
                for one in running:
                    one.process.terminate()
            for one, (code, cost) in [(one, end) for one in running if (end := one.ended()) is not None]:
                running.remove(one)
                run.mark_done(one.place.name, {"code": code, **known_cost(run, one.place).plus(cost)._asdict()})
                if code and not (stop() or code == STOPPED):
                    failed = failed or Failed(one.place, code)
                elif code:
                    told = True
            show([one.place for one in running])
            time.sleep(LOOK)
    finally:
        for one in running:  # only after an exception
            one.process.kill()
    if failed:
        raise failed
    if told or waiting:
        raise Stopped("the tour was stopped; the same command continues")
