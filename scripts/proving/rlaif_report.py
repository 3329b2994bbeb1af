"""Tables and plots of the RLAIF-V proof, from the files of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from figures_page import write_figures
from rlaif_measures import NS, answers_of, cut_to, start_model, suite_of, told_of
from rlaif_runs import Plan, final_model

from mm_align.evals.intervals import Interval, bootstrap, paired_difference
from mm_align.evals.objects import Told

DRAWS = 2000
NAMES = {
    "start": "start model",
    "rounds": "four rounds",
    "cut": "start model's answers, cut to their length",
    "big": "one round on all pictures",
    "self": "two rounds, the model its own judge",
    "one_model": "one round, pairs of one model",
    "two_models": "one round, pairs of two models (confounded)",
    "whole": "one round, answers judged as wholes",
}
COMPARED = (("rounds", "start"), ("rounds", "cut"), ("rounds", "big"), ("self", "start"), ("one_model", "two_models"), ("first", "whole"))


class Seen(NamedTuple):
    """One model's answers to the test pictures with one seed."""

    told: list[Told]

    @property
    def fails(self) -> list[float]:
        return [float(one.fails) for one in self.told]

    @property
    def words(self) -> float:
        return sum(one.words for one in self.told) / len(self.told)


def write_report(plan: Plan, seeds: Sequence[int], out: Path, images: Path, page: Path | None) -> None:
    """`out`: every figure; `images`: plots; `page`: Markdown whose part between the marks is replaced by the tables."""
    seen = gather(plan, seeds)
    ids = [picture.sample.id for picture in suite_of(plan).pictures]
    told = {
        "title": "RLAIF-V: rounds of feedback" + (" on SceneWorld" if (plan.work / "scenes").is_dir() else ""),
        "seeds": list(seeds),
        "pictures": len(ids),
        "models": {name: figures(list(by_seed.values()), ids) for name, by_seed in seen.items()},
        "differences": {f"{a} - {b}": difference(seen, a, b, ids) for a, b in COMPARED if seen.get(a, {}).keys() & seen.get(b, {}).keys()},
        "reduction": {name: reduction(seen, name, ids) for name in seen if name not in ("start", "cut")},
        "rounds": {name: per_round(plan, name, list(seen[name])) for name in ("rounds", "self") if name in seen},
        "judging": [_read(plan.folder("judging", seed) / "judging.json") for seed in seeds],
        "best_of": best_of_table(plan, seeds, ids),
        "cpu_minutes": {name: cpu_minutes(plan, name, list(seen[name])) for name in seen if name not in ("start", "cut", "first")},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(_rounded(told), indent=1) + "\n", encoding="utf-8")
    images.mkdir(parents=True, exist_ok=True)
    plot_rounds(told, images / "rlaif_rounds.png")
    if told["best_of"]:
        plot_best_of(told, images / "rlaif_best_of.png")
    if page is not None:
        write_figures(page, "\n".join(tables(told)))
    print("\n".join(tables(told)))


def gather(plan: Plan, seeds: Sequence[int]) -> dict[str, dict[int, Seen]]:
    """Variant -> seed -> answers, of the runs that are finished."""
    suite = suite_of(plan)
    start = answers_of(plan, "start", start_model(plan))
    seen = {"start": {seed: Seen(told_of(suite, start)) for seed in seeds}}
    for name in NAMES:
        done = [seed for seed in seeds if name not in ("start", "cut") and _finished(plan, name, seed)]
        if done:
            seen[name] = {s: Seen(told_of(suite, answers_of(plan, f"{name}-{s}", final_model(plan, name, s)))) for s in done}
    if "rounds" in seen:
        seen["cut"] = {s: Seen(told_of(suite, cut_to(start, run.words))) for s, run in seen["rounds"].items()}
        first = {s: _rounds(plan, "rounds", s)[1]["model"] for s in seen["rounds"]}
        seen["first"] = {s: Seen(told_of(suite, answers_of(plan, f"first-{s}", str(model)))) for s, model in first.items()}
    return seen


def _finished(plan: Plan, name: str, seed: int) -> bool:
    path = plan.folder(name, seed) / "rounds.json"
    return path.is_file() and len(_rounds(plan, name, seed)) == plan.rounds_config(name, seed).rounds + 1


