"""What `mmalign vision knowledge` leaves on disk: split, selections, summary and plot, all in place at once or not at all."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from data_tools.records import Sample
    from vision.knowledge import Candidates, Knowledge, Split

    from .knowledge import KnowledgeConfig, Pool

log = logging.getLogger(__name__)
COLORS: dict[Split, str] = {"known": "tab:green", "uncertain": "tab:gray", "unknown": "tab:red"}
NOTE = (
    "Source-stated: a split into VE-Known and VE-Unknown by CLIP-style similarity, and a selection called HDS. The formulas, thresholds "
    "and other selections are this toolkit's choice."
)


def write(config: KnowledgeConfig, folder: Path, pool: Pool, candidates: Candidates, names: torch.Tensor) -> dict[str, Any]:
    """Write all files but the summary into `folder`; the summary."""
    import torch

    from vision.knowledge import SELECTIONS, Knowledge, measure, select, split

    truth = candidates.truth(pool.entities)
    place = _place(config.device)
    measures = measure(torch.cat(pool.embeddings).to(place), names.to(place), truth, temperature=config.temperature)
    measures = Knowledge(*(getattr(measures, field).cpu() for field in Knowledge.__slots__))
    splits = split(
        measures, known_quantile=config.known_quantile, rank_limit=config.rank_limit, ambiguity_quantile=config.ambiguity_quantile
    )
    entities = [candidates.names[i] for i in truth.tolist()]
    chosen = {
        how: select(measures, pool.ids, entities, how, fraction=config.fraction, per_entity=config.per_entity, seed=config.seed)
        for how in SELECTIONS
    }
    _write_split(folder / "split.jsonl", pool.ids, entities, measures, splits, chosen)
    if config.rows:
        _write_rows(config, folder, pool, chosen)
    drawn = config.plot and _plot(folder / "knowledge.png", measures, splits)
    return _summary(config, pool, candidates, measures, splits, chosen) | {"plot": drawn}


def _place(device: str) -> torch.device:
    """CUDA where it is to be used, else the CPU: sums in float64 are not for every accelerator."""
    import torch

    from ...backends.loading import pick_device

    found = pick_device(device)
    return found if found.type == "cuda" else torch.device("cpu")


def _write_split(
    path: Path, ids: list[str], entities: list[str], measures: Knowledge, splits: list[Split], chosen: Mapping[str, list[int]]
) -> None:
    sets = {how: set(positions) for how, positions in chosen.items()}
    columns = zip(
        ids,
        entities,
        measures.similarity.tolist(),
        measures.rank.tolist(),
        measures.discrimination.tolist(),
        measures.ambiguity.tolist(),
        splits,
        strict=True,
    )
    keys = ("id", "entity", "similarity", "rank", "discrimination", "ambiguity", "split")
    with path.open("w", encoding="utf-8") as file:
        for i, values in enumerate(columns):
            row = dict(zip(keys, values, strict=True)) | {"selections": [how for how, members in sets.items() if i in members]}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_rows(config: KnowledgeConfig, folder: Path, pool: Pool, chosen: Mapping[str, list[int]]) -> None:
    """rows/HOW.jsonl: the chosen rows as they were read, with picture paths that hold from anywhere."""
    from contextlib import ExitStack

    from data_tools.io import write as open_writer

    wanted: dict[tuple[str, int], list[str]] = {}
    for how, positions in chosen.items():
        for position in positions:
            wanted.setdefault(pool.places[position], []).append(how)
    with ExitStack() as stack:
        writers = {how: stack.enter_context(open_writer(folder / "rows" / f"{how}.jsonl", "jsonl")) for how in chosen}
        for sample in _samples(config, wanted):
            for how in wanted[sample.source.shard, sample.source.row] if sample.source else ():
                writers[how].add(_with_whole_path(sample))


def _samples(config: KnowledgeConfig, wanted: Mapping[tuple[str, int], Any]) -> Iterator[Sample]:
    from data_tools.records import Rejected

    from .knowledge import rows

    for row in rows(config):
        if not isinstance(row, Rejected) and row.source is not None and (row.source.shard, row.source.row) in wanted:
            yield row


def _with_whole_path(sample: Sample) -> Sample:
    path = sample.images[0].path
    if sample.images[0].data is not None or path is None or "://" in path or sample.source is None:
        return sample
    return replace(sample, meta={**sample.meta, sample.source.image_keys[0]: str(Path(path).resolve())})


# The summary


def _summary(
    config: KnowledgeConfig,
    pool: Pool,
    candidates: Candidates,
    measures: Knowledge,
    splits: list[Split],
    chosen: Mapping[str, list[int]],
) -> dict[str, Any]:
    ranks = measures.rank
    spellings = len(candidates.of)
    return {
        "settings": settings(config),
        "note": NOTE,
        "rows": pool.rows,
        "measured": len(pool.ids),
        "quarantined": dict(pool.quarantined.most_common()),
        "entities": len({candidates.of[name] for name in pool.entities}),
        "candidates": len(candidates.names),
        "spellings_joined": spellings - len(candidates.names),
        "split": {name: splits.count(name) for name in COLORS},
        "rank_1": _share(ranks == 1),
        f"rank_{config.rank_limit}": _share(ranks <= config.rank_limit),
        "median_discrimination": float(measures.discrimination.median()),
        "median_ambiguity": float(measures.ambiguity.median()),
        "selections": {
            how: {
                "pictures": len(positions),
                "mean_similarity": _mean(measures.similarity, positions),
                "mean_discrimination": _mean(measures.discrimination, positions),
                "split": dict(Counter(splits[i] for i in positions)),
            }
            for how, positions in chosen.items()
        },
    }


def _share(condition: torch.Tensor) -> float:
    return float(condition.double().mean())


def _mean(values: torch.Tensor, positions: list[int]) -> float | None:
    return float(values[positions].double().mean()) if positions else None


def told(summary: Mapping[str, Any]) -> list[str]:
    """The summary in three lines."""
    gone = sum(summary["quarantined"].values())
    split = ", ".join(f"{n} {name}" for name, n in summary["split"].items())
    sizes = summary["selections"]["hds"]["pictures"]
    return [
        f"{summary['measured']} pictures of {summary['entities']} entities against {summary['candidates']} names: {split}; "
        f"the true name first for {summary['rank_1']:.1%}",
        f"selections of {sizes} pictures each, every entity equally often in all: {', '.join(summary['selections'])}",
        *([f"{gone} of {summary['rows']} rows left out, reasons in quarantine.jsonl"] if gone else []),
    ]


def settings(config: KnowledgeConfig) -> dict[str, Any]:
    """What the result depends on."""
    return config.model_dump(mode="json", exclude={"out", "overwrite", "device", "batch_size"})


# The plot


def _plot(path: Path, measures: Knowledge, splits: list[Split]) -> bool:
    """Margins by split, and margin against ambiguity. False, with a warning, where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no knowledge.png: matplotlib is not installed (pip install 'mm-align[plot]'); --no-plot leaves it out knowingly")
        return False
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    groups = {name: [i for i, s in enumerate(splits) if s == name] for name in COLORS}
    margins, ambiguity = measures.discrimination.numpy(), measures.ambiguity.numpy()
    left.hist([margins[g] for g in groups.values()], bins=40, stacked=True, color=list(COLORS.values()), label=list(groups))
    left.set(xlabel="discrimination s(x, y) - max s(x, c)", ylabel="pictures", title="margin over the nearest other name")
    for name, group in groups.items():
        right.scatter(margins[group], ambiguity[group], s=8, alpha=0.5, color=COLORS[name], label=f"{name} ({len(group)})")
    right.set(xlabel="discrimination", ylabel="ambiguity H / log C", title="the split")
    right.legend()
    figure.savefig(path, dpi=110)
    return True
