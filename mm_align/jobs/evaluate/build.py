"""The benchmarks of an evaluation, built: what is asked, how it is decoded, whether the pictures are there."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError
from .config import EvaluateConfig
from .pictures import is_dataset, lay_out
from .suites import Entry
from .videos import has_video

if TYPE_CHECKING:
    from data_tools.calls import Sampling
    from data_tools.records import Sample

    from ...evals import Benchmark

log = logging.getLogger(__name__)
PICTURES = "pictures"  # folder for pictures out of data sets
SCORING = ("judge_replies", "analyses", "similarity", "flavor")  # options that no response depends on


@dataclass(frozen=True)
class Suite:
    """A benchmark that can be asked. frames: pictures for each video, "own" as each model's config says, 0 where there are no videos."""

    entry: Entry
    benchmark: Benchmark
    samples: Sequence[Sample]
    sampling: Sampling
    frames: int | str = 0

    @property
    def name(self) -> str:
        return self.entry.name

    def bound(self) -> dict[str, Any]:
        """What its responses depend on beside the model."""
        options = {key: value for key, value in self.entry.options.items() if key not in SCORING}
        films = {"frames": self.frames} if self.frames else {}
        return {"type": self.entry.kind, "options": options, "sampling": self.sampling.to_dict(), **films}


def build(config: EvaluateConfig, entry: Entry, root: Path) -> Suite:
    """UserError for options that do not fit, for data that cannot be read, and where no picture of it is there. Pictures out of a data
    set come into a folder of the run's `root`."""
    entry, decoding = _by_protocol(config, entry)
    place, folder = str(entry.options.get("images") or ""), root / PICTURES / entry.name
    if place and is_dataset(place):
        inside = entry._replace(options={**entry.options, "images": str(folder)})
        lay_out(place, folder, _built(inside)[1])
        benchmark, samples = _built(inside)  # anew, as some benchmarks ask about the pictures that are there
    else:
        benchmark, samples = _built(entry)
    check_pictures(entry.name, samples)
    try:
        sampling = replace(decoding or benchmark.sampling, **config.sampling)
    except TypeError as error:
        known = ", ".join(benchmark.sampling.to_dict())
        raise UserError(f"sampling: {str(error).rpartition(' ')[2]} is no setting of decoding; there are {known}") from error
    return Suite(entry, benchmark, samples, sampling, config.frames if any(map(has_video, samples)) else 0)


def _built(entry: Entry) -> tuple[Benchmark, list[Sample]]:
    from ...evals import build_benchmark

    try:
        benchmark = build_benchmark({"type": entry.kind, **entry.options})
        samples = list(benchmark.samples())
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{entry.name}: {error}") from error
    if not samples:
        raise UserError(f"{entry.name}: its data holds nothing to ask")
    return benchmark, samples


def _by_protocol(config: EvaluateConfig, entry: Entry) -> tuple[Entry, Sampling | None]:
    """A published benchmark with what its paper asks, and how it decodes, where `protocol` wishes so; what is given besides wins."""
    from ...evals.protocols import PAPER

    if config.protocol == "own" or entry.title:
        return entry, None
    if entry.kind not in PAPER:
        log.info("%s: no protocol of a paper is known here, so its own is used", entry.name)
        return entry, None
    found = PAPER[entry.kind]
    log.info("%s: decoded as %s", entry.name, found.source)
    return entry._replace(options={**found.options, **entry.options}), found.sampling


def check_pictures(name: str, samples: Sequence[Sample]) -> None:
    """Say how many samples lack a picture; they will be unanswered. UserError where all do."""
    shown = [sample for sample in samples if sample.images]
    paths = dict.fromkeys(image.path for sample in shown for image in sample.images if image.data is None)
    gone = {path: True for path in paths if not _is_there(path)}
    lacking = sum(any(image.path in gone for image in sample.images if image.data is None) for sample in shown) if gone else 0
    if gone and lacking == len(shown):
        raise UserError(
            f"{name}: none of its pictures is there, the first being {next(iter(gone))}; give their folder: --images {name}=DIR"
        )
    if gone:
        told = "WARNING: %s: %d of %d samples lack their picture (%s for one); they are reported and count as unanswered"
        log.warning(told, name, lacking, len(samples), next(iter(gone)))


def _is_there(path: str | None) -> bool:
    from data_tools.io.paths import is_remote

    return path is not None and (is_remote(path) or Path(path).is_file())
