"""The folder of a feedback run: which stages are done, what they were done with, and doing one."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError
from ...rlaif.files import STAGES
from ..endpoint_costs import Spent, spent_in
from ..endpoint_fields import usage_line
from ..run_errors import user_errors

if TYPE_CHECKING:
    from data_tools.run.directory import RunDir

    from ...rlaif.stage import Places, Progress, StageSummary, Watch
    from .models import Models

log = logging.getLogger(__name__)
BOUND_AT_ONCE = frozenset({"config", "source", "models", "tour"})  # in the record of a run that is no session
OTHERS = ("images", "feedback.html", "calibration.html", "calibration.json", "audit.json")


class Step(NamedTuple):
    """A stage to be done. `bound`: settings that two starts must share. inputs: what the files that it reads hold. `work` does it,
    loading what it needs. total: units that are to come at most, where that is known. counts: what it calls its rows."""

    name: str
    bound: Mapping[str, Any]
    inputs: Mapping[str, str]
    work: Callable[[Places, Watch], StageSummary]
    total: Callable[[], int | None] = lambda: None
    counts: str = "answers"


@dataclass(frozen=True)
class StageReport:
    """What a stage's verb came to: its folder, what became of the rows of each stage, and of the judge its calibration where it was
    asked for."""

    folder: Path
    stages: Mapping[str, Mapping[str, Any]]
    calibration: Mapping[str, Any] | None = None


@dataclass
class Session:
    """One start of a verb in its folder: `do` does a step. quiet: nothing is printed. lines: what was done so far, for people."""

    run_dir: RunDir
    models: Models
    stop: Callable[[], bool]
    update: bool = False
    quiet: bool = False
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.run_dir.root

    def places(self, name: str) -> Places:
        from ...rlaif.stage import Places

        output, quarantine = self.root / f"{name}.jsonl", self.run_dir.quarantine(name)
        return Places(self.run_dir.journal(name), output, quarantine, lambda what: self.run_dir.scratch(f"{name}.{what}"))

    def do(self, step: Step) -> dict[str, Any]:
        """Do a stage, or say that it is done with these settings and inputs; its summary. Raises UserError for other settings."""
        known = self._done(step)
        if known is not None:
            log.info("%s: done already (%d lines)", step.name, known["lines"])
            self.summaries[step.name] = known
            return known
        self._bind(step)
        summary = self._worked(step).to_dict()
        check_identity(step.name, summary)
        told = {"bound": _plain(step.bound), "inputs": dict(step.inputs), "summary": summary}
        self.run_dir.mark_done(step.name, told)
        self.summaries[step.name] = summary
        asked = self.spent(step.name)
        lines = [*told_lines(step, summary), *([f"{step.name}: {usage_line(asked)}"] if asked else [])]
        self.lines += lines
        for line in [] if self.quiet else lines:
            print(line, flush=True)
        return summary

    def report(self, calibration: Mapping[str, Any] | None = None) -> StageReport:
        """Of the steps done so far."""
        return StageReport(self.root, self.summaries, calibration)

    @contextmanager
    def counted(self, stage: str) -> Iterator[Callable[[], None]]:
        """What endpoints are asked inside counts as the stage's; the yielded function keeps it on disk, as does the end."""
        spent = Spent(self.run_dir, self.models.asked, stage, self.models.asked.to_dict())
        try:
            yield spent.remember
        finally:
            spent.remember()

    def spent(self, stage: str | None = None) -> dict[str, Any]:
        """What endpoints were asked over all starts, for a stage or in all, and its cost; empty where none was."""
        return spent_in(self.models.config, [self.run_dir.usage], stage) if self.models.config else {}

    def redo(self, name: str) -> None:
        """Forget what a stage did before."""
        self.run_dir.forget(name)
        self.run_dir.remember(name, None)

    def _done(self, step: Step) -> dict[str, Any] | None:
        known = self.run_dir.done(step.name)
        same = known is not None and known["bound"] == _plain(step.bound) and known["inputs"] == dict(step.inputs)
        if known is None or not same or known["summary"]["again"] or not self.places(step.name).output.is_file():
            return None
        summary: dict[str, Any] = known["summary"]
        return summary

    def _bind(self, step: Step) -> None:
        """Refuse settings other than those of an earlier start; with `update` take them from now on."""
        from data_tools.run.directory import RunRefused, refuse_differences

        earlier, now = self.run_dir.record.get(step.name), _plain(step.bound)
        if earlier is not None and not self.update and self._began(step.name):
            try:
                refuse_differences(self.root, {step.name: earlier}, {step.name: now})
            except RunRefused as error:
                raise UserError(f"{error} With --update what does not depend on the change is kept and the rest is done again.") from error
        self.run_dir.remember(step.name, now)

    def _began(self, name: str) -> bool:
        """Whether anything came of it; a start that failed before (a misspelt model, say) binds nobody to its settings."""
        journal = self.run_dir.journal(name)
        return self.run_dir.done(name) is not None or (journal.is_file() and journal.stat().st_size > 0)

    def _worked(self, step: Step) -> StageSummary:
        from ...rlaif.stage import Watch
        from ..progress import showing

        with showing(step.total) as show, self.counted(step.name) as remember:

            def tell(progress: Progress) -> None:
                show(progress)
                remember()

            return step.work(self.places(step.name), Watch(self.stop, tell))


