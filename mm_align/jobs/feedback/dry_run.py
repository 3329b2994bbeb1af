"""`mmalign rlaif feedback --dry-run`: the first rows through all stages in a folder that goes away, and the cost of all rows."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..endpoint_costs import estimate_line
from .folder import Session, session
from .models import Models, Usage

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.io import Shard

    from .config import FeedbackConfig, ModelFields

DRY_ROWS = 20
SHOWN = 6  # claims
WITHOUT_COUNT = 1000  # rows that a cost is told for where nobody knows how many there are


def dry_run(config: FeedbackConfig, *, backends: Mapping[str, Backend] | None = None) -> list[str]:
    """What came of the first rows, some of the judged claims, and what all rows would cost; nothing stays on disk."""
    from .feedback import check, every_step
    from .steps import shards_of
    from .summary import summarise
    from .summary import told as told_of_judge

    check(config)
    total = count_of(shards_of(config), config.limit)
    few = config.model_copy(update={"limit": min(DRY_ROWS, config.limit or DRY_ROWS)})
    with tempfile.TemporaryDirectory(prefix="mmalign-dry-run-") as folder, session(Path(folder), Models(config, backends)) as started:
        started.quiet = True
        for make in every_step(started, few):
            started.do(make())
        rows = started.summaries["samples"]["rows"]
        return [
            *started.lines,
            told_of_judge(summarise(started, config.judging.near)),
            *some_claims(started.root),
            *cost(started, config, rows, total),
        ]


def count_of(shards: Sequence[Shard], limit: int | None) -> int | None:
    """Rows in all, at most `limit`, where that is cheap to know."""
    from data_tools.io.listing import PICTURES

    from ..progress import count_rows

    folders = [Path(shard.path) for shard in shards if shard.format == "folder"]
    found = sum(path.suffix.lower() in PICTURES for folder in folders for path in folder.rglob("*")) if folders else count_rows(shards)
    return found if limit is None or found is None else min(found, limit)


def some_claims(root: Path) -> list[str]:
    """The first judged claims, a line each."""
    from itertools import islice

    from ...rlaif.files import judged_claims
    from ...rlaif.judge import rejected

    first = islice(judged_claims(root), SHOWN)
    return [f"  {'rejected' if rejected(claim) else 'accepted'}  p(yes) {claim.p_yes:.3f}  {_short(claim.question)}" for claim in first]


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 100 else f"{flat[:97]}..."


def cost(run: Session, config: ModelFields, rows: int, total: int | None) -> list[str]:
    """What was asked of models for `rows` rows, and what `total` would take at this rate."""
    if not rows:
        return ["no row could be read; nothing was asked"]
    all_rows = total or WITHOUT_COUNT
    factor = all_rows / rows
    lines = [f"asked for {rows} rows, and for {all_rows} {'in all' if total else 'of them'} at this rate:"]
    for stage, usage in run.models.used.items():
        now, then = (_usage(usage, by) for by in (1.0, factor))
        lines.append(f"  {stage}: {now}; in all {then}")
    seconds = sum(usage.seconds for usage in run.models.used.values())
    asked = run.spent()
    lines += [estimate_line(config, asked, rows, all_rows)] if asked.get("answers") else []
    return [*lines, f"dry run: {seconds:.1f} s of model time; all would take about {seconds * factor / 3600:.2f} h. Nothing was written."]


def _usage(usage: Usage, by: float) -> str:
    figures: dict[str, Any] = {"prompts shown": usage.shown, "answers": usage.answers, "tokens": usage.tokens}
    return ", ".join([*(f"{round(n * by):,} {name}" for name, n in figures.items()), f"{usage.seconds * by:.1f} s"])
