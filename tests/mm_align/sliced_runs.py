"""Runs divided by `--shard`, merged, cut short and compared with the undivided one: for every test of `merge`."""

import json
from pathlib import Path
from types import ModuleType

import pytest
from engine_faults import results

from data_tools.disk.durable import put_in_place
from mm_align.cli import main

BAD = '{"Recaption": "a small square on white ground", "Overall Score": "2<Overall>"}'  # what the model says of every caption


def command(source: Path, out: Path, *more: str) -> int:
    return main(["enhance-data", str(source), "--out", str(out), "--batch-size", "8", *more])


def divided(source: Path, outs: list[Path], of: int, *more: str) -> None:
    """All slices of `of`, in turn in each of the folders."""
    for index in range(of):
        assert command(source, outs[index % len(outs)], *more, "--shard", f"{index}/{of}") == 0


def same(out: Path, one: Path) -> None:
    """All files but what tells of a start, and the report but for its run."""
    assert results(out) == results(one)
    merged, undivided = (json.loads((path / "report.json").read_text()) for path in (out, one))
    assert {**merged, "run": None} == {**undivided, "run": None}


def merge_cut_short(out: Path, at: int, modules: list[ModuleType]) -> int:
    """The exit code of a merge that is interrupted before one of these modules puts its n-th file in place."""
    left = [at]

    def put(made: Path, final: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        put_in_place(made, final)

    with pytest.MonkeyPatch.context() as patch:
        for module in modules:
            patch.setattr(module, "put_in_place", put)
        return main(["merge", str(out)])