@contextmanager
def session(
    root: Path,
    models: Models,
    *,
    stages: Sequence[str] = STAGES,
    others: Sequence[str] = OTHERS,
    verb: str = "rlaif",
    update: bool = False,
    overwrite: bool = False,
) -> Iterator[Session]:
    """The folder, held, while stop signals are taken; what it refuses becomes UserError, what stops it `Stopped`.

    stages: each writes a file and a quarantine of its name; others: what else may be written there. verb: whose folder it is.
    """
    outputs = [*(f"{name}.jsonl" for name in stages), *(f"quarantine/{name}.jsonl" for name in stages), *others]
    with held(root, outputs, verb, overwrite=overwrite) as (run_dir, stop):
        yield Session(run_dir, models, stop, update)


@contextmanager
def held(root: Path, outputs: Sequence[str], verb: str, *, overwrite: bool) -> Iterator[tuple[RunDir, Callable[[], bool]]]:
    """A run's folder, and whether a stop was asked for. RunRefused for the folder of another verb, whose files have the same names."""
    from data_tools.run.directory import open_run

    from ..progress import stop_on_signals

    with user_errors(root), open_run(root, {}, outputs, overwrite=overwrite) as run_dir, stop_on_signals() as stop:
        _refuse_others(run_dir, verb)
        yield run_dir, stop


def _refuse_others(run_dir: RunDir, verb: str) -> None:
    from data_tools.run.directory import RunRefused

    whose = run_dir.record.get("verb", "another verb" if BOUND_AT_ONCE & run_dir.record.keys() else verb)
    if whose != verb:
        raise RunRefused(f"'{run_dir.root}' holds a run of {whose}, and this one is of {verb}. Choose another --out.")
    run_dir.remember("verb", verb)


def require(root: Path, stage: str) -> None:
    """UserError where the file that a stage reads is not there, before a folder is made for its own."""
    from ...rlaif.files import missing

    if not (root / f"{stage}.jsonl").is_file():
        raise missing(root / f"{stage}.jsonl", stage)


def check_identity(name: str, summary: Mapping[str, Any]) -> None:
    """RuntimeError unless every row that came in is in the output or in quarantine."""
    if summary["rows"] != summary["out"] + summary["quarantined"] or summary["quarantined"] != sum(summary["reasons"].values()):
        raise RuntimeError(f"{name}: {summary}: a row was lost")


def told_lines(step: Step, summary: Mapping[str, Any]) -> list[str]:
    """The result of a stage for people."""
    name = step.name
    rows, out, n, gone = (summary[key] for key in ("rows", "out", "lines", "quarantined"))
    shown = f" ({n} lines)" if n != out else ""
    told = [f"{name}: {rows} {step.counts} in = {out} out{shown} + {gone} quarantined"]
    if summary["reasons"]:
        told.append(f"{name}: quarantined: " + ", ".join(f"{count} {reason}" for reason, count in summary["reasons"].items()))
    if summary["again"]:
        told.append(f"{name}: {summary['again']} of these failed for a reason that may pass; the same command tries them again")
    return told


def inputs(root: Path, stages: Sequence[str], *, pictures: bool = False) -> dict[str, str]:
    """What the files that a stage reads hold, and where it shows pictures, which files these are."""
    held = {name: _digest(root / f"{name}.jsonl") for name in stages}
    return held | {"pictures": _pictures(root)} if pictures else held


def _digest(path: Path) -> str:
    if not path.is_file():
        return "none"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _pictures(root: Path) -> str:
    """Sizes and times of all pictures: whether something may have changed; what did, the stage finds by what they hold."""
    from ...rlaif.files import samples

    digest = hashlib.sha256()
    for sample in samples(root):
        for image in sample.images:
            path = Path(image.path or "")
            told = (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
            digest.update(repr((path.name, told)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def count_lines(path: Path) -> int | None:
    """Lines of a file, None where there is none."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _plain(value: Any) -> Any:
    """As it comes back from a file."""
    return json.loads(json.dumps(value))
