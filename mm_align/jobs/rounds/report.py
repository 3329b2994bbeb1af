"""`rounds.html` and `rounds.json` of a run, made of what lies in its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..endpoint_costs import spent_in
from ..train.suites import suites
from .measures import ANSWERS

if TYPE_CHECKING:
    from data_tools.report.rounds import Shown

    from ...evals import Benchmark
    from .config import RoundsConfig

PAGE, NUMBERS = "rounds.html", "rounds.json"


def write_report(config: RoundsConfig, root: Path, told: Sequence[Mapping[str, Any]]) -> None:
    """The page and the numbers of the rounds so far."""
    from data_tools.disk.durable import to_json, write_atomic
    from data_tools.report.rounds import Round, write_rounds

    built = suites(config.suites)
    first = next(iter(built), None)
    known = [Round(one["round"], one["figures"], one.get("feedback", {}), one.get("drift", {}), one.get("step")) for one in told]
    shown = pictures(built[first], root, len(told)) if first else []
    main = f"{first}/{built[first].main}" if first else ""
    run = config.model_dump(mode="json", exclude={"overwrite", "title"})
    write_rounds(root / PAGE, known, shown, title=config.title, main=main, run=run)
    asked = spent(config, root)
    write_atomic(root / NUMBERS, to_json({"title": config.title, "rounds": list(told), **({"endpoint": asked} if asked else {})}))


def spent(config: RoundsConfig, root: Path) -> dict[str, Any]:
    """What the feedback of all rounds asked of endpoints, over all starts, and its cost; empty where none was asked."""
    from data_tools.run.directory import STATE

    return spent_in(config, root.glob(f"round-*/feedback/{STATE}/usage"))


def pictures(suite: Benchmark, root: Path, rounds: int) -> list[Shown]:
    """The pictures that round 0 has answers to, with what every round says of them."""
    from data_tools.report.rounds import Shown

    said = [answers(root / f"round-{number}" / ANSWERS) for number in range(rounds)]
    samples = {sample.id: sample for sample in suite.samples() if sample.id in said[0]}
    return [
        Shown(_asked(samples[name]), [texts.get(name) for texts in said], next(iter(samples[name].images), None))
        for name in said[0]
        if name in samples
    ]


def _asked(sample: Any) -> str:
    return " ".join(part.text for part in sample.messages[-1].parts if part.kind == "text")


def answers(path: Path) -> dict[str, str]:
    """Sample id -> text."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {row["sample_id"]: row["text"] for row in map(json.loads, lines)}
