"""What a job shows while it runs (a live line on a terminal, a log line now and then elsewhere), and how it takes a stop signal."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

    from data_tools.io import Shard

log = logging.getLogger(__name__)
LOG_EVERY = 30.0  # seconds
WIDE, NAME_CHARS = 140, 24  # columns of a terminal with room for everything; of a name there
COUNTED_BYTES = 1 << 31  # larger JSONL sources are not counted beforehand


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Inside the block SIGTERM and SIGINT only raise a flag, which the yielded function reads; a second SIGINT interrupts at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()
        log.warning("%s: finishing the current block, then stopping", signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():  # Python takes signals only there
        yield asked.is_set
        return
    earlier = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked.is_set
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


class Progress(Protocol):
    """Where a job is: in what (`name`), after how many rows, and how these fared, in words (`told`)."""

    @property
    def name(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def told(self) -> str: ...


def shown(shards: Sequence[Shard]) -> AbstractContextManager[Callable[[Progress], None]]:
    """As `showing`, out of all rows of `shards`."""
    return showing(lambda: count_rows(shards))


@contextmanager
def showing(total: Callable[[], int | None]) -> Iterator[Callable[[Progress], None]]:
    """A function that is told the progress after every block and shows it; `total` rows are to come, where that is known."""
    if not (sys.stderr.isatty() and log.isEnabledFor(logging.INFO)):
        yield _Lines()
        return
    from rich.console import Console

    console = Console(stderr=True)
    with live(console, total()) as show:
        yield show


@contextmanager
def live(console: Console, total: int | None) -> Iterator[Callable[[Progress], None]]:
    """A live line of counts; what is nice to have (the place's name, a bar, the speed) only where all of it fits."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    wide = console.width >= WIDE
    extras = (TextColumn("{task.description}"), BarColumn(bar_width=20)) if wide else ()
    speed = _Speed()
    with Bar(*extras, MofNCompleteColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("judging", total=total, told="")

        def show(p: Progress) -> None:
            rate = f"{speed.of(p.rows):.1f} rows/s  " if wide else ""
            bar.update(task, completed=p.rows, description=p.name[:NAME_CHARS], told=rate + p.told)

        yield show


class _Lines:
    """A log line at most every 30 seconds."""

    def __init__(self) -> None:
        self.speed = _Speed()
        self.told_at = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        rate = self.speed.of(progress.rows)
        if time.monotonic() - self.told_at >= LOG_EVERY:
            self.told_at = time.monotonic()
            log.info("%s: %d rows, %.1f rows/s, %s", progress.name, progress.rows, rate, progress.told)


class _Speed:
    """Rows a second since the first call, so that rows of an earlier start do not count."""

    def __init__(self) -> None:
        self.start: tuple[int, float] | None = None

    def of(self, rows: int) -> float:
        now = time.monotonic()
        if self.start is None:
            self.start = (rows, now)
        return (rows - self.start[0]) / max(now - self.start[1], 1e-9) if rows > self.start[0] else 0.0


def count_rows(shards: Sequence[Shard]) -> int | None:
    """Rows of all shards where that is cheap to know (Parquet's footers, the lines of modest JSONL files), else None."""
    if sum(Path(s.path).stat().st_size for s in shards if Path(s.path).is_file()) > COUNTED_BYTES and shards[0].format == "jsonl":
        return None
    counts = [_rows_of(shard) for shard in shards]
    return None if None in counts else sum(n for n in counts if n is not None)


def _rows_of(shard: Shard) -> int | None:
    path = Path(shard.path)
    if not path.is_file():
        return None
    if shard.format == "parquet":
        import pyarrow
        import pyarrow.parquet

        try:
            return int(pyarrow.parquet.read_metadata(path).num_rows)
        except (pyarrow.ArrowInvalid, OSError):  # the reader will say what is wrong with the file
            return None
    if shard.format != "jsonl" or path.suffix == ".gz":
        return None
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
