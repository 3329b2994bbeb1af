"""Captions that try to talk to their judge: how far its scores move, beside harmless sentences of about the same length.

    python scripts/proving/injections.py                                       # tiny-aitqe on SceneWorld's held-out scenes
    python scripts/proving/injections.py --prompt general --rows 100
    python scripts/proving/injections.py --model MODEL --data ROWS.jsonl       # poor and good by the model's own verdict

Each caption is judged as it is, with two harmless additions and with each injection of `data_tools.aitqe.injections`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

BLOCK = 32


def samples_of(data: str | None, rows: int) -> list[Any]:
    """The first `rows` readable rows of a source with their pictures decoded, or so many held-out scenes, half of them poor."""
    from data_tools.io import list_shards, read
    from data_tools.io.images import decode
    from data_tools.records import Sample
    from data_tools.scenes.rows import scene_rows

    found = scene_rows(rows, seed=11, split="heldout") if data is None else (item for shard in list_shards(data) for item in read(shard))
    whole = islice((s for s in found if isinstance(s, Sample) and s.images), rows)
    return [replace(s, images=tuple(decode(image) for image in s.images[:1])) for s in whole]


def judged(step: Any, samples: Sequence[Any]) -> list[Any]:
    return [verdict for at in range(0, len(samples), BLOCK) for verdict in step(samples[at : at + BLOCK])]


def groups_of(samples: Sequence[Any], raw: Sequence[Any]) -> list[str]:
    """What each caption is: by the truth where the rows tell it, else by the model's verdict on it as it came."""
    kinds = [sample.meta.get("sceneworld", {}).get("kind") for sample in samples]
    return [
        ("good" if kind == "good" else "poor") if kind else ("good" if verdict.action == "keep" else "poor")
        for kind, verdict in zip(kinds, raw, strict=True)
    ]


def measured(raw: Sequence[Any], now: Sequence[Any]) -> dict[str, Any]:
    """Scores before and after where both are there; of the captions found poor before, how many are kept now."""
    from data_tools.filters.agreement import interval

    pairs = [(a.scores.get("overall"), b.scores.get("overall")) for a, b in zip(raw, now, strict=True)]
    moved = [after - before for before, after in pairs if before is not None and after is not None]
    poor = [b for a, b in zip(raw, now, strict=True) if a.action == "rewrite" or (a.reason or "").startswith("guard:")]
    flips = sum(verdict.reason == "model" and verdict.action == "keep" for verdict in poor)
    return {
        "n": len(pairs),
        "delta": statistics.fmean(moved) if moved else None,
        "raised": sum(d > 0 for d in moved) / len(moved) if moved else None,
        "poor_before": len(poor),
        "kept_now": flips,
        "interval": interval(flips, len(poor)),
        "unread": sum(verdict.parse_status == "unparsable" for verdict in now),
    }


def table(results: dict[str, dict[str, dict[str, Any]]]) -> str:
    """A line an addition: poor captions first, then good ones."""
    lines = [
        "| added to the caption | poor: score by | poor: score rises | poor: now kept | 95 % interval | good: score by | unread |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, by_group in results.items():
        poor, good = by_group["poor"], by_group["good"]
        low, high = poor["interval"]
        cells = [name, number(poor["delta"], "+.2f"), number(poor["raised"], ".1%"), f"{poor['kept_now']} of {poor['poor_before']}"]
        cells += [f"{low:.1%} to {high:.1%}", number(good["delta"], "+.2f"), str(poor["unread"] + good["unread"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-aitqe", help="as of mmalign enhance-data")
    parser.add_argument("--prompt", choices=("aitqe", "general"), default="aitqe")
    parser.add_argument("--data", help="rows with pictures and captions; default: SceneWorld's held-out scenes")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--out", type=Path, help="write the figures here as JSON too")
    args = parser.parse_args()

    from data_tools.aitqe import AITQE_PROMPT, GENERAL_PROMPT, AitqeStep
    from data_tools.aitqe.injections import CONTROLS, INJECTIONS, injected
    from mm_align.backends import load_backend

    backend = load_backend(args.model)
    tokens = getattr(getattr(backend, "tokenizer", None), "all_special_tokens", [])
    step = AitqeStep(backend.generate, prompt=AITQE_PROMPT if args.prompt == "aitqe" else GENERAL_PROMPT, mode="scores")
    samples = samples_of(args.data, args.rows)
    raw = judged(step, samples)
    groups = groups_of(samples, raw)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name in [*CONTROLS, *INJECTIONS]:
        now = judged(step, [replace(s, caption=injected(s.caption or "", name, tokens)) for s in samples])
        places = {group: [i for i, g in enumerate(groups) if g == group] for group in ("poor", "good")}
        results[name] = {group: measured([raw[i] for i in at], [now[i] for i in at]) for group, at in places.items()}
    told = {
        "model": args.model,
        "prompt": args.prompt,
        "rows": len(samples),
        "unread_raw": sum(v.parse_status == "unparsable" for v in raw),
    }
    print(f"{args.model}, prompt {args.prompt}, {len(samples)} captions ({groups.count('poor')} poor), {told['unread_raw']} unread")
    print(table(results))
    if args.out:
        args.out.write_text(json.dumps(told | {"results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
