"""A run's directory: who made it, which configuration and source it is bound to, which shards are done, and how files get there.

DST/<shard><ext>               outputs, each renamed into place whole
DST/quarantine/<shard>.jsonl   rows that left, with their reason
DST/.mmalign/run.json          what the run is bound to: configuration, source, model, resolved batch size and device
DST/.mmalign/scan/<shard>...   what was told of rows before any was judged
DST/.mmalign/cascade/...        rows that the model judged first, and what the cascade learned from them
DST/.mmalign/{journal,stats,ids,uids,done}/<shard>...   progress; `done` is written last
DST/.mmalign/claims/<shard>...  which attempt of which worker may write to the shard, where several machines work
DST/.mmalign/usage/<process>...  what a process asked of endpoints
"""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from ..disk.durable import read_json, remove, to_json, write_atomic
from ..disk.lock import take_lock

MADE_BY = "mm-align"
STATE = ".mmalign"
SLICES = "slices"  # folder of runs that `engines.slices` merges into this one; they are not this one's to delete
OUR_FILES = ("report.html", "report.json", "config.yaml", "mmalign.json", "uids.npy")
RESERVED = (*OUR_FILES, "quarantine", STATE)
CANNOT_WRITE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP}
)
PATIENCE = 1.0  # seconds for the workers of a run that was killed a moment ago to notice it
EDGE_BYTES = 1 << 16
CHANGED = "the source changed while the run went on. Restore it, or start anew with --overwrite."

Condition = Literal["new", "unfinished", "finished"]


class RunRefused(ValueError):
    """The target or the source does not fit what was asked; nothing was changed."""


class RunStopped(RuntimeError):
    """The run stopped before its end in a state from which the same command continues."""


class RunDir:
    """One run's directory, locked while in use. Build it with `open_run`."""

    def __init__(self, root: Path, record: dict[str, Any], condition: Condition, lock: int | None = None) -> None:
        self.root = root
        self.record = record
        self.condition = condition
        self.looks: dict[str, tuple[int, ...]] = {}  # shard -> its file as this process first saw it (see `steady`)
        self.lock = lock  # its file descriptor: whoever inherits it keeps the directory locked as long as he lives

    def bind(self, part: str, value: Any) -> None:
        """Store `value` as part of what this run is bound to, or raise RunRefused when an earlier start stored another."""
        if part not in self.record:
            self.record[part] = value
            write_atomic(self._state("run.json"), to_json(self.record))
        refuse_differences(self.root, {part: self.record[part]}, {part: value})

    def remember(self, part: str, value: Any) -> None:
        """Store `value` for later starts without binding them to it."""
        if self.record.get(part) != value:
            self.record[part] = value
            write_atomic(self._state("run.json"), to_json(self.record))

    def output(self, name: str, suffix: str) -> Path:
        return self.root / f"{name}{suffix}"

    def quarantine(self, name: str) -> Path:
        return self.root / "quarantine" / f"{name}.jsonl"

    def journal(self, name: str) -> Path:
        return self._state("journal", f"{name}.jsonl")

    def stats(self, name: str) -> Path:
        return self._state("stats", f"{name}.json")

    def scan_journal(self, name: str) -> Path:
        return self._state("scan", f"{name}.jsonl")

    def scan_marks(self, name: str) -> Path:
        """What a shard's rows are compared by; written last of its scan."""
        return self._state("scan", f"{name}.marks.npz")

    def scan_told(self, name: str) -> Path:
        """What the comparison of all shards told of a shard's rows."""
        return self._state("scan", f"{name}.told.npz")

    @property
    def settled(self) -> Path:
        """What the comparison told of all rows together; written last of it."""
        return self._state("settled.json")

    def ids(self, name: str) -> Path:
        return self._state("ids", f"{name}.u64")

    def uids(self, name: str) -> Path:
        return self._state("uids", f"{name}.u128")

    @property
    def calibration(self) -> Path:
        """The journal of the rows that a cascade's calibration judged."""
        return self._state("cascade", "calibration.jsonl")

    @property
    def calibrated(self) -> Path:
        """What calibration came to; written last of it."""
        return self._state("cascade", "decider.json")

    def done(self, name: str) -> dict[str, Any] | None:
        """What the done marker of a shard says, None while it is not done."""
        return read_json(self._state("done", f"{name}.json"))

    def mark_done(self, name: str, summary: Mapping[str, Any]) -> None:
        write_atomic(self._state("done", f"{name}.json"), to_json(summary))

    def unmark(self, name: str) -> None:
        """Drop the done marker of a shard: what was judged stays, its output is rendered again."""
        remove(self._state("done", f"{name}.json"))

    def claim(self, name: str) -> Path:
        """Who may write to a shard, where workers may outlive those who started them (see `engines.tasks`)."""
        return self._state("claims", f"{name}.txt")

    def forget(self, name: str) -> None:
        """Drop what was told, journaled and marked done of `name`: its next start begins anew."""
        if self.scan_marks(name).exists():
            remove(self.settled)
        for path in (self.scan_marks(name), self.scan_journal(name), self.journal(name), self._state("done", f"{name}.json")):
            remove(path)

    def finish(self, summary: Mapping[str, Any]) -> None:
        write_atomic(self._state("finished.json"), to_json(summary))

    def finished(self) -> dict[str, Any] | None:
        return read_json(self._state("finished.json"))

    def refuse_missing(self, made: Sequence[str]) -> None:
        """RunRefused where a file that this run made is gone: it is neither finished nor can it go on."""
        gone = [name for name in made if not self.root.joinpath(name).exists()]
        if gone:
            names = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
            raise RunRefused(f"'{self.root}' lacks what its run made: {names}. Put it back, or start anew with --overwrite.")

    def refuse_changed(self, name: str, path: str) -> None:
        """RunRefused where a shard is no longer what it was when the run was started (by `fingerprint`)."""
        before = self.record.get("source", {}).get(name)
        if before is not None and before != fingerprint(path):
            raise RunRefused(f"'{path}' is not what it was when the run was started: {CHANGED}")

    def touched(self, paths: Mapping[str, str]) -> list[str]:
        """The shards (name -> path) whose files were written since the run was first started, by their times; remembers the times it
        meets first. A copy has other times too, and an edit in the middle that keeps a file's size shows in nothing else that is cheap."""
        before: dict[str, int] = self.record.get("times", {})
        now = {name: Path(path).stat().st_mtime_ns for name, path in paths.items() if Path(path).is_file()}
        self.remember("times", now | before)
        return [name for name, time in now.items() if before.get(name, time) != time]

    @property
    def usage(self) -> Path:
        """The folder in which each process of each start keeps its counts of what it asked endpoints."""
        return self._state("usage")

    @property
    def requests(self) -> Path:
        """Where answers of endpoints may be kept until the run is finished."""
        return self._state("requests.sqlite")

    def scratch(self, name: str) -> Path:
        """A path for a file under construction; cleared at every start."""
        return self._state("tmp", name)

    def _state(self, *parts: str) -> Path:
        return self.root.joinpath(STATE, *parts)


