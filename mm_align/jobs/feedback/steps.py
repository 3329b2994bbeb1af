"""The stages of feedback as steps of a run: settings, inputs, and which model is asked what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError
from .folder import Session, Step, count_lines, inputs
from .models import known_by

if TYPE_CHECKING:
    from data_tools.io import Shard
    from data_tools.records import Rejected, Sample

    from ...rlaif.candidates import Candidates
    from ...rlaif.claims import Claims
    from ...rlaif.implicit import Implicit
    from ...rlaif.pairs import Pairs
    from ...rlaif.prompts import RowQuestion
    from ...rlaif.questions import Questions
    from ...rlaif.scores import Scores
    from ...rlaif.stage import Places, Stage, StageSummary, Watch
    from .config import SourceFields


# Prompts


def prompts_step(run: Session, source: SourceFields) -> Step:
    """Data -> samples.jsonl. Raises SourceError and UserError for data that cannot be read."""
    from ...rlaif.prompts import collect

    shards, question = shards_of(source), row_question(source)
    bound = {name: getattr(source, name) for name in ("question_key", "image_key", "limit")} | {"questions": list(question.questions)}
    return samples_step(shards, bound, lambda at: collect(rows_of(source, shards), question, run.root, at), "can be asked about")


def samples_step(shards: Sequence[Shard], bound: Mapping[str, Any], collected: Callable[[Places], StageSummary], what: str) -> Step:
    """Rows of these shards -> samples.jsonl, by `collected`. UserError where none of the rows does what `what` says."""
    from data_tools.run.directory import fingerprint

    def work(at: Places, _: Watch) -> StageSummary:
        summary = collected(at)
        if not summary.out:
            reasons = ", ".join(f"{n} {reason}" for reason, n in summary.reasons.items()) or "there are none"
            raise UserError(f"none of the {summary.rows} rows {what} ({reasons}); {at.quarantine} tells more")
        return summary

    return Step("samples", {**bound, "source": {shard.name: fingerprint(shard.path) for shard in shards}}, {}, work, counts="rows")


def shards_of(source: SourceFields) -> list[Shard]:
    from data_tools.io import list_shards

    if bool(source.data) == bool(source.images or _rows_file(source)):
        raise UserError("give either --data (rows of pictures with questions) or --images (a folder of pictures)")
    return list_shards(source.data or _rows_file(source) or str(source.images))


def _rows_file(source: SourceFields) -> str | None:
    """`--questions` where it is a file of rows that name their pictures."""
    return None if source.questions == "default" or _is_text(source.questions) else source.questions


def _is_text(path: str) -> bool:
    return path.lower().endswith(".txt")


def row_question(source: SourceFields) -> RowQuestion:
    """The question of a row: its own, else one of the given ones."""
    from ...rlaif.prompts import DEFAULT_QUESTION, RowQuestion

    if not _is_text(source.questions):
        return RowQuestion((DEFAULT_QUESTION,), key=source.question_key)
    try:
        lines = Path(source.questions).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --questions {source.questions}: {error}") from error
    questions = [line.strip() for line in lines if line.strip()]
    if not questions:
        raise UserError(f"--questions {source.questions} holds no question; give one a line")
    return RowQuestion(questions, own=False)


def rows_of(source: SourceFields, shards: list[Shard]) -> Iterator[Sample | Rejected]:
    """The first rows of all shards, with or without words of their own."""
    from data_tools.io import read

    options: dict[str, Any] = {"image_key": source.image_key, "conversations_first": True, "caption_optional": True}
    root = source.image_root or (source.images if _rows_file(source) else None)
    return islice((row for shard in shards for row in read(shard, image_root=root, **options)), source.limit)


# Stages that ask a model


def candidates_step(run: Session, options: Candidates, model: str) -> Step:
    from ...rlaif.candidates import candidates_stage
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        asked = run.models.get(model, "generate", "candidates")
        return run_stage(candidates_stage(run.root, options, asked.generate, asked.describe(), asked.block), at, watch)

    bound = {"model": known_by(model), **options.model_dump(mode="json")}
    return Step("candidates", bound, inputs(run.root, ["samples"], pictures=True), work, _lines(run, "samples"), "prompts")


def claims_step(run: Session, options: Claims, model: str | None) -> Step:
    from ...rlaif.claims import claims_stage

    model = _wanted(model, options.splitter, "an answer is divided by a model (splitter llm)")
    return _text_step(run, "claims", claims_stage, options, model, ["samples", "candidates"])


def questions_step(run: Session, options: Questions, model: str | None) -> Step:
    from ...rlaif.questions import questions_stage

    model = _wanted(model, options.writer, "questions are written by a model (writer llm)")
    return _text_step(run, "questions", questions_stage, options, model, ["claims"])


def _text_step(
    run: Session, name: str, stage_of: Callable[..., Stage], options: Claims | Questions, model: str | None, reads: Sequence[str]
) -> Step:
    """A stage that makes texts of texts: by rules, or by a `model` that is shown no picture."""
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        asked = run.models.get(model, "generate", name) if model else None
        return run_stage(stage_of(run.root, options, *((asked.generate, asked.describe()) if asked else ())), at, watch)

    bound = {**options.model_dump(mode="json"), **({"model": known_by(model)} if model else {})}
    return Step(name, bound, inputs(run.root, reads), work, _lines(run, "candidates"))


def _wanted(model: str | None, how: str, what: str) -> str | None:
    """The model, where one is needed. UserError where it is not named."""
    if how != "llm":
        return None
    if model is None:
        raise UserError(f"{what}, but no model is named for it: give --divider (rlaif feedback) or --model (a stage's own verb)")
    return model


def judge_step(run: Session, model: str) -> Step:
    from ...rlaif.judge import judge_stage
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        asked = run.models.get(model, "decide", "judged")
        return run_stage(judge_stage(run.root, asked.decide, asked.describe_decisions(), asked.block), at, watch)

    held = inputs(run.root, ["samples", "candidates", "questions"], pictures=True)
    return Step("judged", {"model": known_by(model)}, held, work, _lines(run, "samples"))


def _lines(run: Session, stage: str) -> Any:
    return lambda: count_lines(run.root / f"{stage}.jsonl")


# Stages that ask none


def scores_step(run: Session, options: Scores) -> Step:
    from ...rlaif.scores import scores_stage
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        return run_stage(scores_stage(run.root, options, left_before(run)), at, watch)

    return Step("scores", options.model_dump(mode="json"), inputs(run.root, ["candidates", "judged"]), work)


def left_before(run: Session) -> dict[str, str]:
    """Answers that left before they were scored: `stage: reason`."""
    from ...rlaif.stage import read_quarantine

    gone = {stage: read_quarantine(run.run_dir.quarantine(stage)) for stage in ("claims", "questions", "judged")}
    return {subject: f"{stage}: {reason}" for stage, left in gone.items() for subject, reason in left.items()}


def pairs_step(run: Session, options: Pairs) -> Step:
    from ...rlaif.pairs import make_pairs, write_pairs

    def work(at: Places, _: Watch) -> StageSummary:
        return write_pairs(*make_pairs(run.root, options), at)

    return Step("pairs", options.model_dump(mode="json"), inputs(run.root, ["samples", "candidates", "scores"]), work, counts="pairs")


# Labels of the implicit reward


def logprob_step(run: Session, name: str, model: str) -> Step:
    """`name`: policy or reference."""
    from ...rlaif.implicit import logprob_stage
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        asked = run.models.get(model, "likelihood", name)
        return run_stage(logprob_stage(run.root, name, asked.likelihood, asked.describe()), at, watch)

    held = inputs(run.root, ["samples", "candidates"], pictures=True)
    return Step(name, {"model": known_by(model)}, held, work, _lines(run, "samples"))


def implicit_scores_step(run: Session, options: Implicit) -> Step:
    from ...rlaif.implicit import scores_stage
    from ...rlaif.stage import run_stage

    def work(at: Places, watch: Watch) -> StageSummary:
        return run_stage(scores_stage(run.root, options), at, watch)

    return Step("scores", {"implicit": options.beta}, inputs(run.root, ["candidates", "policy", "reference"]), work)


def implicit_pairs_step(run: Session, options: Implicit) -> Step:
    from ...rlaif.implicit import make_pairs
    from ...rlaif.pairs import write_pairs

    def work(at: Places, _: Watch) -> StageSummary:
        return write_pairs(*make_pairs(run.root, options), at)

    bound = {"labeller": "implicit", **options.model_dump(mode="json")}
    return Step("pairs", bound, inputs(run.root, ["samples", "candidates", "policy", "reference"]), work, counts="pairs")
