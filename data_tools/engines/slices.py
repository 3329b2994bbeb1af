"""Static slices of a source's shards for launchers that start n copies of one command, and their way back into one run.

Slice i of n works on every n-th shard of the sorted list from the i-th on, as a run of its own in OUT/.mmalign/slices/i-of-n: all may
share one OUT, or each may have its own. Nothing of it is seen in OUT before all are merged.
"""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..disk.durable import put_in_place, read_json, remove, write_atomic
from ..disk.journal import EntriesByRow
from ..filters.scan import Scan
from ..filters.settling import Settled, read_settled, settle
from ..io import Shard
from ..run.directory import SLICES, STATE, RunDir, RunRefused, refuse_differences
from ..run.seen_ids import SeenIds

SLURM = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT")
FIRST, STEP = "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"
TORCHRUN = ("RANK", "WORLD_SIZE")
RECORDED = ("config", "source", "division", "given", "shards")  # what every slice's record holds
LACKS, AGAIN = "lacks what it made", "Run its command again with --overwrite, then merge again."
MERGED = "merged"  # in a slice's state: all that it made is in a finished run


class Slice(NamedTuple):
    """Slice `number` of `of`, counted from 0."""

    number: int
    of: int

    def pick(self, shards: Sequence[Shard]) -> list[Shard]:
        return list(shards[self.number :: self.of])

    def folder(self, out: Path) -> Path:
        return out / STATE / SLICES / f"{self.number}-of-{self.of}"


def parse_slice(text: str, environ: Mapping[str, str]) -> Slice:
    """ "2/8", or "auto": the place in a Slurm array, in torchrun's world, or in both (an array of worlds). Raises ValueError."""
    if text == "auto":
        return _from_environment(environ)
    found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if found is None:
        raise ValueError(f"--shard {text!r} should look like 0/8, the first of eight, or be auto")
    return _checked(int(found[1]), int(found[2]), f"--shard {text}")


def _from_environment(environ: Mapping[str, str]) -> Slice:
    array, world = (all(name in environ for name in names) for names in (SLURM, TORCHRUN))
    _check_numbers(environ, [*((*SLURM, FIRST, STEP) if array else ()), *(TORCHRUN if world else ())])
    if not array and not world:
        raise ValueError(f"--shard auto found neither {' and '.join(SLURM)} nor {' and '.join(TORCHRUN)}; say --shard 0/8")
    task, tasks = _slurm(environ) if array else (0, 1)
    rank, ranks = (int(environ[name]) for name in TORCHRUN) if world else (0, 1)
    return _checked(task * ranks + rank, tasks * ranks, "--shard auto")


def _check_numbers(environ: Mapping[str, str], names: Sequence[str]) -> None:
    for name in names:
        value = environ.get(name, "1")
        if not re.fullmatch(r"[0-9]+", value) or (name == STEP and int(value) < 1):
            raise ValueError(f"--shard auto: {name} is {value!r}, which is no place in a job array or world; say --shard 0/8")


def _slurm(environ: Mapping[str, str]) -> tuple[int, int]:
    """An array may begin at 1 and go in steps."""
    first, step = int(environ.get(FIRST, "0")), int(environ.get(STEP, "1"))
    return (int(environ[SLURM[0]]) - first) // step, int(environ[SLURM[1]])


def _checked(index: int, of: int, what: str) -> Slice:
    if of < 1:
        raise ValueError(f"{what}: a run is divided into one slice at least, as in 0/1")
    if not 0 <= index < of:
        raise ValueError(f"{what}: slice {index} of {of} does not exist; they are counted from 0, so the last of {of} is {of - 1}/{of}")
    return Slice(index, of)


def refuse_slices(out: Path) -> None:
    """RunRefused where OUT holds slices of a divided run: it is no place for an undivided one."""
    if any(slices_in(out)):
        raise RunRefused(f"'{out}' holds slices of a run that was divided by --shard: see to them by `mmalign merge {out}`")


def refuse_other_division(out: Path, wanted: Slice) -> None:
    """RunRefused where OUT holds an undivided run, or one that was divided into another number of slices."""
    if (out / STATE / "run.json").exists():
        raise RunRefused(f"'{out}' holds a run that is not divided, or one that was merged. Choose another --out, or do without --shard.")
    others = sorted({of for _, of in slices_in(out)} - {wanted.of})
    if others:
        raise RunRefused(
            f"'{out}' holds slices of {others[0]} and not of {wanted.of}. Go on with --shard I/{others[0]}, or choose another --out."
        )


def slices_in(out: Path) -> Iterator[Slice]:
    """The slices that were begun in OUT."""
    for folder in sorted(out.joinpath(STATE, SLICES).glob("*-of-*")):
        index, _, of = folder.name.partition("-of-")
        if index.isdigit() and of.isdigit():
            yield Slice(int(index), int(of))


