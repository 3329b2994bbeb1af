"""The folder of an evaluation: for each model and benchmark a file of responses, asked for once and found again by what they depend on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError, to_yaml
from ..feedback.folder import Session, Step, held
from ..feedback.models import Models, known_by
from .build import PICTURES
from .suites import SCENES
from .videos import way_of

if TYPE_CHECKING:
    from data_tools.records import Response, Sample
    from data_tools.run.directory import RunDir

    from ...rlaif.stage import Places, StageSummary, Watch
    from .build import Suite
    from .config import EvaluateConfig

LONGEST = 96  # characters of a model's folder
TABLE = "table.json"


class Cell(NamedTuple):
    """A model on a benchmark. folder: the model's, in the run's."""

    model: str
    folder: str
    suite: Suite

    @property
    def name(self) -> str:
        return f"{self.folder}.{self.suite.name}"


class Failure(NamedTuple):
    """A sample that got no response, and why."""

    sample_id: str
    reason: str
    detail: str


class Answering(Session):
    """One start of an evaluation: a step a cell."""

    def places(self, name: str) -> Places:
        from ...rlaif.stage import Places

        folder, _, bench = name.rpartition(".")
        output = responses_file(self.root, folder, bench)
        output.parent.mkdir(parents=True, exist_ok=True)
        return Places(
            self.run_dir.journal(name), output, self.run_dir.quarantine(name), lambda what: self.run_dir.scratch(f"{name}.{what}")
        )


@contextmanager
def answering(config: EvaluateConfig) -> Iterator[Answering]:
    """The folder, held. Raises UserError and `Stopped`."""
    root = Path(config.out)
    outputs = [*folders(config.model).values(), "quarantine", SCENES, PICTURES, TABLE]
    with held(root, [name for name in outputs if name != "quarantine"], "eval", overwrite=config.overwrite) as (run_dir, stop):
        run_dir.remember("outputs", sorted({*run_dir.record["outputs"], *outputs}))
        yield Answering(run_dir, Models(config), stop, update=True)


def folders(models: Sequence[str]) -> dict[str, str]:
    """Model -> its folder, named as lm-eval names it."""
    found: dict[str, str] = {}
    for model in models:
        name = re.sub(r'["<>:/|\\?*\[\]]+', "__", model)[-LONGEST:].lstrip(".") or "model"
        taken = sum(name == other or other.startswith(f"{name}-") for other in found.values())
        found[model] = f"{name}-{taken + 1}" if taken else name
    return found


def bind(run: RunDir, config: EvaluateConfig, suites: Sequence[Suite]) -> None:
    """Refuse models, benchmarks and settings other than those of an earlier start, unless `update`. Raises RunRefused."""
    from data_tools.disk.durable import write_atomic
    from data_tools.run.directory import refuse_differences

    now = {"models": {name: known_by(name) for name in config.model}, "bench": {suite.name: suite.bound() for suite in suites}}
    now = json.loads(json.dumps(now))
    earlier = run.record.get("evaluation")
    if earlier is not None and not config.update:
        try:
            refuse_differences(run.root, earlier, now)
        except ValueError as error:
            raise UserError(f"{error} With --update the responses that do not depend on the change are kept.") from error
    run.remember("evaluation", now)
    write_atomic(run.root / "config.yaml", to_yaml(config).encode())


def answers_step(run: Answering, cell: Cell) -> Step:
    """All samples of a benchmark asked of a model; what is in the ledger is not asked again."""
    from ...rlaif.candidates import answers_stage
    from ...rlaif.stage import run_stage

    suite = cell.suite

    def work(at: Places, watch: Watch) -> StageSummary:
        asked = run.models.get(cell.model, "generate", cell.name)
        way = way_of(suite.frames, asked.backend)
        settings = {"sampling": suite.sampling.to_dict(), "model": asked.describe(), "frames": way.frames}
        run.run_dir.remember("described", {**run.run_dir.record.get("described", {}), cell.model: asked.describe()})
        block = 1 if suite.frames else asked.block  # a video at a time: each is many pictures
        stage = answers_stage(cell.name, lambda: suite.samples, suite.sampling, settings, asked.generate, block, way.shown)
        return run_stage(stage, at, watch)

    bound = {"model": known_by(cell.model), **suite.bound()}
    return Step(cell.name, bound, {"samples": digest(suite.samples)}, work, lambda: len(suite.samples))


def digest(samples: Sequence[Sample]) -> str:
    """Of what is asked, and of the pictures as far as their names, sizes and times tell."""
    found = hashlib.sha256()
    seen: dict[str | None, Any] = {}
    for sample in samples:
        found.update(json.dumps([sample.id, [message.to_dict() for message in sample.messages]]).encode())
        for image in sample.images:
            if image.data is not None:
                found.update(image.data)
            elif image.path not in seen:
                path = Path(image.path or "")
                seen[image.path] = (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None
                found.update(repr((image.path, seen[image.path])).encode("utf-8", "surrogatepass"))
    return found.hexdigest()[:16]


# Reading back


def responses_file(root: Path, folder: str, bench: str) -> Path:
    return root / folder / "responses" / f"{bench}.jsonl"


def read_responses(root: Path, cell: Cell) -> dict[str, Response]:
    """By sample id. UserError for a line that is no response."""
    from data_tools.records import Response

    path = responses_file(root, cell.folder, cell.suite.name)
    return {response.sample_id: response for response in rows(path, Response.from_dict)}


def read_failures(run: RunDir, cell: Cell) -> list[Failure]:
    return list(rows(run.quarantine(cell.name), lambda row: Failure(row["subject"], row["reason"], row.get("detail", ""))))


def rows(path: Path, made: Callable[[Mapping[str, Any]], Any]) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield made(json.loads(line))
            except (ValueError, TypeError, KeyError) as error:
                raise UserError(f"{path}, line {number}: {type(error).__name__}: {error}") from error