def _rounds(plan: Plan, name: str, seed: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = _read(plan.folder(name, seed) / "rounds.json")["rounds"]
    return found


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


# -- figures; pictures are drawn together over all seeds -----------------------------------------------------------------


def figures(runs: Sequence[Seen], ids: Sequence[str]) -> dict[str, Any]:
    told = [one for run in runs for one in run.told]
    fails = [value for run in runs for value in run.fails]
    return {
        "hallucinating": bootstrap(fails, list(ids) * len(runs)),
        "by_seed": [sum(run.fails) / len(run.fails) for run in runs],
        "invented": sum(one.invented for one in told) / max(1, sum(one.mentions for one in told)),
        "coverage": sum(one.named for one in told) / sum(one.truth for one in told),
        "coverage_by_seed": [sum(one.named for one in run.told) / sum(one.truth for one in run.told) for run in runs],
        "words": sum(run.words for run in runs) / len(runs),
        "words_by_seed": [run.words for run in runs],
    }


def difference(seen: Mapping[str, Mapping[int, Seen]], a: str, b: str, ids: Sequence[str]) -> dict[str, Any]:
    """Hallucinating responses of a minus those of b, on the same pictures and seeds, in shares."""
    seeds = [seed for seed in seen[a] if seed in seen[b]]
    ours, theirs = ([value for seed in seeds for value in seen[name][seed].fails] for name in (a, b))
    by_seed = [(sum(seen[a][seed].fails) - sum(seen[b][seed].fails)) / len(ids) for seed in seeds]
    return {"difference": paired_difference(ours, theirs, list(ids) * len(seeds)), "by_seed": by_seed}


def reduction(seen: Mapping[str, Mapping[int, Seen]], name: str, ids: Sequence[str]) -> Interval:
    """1 - hallucinating / that of the start model: the relative reduction, with pictures drawn anew."""
    ours = np.array([run.fails for run in seen[name].values()]).mean(0)  # [pictures]
    start = np.array([run.fails for run in seen["start"].values()]).mean(0)
    drawn = np.random.default_rng(0).integers(0, len(ids), (DRAWS, len(ids)))
    shares = 1 - ours[drawn].mean(1) / start[drawn].mean(1)
    return Interval(float(1 - ours.mean() / start.mean()), *map(float, np.quantile(shares, (0.025, 0.975))))


def per_round(plan: Plan, name: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Means over the seeds of what the rounds' own reports say."""
    runs = [_rounds(plan, name, seed) for seed in seeds]
    found = []
    for number in range(len(runs[0])):
        here = [run[number] for run in runs]
        prefix = next(key for key in here[0]["figures"] if key.endswith("/hallucinating")).rpartition("/")[0]
        line = {key: _mean([one["figures"][f"{prefix}/{key}"] for one in here]) for key in ("hallucinating", "coverage", "words")}
        line["by_seed"] = [one["figures"][f"{prefix}/hallucinating"] for one in here]
        for part, keys in (("feedback", ("pairs", "score", "rejected")), ("drift", ("chosen", "rejected", "kl_start"))):
            for key in keys:
                values = [one[part][key] for one in here if one.get(part, {}).get(key) is not None]
                line[f"{part}_{key}"] = _mean(values) if values else None
        found.append(line)
    return found


def best_of_table(plan: Plan, seeds: Sequence[int], ids: Sequence[str]) -> dict[str, Any]:
    """Reward -> figures at each N, pictures drawn together over the seeds."""
    runs = [found for seed in seeds if (found := _read(plan.folder("best-of", seed) / "best_of.json"))]
    if not runs:
        return {}
    table: dict[str, Any] = {}
    for name in runs[0]:
        if name.endswith("flips"):
            table[name] = {key: _mean([run[name][key] for run in runs]) for key in runs[0][name]}
            continue
        table[name] = [
            {
                "n": n,
                "hallucinating": bootstrap([v for run in runs for v in run[name][k]["by_picture"]], list(ids) * len(runs)),
                **{key: _mean([run[name][k][key] for run in runs]) for key in ("coverage", "words")},
            }
            for k, n in enumerate(NS)
        ]
    return table


def cpu_minutes(plan: Plan, name: str, seeds: Sequence[int]) -> list[float]:
    return [(_read(plan.folder(name, seed) / "cpu.json") or 0) / 60 for seed in seeds]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rounded(value: Any) -> Any:
    if isinstance(value, Interval):
        return [round(number, 4) for number in value]
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


# -- tables ------------------------------------------------------------------------------------------------------------


def tables(told: Mapping[str, Any]) -> list[str]:
    """Markdown."""
    head = f"**{told['title']}**: {told['pictures']} test pictures, seeds {', '.join(map(str, told['seeds']))}."
    lines = [head, "", "| model | responses that hallucinate | by seed | invented mentions | coverage | words | fall against the start |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for name, title in NAMES.items():
        if name in told["models"]:
            lines.append(_model_line(title, told["models"][name], told["reduction"].get(name)))
    lines += ["", "| difference in hallucinating responses, points | all seeds | by seed |", "|---|---|---|"]
    lines += [_difference_line(name, found) for name, found in told["differences"].items()]
    for name, rounds in told["rounds"].items():
        lines += ["", f"| {NAMES[name]}, mean over seeds | hallucinating | coverage | words | pairs | claims rejected | KL to the start |"]
        lines += ["|---|---|---|---|---|---|---|", *(_round_line(k, line) for k, line in enumerate(rounds))]
    lines += judging_lines(told)
    return [*lines, *best_of_lines(told)]


def _model_line(title: str, found: Mapping[str, Any], fall: Interval | None) -> str:
    seeds = ", ".join(f"{value:.1%}" for value in found["by_seed"])
    said = f"{fall.mean:.0%} [{fall.low:.0%}, {fall.high:.0%}]" if fall else ""
    numbers = f"{found['invented']:.1%} | {found['coverage']:.1%} | {found['words']:.1f}"
    return f"| {title} | {_percent(found['hallucinating'])} | {seeds} | {numbers} | {said} |"


def _difference_line(name: str, found: Mapping[str, Any]) -> str:
    one, other = name.split(" - ")
    title = f"{_title(one)}, minus {_title(other)}"
    return f"| {title} | {_points(found['difference'])} | {', '.join(f'{100 * value:+.1f}' for value in found['by_seed'])} |"


def _title(name: str) -> str:
    return "first of the four rounds" if name == "first" else NAMES[name]


def _round_line(number: int, line: Mapping[str, Any]) -> str:
    cells = [f"{line['hallucinating']:.1%}", f"{line['coverage']:.1%}", f"{line['words']:.1f}"]
    cells += ["" if line[key] is None else form.format(line[key]) for key, form in FORMS.items()]
    return f"| {f'round {number}' if number else 'start'} | {' | '.join(cells)} |"


FORMS = {"feedback_pairs": "{:.0f}", "feedback_rejected": "{:.1%}", "drift_kl_start": "{:.1f}"}
LABELS = (
    ("balanced", "balanced accuracy"),
    ("agreement", "agreement"),
    ("pairs_right", "better of two answers"),
    ("pairs_decided", "decided"),
)


def judging_lines(told: Mapping[str, Any]) -> list[str]:
    runs = [run for run in told["judging"] if run]
    if not runs:
        return []
    lines = ["", f"| labels against the truth | {' | '.join(title for _, title in LABELS)} |", "|---|---|---|---|---|"]
    for truth, way in ((t, w) for t in runs[0]["divided"] for w in ("divided", "whole")):
        cells = [f"{_mean([run[way][truth][key] for run in runs]):.1%}" for key, _ in LABELS]
        how = "claim by claim" if way == "divided" else "whole answer"
        lines.append(
            f"| {how}; an error is {'an invented object' if truth == 'objects' else 'anything stated wrongly'} | {' | '.join(cells)} |"
        )
    return lines


def best_of_lines(told: Mapping[str, Any]) -> list[str]:
    rewards = {name: found for name, found in told["best_of"].items() if not name.endswith("flips")}
    if not rewards:
        return []
    lines = ["", f"| best of N, responses that hallucinate | {' | '.join(f'N = {n}' for n in NS)} | words at N = 1 and {NS[-1]} |"]
    lines.append("|---" * (len(NS) + 2) + "|")
    for name, found in rewards.items():
        cells = [f"{line['hallucinating'].mean:.1%}" for line in found]
        lines.append(f"| samples of the {name} | {' | '.join(cells)} | {found[0]['words']:.1f}, {found[-1]['words']:.1f} |")
    flips = {name: found for name, found in told["best_of"].items() if name.endswith("flips")}
    for name, found in flips.items():
        said = ", ".join(f"{key} {value:.1%}" for key, value in found.items())
        lines += [
            "",
            f"Winners of {NS[-1]} that flip under small changes of the scoring, samples of the {name.removesuffix(': flips')}: {said}.",
        ]
    return lines


def _percent(found: Interval) -> str:
    return f"{found.mean:.1%} [{found.low:.1%}, {found.high:.1%}]"


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


# -- plots -------------------------------------------------------------------------------------------------------------


def plot_rounds(told: Mapping[str, Any], path: Path) -> None:
    """Hallucination by round, each seed a thin line; coverage above it; one big round beside it."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, rounds), color in zip(told["rounds"].items(), ("tab:blue", "tab:green"), strict=False):
        numbers = range(len(rounds))
        axes.plot(numbers, [100 * line["hallucinating"] for line in rounds], "o-", color=color, label=f"{NAMES[name]}: hallucinating")
        axes.plot(numbers, [100 * line["coverage"] for line in rounds], "--", color=color, alpha=0.6, label=f"{NAMES[name]}: coverage")
        for one in zip(*(line["by_seed"] for line in rounds), strict=True):
            axes.plot(numbers, [100 * share for share in one], color=color, alpha=0.25, linewidth=1)
    if "big" in told["models"]:
        share = 100 * told["models"]["big"]["hallucinating"].mean
        last = len(next(iter(told["rounds"].values()))) - 1
        axes.plot([last], [share], "s", color="tab:red", label=NAMES["big"])
    axes.set(xlabel="round", ylabel="%", ylim=(0, 100), title=told["title"])
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, loc="center right")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def plot_best_of(told: Mapping[str, Any], path: Path) -> None:
    """Hallucination against N, a panel for each sampler."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    for panel, sampler in zip(panels, ("start", "trained"), strict=True):
        for name, found in told["best_of"].items():
            if name.startswith(f"{sampler}: ") and not name.endswith("flips"):
                panel.plot(NS, [100 * line["hallucinating"].mean for line in found], "o-", label=name.partition(": ")[2])
        panel.set_xscale("log", base=2)
        panel.set(xlabel="N", title=f"samples of the {sampler} model", ylim=(0, None))
    panels[0].set_ylabel("% of responses that hallucinate")
    panels[1].legend(fontsize=8)
    figure.suptitle(told["title"].replace("rounds of feedback", "best of N"))
    figure.savefig(path, dpi=110)
    plt.close(figure)