class Division(NamedTuple):
    """All slices of one run, complete and alike: their folders by index, their records, the shards of all in the order of the source."""

    folders: Sequence[Path]
    records: Sequence[Mapping[str, Any]]
    shards: Sequence[Shard]

    @property
    def source(self) -> dict[str, str]:
        """The fingerprint of every shard, in order."""
        known = {name: mark for record in self.records for name, mark in record["source"].items()}
        return {shard.name: known[shard.name] for shard in self.shards}


def gathered(outs: Sequence[Path]) -> Division:
    """The division whose slices lie in `outs`. Raises RunRefused: one is missing, unfinished, there twice or of another run."""
    found: dict[Slice, Path] = {}
    for out in outs:
        there = list(slices_in(out))
        if not there and (out != outs[0] or len(outs) == 1):  # the first may be only where the merged run is to be
            raise RunRefused(f"no slices of a run in '{out}': nothing was made there with --shard")
        for one in there:
            if one in found:
                raise RunRefused(f"slice {one.number} of {one.of} is there twice: in '{found[one]}' and in '{one.folder(out)}'")
            found[one] = one.folder(out)
    counts = sorted({of for _, of in found})
    if len(counts) > 1:
        raise RunRefused(f"slices of different divisions: {' and '.join(map(str, counts))} slices. Merge those of one run.")
    slices = [Slice(index, counts[0]) for index in range(counts[0])]
    _refuse_incomplete(slices, found)
    folders = [found[one] for one in slices]
    records = [_record(folder) for folder in folders]
    _refuse_strangers(folders, records)
    return Division(folders, records, _in_order(records))


def discard(folders: Sequence[Path]) -> None:
    """Remove slices whose run is merged and finished. All are marked before the first one goes, and each goes whole: a kill at any time
    leaves either all of them or none but `merged_already`."""
    for folder in folders:
        write_atomic(folder / STATE / MERGED, b"")
    for folder in folders:
        gone = folder.with_name(f".{folder.name}.gone")
        remove(gone)
        folder.rename(gone)
        remove(gone)


def merged_already(outs: Sequence[Path], merged: Mapping[str, Any]) -> list[Path] | None:
    """The slices left in `outs` where all are of the finished run that this record tells of, and marked as merged; else None."""
    left = [folder for _, folder in sorted((one, one.folder(out)) for out in outs for one in slices_in(out))]
    return left if all(_left_over(folder, merged) for folder in left) else None


def _left_over(folder: Path, merged: Mapping[str, Any]) -> bool:
    record = read_json(folder / STATE / "run.json") or {}
    alike = record.get("config") == merged.get("config") and record.get("source", {}).items() <= merged.get("source", {}).items()
    return alike and (folder / STATE / MERGED).exists()


def _record(folder: Path) -> dict[str, Any]:
    """RunRefused for a slice whose record was lost or damaged."""
    record = read_json(folder / STATE / "run.json") or {}
    if lacking := [part for part in RECORDED if part not in record]:
        raise RunRefused(
            f"'{folder / STATE / 'run.json'}' cannot be read or lacks {lacking[0]!r}, so nobody knows what this slice is of. {AGAIN}"
        )
    return record


def _refuse_incomplete(slices: Sequence[Slice], found: Mapping[Slice, Path]) -> None:
    missing = [one.number for one in slices if one not in found]
    begun = [one.number for one in slices if one in found and not (found[one] / STATE / "finished.json").exists()]
    if missing or begun:
        told = [f"{what}: {', '.join(map(str, which))}" for what, which in (("missing", missing), ("unfinished", begun)) if which]
        of = slices[0].of
        raise RunRefused(f"of {of} slices (0 to {of - 1}) some are not done: {'; '.join(told)}. Run their commands, then merge again.")


def _refuse_strangers(folders: Sequence[Path], records: Sequence[Mapping[str, Any]]) -> None:
    """RunRefused where a slice was made by another configuration, model or list of shards than the first."""
    for folder, record in zip(folders[1:], records[1:], strict=True):
        asked = ("model", "prompt", "scorers") if record["shards"] else ()  # a slice without a shard has loaded no model
        for part in ("config", "division", *asked):
            refuse_differences(folder, {part: records[0].get(part)}, {part: record.get(part)})


def _in_order(records: Sequence[Mapping[str, Any]]) -> list[Shard]:
    """Slice i's k-th shard is shard i + k * n of the source. Raises RunRefused where one is there twice or is missing."""
    total, n = records[0]["division"]["total"], len(records)
    shards = {i + k * n: Shard(**shard) for i, record in enumerate(records) for k, shard in enumerate(record["shards"])}
    names = {shard.name for shard in shards.values()}
    if sorted(shards) != list(range(total)) or len(names) != total:
        raise RunRefused(f"the slices hold {len(names)} different shards at {len(shards)} places, but the source had {total}")
    return [shards[i] for i in range(total)]


