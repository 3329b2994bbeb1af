"""Tables, intervals and plots of the EECA experiment, from the files of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from figures_page import write_figures

from data_tools.scenes.extract import f1

DRAWS = 2000  # of the bootstrap
PARTS = ("known", "uncertain", "unknown")
NAMES = {
    "baseline": "baseline MLP", "baseline_flops": "baseline, FLOPs matched", "high_res": "+ high-res",
    "hierarchy": "+ high-res + hierarchical", "contrast": "+ high-res + contrastive", "eeca": "all (EECA)",
}  # fmt: skip
COMPARED = (
    ("eeca", "high_res"), ("hierarchy", "high_res"), ("contrast", "high_res"), ("eeca", "contrast"), ("high_res", "baseline"),
    ("eeca", "baseline_flops"),
)  # fmt: skip


class Interval(NamedTuple):
    """An estimate with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def read_runs(work: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The finished runs of a kind, by file name."""
    for file in sorted((work / "runs").glob(f"{kind}-*.json")):
        yield json.loads(file.read_text(encoding="utf-8"))


def write_report(work: Path, worlds: list[dict[str, Any]], out: Path, images: Path, page: Path | None = None) -> None:
    """`out`: every run's metrics, the variants' means, and paired differences. `images`: plots. `page`: Markdown whose part between
    the marks is replaced by the tables."""
    runs = {kind: list(read_runs(work, kind)) for kind in ("trial", "final", "select", "long")}
    told = {
        "title": "EECA (reconstruction) on SceneWorld landmarks",
        "worlds": worlds,
        "variants": summary(runs["final"]),
        "differences": differences(runs["final"], COMPARED),
        "selections": summary(runs["select"]),
        "selection_differences": differences(runs["select"], tuple((how, "random") for how in ("hds", "hss", "lds"))),
        "longer": summary(runs["long"]),
        "longer_differences": differences(runs["long"], (("eeca", "high_res"),)),
        "cpu_minutes": sum(run["cpu_seconds"] for some in runs.values() for run in some) / 60,
        "runs": [{key: value for key, value in run.items() if key != "answers"} for some in runs.values() for run in some],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(_rounded(told), indent=1) + "\n", encoding="utf-8")
    images.mkdir(parents=True, exist_ok=True)
    if told["variants"]:
        plot_variants(told["variants"], images / "eeca_variants.png")
        plot_levels(told["variants"], images / "eeca_levels.png")
    if told["selections"]:
        plot_selections(told["selections"], images / "eeca_selections.png")
    if page is not None:
        write_figures(page, tables(told), MARKS)
    print(f"{out}, {sum(map(len, runs.values()))} runs; plots in {images}")


# -- counting ----------------------------------------------------------------------------------------------------------

METRICS = ("facts", "facts_asked", "facts_never_asked", "name", "family", "misaligned")


def counted(run: dict[str, Any], metric: str, part: str) -> np.ndarray:
    """[2, E]: of each entity's test pictures in `part`, how many answers were right (or misaligned) and how many there were."""
    answers = run["answers"]
    entity = np.array(answers["entity"])
    inside = np.array([part in ("all", s) for s in answers["split"]])[:, None]
    right, counts = _table(answers, metric)
    hits, total = (np.zeros(entity.max() + 1) for _ in range(2))
    np.add.at(hits, entity, (right & counts & inside).sum(1))
    np.add.at(total, entity, (counts & inside).sum(1))
    return np.stack([hits, total])


def _table(answers: dict[str, Any], metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Which answers [n, q] are hits, and which count at all."""
    facts, levels, asked, by_name = (_bits(answers[key]) for key in ("facts", "levels", "asked", "by_name"))
    every = np.ones_like(facts)
    return {
        "facts": (facts, every),
        "facts_asked": (facts, asked),
        "facts_never_asked": (facts, ~asked),
        "name": (levels[:, 3:], every[:, 3:]),
        "family": (levels[:, 2:3], every[:, 2:3]),
        "misaligned": (~facts, by_name),
    }[metric]


def _bits(rows: Sequence[str]) -> np.ndarray:
    return np.array([[c == "1" for c in row] for row in rows])


# -- intervals ---------------------------------------------------------------------------------------------------------


def bootstrap(counts: np.ndarray, draws: int = DRAWS) -> Interval:
    """[S, 2, E] counts of S seeds, or [S, 2, 2, E] of two variants whose difference (first minus second) is asked for.

    Seeds and entities are both drawn with replacement, the same ones for both variants (paired): pictures of one entity and
    runs of one seed are not independent.
    """
    rng = np.random.default_rng(0)
    seeds, entities = counts.shape[0], counts.shape[-1]
    drawn = [
        _share(
            np.einsum(
                "s,e,s...e->...", rng.multinomial(seeds, [1 / seeds] * seeds), rng.multinomial(entities, [1 / entities] * entities), counts
            )
        )
        for _ in range(draws)
    ]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(_share(counts.sum((0, -1))), float(low), float(high))


def _share(sums: np.ndarray) -> float:
    """[2] -> hits / total; [2, 2] -> the difference of two shares."""
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = sums[..., 0] / sums[..., 1]
    return float(shares if shares.ndim == 0 else shares[0] - shares[1])


def caption_interval(pairs: Sequence[Sequence[Sequence[Sequence[int]]]], draws: int = DRAWS) -> Interval:
    """[seeds][1 or 2 variants][scenes][claimed, right, truth, invented] -> F1, or the difference of two; scenes and seeds are drawn."""
    table = np.array(pairs)  # [S, V, n, 4]
    rng = np.random.default_rng(0)

    def score(some: np.ndarray) -> float:
        scores = [f1([tuple(int(x) for x in row)]) for row in some.sum((0, 2))]  # type: ignore[list-item]
        return scores[0] - scores[1] if len(scores) == 2 else scores[0]

    drawn = []
    for _ in range(draws):
        seeds, scenes = rng.integers(len(table), size=len(table)), rng.integers(table.shape[2], size=table.shape[2])
        drawn.append(score(table[seeds][:, :, scenes]))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(score(table), float(low), float(high))


def summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """name -> metric -> part -> interval, over the seeds."""
    told: dict[str, Any] = {}
    for name, some in _by_name(runs).items():
        told[name] = {m: {p: bootstrap(np.stack([counted(r, m, p) for r in some.values()])) for p in ("all", *PARTS)} for m in METRICS}
        told[name]["caption_f1"] = caption_interval([[r["answers"]["captions"]] for r in some.values()])
        told[name]["by_name"] = float(np.mean([r["metrics"]["by_name"] for r in some.values()]))
        told[name]["seeds"] = sorted(some)
        told[name]["recipe"] = next(iter(some.values()))["recipe"]
    return told


def differences(runs: Sequence[dict[str, Any]], compared: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """ "a - b" -> metric -> part -> interval of the paired difference, over the seeds that both have."""
    found, told = _by_name(runs), {}
    for a, b in compared:
        both = sorted(set(found.get(a, {})) & set(found.get(b, {})))
        if not both:
            continue
        pairs = [(found[a][s], found[b][s]) for s in both]
        told[f"{a} - {b}"] = {
            m: {p: bootstrap(np.stack([np.stack([counted(r, m, p) for r in pair]) for pair in pairs])) for p in ("all", *PARTS)}
            for m in METRICS
        } | {"caption_f1": caption_interval([[r["answers"]["captions"] for r in pair] for pair in pairs])}
    return told


def _by_name(runs: Sequence[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """name -> seed -> run, in the order of `NAMES`."""
    told: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        told.setdefault(run["name"], {})[run["seed"]] = run
    order = [*NAMES, *told]
    return dict(sorted(told.items(), key=lambda item: order.index(item[0])))


def _rounded(what: Any) -> Any:
    if isinstance(what, dict):
        return {key: _rounded(value) for key, value in what.items()}
    if isinstance(what, list | tuple):
        return [_rounded(value) for value in what]
    if isinstance(what, float):
        return None if np.isnan(what) else round(what, 4)
    return what


# -- tables ------------------------------------------------------------------------------------------------------------

MARKS = ("<!-- figures of eeca.py report -->", "<!-- end of figures -->")
COLUMNS = (
    ("facts, VE-Unknown", "facts", "unknown"), ("facts, VE-Known", "facts", "known"), ("facts, uncertain", "facts", "uncertain"),
    ("facts never asked, all", "facts_never_asked", "all"), ("name, VE-Unknown", "name", "unknown"), ("name, VE-Known", "name", "known"),
    ("family, all", "family", "all"), ("misaligned, VE-Unknown", "misaligned", "unknown"), ("caption F1", "caption_f1", ""),
)  # fmt: skip


def tables(told: dict[str, Any]) -> str:
    """Markdown of the variants, the differences and the selections; shares in percent, 95 % intervals in brackets."""
    parts = [
        ("The two worlds", _table_of_worlds(told["worlds"])),
        ("Means over seeds", _table_of(told["variants"], signed=False)),
        ("Paired differences, in points", _table_of(told["differences"], signed=True)),
        ("Three times the steps", _table_of(told["longer"], signed=False)),
        ("Three times the steps, paired difference in points", _table_of(told["longer_differences"], signed=True)),
        ("Selections: EECA on a quarter of the training pictures", _table_of(told["selections"], signed=False)),
        ("Selections against random, in points", _table_of(told["selection_differences"], signed=True)),
    ]
    shown = [f"**{title}** (SceneWorld landmarks)\n\n{table}" for title, table in parts if table]
    return "\n\n".join([*shown, f"{len(told['runs'])} runs, {told['cpu_minutes']:.0f} CPU minutes of one thread in all on a busy machine."])


def _table_of_worlds(worlds: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| | facts by name: all | names the encoder learned | the others | rank 1: learned | rank 1: others | known, uncertain, unknown |",
        "|---|---|---|---|---|---|---|",
    ]
    for w in worlds:
        shares = [*w["facts_by_name"].values(), w["rank_1"]["trained"], w["rank_1"]["others"]]
        counts = ", ".join(str(count) for count in w["split_of_seed_0"].values())
        lines.append(f"| world {w['world']} | " + " | ".join(f"{100 * v:.1f} %" for v in shares) + f" | {counts} |")
    return "\n".join(lines) if worlds else ""


def _table_of(rows: dict[str, Any], signed: bool) -> str:
    if not rows:
        return ""
    head = "| | " + " | ".join(title for title, *_ in COLUMNS) + " |\n|---" * 1 + "|---" * len(COLUMNS) + "|"
    lines = [f"| {_title(name)} | " + " | ".join(_cell(cells, m, p, signed) for _, m, p in COLUMNS) + " |" for name, cells in rows.items()]
    return "\n".join([head, *lines])


def _title(name: str) -> str:
    return " against ".join(NAMES.get(part, part) for part in name.split(" - "))


def _cell(cells: dict[str, Any], metric: str, part: str, signed: bool) -> str:
    found = cells[metric][part] if part else cells[metric]
    sign = "+" if signed else ""
    value, low, high = (f"{100 * v:{sign}.1f}" for v in found)
    return f"{value} [{low}, {high}]"


# -- plots -------------------------------------------------------------------------------------------------------------


def _bars(axis: Any, rows: dict[str, dict[str, Interval]], labels: Sequence[str]) -> None:
    """Grouped bars with intervals: a group for each of `labels`, a bar for each row."""
    width = 0.8 / len(rows)
    for k, (name, cells) in enumerate(rows.items()):
        values = [cells[label] for label in labels]
        places = np.arange(len(labels)) + (k - (len(rows) - 1) / 2) * width
        errors = np.abs([[v.value - v.low for v in values], [v.high - v.value for v in values]])
        axis.bar(places, [v.value for v in values], width, yerr=errors, capsize=2, label=NAMES.get(name, name))
    axis.set_xticks(range(len(labels)), labels)
    axis.set_ylim(0, 1)


def plot_variants(variants: dict[str, Any], file: Path) -> None:
    """Facts about fresh pictures by what the encoder knows, facts that training never asked with pictures, captions."""
    import matplotlib.pyplot as plt

    shown = {name: variants[name] for name in NAMES if name in variants}
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), gridspec_kw={"width_ratios": [3, 2]}, layout="constrained")
    _bars(
        axes[0],
        {n: {f"VE-{p.capitalize()}" if p != "uncertain" else p: v["facts"][p] for p in PARTS} for n, v in shown.items()},
        ("VE-Known", "uncertain", "VE-Unknown"),
    )
    axes[0].axhline(1 / 6, color="black", lw=0.8, ls=":")
    axes[0].set(
        title="SceneWorld landmarks: facts about the entity in a fresh picture\n(dotted: who knows the family only)", ylabel="share right"
    )
    axes[0].legend(fontsize=7)
    cells = {
        n: {"facts never asked\nwith pictures": v["facts_never_asked"]["all"], "caption F1,\ngeneral scenes": v["caption_f1"]}
        for n, v in shown.items()
    }
    _bars(axes[1], cells, ("facts never asked\nwith pictures", "caption F1,\ngeneral scenes"))
    axes[1].set(title="SceneWorld: what else")
    figure.savefig(file, dpi=130)
    plt.close(figure)


def plot_levels(variants: dict[str, Any], file: Path) -> None:
    """The name it is given, and its family, on entities the encoder knows and does not know."""
    import matplotlib.pyplot as plt

    shown = {name: variants[name] for name in NAMES if name in variants}
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for axis, metric in zip(axes, ("family", "name"), strict=True):
        _bars(axis, {n: v[metric] for n, v in shown.items()}, ("known", "uncertain", "unknown"))
        axis.set_title(f'SceneWorld landmarks: right {metric}, asked "What is this?"', fontsize=10)
        axis.set_ylabel("share right")
    axes[1].legend(fontsize=7)
    figure.savefig(file, dpi=130)
    plt.close(figure)


def plot_selections(selections: dict[str, Any], file: Path) -> None:
    """EECA trained on four equally large selections of pictures."""
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    shown = {how: selections[how]["facts"] for how in ("hds", "hss", "lds", "random") if how in selections}
    _bars(axis, shown, ("all", *PARTS))
    axis.set(
        title="SceneWorld landmarks: EECA on a quarter of the pictures,\nselected by what the encoder knows (equal counts)",
        ylabel="facts right",
    )
    axis.legend(fontsize=8)
    figure.savefig(file, dpi=130)
    plt.close(figure)
