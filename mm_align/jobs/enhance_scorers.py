"""Stages of `mmalign enhance-data` that ask a model for signals: which model each needs, and its filter made ready."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.filters import Filter

    from .enhance import EnhanceConfig

log = logging.getLogger(__name__)


class Scorer(NamedTuple):
    """A filter with its model, and what the run is bound to of them. `batch_size`: rows that its model likes at once."""

    filter: Filter
    about: dict[str, Any]
    batch_size: int | None = None


def mlm(config: EnhanceConfig, names: Sequence[str], loaded: Mapping[str, Backend]) -> Scorer:
    """MLM-Filter's metrics by any backend; one that the run loads anyway is not loaded twice."""
    from data_tools.filters.mlm_filter import MlmFilter, prompt_sha

    from ..backends import load_backend

    name = config.mlm_model or ""
    if name in loaded:
        backend = loaded[name]
    else:
        log.info("loading %s", name)
        backend = load_backend(
            name, device=config.device, dtype=config.dtype, batch_size=config.batch_size, trust_remote_code=config.trust_remote_code
        )
    about = {**backend.describe(), "prompt_sha": prompt_sha()}
    return Scorer(MlmFilter(backend.generate, names), about, getattr(backend, "batch_size", None))


# stage -> how its filter is made, and the option that names its model
STAGES: dict[str, tuple[Callable[[EnhanceConfig, Sequence[str], Mapping[str, Backend]], Scorer], str]] = {"mlm": (mlm, "mlm_model")}


def check_scorers(config: EnhanceConfig) -> None:
    """ValueError for a stage without its model, or a model without its stage."""
    for stage, (_, option) in STAGES.items():
        flag, given = f"--{option.replace('_', '-')}", getattr(config, option)
        if stage in config.stages and given is None:
            raise ValueError(f"stage {stage} asks a model: say which by {flag}")
        if stage not in config.stages and given is not None:
            raise ValueError(f"{flag} has no effect without its stage: add {stage} to --stages")


def names_of(config: EnhanceConfig, stage: str) -> tuple[str, ...]:
    """The signals of a stage that --signals wants; all where it names none of them. ValueError for an unknown one."""
    from data_tools.filters import SCORERS
    from data_tools.filters.base import narrowed

    kinds: Mapping[str, type] = SCORERS[stage].kinds
    return narrowed(kinds, [name for name in config.signals if name.startswith(f"{stage}.")])


def asked_stages(config: EnhanceConfig) -> list[str]:
    """The stages that ask a model for signals, in the order of --stages."""
    return [stage for stage in config.stages if stage in STAGES]


def load_scorers(config: EnhanceConfig, loaded: Mapping[str, Backend]) -> dict[str, Scorer]:
    """Every such stage's filter with its model. `loaded`: backends that are there already, by their name in the config."""
    return {stage: STAGES[stage][0](config, names_of(config, stage), loaded) for stage in asked_stages(config)}
