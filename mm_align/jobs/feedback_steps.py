"""The stages of feedback as steps of a run: settings, inputs, and which model is asked what."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import UserError
from .feedback_folder import Step, inputs
from .feedback_models import Models, known_by

if TYPE_CHECKING:
    from data_tools.io import Shard
    from data_tools.records import Rejected, Sample
    from data_tools.shards import RunDir

    from ..rlaif.candidates import Candidates
    from ..rlaif.claims import Claims
    from ..rlaif.judge import Judging
    from ..rlaif.pairs import Pairs
    from ..rlaif.prompts import Asking
    from ..rlaif.questions import Questions
    from ..rlaif.scores import Scores
    from ..rlaif.stage import Places, StageSummary, Watch
    from .feedback_config import SourceFields


# Prompts


def prompts_step(run_dir: RunDir, source: SourceFields) -> Step:
    """Data -> samples.jsonl. Raises SourceError and UserError for data that cannot be read."""
    from data_tools.shards import fingerprint

    from ..rlaif.prompts import collect

    shards, asking = shards_of(source), asking_of(source)
    bound = {**source.model_dump(mode="json", exclude={"data", "images", "image_root"}), "questions": list(asking.questions)}

    def work(at: Places) -> StageSummary:
        return collect(rows_of(source, shards), asking, run_dir.root, at)

    return Step("samples", bound, {shard.name: fingerprint(shard.path) for shard in shards}, work)


def shards_of(source: SourceFields) -> list[Shard]:
    from data_tools.io import list_shards

    if bool(source.data) == bool(source.images):
        raise UserError("give either --data (rows of pictures with questions) or --images (a folder of pictures)")
    return list_shards(source.data or _rows_file(source) or str(source.images))


def _rows_file(source: SourceFields) -> str | None:
    """`--questions` where it is a file of rows that name their pictures."""
    plain = source.questions == "default" or source.questions.lower().endswith(".txt")
    return None if plain else source.questions


def asking_of(source: SourceFields) -> Asking:
    """The question of a row: its own, else one of the given ones."""
    from ..rlaif.prompts import DEFAULT_QUESTION, Asking

    if not source.questions.lower().endswith(".txt"):
        return Asking((DEFAULT_QUESTION,), key=source.question_key)
    try:
        lines = Path(source.questions).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --questions {source.questions}: {error}") from error
    questions = [line.strip() for line in lines if line.strip()]
    if not questions:
        raise UserError(f"--questions {source.questions} holds no question; give one a line")
    return Asking(questions, own=False)


def rows_of(source: SourceFields, shards: list[Shard]) -> Iterator[Sample | Rejected]:
    from data_tools.io import read

    root = source.image_root or (source.images if _rows_file(source) else None)
    rows = (
        row
        for shard in shards
        for row in read(shard, image_key=source.image_key, image_root=root, conversations_first=True, caption_optional=True)
    )
    return islice(rows, source.limit)


# Stages that ask a model


def candidates_step(run_dir: RunDir, options: Candidates, model: str, models: Models, watch: Watch) -> Step:
    from ..rlaif.candidates import candidates_stage
    from ..rlaif.stage import run_stage

    def work(at: Places) -> StageSummary:
        backend = models.get(model, "generate")
        return run_stage(candidates_stage(run_dir.root, options, backend.generate, backend.describe()), at, watch)

    return Step("candidates", {"model": known_by(model), **options.model_dump(mode="json")}, inputs(run_dir.root, ["samples"]), work)


def judge_step(run_dir: RunDir, options: Judging, model: str, models: Models, watch: Watch) -> Step:
    from ..rlaif.judge import judge_stage
    from ..rlaif.stage import run_stage

    def work(at: Places) -> StageSummary:
        backend: Any = models.get(model, "decide")
        return run_stage(judge_stage(run_dir.root, options, backend.decide, backend.describe()), at, watch)

    bound = {"model": known_by(model), **options.model_dump(mode="json", include={"max_outside"})}
    return Step("judged", bound, inputs(run_dir.root, ["samples", "candidates", "questions"]), work)


def claims_step(run_dir: RunDir, options: Claims, watch: Watch) -> Step:
    from ..rlaif.claims import claims_stage
    from ..rlaif.stage import run_stage

    def work(at: Places) -> StageSummary:
        return run_stage(claims_stage(run_dir.root, options), at, watch)

    return Step("claims", options.model_dump(mode="json"), inputs(run_dir.root, ["samples", "candidates"]), work)


def questions_step(run_dir: RunDir, options: Questions, watch: Watch) -> Step:
    from ..rlaif.questions import questions_stage
    from ..rlaif.stage import run_stage

    def work(at: Places) -> StageSummary:
        return run_stage(questions_stage(run_dir.root, options), at, watch)

    return Step("questions", options.model_dump(mode="json"), inputs(run_dir.root, ["claims"]), work)


# Stages that ask none


def scores_step(run_dir: RunDir, options: Scores, watch: Watch) -> Step:
    from ..rlaif.scores import scores_stage
    from ..rlaif.stage import run_stage

    def work(at: Places) -> StageSummary:
        return run_stage(scores_stage(run_dir.root, options, left_before(run_dir)), at, watch)

    return Step("scores", options.model_dump(mode="json"), inputs(run_dir.root, ["candidates", "judged"]), work)


def left_before(run_dir: RunDir) -> dict[str, str]:
    """Answers that left before they were scored: `stage: reason`."""
    from ..rlaif.stage import read_quarantine

    stages = ("claims", "questions", "judged")
    return {subject: f"{stage}: {reason}" for stage in stages for subject, reason in read_quarantine(run_dir.quarantine(stage)).items()}


def pairs_step(run_dir: RunDir, options: Pairs) -> Step:
    def work(at: Places) -> StageSummary:
        return write_pairs(run_dir.root, options, at)

    return Step("pairs", options.model_dump(mode="json"), inputs(run_dir.root, ["samples", "candidates", "scores"]), work)


def write_pairs(root: Path, options: Pairs, at: Places) -> StageSummary:
    """pairs.jsonl, and in its quarantine the pairs that the length balance dropped."""
    from data_tools.durable import put_in_place
    from data_tools.io.jsonl import dump
    from data_tools.shards import write_atomic

    from ..rlaif.pairs import make_pairs, preference
    from ..rlaif.stage import StageSummary

    kept, dropped = make_pairs(root, options)
    temporary = at.scratch("output")
    with temporary.open("wb") as out:
        out.writelines(dump(_placed(preference(pair).to_dict(), root)) for pair in kept)
        out.flush()
        os.fsync(out.fileno())
    put_in_place(temporary, at.output)
    lines = [{"subject": f"{pair.chosen.id} > {pair.rejected.id}", "reason": "length_balance", "detail": ""} for pair in dropped]
    write_atomic(at.quarantine, b"".join(map(dump, lines)))
    reasons = {"length_balance": len(dropped)} if dropped else {}
    return StageSummary(len(kept) + len(dropped), len(kept), len(dropped), len(kept), reasons, fresh=len(kept))


def _placed(row: dict[str, Any], root: Path) -> Mapping[str, Any]:
    """The row with its pictures' paths told from the folder."""
    for image in row["sample"]["images"]:
        if image["path"] and "://" not in image["path"]:
            image["path"] = Path(os.path.relpath(image["path"], root)).as_posix()
    return row
