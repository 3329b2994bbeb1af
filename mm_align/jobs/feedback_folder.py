"""The folder of a feedback run: which stages are done, what they were done with, and doing one."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..config import Stopped, UserError

if TYPE_CHECKING:
    from data_tools.shards import RunDir

    from ..rlaif.stage import Places, StageSummary

log = logging.getLogger(__name__)
FILES = ("samples", "candidates", "claims", "questions", "judged", "scores", "pairs")
OTHERS = ("images", "feedback.html", "calibration.html", "calibration.json")
SHOWN = {"samples": "prompts", "candidates": "prompts", "pairs": "pairs"}  # what a stage counts, where it is not answers


class Step(NamedTuple):
    """A stage to be done. `bound`: settings that two starts must share. inputs: files it reads. `work` does it, loading what it needs."""

    name: str
    bound: Mapping[str, Any]
    inputs: Mapping[str, str]
    work: Callable[[Places], StageSummary]


@contextmanager
def feedback_folder(root: Path, *, overwrite: bool = False) -> Iterator[RunDir]:
    """The folder, held; refusals of the house become UserError, stops `Stopped`."""
    from data_tools.io import SourceError
    from data_tools.pipeline import stopping_on_full_disk
    from data_tools.shards import RunRefused, RunStopped, open_run

    outputs = [*(f"{name}.jsonl" for name in FILES), *(f"quarantine/{name}.jsonl" for name in FILES), *OTHERS]
    try:
        with stopping_on_full_disk(root), open_run(root, {}, outputs, overwrite=overwrite) as run_dir:
            yield run_dir
    except RunRefused as error:
        raise UserError(str(error)) from error
    except SourceError as error:
        raise UserError(str(error)) from error
    except RunStopped as error:
        raise Stopped(str(error)) from error


def places(run_dir: RunDir, name: str) -> Places:
    from ..rlaif.stage import Places

    output, quarantine = run_dir.root / f"{name}.jsonl", run_dir.quarantine(name)
    return Places(run_dir.journal(name), output, quarantine, lambda what: run_dir.scratch(f"{name}.{what}"))


def do(run_dir: RunDir, step: Step, *, update: bool = False) -> dict[str, Any]:
    """Do a stage, or say that it is done with these settings and inputs; its summary. Raises UserError for other settings."""
    at = places(run_dir, step.name)
    bound = json.loads(json.dumps(step.bound))
    known = run_dir.done(step.name)
    if known and known["bound"] == bound and known["inputs"] == step.inputs and at.output.is_file() and not known["summary"]["again"]:
        log.info("%s: done already (%d lines)", step.name, known["summary"]["lines"])
        summary: dict[str, Any] = known["summary"]
        return summary
    _bind(run_dir, step.name, bound, update)
    summary = step.work(at).to_dict()
    check_identity(step.name, summary)
    run_dir.mark_done(step.name, {"bound": bound, "inputs": dict(step.inputs), "summary": summary})
    for line in told(step.name, summary):
        print(line, flush=True)
    return summary


def _bind(run_dir: RunDir, name: str, bound: Any, update: bool) -> None:
    """Refuse settings other than those of an earlier start, or with `update` take them from now on."""
    from data_tools.shards import RunRefused, refuse_differences

    earlier = run_dir.record.get(name)
    if earlier is not None and not update:
        try:
            refuse_differences(run_dir.root, {name: earlier}, {name: bound})
        except RunRefused as error:
            raise UserError(f"{error} With --update what does not depend on the change is kept and the rest is done again.") from error
    run_dir.remember(name, bound)


def check_identity(name: str, summary: Mapping[str, Any]) -> None:
    """RuntimeError unless every row that came in is in the output or in quarantine."""
    if summary["rows"] != summary["out"] + summary["quarantined"] or summary["quarantined"] != sum(summary["reasons"].values()):
        raise RuntimeError(f"{name}: {summary}: a row was lost")


def told(name: str, summary: Mapping[str, Any]) -> list[str]:
    """The result of a stage for people."""
    rows, out, lines_, gone = (summary[key] for key in ("rows", "out", "lines", "quarantined"))
    lines = [f"{name}: {rows} {SHOWN.get(name, 'answers')} in = {out} out ({lines_} lines) + {gone} quarantined"]
    if summary["reasons"]:
        lines.append(f"{name}: quarantined: " + ", ".join(f"{n} {reason}" for reason, n in summary["reasons"].items()))
    return lines


def inputs(root: Path, stages: Sequence[str]) -> dict[str, str]:
    """What the files that a stage reads hold."""
    return {name: _digest(root / f"{name}.jsonl") for name in stages}


def _digest(path: Path) -> str:
    if not path.is_file():
        return "none"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
