"""The judge of an evaluation: a model that is loaded when a benchmark asks it, and whose replies are kept beside the responses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..feedback.models import known_by
from .answers import Answering, Cell

if TYPE_CHECKING:
    from data_tools.calls import Sampling
    from data_tools.records import Response, Sample

    from ...evals.judges import ModelJudge

log = logging.getLogger(__name__)


class JudgeModel:
    """The model `name`; a run whose judgements are all known loads none."""

    def __init__(self, run: Answering, name: str) -> None:
        self.run, self.name = run, name

    def of(self, cell: Cell) -> ModelJudge:
        """The judge of a cell's responses, with the ledger `MODEL/judge/BENCH.jsonl`."""
        from ...evals.judges import ModelJudge

        log.info("%s: judged by %s", cell.name, self.name)
        ledger = self.run.root / cell.folder / "judge" / f"{cell.suite.name}.jsonl"
        return ModelJudge(self.generate, self.describe(), ledger)

    def describe(self) -> dict[str, Any]:
        """As its backend describes it, remembered as long as its files stay the same."""
        known = self.run.run_dir.record.get("judge")
        if known is None or known["model"] != known_by(self.name):
            told = self.run.models.get(self.name, "generate", "judge").describe()
            known = {"model": known_by(self.name), "described": told}
            self.run.run_dir.remember("judge", known)
        return dict(known["described"])

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        """Raises RunStopped where a stop was asked for, and CallFailed for a picture that cannot be shown."""
        from data_tools.run.directory import RunStopped

        if self.run.stop():
            raise RunStopped("stopped on request; run the same command to continue")
        seen = shown(samples)
        return self.run.models.get(self.name, "generate", "judge").generate(seen, sampling)


def shown(samples: Sequence[Sample]) -> list[Sample]:
    """What a judge is asked, with its pictures decoded. Raises CallFailed for one that cannot be."""
    from data_tools.calls import CallFailed
    from data_tools.io import BadImage

    from ...rlaif.pictures import decoded

    try:
        return [decoded(sample) for sample in samples]
    except BadImage as error:
        raise CallFailed(str(error), again=False) from error
