"""The pictures of each round: all prompts of the data once, and a slice of their own for every round."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import UserError
from ..feedback.config import SourceFields, part

if TYPE_CHECKING:
    from data_tools.records import Sample
    from data_tools.run.directory import RunDir

    from .config import RoundsConfig

ROWS = "rows.jsonl"


def sliced(run_dir: RunDir, config: RoundsConfig) -> None:
    """Write `samples.jsonl` and each round's `rows.jsonl`: the same files at every start. UserError for too few pictures."""
    from data_tools.run.directory import RunRefused

    from ...rlaif.files import samples
    from ..feedback.folder import Session
    from ..feedback.models import Models
    from ..feedback.steps import prompts_step

    run = Session(run_dir, Models(), stop=lambda: False)
    run.do(prompts_step(run, part(config, SourceFields)))
    prompts = list(samples(run.root))
    order = shuffled(prompts, config.seed)
    size = config.images_per_round or len(order) // config.rounds
    if size * config.rounds > len(order) or not size:
        raise UserError(
            f"{config.rounds} rounds of {max(1, size)} pictures each need {config.rounds * max(1, size)}, and the data has {len(order)}: "
            "give more data, fewer rounds, or fewer images_per_round"
        )
    try:
        run_dir.bind("images_per_round", size)
    except RunRefused as error:
        raise UserError(str(error)) from error
    of_round = {key: place // size + 1 for place, key in enumerate(order)}
    for number in range(1, config.rounds + 1):
        _write(run_dir.root / f"round-{number}", prompts, of_round, number)


def shuffled(prompts: Iterable[Sample], seed: int) -> list[str]:
    """What pictures are known by, each once, in an order that hangs on the seed and the prompts' ids, wherever the files lie."""
    from ...rlaif.pairs import image_key

    ids: dict[str, str] = {}
    for sample in prompts:
        ids.setdefault(image_key(sample), sample.id)

    def rank(key: str) -> bytes:
        return hashlib.sha256(f"{seed}\0{ids[key]}".encode("utf-8", "surrogatepass")).digest()

    return sorted(ids, key=rank)


def _write(folder: Path, prompts: Iterable[Sample], of_round: Mapping[str, int], number: int) -> None:
    from data_tools.disk.durable import write_atomic
    from data_tools.io.jsonl import dump

    from ...rlaif.pairs import image_key

    folder.mkdir(exist_ok=True)
    mine = (sample for sample in prompts if of_round.get(image_key(sample)) == number)
    write_atomic(folder / ROWS, b"".join(dump(_beside(sample, folder).to_dict()) for sample in mine))


def _beside(sample: Sample, folder: Path) -> Sample:
    """The sample with its pictures' paths told from `folder`."""
    paths = (image.path or "" for image in sample.images)
    told = [path if "://" in path else Path(os.path.relpath(path, folder)).as_posix() for path in paths]
    return replace(sample, images=tuple(replace(image, path=path) for image, path in zip(sample.images, told, strict=True)))
