"""Stages of `mmalign enhance-data` that ask a model for signals: which model each needs, and its filter made ready."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import UserError

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.filters import Filter

    from ...backends.endpoint_options import EndpointOptions
    from .config import EnhanceConfig

log = logging.getLogger(__name__)


class Scorer(NamedTuple):
    """A filter with its model, and what the run is bound to of them. `batch_size`: rows that its model likes at once."""

    filter: Filter
    about: dict[str, Any]
    batch_size: int | None = None


class Loaded(NamedTuple):
    """What is there before scorers are loaded: how endpoints are asked, and backends by their name in the config."""

    asking: EndpointOptions
    backends: Mapping[str, Backend]


def mlm(config: EnhanceConfig, names: Sequence[str], loaded: Loaded) -> Scorer:
    """MLM-Filter's metrics by any backend; one that the run loads anyway is not loaded twice."""
    from data_tools.filters.mlm_filter import MlmFilter, prompt_sha

    from ...backends import load_backend

    name = config.mlm_model or ""
    if name in loaded.backends:
        backend = loaded.backends[name]
    else:
        log.info("loading %s", name)
        placed: dict[str, Any] = {"device": config.device, "dtype": config.dtype, "batch_size": config.batch_size}
        backend = load_backend(name, trust_remote_code=config.trust_remote_code, endpoint=loaded.asking, **placed)
    about = {**backend.describe(), "prompt_sha": prompt_sha()}
    return Scorer(MlmFilter(backend.generate, names), about, getattr(backend, "batch_size", None))


def similarity(config: EnhanceConfig, names: Sequence[str], loaded: Loaded) -> Scorer:
    """Cosine of picture and caption by an encoder pair."""
    from data_tools.filters.similarity import SimilarityFilter
    from vision.safe_weights import digest, refuse_pickled_folder
    from vision.similarity import load_similarity

    name = config.similarity_model or ""
    with _said():
        if Path(name).is_dir():
            refuse_pickled_folder(name)
        score = load_similarity(name, **_placed(config))
    about = {"model": Path(name).name, "weights": digest(name)} if Path(name).is_dir() else {"model": name}
    return Scorer(SimilarityFilter(score, names), about)


def aesthetic(config: EnhanceConfig, names: Sequence[str], loaded: Loaded) -> Scorer:
    """A LAION head on the encoder that it was trained on."""
    from data_tools.filters.aesthetic import AestheticFilter
    from vision.aesthetic import AestheticScorer, load_head
    from vision.pairs import load_pair
    from vision.safe_weights import digest

    path = config.aesthetic_head or ""
    with _said():
        head = load_head(path)
        score = AestheticScorer(load_pair(config.aesthetic_encoder, **_placed(config)), head, config.aesthetic_encoder)
    encoder = digest(config.aesthetic_encoder) if Path(config.aesthetic_encoder).is_dir() else config.aesthetic_encoder
    return Scorer(AestheticFilter(score, names), {"head": digest(path), "encoder": encoder})


def nsfw(config: EnhanceConfig, names: Sequence[str], loaded: Loaded) -> Scorer:
    """An image classifier of transformers, and the labels of it that count as unsafe."""
    from data_tools.filters.nsfw import NsfwFilter
    from vision.classifier import load_label_scorer
    from vision.safe_weights import digest

    name = config.nsfw_model or ""
    with _said():
        score = load_label_scorer(name, config.nsfw_labels, **_placed(config))
    about = {"model": Path(name).name, "labels": score.names} | ({"weights": digest(name)} if Path(name).is_dir() else {})
    return Scorer(NsfwFilter(score, names), about)


def ocr(config: EnhanceConfig, names: Sequence[str], loaded: Loaded) -> Scorer:
    """Text in pictures, by the networks that come with the extra or those of a folder."""
    from data_tools.filters.ocr import OcrFilter
    from vision.ocr import load_text_reader

    with _said():
        read = load_text_reader(config.ocr_model)
    return Scorer(OcrFilter(read, names), {"networks": read.digest})


@contextlib.contextmanager
def _said() -> Iterator[None]:
    """What a model's loader says in a sentence is a mistake of the user's."""
    try:
        yield
    except ValueError as error:
        raise UserError(str(error)) from error


def _placed(config: EnhanceConfig) -> dict[str, Any]:
    """Device and dtype for a model that looks at pictures."""
    from ...backends.load import check_device
    from ...backends.loading import pick_device, pick_dtype
    from ...models.bars import hide_bars_without_terminal

    hide_bars_without_terminal()
    check_device(config.device, config.dtype)
    device = pick_device(config.device)
    return {"device": device, "dtype": pick_dtype(config.dtype, device)}


class Stage(NamedTuple):
    """`made`: how its filter is; `option`: what names its model. `brought`: a model comes with its extra. `scanned`: its model is local and
    small enough to be asked about every row where a rule wants a share of all rows."""

    made: Callable[[EnhanceConfig, Sequence[str], Loaded], Scorer]
    option: str
    brought: bool = False
    scanned: bool = True


SCORING: dict[str, Stage] = {  # one a key of `data_tools.filters.SCORERS`
    "similarity": Stage(similarity, "similarity_model"),
    "mlm": Stage(mlm, "mlm_model", scanned=False),
    "aesthetic": Stage(aesthetic, "aesthetic_head"),
    "nsfw": Stage(nsfw, "nsfw_model"),
    "ocr": Stage(ocr, "ocr_model", brought=True),
}


def check_scorers(config: EnhanceConfig) -> None:
    """ValueError for a stage without its model, or a model without its stage."""
    for stage, way in SCORING.items():
        flag, given = f"--{way.option.replace('_', '-')}", getattr(config, way.option)
        if stage in config.stages and not given and not way.brought:
            raise ValueError(f"stage {stage} asks a model: say which by {flag}")
        if stage not in config.stages and given is not None:
            raise ValueError(f"{flag} has no effect without its stage: add {stage} to --stages")
    if config.nsfw_labels and "nsfw" not in config.stages:
        raise ValueError("--nsfw-labels has no effect without its stage: add nsfw to --stages")
    _check_similarity_guard(config)


def _check_similarity_guard(config: EnhanceConfig) -> None:
    """ValueError for a guard on rewrites where none are made, or without the model that it asks."""
    if config.max_similarity_drop is None:
        return
    lacking = next((stage for stage in ("similarity", "aitqe") if stage not in config.stages), None)
    if lacking is not None:
        raise ValueError(f"--max-similarity-drop compares rewrites with their pictures: add {lacking} to --stages")
    if config.poor == "drop":
        raise ValueError("--max-similarity-drop has no effect with --poor drop, by which nothing is rewritten")


def names_of(config: EnhanceConfig, stage: str) -> tuple[str, ...]:
    """The signals of a stage that --signals wants; all where it names none of them. ValueError for an unknown one."""
    from data_tools.filters import SCORERS
    from data_tools.filters.base import narrowed

    kinds: Mapping[str, type] = SCORERS[stage].kinds
    return narrowed(kinds, [name for name in config.signals if name.startswith(f"{stage}.")])


def asked_stages(config: EnhanceConfig) -> list[str]:
    """The stages that ask a model for signals, in the order of --stages."""
    return [stage for stage in config.stages if stage in SCORING]


def load_scorers(config: EnhanceConfig, loaded: Loaded) -> dict[str, Scorer]:
    """Every such stage's filter with its model."""
    return {stage: SCORING[stage].made(config, names_of(config, stage), loaded) for stage in asked_stages(config)}
