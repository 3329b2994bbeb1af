"""The benchmarks of `mmalign train`: built before the first step, asked at evaluations without the rows whose pictures are broken."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config import UserError
from ...options import nearest

if TYPE_CHECKING:
    from data_tools.calls import Sampling
    from data_tools.io import BadImage
    from data_tools.records import Response, Sample

    from ...backends.transformers_ import TransformersBackend
    from ...evals import Benchmark
    from ...train.callbacks import Selection
    from .config import TrainConfig

Broken = dict[str, "BadImage"]  # sample id -> what is wrong with a picture of it


def suites(described: Sequence[str | dict[str, Any]]) -> dict[str, Benchmark]:
    """Name -> benchmark, of a config's `eval_suites`. UserError for an unknown type or option, two of one name, and no picture at all."""
    from ...evals import build_benchmark

    found: dict[str, Benchmark] = {}
    for given in described:
        options = {"type": given} if isinstance(given, str) else dict(given)
        name = str(options.pop("name", options.get("type")))
        if name in found:
            raise UserError(f"two eval_suites are called '{name}'; give one another `name`")
        try:
            found[name] = build_benchmark(options)
            rows = list(found[name].samples())  # what cannot be read is said now, not after the first epoch
        except (ValueError, TypeError, OSError) as error:
            raise UserError(f"eval suite {name}: {error}") from error
        absent = broken_pictures(rows, _missing)
        if rows and len(absent) == len(rows):
            raise UserError(f"eval suite {name}: no row has its picture; the first: {next(iter(absent.values())).detail}")
    return found


def check_selection(config: TrainConfig, built: Mapping[str, Benchmark]) -> None:
    """UserError where no evaluation will log what is selected by. What an objective adds to the evaluation loss shows at the first one."""
    for key, name in [("select_by", config.select_by), *(("select_limits", name) for name in config.select_limits)]:
        if name is None or (config.eval_data and name.startswith("eval_")):
            continue
        known = [f"{suite}/{metric}" for suite, benchmark in built.items() for metric in benchmark.score({})]
        if name not in known:
            raise never_logged(name, [*known, *(["eval_loss"] if config.eval_data else [])], key)


def selection(config: TrainConfig, built: Mapping[str, Benchmark]) -> Selection | None:
    """How the best checkpoint is told; None where the last one is taken."""
    from ...train.callbacks import Limit, Selection

    if config.select_by is None:
        return None
    limits = tuple(Limit(name, worst, lower_is_better(name, built)) for name, worst in config.select_limits.items())
    return Selection(config.select_by, lower_is_better(config.select_by, built), limits, config.select_ties == "last")


def check_evaluated(config: TrainConfig, steps: int) -> None:
    """UserError where a run of `steps` ends before its first evaluation, so that there is nothing to select."""
    if config.select_by and config.eval_data and config.eval_steps > steps:
        raise UserError(
            f"select_by needs an evaluation, but eval_steps is {config.eval_steps} and the run has {steps} steps: lower eval_steps"
        )


def never_logged(name: str, known: Collection[str], key: str = "select_by") -> UserError:
    """What is said of a `select_by` that no evaluation logs."""
    return UserError(f"{key} '{name}' is none of what evaluations log; {nearest(name, sorted(known))}")


def lower_is_better(name: str, built: Mapping[str, Benchmark]) -> bool:
    """Of a benchmark's metric the benchmark knows; of the rest, losses are better when they are less, everything else when it is more."""
    suite = next((suite for suite in built if name.startswith(f"{suite}/")), None)
    return name.endswith("loss") if suite is None else name.removeprefix(f"{suite}/") in built[suite].lower


# -- pictures ----------------------------------------------------------------------------------------------------------


def answers(backend: TransformersBackend, samples: Sequence[Sample], sampling: Sampling, broken: Broken) -> list[Response]:
    """Responses of the samples whose pictures can be decoded; the others join `broken`, which is asked nothing at later calls."""
    from data_tools.io import BadImage

    asked = [sample for sample in samples if sample.id not in broken]
    try:
        return backend.generate(asked, sampling) if asked else []
    except BadImage:
        found = broken_pictures(asked, lambda sample: _decoded(sample, backend))
        if not found:
            raise
    broken |= found
    return answers(backend, samples, sampling, broken)


def broken_pictures(samples: Iterable[Sample], look: Any) -> Broken:
    """The samples for which `look` raises BadImage."""
    from data_tools.io import BadImage

    found: Broken = {}
    for sample in samples:
        try:
            look(sample)
        except BadImage as error:
            found[sample.id] = error
    return found


def _decoded(sample: Sample, backend: TransformersBackend) -> None:
    """BadImage for a picture or a film that cannot be decoded."""
    from data_tools.io import decode

    from ...models.films import filmed, videos_of

    films = videos_of(sample)
    for image in (image for image in sample.images if image not in films):
        decode(image)
    filmed(sample, backend.prompts.processor)


def _missing(sample: Sample) -> None:
    """BadImage for a local file that is not there; a picture that lies far away is looked for when it is needed."""
    from data_tools.io.images import open_image
    from data_tools.io.paths import is_remote

    for image in sample.images:
        if image.data is None and image.pixels is None and not is_remote(image.path or ""):
            open_image(image).close()


def quarantine(path: Path, suite: str, samples: Iterable[Sample], broken: Broken) -> None:
    """Write the rows of `suite` whose pictures are broken to `path`, each once, however often the run is continued."""
    from data_tools.disk.durable import write_atomic
    from data_tools.io.refusals import rejected

    lines = [] if not path.is_file() else path.read_text(encoding="utf-8").splitlines()
    for sample in samples:
        error, place = broken.get(sample.id), sample.source
        if error is not None:
            where = (place.shard, place.row, place.format) if place is not None else (suite, 0, "")
            row = rejected(*where, error.reason, error.detail).to_dict()
            line = json.dumps({"suite": suite, "id": sample.id} | row, ensure_ascii=True)
            lines += [line] if line not in lines else []
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