class BorrowedDir(RunDir):
    """A run's directory in the hands of a worker: the run's owner holds the lock and writes its record; what is bound is gathered here."""

    def __init__(self, root: Path, record: Mapping[str, Any]) -> None:
        super().__init__(root, dict(record), "unfinished")
        self.bound: dict[str, Any] = {}

    def bind(self, part: str, value: Any) -> None:
        self.bound[part] = value
        self.record.setdefault(part, value)
        refuse_differences(self.root, {part: self.record[part]}, {part: value})

    def remember(self, part: str, value: Any) -> None:
        self.record[part] = value


@contextmanager
def open_run(root: Path, binding: Mapping[str, Any], outputs: Sequence[str], *, overwrite: bool = False) -> Iterator[RunDir]:
    """Take a directory for a run, new or continued, and hold its lock.

    `binding` must be JSON-able and equal to the earlier start's (`source` maps shard names to fingerprints); `outputs` are the
    files to be made, relative to `root`. Raises RunRefused (another configuration, changed source, a directory or file
    that this toolkit did not make, a target that cannot be written, a run already going on).
    """
    _refuse_reserved(outputs)
    with ExitStack() as held:
        try:
            earlier, descriptor = held.enter_context(_locked(root, overwrite))
            run = _take(root, earlier, binding, outputs)
            run.lock = descriptor
        except OSError as error:
            if error.errno not in CANNOT_WRITE:
                raise
            raise RunRefused(f"cannot write to '{root}': {error.strerror} ({error.filename}). Choose another --out.") from error
        yield run


def _refuse_reserved(outputs: Sequence[str]) -> None:
    """An output that is a folder has no suffix to tell it from what else a run writes."""
    for name in outputs:
        if name.lower() in RESERVED:
            raise RunRefused(f"a shard of the source is called '{name}', a name that a run needs. Rename it or choose another --format.")


@contextmanager
def _locked(root: Path, overwrite: bool) -> Iterator[tuple[dict[str, Any] | None, int]]:
    earlier = _inspect(root)
    root.joinpath(STATE).mkdir(parents=True, exist_ok=True)
    with root.joinpath(STATE, "lock").open("w") as held:
        _hold(held.fileno(), root)
        if earlier is not None and (overwrite or not _began(root)):
            _delete_ours(root, earlier)
            earlier = None
        yield earlier, held.fileno()


def _began(root: Path) -> bool:
    """Whether a row was looked at; a start that failed before (a misspelt model, say) binds nobody to its configuration."""
    state = root / STATE
    return state.joinpath("finished.json").exists() or any(
        any(state.glob(f"{part}/*")) for part in (SLICES, "scan", "cascade", "journal", "done")
    )


