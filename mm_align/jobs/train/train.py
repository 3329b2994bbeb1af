"""`mmalign train`: one job for every stage; what is trained on what, and how, is the config's business.

What surrounds the steps has files of its own, in the order of a run: `config`, `folder` (who takes part, what stands where),
`setup` (what it is made of, from `model`, `objective` and `suites`), `arguments` (batches, steps), `pairs` (layout and reference of
preference pairs), `watch` (evaluations), `results` (final model, curves, counts); `dry_run` shows the first of these.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import Stopped, first_line, to_yaml
from ..run_errors import user_errors
from .arguments import arguments
from .config import TrainConfig
from .folder import BROKEN_EVAL, BROKEN_SUITES, CHECKPOINTS, FINISHED, LOG, SAMPLES, joined, rank, run_folder, world
from .objective import reads_pairs
from .pairs import dynamics, score_pairs
from .results import TrainReport, finish, lines
from .setup import Ready, check_options, ready

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from data_tools.run.directory import RunDir

    from ...train import ObjectiveTrainer

__all__ = ["TrainConfig", "run"]
log = logging.getLogger(__name__)


def run(config: TrainConfig) -> TrainReport:
    """Train, or continue, or say that it is done. Raises UserError for bad input and Stopped when the same command continues."""
    import torch

    from ...train.data import NoPictureLeft

    check_options(config)
    try:
        with user_errors(Path(config.out)):
            report = _dry(config) if config.dry_run else _run(config)
    except (FloatingPointError, NoPictureLeft) as error:
        return _failed(config, str(error))
    except torch.OutOfMemoryError as error:
        return _failed(
            config, f"memory ran out ({first_line(error).partition('. ')[0]}). Lower micro_batch, or try gradient_checkpointing, lora, fsdp"
        )
    if rank() == 0:
        print("\n".join(report.told))
    return report


def _failed(config: TrainConfig, why: str) -> TrainReport:
    log.error("error: %s", why)
    return TrainReport(Path(config.out), exit_code=1)


def _dry(config: TrainConfig) -> TrainReport:
    from .dry_run import dry_run

    return TrainReport(Path(config.out), dry_run(config))


def _run(config: TrainConfig) -> TrainReport:
    from data_tools.disk.durable import remove, write_atomic

    root = Path(config.out)
    if rank() > 0 and not config.overwrite and root.joinpath(*FINISHED).is_file():
        return TrainReport(root)  # the first process says so
    with run_folder(config, root) as run_dir:
        if run_dir is not None and run_dir.condition == "finished":
            log.info("this run is already finished; --overwrite starts it anew")
            return TrainReport(root, lines(root, run_dir.finished() or {}))
        if run_dir is not None:
            if run_dir.condition == "unfinished":
                log.info("continuing the unfinished run in %s", root)
            write_atomic(root / "config.yaml", to_yaml(config).encode())
            remove(root / BROKEN_EVAL) if not config.eval_data else None
            remove(root / BROKEN_SUITES) if not config.eval_suites else None
        summary = _train(config, root, run_dir)
        return TrainReport(root) if run_dir is None else finish(config, run_dir, summary)


def _train(config: TrainConfig, root: Path, run_dir: RunDir | None) -> dict[str, Any]:
    """All steps that are left; a summary. Raises Stopped after a signal."""
    from ...train.checkpoints import clear_partial, step_of, whole_checkpoints
    from ..progress import stop_on_signals

    with joined(config):
        parts = ready(config, root, world())
        args = arguments(config, root, parts, world())
        if run_dir is not None:
            clear_partial(root / CHECKPOINTS)
            run_dir.journal("train").touch()  # from here on the folder is bound to this configuration
    if reads_pairs(config):
        score_pairs(config, parts, root)
    with stop_on_signals() as stop:
        trainer = make_trainer(config, parts, args, root, stop)
        whole = whole_checkpoints(root / CHECKPOINTS)
        checkpoint = whole[-1] if whole else None
        if checkpoint is None or step_of(checkpoint) < args.max_steps:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if stop() and trainer.state.global_step < args.max_steps:
            raise Stopped(f"stopped at step {trainer.state.global_step} of {args.max_steps}; the same command continues")
    return summary(parts, trainer, root)


def make_trainer(config: TrainConfig, parts: Ready, args: TrainingArguments, root: Path, stop: Callable[[], bool]) -> ObjectiveTrainer:
    """The trainer with everything that happens beside its steps. UserError where evaluations cannot be made."""
    from transformers import PrinterCallback

    from ...train import ObjectiveTrainer
    from ...train.callbacks import Evaluations, LogFile, LogLines, StopWhenAsked, WholeCheckpoints
    from .suites import selection
    from .watch import Watch

    trainer = ObjectiveTrainer(
        parts.model,
        args,
        parts.objective,
        schedule=config.schedule,
        lrs=config.lrs,
        train_dataset=parts.data,
        eval_dataset=parts.eval_data,
        data_collator=parts.collate,
        processing_class=parts.processor,
    )
    trainer.remove_callback(PrinterCallback)
    watch = Watch(config, parts, trainer, root / SAMPLES)
    if not watch.idle or config.select_by:
        loss = parts.eval_data is not None
        trainer.add_callback(Evaluations(watch, config.eval_steps, beside_loss=loss, saves=bool(config.select_by)))
    if reads_pairs(config):
        trainer.add_callback(dynamics(parts, trainer))
    trainer.add_callback(LogFile(root / LOG))
    trainer.add_callback(LogLines())
    trainer.add_callback(WholeCheckpoints(root / CHECKPOINTS, config.keep, selection(config, parts.suites)))
    trainer.add_callback(StopWhenAsked(stop))
    return trainer


def summary(parts: Ready, trainer: ObjectiveTrainer, root: Path) -> dict[str, Any]:
    """What is told at the end. A row whose picture broke on the way is one in quarantine, and none that was trained on."""
    lines, late = quarantined(parts.data.quarantine)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    told: dict[str, Any] = {"rows": len(parts.data.store) - late, "quarantined": sum(lines.values()), "reasons": dict(lines)}
    evaluation = parts.eval_data.quarantine if parts.eval_data is not None else None
    told["evaluation"] = dict(sum((quarantined(file)[0] for file in (evaluation, root / BROKEN_SUITES) if file), Counter[str]()))
    return told | ({"first_loss": losses[0], "loss": losses[-1]} if losses else {})


def quarantined(path: Path) -> tuple[Counter[str], int]:
    """Reasons of the rows in a quarantine file, and how many of them left after training had begun."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in dict.fromkeys(lines)]  # two workers may have met the same broken picture
    return Counter(row["reason"] for row in rows), sum(row.get("late", False) for row in rows)
