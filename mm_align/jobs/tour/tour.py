"""`mmalign tour`: the whole line once, stage by stage, by the commands that a user types; ends in one page that shows what came of it.

Its parts: `config` (a tour is a YAML file), `commands` (processes, what they take), `page` and `shows` (the page).
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import Stopped, to_yaml
from ..run_errors import user_errors
from .commands import Failed, Place, is_done, last_lines, places_of, run_group
from .config import TourConfig, as_script, text_of
from .page import NUMBERS, PAGE, whole_cost, write_page

if TYPE_CHECKING:
    from data_tools.run.directory import RunDir

    from .config import Stage

__all__ = ["TourConfig", "TourReport", "run"]
log = logging.getLogger(__name__)
SPOKEN = 30.0  # seconds between lines that say that a command still runs
Watch = Callable[[Sequence[Place]], None]


@dataclass(frozen=True)
class TourReport:
    """Where the tour lies, its page, and what it took: seconds, CPU seconds, bytes of the largest process."""

    out: Path
    page: Path
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    exit_code: int = 0


def run(config: TourConfig) -> TourReport:
    """Do what is left of the tour. Raises UserError, and `Stopped` where the same command continues."""
    out = Path(config.out)
    if config.dry_run:
        print(as_script(config))
        return TourReport(out, out / PAGE)
    from ..progress import stop_on_signals

    with tour_folder(config) as run_dir, stop_on_signals() as stop:
        code = every_stage(config, run_dir, stop)
        report = TourReport(out, out / PAGE, *whole_cost(config, run_dir), code)
    print(f"{'report' if not code else 'what there is'}: {report.page}; {report.seconds:.0f} s, {report.cpu:.0f} CPU seconds")
    return report


@contextmanager
def tour_folder(config: TourConfig) -> Iterator[RunDir]:
    """The folder, held and bound to the stages."""
    from data_tools.disk.durable import write_atomic
    from data_tools.run.directory import open_run

    root = Path(config.out)
    binding = {"tour": by_name(config)}
    with user_errors(root), open_run(root, binding, [PAGE, NUMBERS, "logs", "work"], overwrite=config.overwrite) as run_dir:
        write_atomic(root / "config.yaml", to_yaml(config).encode())
        run_dir.journal("tour").touch()  # from here on the folder is bound to these stages
        yield run_dir


def by_name(config: TourConfig) -> dict[str, Any]:
    """What binds a folder: the stages' files and commands, so that a difference is told by the stage's name."""
    told: dict[str, Any] = {stage.name: {"files": stage.files, "commands": stage.commands} for stage in config.stages}
    return told | {"order": [stage.name for stage in config.stages]}


def every_stage(config: TourConfig, run_dir: RunDir, stop: Callable[[], bool]) -> int:
    """All stages that are left, the page after each and at a stop; the exit code. Raises Stopped."""
    if run_dir.condition == "finished":
        print(f"this tour is done already: {config.out}; --overwrite starts it anew")
    try:
        for number, stage in enumerate(config.stages, 1):
            with telling(config, number, stage) as watch:
                the_stage(run_dir, stage, config.jobs, stop, watch)
            write_page(config, run_dir)
    except Failed as error:
        log.error("error: %s", error)
        write_page(config, run_dir)
        return 2 if error.code == 2 else 1
    except Stopped:
        write_page(config, run_dir)
        raise
    run_dir.finish({})
    return 0


def the_stage(run_dir: RunDir, stage: Stage, jobs: int, stop: Callable[[], bool], watch: Watch) -> None:
    """A stage's files and what is left of its commands. Raises Failed and Stopped."""
    from data_tools.disk.durable import write_atomic

    work = run_dir.root / "work"
    work.mkdir(exist_ok=True)
    groups = places_of(stage, run_dir.root)
    if all(is_done(run_dir, place) for group in groups for place in group):
        return
    for name, content in stage.files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(work / name, text_of(content).encode())
    for group in groups:
        run_group(run_dir, group, jobs, stop, watch)


# What is shown meanwhile


@contextmanager
def telling(config: TourConfig, number: int, stage: Stage) -> Iterator[Watch]:
    """Says which stage begins and which commands run; on a terminal what they say last, elsewhere a line now and then."""
    log.info("%d/%d %s", number, len(config.stages), stage.title)
    if not (sys.stderr.isatty() and log.isEnabledFor(logging.INFO)):
        yield Lines()
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        lines = Lines()

        def show(running: Sequence[Place]) -> None:
            lines(running)
            said = [f"{place.name}: {last_lines(place.log, 1)[:100]}" for place in running]
            status.update("\n  ".join([f"{lines.seconds:.0f} s", *said]).replace("[", "\\["))

        yield show


class Lines:
    """A log line for each command that begins, and one every half a minute while any runs."""

    def __init__(self) -> None:
        self.began = self.told = time.monotonic()
        self.seen: set[str] = set()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def __call__(self, running: Sequence[Place]) -> None:
        for place in running:
            if place.name not in self.seen:
                self.seen.add(place.name)
                log.info("  $ %s", place.command)
        if running and time.monotonic() - self.told > SPOKEN:
            self.told = time.monotonic()
            log.info("  ... %.0f s; %s", self.seconds, "; ".join(f"{place.name}: {last_lines(place.log, 1)[:120]}" for place in running))
