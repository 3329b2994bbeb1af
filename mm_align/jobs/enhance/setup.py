"""Before `mmalign enhance-data` judges a row: options that cannot work are refused, models, step and plan made ready.

What "auto" came to is bound to the run, so that a continued run computes the same.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError
from .scorers import Loaded, Scorer, load_scorers
from .source import keys_of
from .stages import about_stages, block_rows, check_stages, signal_parts, tells_signals

if TYPE_CHECKING:
    from data_tools.aitqe import AitqeStep, Guards, Policy
    from data_tools.calls import Backend
    from data_tools.run.directory import RunDir
    from data_tools.run.plan import Plan

    from ...backends.endpoint_options import EndpointOptions
    from .config import EnhanceConfig

log = logging.getLogger(__name__)


def check_options(config: EnhanceConfig) -> None:
    """What can be refused before a model is loaded."""
    from data_tools.io.paths import is_remote, local

    if config.image_root and not is_remote(config.image_root) and not Path(local(config.image_root)).is_dir():
        raise UserError(f"--image-root '{config.image_root}' is no folder; it is where relative picture paths start from")
    _refuse_idle_limits(config)
    try:
        _policy(config)
        _guards(config)
        check_stages(config)
        _check_library(config)
    except ValueError as error:
        raise UserError(str(error)) from error
    names = {"SOURCE": config.source, "--out": config.out}
    names |= {f"--{key}-key": getattr(config, f"{key}_key") for key in ("caption", "image", "uid")}
    for flag, given in names.items():
        if given is not None and not given.strip():
            raise UserError(f"{flag} is empty; is a variable of the shell not set?")
    source, out = Path(config.source).resolve(), Path(config.out).resolve()
    if source == out or (source.is_dir() and (source in out.parents or out in source.parents)):
        raise UserError(f"--out '{config.out}' and the source '{config.source}' lie inside each other; choose a folder outside the source")


def _check_library(config: EnhanceConfig) -> None:
    """SourceError (a ValueError) where the extra that is asked for is absent."""
    if config.fast_pictures:
        from data_tools.io import fast_jpeg

        fast_jpeg.library()


def _refuse_idle_limits(config: EnhanceConfig) -> None:
    """UserError for limits that only policy threshold compares with; the default, written out, is no wish."""
    floors = config.floors and f"--set floors.{next(iter(config.floors))}"
    idle = "--min-overall" if config.min_overall != type(config).model_fields["min_overall"].default else floors
    if idle and config.policy != "threshold":
        raise UserError(f"{idle} has no effect with policy {config.policy!r}: add --policy threshold")


class Models(NamedTuple):
    """What the stages ask: the quality model and its step, both None where `aitqe` is no stage; the others' models by stage."""

    backend: Backend | None
    step: AitqeStep | None
    scorers: Mapping[str, Scorer]


class Ready(NamedTuple):
    """`backend`: the quality model, None where no stage asks it. `told`: what the report says of models, policy and filters."""

    backend: Backend | None
    plan: Plan
    told: dict[str, Any]


def ready(config: EnhanceConfig, run_dir: RunDir, backend: Backend | None, asking: EndpointOptions) -> Ready:
    """The models and what is done with them, after making sure that they are those of the run's first start."""
    earlier = run_dir.record.get("resolved", {})
    models = load_models(config, asking, backend, earlier | run_dir.record.get("shrunk", {}))
    told = _bound(models, run_dir) | about_stages(config)
    resolved = earlier or _resolved(config, models)
    run_dir.bind("resolved", resolved)
    return Ready(models.backend, make_plan(config, models, resolved["batch_size"], run_dir), told)


def load_models(
    config: EnhanceConfig, asking: EndpointOptions, backend: Backend | None, resolved: Mapping[str, Any] = MappingProxyType({})
) -> Models:
    """Every stage's model. backend: the quality model, where it is loaded already; resolved: how it was loaded at the first start."""
    backend = (backend or _load_model(config, asking, resolved)) if "aitqe" in config.stages else None
    return models_of(config, backend, load_scorers(config, Loaded(asking, {} if backend is None else {config.model: backend})))


def models_of(config: EnhanceConfig, backend: Backend | None, scorers: Mapping[str, Scorer]) -> Models:
    """These models with the step that asks the quality model; the guard that compares rewrites asks the one of stage similarity."""
    step = None if backend is None else make_step(config, backend)
    if step is not None and config.max_similarity_drop is not None:
        step = _guarded(step, scorers["similarity"], config.max_similarity_drop)
    return Models(backend, step, scorers)


def _bound(models: Models, run_dir: RunDir) -> dict[str, Any]:
    """For the report: the models and the policy, after making sure that the models are those of the first start."""
    told: dict[str, Any] = {}
    if models.backend is not None and models.step is not None:
        told = {"model": models.backend.describe(), "policy": models.step.policy.describe()}
        run_dir.bind("model", told["model"])
        run_dir.bind("prompt", models.step.prompt.sha)
    scorers = {stage: scorer.about for stage, scorer in models.scorers.items()}
    if scorers:
        run_dir.bind("scorers", scorers)
    return told | ({"scorers": scorers} if scorers else {})