def _among_all(rows: np.ndarray, before: Settled, now: Settled) -> np.ndarray:
    """Numbers of rows among those of a slice (int64 [N], -1 for none) as numbers among all rows."""
    if not len(rows) or rows.max() < 0:
        return rows
    starts = np.array([now.starts[now.shards.index(name)] for name in before.shards])
    at = np.searchsorted(before.starts, rows, "right") - 1
    return np.where(rows < 0, -1, rows - np.array(before.starts)[at] + starts[at])


class Merging:
    """Shard by shard, in the order of the source: whether its rows repeat ids of other slices, and the move of what was made of it."""

    def __init__(self, division: Division, run_dir: RunDir) -> None:
        self.division, self.run_dir = division, run_dir
        self.seen = SeenIds()
        self.own = [SeenIds() for _ in division.folders]
        found = zip(division.folders, division.records, strict=True)
        self.slices = [RunDir(folder, dict(record), "finished") for folder, record in found]

    def slice_of(self, number: int) -> RunDir:
        return self.slices[number % len(self.slices)]

    def repeats(self, number: int, name: str) -> int:
        """Rows of a shard whose id came before in another slice only: with any, its output is rendered anew. Before `pass_over`."""
        ids = self._ids(number, name)
        return int((self.seen.repeated(ids) != self.own[number % len(self.own)].repeated(ids)).sum())

    def pass_over(self, number: int, name: str) -> None:
        """Count a shard's ids as seen."""
        ids = self._ids(number, name)
        self.seen.add(ids)
        self.own[number % len(self.own)].add(ids)

    def adopt(self, number: int, name: str, suffix: str) -> None:
        """Move all that a slice made of a shard; its done marker is the last."""
        theirs, ours = self.slice_of(number), self.run_dir
        told = theirs.done(name)
        if told is None:
            raise RunRefused(f"'{theirs.root}' {LACKS}: what became of the rows of '{name}' cannot be read. {AGAIN}")
        for place in ("quarantine", "journal", "stats", "ids", "uids"):
            self._move(getattr(theirs, place)(name), getattr(ours, place)(name), needed=place != "uids")
        self._move(theirs.output(name, suffix), ours.output(name, suffix))
        ours.mark_done(name, told)

    def adopt_scans(self, scan: Scan) -> None:
        """Bring the scans of all slices together and compare the rows of all, unless that is done."""
        for number, shard in enumerate(self.division.shards):
            theirs = self.slice_of(number)
            for place in ("scan_journal", "scan_marks"):
                self._move(getattr(theirs, place)(shard.name), getattr(self.run_dir, place)(shard.name))
        try:
            settle(self.division.shards, scan, self.run_dir)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise RunRefused(f"what the slices told of their rows cannot be read ({error}). {AGAIN}") from error

    def told_otherwise(self, number: int, name: str, scan: Scan) -> bool:
        """Whether rows of a shard are told something else among all rows than among those of their slice."""
        theirs, ours = self.slice_of(number), self.run_dir
        before, now = read_settled(theirs), read_settled(ours)
        references = {name for one in scan.comparing.values() for name in one.references}
        with np.load(theirs.scan_told(name)) as old, np.load(ours.scan_told(name)) as new:
            return before.cuts != now.cuts or any(
                not np.array_equal(_among_all(old[key], before, now) if key in references else old[key], new[key]) for key in new.files
            )

    def entries(self, number: int, name: str) -> EntriesByRow:
        """What a shard's slice made of each of its rows."""
        return EntriesByRow(self.slice_of(number).journal(name))

    def adopt_journal(self, number: int, name: str) -> None:
        """Move only what was judged."""
        self._move(self.slice_of(number).journal(name), self.run_dir.journal(name))

    def _ids(self, number: int, name: str) -> np.ndarray:
        ours, theirs = self.run_dir.ids(name), self.slice_of(number).ids(name)
        if not (ours.exists() or theirs.exists()):
            raise RunRefused(f"'{theirs}' is missing: the slice {LACKS}. {AGAIN}")
        return np.fromfile(ours if ours.exists() else theirs, dtype="<u8")

    @staticmethod
    def _move(made: Path, final: Path, *, needed: bool = True) -> None:
        """Nothing where an earlier start moved it already."""
        if not made.exists():
            if needed and not final.exists():
                raise RunRefused(f"'{made}' is missing: the slice {LACKS}. {AGAIN}")
            return
        if made.stat().st_dev != final.parent.stat().st_dev:
            copy = final.with_name(f".{final.name}.tmp")
            remove(copy)
            shutil.copytree(made, copy) if made.is_dir() else shutil.copyfile(made, copy)
            put_in_place(copy, final)
            remove(made)
        else:
            put_in_place(made, final)
