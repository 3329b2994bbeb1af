"""What `mmalign train` does for preference pairs before the first step: the layout of their rows, and the reference's scores."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import UserError
from .train_arguments import batches, in_bf16
from .train_folder import rank, world

if TYPE_CHECKING:
    import torch

    from ..losses import Objective
    from ..models import LvlmProcessor
    from ..train.pair_data import PairCollator, PairSet
    from ..train.preference_watch import PreferenceDynamics
    from ..train.reference import ReferenceCache
    from ..train.trainer import ObjectiveTrainer
    from .train_config import TrainConfig
    from .train_setup import Ready

log = logging.getLogger(__name__)
OWN_REFERENCE = ".mmalign/reference"
SHOWN = 2  # pairs on which both layouts are compared


def reads_pairs(config: TrainConfig) -> bool:
    """Whether the config's objective reads preference pairs."""
    from .train_setup import objective_class

    return objective_class(config).records == "pairs"


def check_pairs(config: TrainConfig) -> None:
    """UserError for settings that pairs do not have."""
    if config.packing:
        raise UserError("packing is for samples; pairs put prompt and answers into one row by themselves: leave packing away")
    if config.too_long == "cut":
        raise UserError("too_long: cut would cut answers of pairs; leave it away, or raise max_length")


def pair_collator(config: TrainConfig, processor: LvlmProcessor, objective: Objective) -> PairCollator:
    """Batches as the objective needs them, in the layout that the config wants."""
    from ..models.corruptions import Corruption
    from ..train.pair_data import PairCollator

    corruption = Corruption(config.contrast, config.seed) if getattr(objective, "needs_contrast", False) else None
    return PairCollator(processor, layout=config.pair_layout, corruption=corruption)


def scored(config: TrainConfig, parts: Ready, root: Path) -> Ready:
    """The parts with the layout that the model can read, and the reference's scores with every pair where the objective needs them.

    The reference is the model as it is now, before the first step: low-rank updates are switched off.
    """
    from accelerate import PartialState

    collate = pair_collator(config, parts.processor, parts.objective)
    sets: list[Any] = [data for data in (parts.data, parts.eval_data) if data is not None]
    parts.model.to(PartialState(cpu=config.device == "cpu").device)
    if collate.layout == "shared":
        collate.layout = layout_for(config, parts.model, collate, sets[0])
    if getattr(parts.objective, "needs_reference", False):
        score_all(config, parts, collate, sets, root)
    return parts._replace(collate=collate)


def layout_for(config: TrainConfig, model: Any, collate: PairCollator, data: PairSet) -> Any:
    """The layout that the model can read, with a line in the log where it is not the shared one."""
    import torch

    from ..models.pairs import collate_pairs
    from ..train.pair_layouts import check_shared_prompt

    pairs = [pair for pair in data.pairs(range(min(SHOWN, len(data.store)))) if pair is not None]
    if not pairs:
        return collate.layout
    device = next(model.parameters()).device
    shared, duplicated = (collate_pairs(pairs, collate.processor, layout=name, device=device) for name in ("shared", "duplicated"))
    with torch.autocast(device.type, torch.bfloat16) if in_bf16(config) else nullcontext():
        found = check_shared_prompt(model, shared, duplicated, longest=int(data.store.lengths.max()))
    if found.layout == "duplicated" and rank() == 0:
        log.warning("pairs are read with a row for each answer, which takes longer: %s", found.reason)
    return found.layout


def score_all(config: TrainConfig, parts: Ready, collate: PairCollator, sets: list[PairSet], root: Path) -> None:
    """Give every pair set its references, from the cache or scored now."""
    import torch

    from ..train.reference import ReferenceCache, context_of

    dtype = torch.bfloat16 if in_bf16(config) else torch.float32
    context = context_of(parts.model, parts.processor, dtype=dtype, layout=collate.layout)
    folder = Path(config.reference) if config.reference else root / OWN_REFERENCE
    cache = ReferenceCache(folder, context)
    tell_others(cache)
    micro = batches(config.batch_size, config.micro_batch, world()).micro
    for data in sets:
        data.references = {"reference": score_set(cache, data, parts.model, plain(collate), dtype, micro)}
        if collate.corruption is not None:
            data.references |= {"contrast_reference": score_set(cache, data, parts.model, collate, dtype, micro)}


def plain(collate: PairCollator) -> PairCollator:
    """The collator for real pictures alone."""
    from ..train.pair_data import PairCollator

    return PairCollator(collate.processor, layout=collate.layout)


def tell_others(cache: ReferenceCache) -> None:
    """Say that a folder holds scores of another model, which are left alone."""
    if rank() == 0 and not len(cache):
        for differs in cache.others():
            log.warning("%s holds scores with another %s; they are not used, the pairs are scored anew", cache.root, " and ".join(differs))


def score_set(cache: ReferenceCache, data: PairSet, model: Any, collate: PairCollator, dtype: torch.dtype, micro: int) -> Any:
    """The references of a pair set; processes share the work and wait for each other."""
    from accelerate import PartialState

    from ..train.reference import Keys
    from ..train.reference_scores import Scorer, fill, references_of

    references = references_of(cache, data, Keys(collate.corruption))
    done = fill(references, data, Scorer(model, collate, dtype=dtype), micro, rank=rank(), world=world())
    if world() > 1:
        PartialState().wait_for_everyone()
    cache.refresh()
    if rank() == 0:
        what = "reference" if collate.corruption is None else f"reference of corrupted pictures ({collate.corruption.kind})"
        log.info("%s: %d pairs scored in %.1f s, %d known", what, done.scored, done.seconds, done.known)
    return references


def dynamics(parts: Ready, trainer: ObjectiveTrainer) -> PreferenceDynamics:
    """The watch over chosen, rejected and unseen answers: the last are those to other prompts, of `eval_data` where there is some."""
    from ..train.preference_watch import PreferenceDynamics, unseen_answers, unseen_batch

    data: Any = parts.data if parts.eval_data is None else parts.eval_data
    collate: Any = parts.collate
    batch = unseen_batch(data, collate)
    if batch is None:
        return PreferenceDynamics()

    def probe() -> dict[str, float]:
        with trainer.compute_loss_context_manager():
            return unseen_answers(trainer.accelerator.unwrap_model(trainer.model), batch)

    return PreferenceDynamics(probe, trainer.log)