def remember_batch(run_dir: RunDir, backend: Backend | None) -> None:
    """When memory ran out the backend went on with fewer rows at once; a continued run then starts with as many."""
    size = getattr(backend, "batch_size", None)
    if size is not None and size < run_dir.record["resolved"]["batch_size"]:
        run_dir.remember("shrunk", {"batch_size": size})


def _load_model(config: EnhanceConfig, asking: EndpointOptions, resolved: Mapping[str, Any]) -> Backend:
    """The model on the device, dtype and batch size of the run's first start, or as asked."""
    from ...backends import load_backend

    log.info("loading %s", config.model)
    chosen: dict[str, Any] = {key: resolved.get(key, getattr(config, key)) for key in ("batch_size", "device", "dtype")}
    chosen |= {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    _set_threads(resolved.get("threads"))
    return load_backend(config.model, endpoint=asking, **chosen)


def _set_threads(threads: int | None) -> None:
    if threads:
        import torch

        torch.set_num_threads(threads)


def _resolved(config: EnhanceConfig, models: Models) -> dict[str, Any]:
    """What "auto" came to; a continued run uses the same, so that it computes the same."""
    if models.backend is None:
        return {"batch_size": block_rows(config, [scorer.batch_size for scorer in models.scorers.values()])}
    resolved: dict[str, Any] = {"batch_size": int(getattr(models.backend, "batch_size", 16))}
    model: Any = getattr(models.backend, "model", None)
    if model is not None and hasattr(model, "device"):
        import torch

        resolved |= {"device": str(model.device), "dtype": str(model.dtype).removeprefix("torch."), "threads": torch.get_num_threads()}
    return resolved


def _policy(config: EnhanceConfig) -> Policy:
    from data_tools.aitqe import Policy

    return Policy(config.policy, config.min_overall, config.floors, max_rewrite_fraction=config.max_rewrite_fraction)


def _guards(config: EnhanceConfig) -> Guards:
    from data_tools.aitqe import Guards

    return Guards(**config.guards.model_dump())


def make_step(config: EnhanceConfig, backend: Backend) -> AitqeStep:
    """The model's question, policy and guards as one step; UserError where the model cannot do what they need."""
    from data_tools.aitqe import AITQE_PROMPT, GENERAL_PROMPT, AitqeStep
    from data_tools.calls import CallNotSupported

    kind = config.prompt if config.prompt != "auto" else _own_prompt(backend)
    likelihood = backend.likelihood if "likelihood" in backend.faces else None
    prompt = AITQE_PROMPT if kind == "aitqe" else GENERAL_PROMPT
    try:
        policy, guards = _policy(config), _guards(config)
        return AitqeStep(
            backend.generate, likelihood, prompt, config.mode, policy, guards, config.max_tokens, rescore=config.rescore, poor=config.poor
        )
    except (ValueError, CallNotSupported) as error:
        raise UserError(str(error)) from error


def _guarded(step: AitqeStep, scorer: Scorer, max_drop: float) -> AitqeStep:
    """The step with the guard that compares rewrites by the model of stage similarity."""
    from data_tools.aitqe import SimilarityGuard
    from data_tools.filters.similarity import SimilarityFilter

    assert isinstance(scorer.filter, SimilarityFilter)
    return dataclasses.replace(step, similarity=SimilarityGuard(scorer.filter.score, max_drop))


def _model_parts(step: AitqeStep, backend: Backend) -> dict[str, Any]:
    """What a plan needs to know of the model's stage."""
    from data_tools.aitqe import audit_arrow_type, audit_fields

    provenance = {**backend.describe(), **step.describe()}
    return {
        "step": step,
        "audit": lambda verdict: audit_fields(verdict, provenance),
        "audit_type": audit_arrow_type,
        "rule": step.policy.shard_rule(),
    }


def _own_prompt(backend: Backend) -> str:
    """The question the model was trained on: AITQE's for models that take plain prompts, the general one for chat models."""
    processor = getattr(getattr(backend, "prompts", None), "processor", None)
    return "general" if processor is not None and getattr(processor, "prompt_style", "chat") != "plain" else "aitqe"


def make_plan(config: EnhanceConfig, models: Models, block_rows: int, run_dir: RunDir | None = None) -> Plan:
    """What the pipeline is to do with every shard; each row's audit names the model and the step (run_dir: see `signal_parts`)."""
    from data_tools.run.plan import Plan

    step, parts = models.step, {}
    if models.backend is not None and step is not None:
        parts = _model_parts(step, models.backend)
    if tells_signals(config):
        parts |= signal_parts(config, step, parts, [scorer.filter for scorer in models.scorers.values()], run_dir)
    return Plan(
        **parts,
        block_rows=block_rows,
        format=config.format,
        **keys_of(config),
        uid_key=config.uid_key,
        max_pixels=config.max_pixels,
        fast_pictures=find_spec("simplejpeg") is not None if config.fast_pictures is None else config.fast_pictures,
        limit=config.limit,
        on_duplicate=config.on_duplicate,
        seed=config.seed,
    )
