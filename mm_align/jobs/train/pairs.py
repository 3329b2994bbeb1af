"""What `mmalign train` does for preference pairs before the first step: the layout of their rows, and the reference's scores."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError
from .arguments import batches, in_bf16
from .folder import OWN_REFERENCE, rank, world

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from ...losses import Objective
    from ...models import LvlmProcessor
    from ...train.pair_data import PairCollator, PairSet, ReferenceField
    from ...train.preference_watch import PreferenceDynamics
    from ...train.reference import ReferenceCache, References
    from ...train.reference_scores import Filled
    from ...train.trainer import ObjectiveTrainer
    from ..feedback.reference import ReferenceConfig
    from .config import TrainConfig
    from .setup import Ready

log = logging.getLogger(__name__)
SHOWN = 2  # pairs on which both layouts are compared


def check_pairs(config: TrainConfig) -> None:
    """UserError for settings that pairs do not have."""
    if config.packing:
        raise UserError("packing is for samples; pairs put prompt and answers into one row by themselves: leave packing away")
    if config.too_long == "cut":
        raise UserError("too_long: cut would cut answers of pairs; leave it away, or raise max_length")


def pair_collator(config: TrainConfig, processor: LvlmProcessor, objective: Objective) -> PairCollator:
    """Batches as the objective needs them, in the layout that the config wants."""
    from ...models.corruptions import Corruption
    from ...train.pair_data import PairCollator

    corruption = Corruption(config.contrast, config.seed) if getattr(objective, "needs_contrast", False) else None
    weight = getattr(objective, "token_weights", None)
    return PairCollator(processor, layout=config.pair_layout, corruption=corruption, token_weight=weight)


def score_pairs(config: TrainConfig, parts: Ready, root: Path) -> None:
    """Tell the collator the layout that the model can read, and give every pair its reference's scores where the objective needs them.

    The reference is the model as it is now, before the first step: low-rank updates are switched off. Under FSDP a copy is asked, for
    which the device has room where the run computes in bfloat16, and the model itself waits in main memory for its spreading.
    """
    import torch
    from accelerate import PartialState

    from ...train.reference import context_of
    from ...train.reference_scores import beside

    collate: Any = parts.collate
    sets: list[Any] = [data for data in (parts.data, parts.eval_data) if data is not None]
    device, dtype = PartialState(cpu=config.device == "cpu").device, computed_in(config)
    asked = beside(parts.model, device, dtype) if config.fsdp else parts.model.to(device)
    settle_layout(asked, collate, sets[0], dtype)
    if getattr(parts.objective, "needs_reference", False):
        folder = Path(config.reference) if config.reference else root / OWN_REFERENCE
        micro = batches(config.batch_size, config.micro_batch, world()).micro
        context = context_of(parts.model, collate.processor, dtype=dtype, layout=collate.layout)
        for data in sets:
            score(folder, context, asked, data, collate, dtype, micro)
    if config.fsdp and device.type == "cuda":
        del asked
        torch.cuda.empty_cache()


def computed_in(config: TrainConfig | ReferenceConfig) -> torch.dtype:
    """What a forward computes in: bfloat16 by automatic mixed precision, or float32."""
    import torch

    return torch.bfloat16 if in_bf16(config) else torch.float32


def settle_layout(model: Any, collate: PairCollator, data: PairSet, dtype: torch.dtype) -> None:
    """From "shared" to "duplicated" rows where the model cannot read shared ones, with a line in the log."""
    import torch

    from ...models.pairs import collate_pairs
    from ...train.pair_layouts import check_shared_prompt

    pairs = [pair for pair in data.pairs(range(min(SHOWN, len(data.store)))) if pair is not None]
    if collate.layout == "duplicated" or not pairs:
        return
    device = next(model.parameters()).device
    shared, duplicated = (collate_pairs(pairs, collate.processor, layout=name, device=device) for name in ("shared", "duplicated"))
    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = check_shared_prompt(model, shared, duplicated, longest=int(data.store.lengths.max()))
    if found.layout == "duplicated" and rank() == 0:
        log.warning("pairs are read with a row for each answer, which takes longer: %s", found.reason)
    collate.layout = found.layout


def score(
    folder: Path, context: Mapping[str, str], model: Any, data: PairSet, collate: PairCollator, dtype: torch.dtype, micro: int
) -> list[Filled]:
    """Give a pair set its references: from the cache in `folder`, or scored now and added to it; of the real pictures, and where the
    collator corrupts pictures of these too. context: what they are known by (`context_of`)."""
    from ...train.pair_data import PairCollator
    from ...train.reference import ReferenceCache

    cache = ReferenceCache(folder, context)
    tell_others(cache)
    plain = PairCollator(collate.processor, layout=collate.layout)
    ways: dict[ReferenceField, PairCollator] = {"reference": plain}
    if collate.corruption is not None:
        ways["contrast_reference"] = collate
    done = {name: score_way(cache, data, model, way, dtype, micro) for name, way in ways.items()}
    data.references = {name: references for name, (references, _) in done.items()}
    return [filled for _, filled in done.values()]


def tell_others(cache: ReferenceCache) -> None:
    """Say that a folder holds scores of other models or settings, which are left alone."""
    if rank() == 0 and not len(cache):
        for differs in cache.others():
            log.warning("%s holds scores of another model (%s differ); they are not used", cache.root, ", ".join(differs))


def score_way(
    cache: ReferenceCache, data: PairSet, model: Any, collate: PairCollator, dtype: torch.dtype, micro: int
) -> tuple[References, Filled]:
    """The references of a pair set; processes share the work and wait for each other."""
    from accelerate import PartialState

    from ...train.reference import Keys
    from ...train.reference_scores import Scorer, fill, references_of

    references = references_of(cache, data, Keys(collate.corruption))
    if world() > 1:  # shares are of what nobody has scored: all look before anyone adds
        PartialState().wait_for_everyone()
    done = fill(references, data, Scorer(model, collate, dtype=dtype), micro, rank=rank(), world=world())
    if world() > 1:
        PartialState().wait_for_everyone()
    cache.refresh()
    if rank() == 0:
        what = "reference" if collate.corruption is None else f"reference of corrupted pictures ({collate.corruption.kind})"
        log.info("%s: %d pairs scored in %.1f s, %d known", what, done.scored, done.seconds, done.known)
    return references, done


def dynamics(parts: Ready, trainer: ObjectiveTrainer) -> PreferenceDynamics:
    """The watch over chosen, rejected and unseen answers: the last are those to other prompts, of `eval_data` where there is some."""
    from ...train.preference_watch import PreferenceDynamics, unseen_answers, unseen_batch

    data: Any = parts.data if parts.eval_data is None else parts.eval_data
    collate: Any = parts.collate
    batch = unseen_batch(data, collate)
    if batch is None:
        return PreferenceDynamics()

    def probe() -> dict[str, float]:
        with trainer.compute_loss_context_manager():
            told: dict[str, float] = unseen_answers(trainer.accelerator.unwrap_model(trainer.model), batch)
            return told

    return PreferenceDynamics(probe, trainer.log)
