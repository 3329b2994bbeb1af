"""report.json and report.html of `mmalign aitqe data`: what became of the rows, scores by kind, some of the rows with their pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools.aitqe.parser import HIGHEST, LOWEST, Reply, parse

if TYPE_CHECKING:
    from data_tools.records import Sample

    from ..feedback.folder import Session
    from .config import AitqeDataConfig

SHOWN, SHOWN_DRY = 8, 3  # pictures
EXPECTED = {"A": "raw, good", "B": "worse than A", "C": "raw, poor", "D": "better than C"}


def summarise(run: Session) -> dict[str, Any]:
    """Stages, rows by kind, overall scores by kind, styles of worse captions; `usage`: what the judge was asked in this start;
    `endpoint`: over all starts, where it is one.

    Raises RuntimeError unless every row of the source is in the output or in the quarantine of one stage.
    """
    stages, asked = run.summaries, run.spent()
    gone = sum(stage["quarantined"] for stage in stages.values())
    if stages["samples"]["rows"] != stages["aitqe"]["out"] + gone:
        raise RuntimeError(f"{stages['samples']['rows']} rows in, {stages['aitqe']['out']} out and {gone} quarantined: a row was lost")
    kinds: Counter[str] = Counter()
    styles: Counter[str] = Counter()
    scores: dict[str, Counter[str]] = {}
    for sample in written(run.root):
        told = sample.meta["meta"]["aitqe"]
        kinds[told["kind"]] += 1
        styles.update([told["style"]] if told["kind"] in "BD" else [])
        scores.setdefault(told["kind"], Counter())[f"{answer_of(sample).overall:g}"] += 1
    return {
        "stages": stages,
        "rows": {"in": stages["samples"]["rows"], "pictures": stages["aitqe"]["out"], "quarantined": gone},
        "kinds": dict(sorted(kinds.items())),
        "styles": dict(sorted(styles.items())),
        "scores": {kind: dict(sorted(counts.items(), key=lambda one: float(one[0]))) for kind, counts in sorted(scores.items())},
        "usage": {stage: asdict(usage) for stage, usage in run.models.used.items()},
        **({"endpoint": asked} if asked else {}),
    }


def written(root: Path) -> Iterator[Sample]:
    """The training rows, their pictures found from the folder."""
    from data_tools.io import list_shards, read
    from data_tools.records import Sample

    path = root / "aitqe.jsonl"
    rows = read(list_shards(str(path))[0]) if path.stat().st_size else iter(())
    return (row for row in rows if isinstance(row, Sample))


def answer_of(sample: Sample) -> Reply:
    """What the model learns to answer."""
    return parse(sample.messages[-1].parts[-1].text)


def write(root: Path, summary: Mapping[str, Any], config: AitqeDataConfig) -> None:
    """report.json and report.html."""
    from data_tools.disk.durable import to_json, write_atomic
    from data_tools.report.page import put_page

    write_atomic(root / "report.json", to_json({**summary, "config": config.model_dump(mode="json")}))
    told = {name: value for name, value in config.model_dump(mode="json").items() if value is not None}
    parts = {"summary": summary, "chart": chart(summary), "pictures": list(pictures(root)), "config": told, "expected": EXPECTED}
    put_page(root / "report.html", __package__, "aitqe.html.j2", **parts)


def chart(summary: Mapping[str, Any]) -> Any:
    """Overall scores of the good captions (A, D) and of the bad ones (B, C)."""
    from data_tools.report.charts import Series, columns

    labels = [str(score) for score in range(LOWEST, HIGHEST + 1)]

    def counted(kinds: str) -> list[int]:
        found = Counter[int]()
        for kind in kinds:
            for score, n in summary["scores"].get(kind, {}).items():
                found[round(float(score))] += n
        return [found[int(label)] for label in labels]

    series = [Series("new", "good captions", counted("AD")), Series("raw", "bad captions", counted("BC"))]
    return columns(series, labels, axis="overall score", name="Scores of good and bad captions")


class Shown(NamedTuple):
    """A picture with its two rows: (kind, caption, the answer's parts)."""

    id: str
    picture: Any
    rows: list[tuple[str, str, Reply]]


def pictures(root: Path) -> Iterator[Shown]:
    """The first few pictures."""
    from data_tools.report.gallery import thumbnail

    rows = list(islice(written(root), 2 * SHOWN))
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        told = [(kind_of(sample), sample.caption or "", answer_of(sample)) for sample in (first, second)]
        yield Shown(first.id.rpartition(":")[0], thumbnail(first.images[0]), told)


def kind_of(sample: Sample) -> str:
    return str(sample.meta["meta"]["aitqe"]["kind"])


def some_rows(root: Path) -> list[str]:
    """The first few rows, a line each."""
    return [
        f"  {kind_of(sample)}  {json.dumps(sample.caption, ensure_ascii=False)[:80]} -> {_short(answer_of(sample))}"
        for sample in islice(written(root), 2 * SHOWN_DRY)
    ]


def _short(answer: Reply) -> str:
    kept = replace(answer, explanations={}, raw="")
    return f"{kept.overall:g}" + (f", rewritten: {json.dumps(kept.recaption, ensure_ascii=False)[:80]}" if kept.recaption else "")