def _inspect(root: Path) -> dict[str, Any] | None:
    """The record of an earlier start, None for a free directory; RunRefused for somebody else's directory."""
    if not root.exists():
        return None
    record = _record(root)
    if record is not None and record.get("made_by") == MADE_BY:
        return record
    foreign = sorted(p.name for p in root.iterdir() if p.name != STATE)
    if foreign:
        raise RunRefused(
            f"'{root}' already holds files that no mmalign run made ({', '.join(foreign[:3])}{', ...' if len(foreign) > 3 else ''}). "
            f"Choose an empty or new directory; --overwrite deletes only what a run of mmalign wrote."
        )
    return None


def _record(root: Path) -> dict[str, Any] | None:
    path = root / STATE / "run.json"
    record = read_json(path)
    if record is None and path.is_file():
        raise RunRefused(
            f"'{path}' cannot be read, so nobody knows which run '{root}' belongs to. Restore the file, choose another --out, "
            f"or delete '{root}' yourself when nothing in it is needed."
        )
    return record


def _hold(fd: int, root: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not take_lock(fd):
        if time.monotonic() > until:
            raise RunRefused(f"another mmalign run is writing to '{root}'. Wait for it or choose another --out.")
        time.sleep(0.05)


def _delete_ours(root: Path, record: Mapping[str, Any]) -> None:
    """Delete what the run's own record lists, run.json last, so that a kill in between leaves a directory still known as ours."""
    for name in [*record.get("outputs", ()), *OUR_FILES]:
        remove(root / name)
    with suppress(OSError):
        root.joinpath("quarantine").rmdir()
    for path in root.joinpath(STATE).iterdir():
        if path.name not in {"run.json", "lock", SLICES}:
            remove(path)
    remove(root / STATE / "run.json")


def _take(root: Path, earlier: dict[str, Any] | None, binding: Mapping[str, Any], outputs: Sequence[str]) -> RunDir:
    record = earlier or {"made_by": MADE_BY, "layout": 1, **binding, "outputs": list(outputs)}
    if earlier is None:
        _refuse_taken(root, outputs)
        write_atomic(root / STATE / "run.json", to_json(record))
    refuse_differences(root, {key: earlier.get(key) for key in binding} if earlier else binding, binding)
    remove(root / STATE / "tmp")
    for folder in ("scan", "cascade", "journal", "stats", "ids", "uids", "done", "claims", "usage", "tmp", "../quarantine"):
        root.joinpath(STATE, folder).mkdir(exist_ok=True)
    finished = read_json(root / STATE / "finished.json") is not None
    return RunDir(root, record, "new" if earlier is None else "finished" if finished else "unfinished")


def _refuse_taken(root: Path, outputs: Sequence[str]) -> None:
    taken = [name for name in (*outputs, *OUR_FILES) if root.joinpath(name).exists()]
    if taken:
        raise RunRefused(f"'{root / taken[0]}' exists and was not made by this run. Move it away or choose another --out.")


def refuse_differences(root: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise RunRefused naming every difference between what a run was started with and what is asked now."""
    differences = list(_differences(_flat(before), _flat(json.loads(to_json(now)))))
    if not differences:
        return
    source = [d for d in differences if d.startswith("source.")]
    what = "the source changed since the run" if len(source) == len(differences) else "a run with another configuration"
    shown = "\n  ".join(differences[:12]) + (f"\n  ... and {len(differences) - 12} more" if len(differences) > 12 else "")
    raise RunRefused(
        f"'{root}' holds {what}:\n  {shown}\nRun it as before to continue it, choose another --out, or start anew with --overwrite."
        if what.startswith("a run")
        else f"{what} in '{root}' was started:\n  {shown}\nRestore it, choose another --out, or start anew with --overwrite."
    )


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for key in [*before, *(k for k in now if k not in before)]:
        if before.get(key) != now.get(key):  # an option that a later version has, and that is not given, is no difference
            yield f"{key}: was {before.get(key, 'nothing')!r}, now {now.get(key, 'nothing')!r}"


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, Mapping) or not tree:
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def fingerprint(path: str) -> str:
    """What a source file or directory is known by: its size and its first and last 64 KiB; no times, so that a copy counts as the same.

    A directory is known by the names and sizes of its files; anything that is no local path by its name alone.
    """
    local = Path(path)
    if local.is_dir():
        listing = sorted((p.relative_to(local).as_posix(), p.stat().st_size) for p in local.rglob("*") if p.is_file())
        return f"{len(listing)} files, {_hash(json.dumps(listing).encode())}"
    if not local.is_file():
        return path
    try:
        size = local.stat().st_size
        with local.open("rb") as file:
            edges = file.read(EDGE_BYTES)
            file.seek(max(0, size - EDGE_BYTES))
            edges += file.read(EDGE_BYTES)
    except OSError as error:  # the run goes on without it
        return f"unreadable: {error.strerror}"
    return f"{size} bytes, {_hash(edges)}"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
