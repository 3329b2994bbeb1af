"""What `mmalign train` came to: the final model as a plain folder, the curves, the counts, the report a caller gets."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError
from .arguments import in_bf16
from .folder import CACHE, CHECKPOINTS, CURVES, LOG, MODEL, OBJECTIVE, OWN_REFERENCE

if TYPE_CHECKING:
    from data_tools.run.directory import RunDir

    from .config import TrainConfig

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainReport:
    """What a run came to; `told` are the lines for people, `exit_code` the process's."""

    out: Path
    told: Sequence[str] = ()
    exit_code: int = 0


def finish(config: TrainConfig, run_dir: RunDir, summary: Mapping[str, Any]) -> TrainReport:
    """Write the final model and the curves, mark the run as finished."""
    from ...train.checkpoints import best_of, whole_checkpoints

    folder = run_dir.root / CHECKPOINTS
    best = best_of(folder) if config.select_by else None
    if config.select_by and best is None:
        raise UserError(f"no checkpoint has a '{config.select_by}' to be chosen by; the weights are in {folder}, --overwrite starts anew")
    chosen = folder / f"checkpoint-{best.step}" if best else whole_checkpoints(folder)[-1]
    export(config, chosen, run_dir.root)
    history = history_of(chosen if best is None else whole_checkpoints(folder)[-1])
    drawn = draw(history, run_dir.root / CURVES)
    told = dict(summary) | {"step": int(chosen.name.rpartition("-")[2]), "curves": drawn}
    told |= {"selected_by": config.select_by, "selected_value": best.value, "within_limits": best.holds} if best else {}
    for made in (CACHE, OWN_REFERENCE):
        shutil.rmtree(run_dir.root / made, ignore_errors=True)
    run_dir.finish(told)
    return TrainReport(run_dir.root, lines(run_dir.root, told))


def export(config: TrainConfig, checkpoint: Path, root: Path) -> None:
    """The checkpoint's weights as a folder that `from_pretrained` reads: low-rank updates merged, no optimiser, no objective."""
    import torch

    from data_tools.disk.durable import put_in_place, remove, sync

    from ...train.lora import apply_lora, merge_lora
    from ...train.trainer import OBJECTIVE_FILE
    from .model import build

    model, processor = build(config.model, config.seed)
    if config.lora is not None:
        apply_lora(model, config.lora.model_dump(exclude={"parts"}), config.lora.parts)
    load_weights(model, checkpoint)
    if config.lora is not None:
        merge_lora(model)
    if in_bf16(config):
        model.to(torch.bfloat16)
    temporary = root / f".{MODEL}.part"
    remove(temporary)
    model.save_pretrained(temporary)
    processor.save_pretrained(temporary)
    for file in (path for path in temporary.rglob("*") if path.is_file()):
        sync(file)
    put_in_place(temporary, root / MODEL)
    if config.save_objective and (checkpoint / OBJECTIVE_FILE).is_file():
        shutil.copyfile(checkpoint / OBJECTIVE_FILE, root / OBJECTIVE)


def load_weights(model: Any, checkpoint: Path) -> None:
    """The weights of a training checkpoint into `model`, file by file. UserError where some are missing."""
    from ...models.headers import load_tensors

    places = model.state_dict(keep_vars=True)
    missing = set(places)
    for name, tensor in load_tensors(checkpoint, places):
        places[name].data.copy_(tensor)
        missing.discard(name)
    loaded = {places[name].data_ptr() for name in places if name not in missing}
    if lacking := sorted(name for name in missing if places[name].data_ptr() not in loaded):  # tied ones are saved once
        raise UserError(f"{checkpoint} lacks {len(lacking)} weights of this model, {lacking[0]} first: was it written by another run?")


def history_of(checkpoint: Path) -> list[dict[str, Any]]:
    """Everything that was logged up to a checkpoint."""
    from data_tools.disk.durable import read_json

    return list((read_json(checkpoint / "trainer_state.json") or {}).get("log_history", []))


def draw(history: Sequence[Mapping[str, Any]], path: Path) -> bool:
    """Draw the curves; a line in the log where matplotlib is not there."""
    from ...train.curves import draw_curves

    try:
        return draw_curves(history, path)
    except ImportError:
        log.info("no %s: matplotlib is not installed (pip install 'mm-align[plot]'); %s holds the numbers", path.name, LOG)
        return False


def lines(root: Path, told: Mapping[str, Any]) -> list[str]:
    """The result for people."""
    said = [f"{told['rows']} rows trained on, {told['quarantined']} quarantined" + _reasons(told["reasons"])]
    if told.get("evaluation"):
        said.append(f"{sum(told['evaluation'].values())} rows of evaluations quarantined" + _reasons(told["evaluation"]))
    if "loss" in told:
        said.append(f"step {told['step']}: loss {told['first_loss']:.3f} -> {told['loss']:.3f}")
    if "selected_value" in told:
        outside = "" if told.get("within_limits", True) else " (no checkpoint is within select_limits)"
        said.append(f"chosen by {told['selected_by']} = {told['selected_value']:.4g}: step {told['step']}{outside}")
    return [*said, f"model: {root / MODEL}" + (f", curves: {root / CURVES}" if told["curves"] else "")]


def _reasons(reasons: Mapping[str, int]) -> str:
    return f" ({', '.join(f'{count} {reason}' for reason, count in reasons.items())})" if reasons else ""
