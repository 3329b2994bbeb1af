"""HallusionBench's figures: accuracies by question, pair and figure, the yes/no bias, and which errors are whose (language, vision)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from .official import ratio

WRONG, RIGHT, UNCERTAIN = 0, 1, 2
LANGUAGE, VISION, MIXED, NOBODY = "LH", "VI", "Mix", ""
CATEGORIES = {"VD": "Visual Dependent", "VS": "Visual Supplement"}


class Row(NamedTuple):
    """A judged answer. key: category, subcategory, set, figure, question. shown: 0 no image, 1 the original, 2 an edited one. code:
    `WRONG`, `RIGHT` or `UNCERTAIN`. same: whether it says the same as the answer about figure 0 (only `needs_same` rows have to know)."""

    key: tuple[str, str, str, str, str]
    shown: str
    yes: bool
    code: int
    same: bool = False

    @property
    def category(self) -> str:
        return self.key[0]

    @property
    def pair(self) -> tuple[str, ...]:
        """The same question about all figures of a set."""
        return (*self.key[:3], self.key[4])

    @property
    def figure(self) -> tuple[str, ...]:
        return self.key[:4]

    @property
    def first(self) -> bool:
        """About figure 0: the original, or no figure at all."""
        return self.key[3] == "0"

    @property
    def blind(self) -> bool:
        """A question of the supplement without its figure, to which not knowing is right."""
        return self.category == "VS" and self.first

    @property
    def right(self) -> bool:
        return self.code == RIGHT or (self.blind and self.code == UNCERTAIN)


def needs_same(row: Row, first: int) -> bool:
    """Whether the flag `same` decides whose the error is; first: the code of the answer about figure 0."""
    if row.first or row.code != WRONG:
        return False
    return first == RIGHT if row.category == "VD" else first == WRONG or (first == RIGHT and row.shown == "2")


def whose(row: Row, first: int) -> str:
    """Whose error an answer is: `LANGUAGE`, `VISION`, `MIXED`, or `NOBODY`'s where there is none."""
    if row.right:
        return NOBODY
    if row.first:
        return VISION if row.category == "VD" else LANGUAGE
    if needs_same(row, first):
        if row.category == "VD":
            return MIXED if row.same else VISION
        return LANGUAGE if row.same else MIXED if first == WRONG else VISION
    return MIXED if row.category == "VS" and first == WRONG else VISION


def by_question(rows: Sequence[Row]) -> dict[str, Any]:
    """As upstream's `get_eval_all`, whose causes go by the answer alone."""
    causes = Counter(map(_cause, rows))
    correct = sum(row.right for row in rows)
    told = {name: causes[name] for name in (LANGUAGE, VISION, MIXED)}
    return {**told, "total": len(rows), "correct": correct, "wrong": len(rows) - correct}


def _cause(row: Row) -> str:
    if row.right:
        return NOBODY
    if row.code == UNCERTAIN or (row.first and row.category == "VD"):
        return VISION
    return LANGUAGE if row.blind else MIXED


def by_figure(rows: Sequence[Row], flags: list[str]) -> dict[str, Any]:
    """As upstream's `get_eval_fig`: questions without a figure belong to none."""
    groups = _groups((row for row in rows if not row.blind), lambda row: row.figure)
    shares = [sum(answers) / len(answers) for answers in groups]
    told = {"total": len(shares), "correct": shares.count(1), "wrong": shares.count(0)}
    score = ratio(reduce(add, shares, 0.0), len(shares), "figure score", flags)  # one after the other: `sum` is more exact than upstream
    return {**told, "inconsistent": len(shares) - told["correct"] - told["wrong"], "score": score}


def by_pair(rows: Sequence[Row]) -> dict[str, Any]:
    """As upstream's `get_eval_pair_easy` and `_hard`."""
    groups = _groups(rows, lambda row: row.pair)
    correct = sum(map(all, groups))
    return {"total": len(groups), "total_q": len(rows), "correct": correct, "wrong": len(groups) - correct}


def blamed(rows: Sequence[Row], first: Mapping[tuple[str, ...], int]) -> dict[str, Any]:
    """As upstream's `get_eval_pair_all`: errors by cause, of pairs and (`_cg`) of questions. first: codes about figure 0 by pair."""
    causes = [(row.pair, whose(row, first[row.pair])) for row in rows]
    of_pairs: dict[tuple[str, ...], set[str]] = {}
    for pair, cause in causes:
        of_pairs.setdefault(pair, set()).update({LANGUAGE, VISION} if cause == MIXED else {cause} - {NOBODY})
    pairs = Counter(MIXED if len(found) == 2 else next(iter(found), NOBODY) for found in of_pairs.values())
    questions = Counter(cause for _, cause in causes)
    names = (LANGUAGE, VISION, MIXED)
    return {**by_pair(rows), **{name: pairs[name] for name in names}, **{f"{name}_cg": questions[name] for name in names}}


def yes_bias(rows: Sequence[Row], flags: list[str]) -> dict[str, float]:
    """As upstream's `yes_ratio_stats`: an answer that is right counts as the truth, any other as its opposite."""
    said = [row.right == row.yes for row in rows]
    wrong = [row for row in rows if not row.right]
    name = "Yes/No Bias (FP Ratio)"
    return {
        "diff": sum(said) / len(said) - sum(row.yes for row in rows) / len(rows),
        "fp": ratio(sum(not row.yes for row in wrong), len(wrong), name, flags),
    }


def _groups(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> list[list[bool]]:
    found: dict[Hashable, list[bool]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row.right)
    return list(found.values())


# -- reports -----------------------------------------------------------------------------------------------------------


class Figures(NamedTuple):
    """results: rounded, under the evaluator's names. raw: not rounded, with counts. printed: upstream's lines."""

    results: dict[str, Any]
    raw: dict[str, Any]
    printed: Sequence[str] = ()


def official(rows: Sequence[Row], flags: list[str]) -> Figures:
    """As evaluation.py prints them."""
    first = {row.pair: row.code for row in rows if row.first}
    counts = _counts(rows, first, flags)
    counts["per_category"] = {name: _counts([r for r in rows if r.category == name], first, flags) for name in CATEGORIES}
    bias = yes_bias(rows, flags)
    biases = {"Yes/No Bias (Pct Diff)": bias["diff"], "Yes/No Bias (FP Ratio)": bias["fp"]}  # not rounded upstream
    exact = {**_accuracies(counts, flags), **biases, **_consistency(counts, flags), **_shares(counts, flags)}
    results: dict[str, Any] = {name: value if name in biases else round(value, 4) for name, value in exact.items()}
    results |= _sizes(counts)
    return Figures(results, {**exact, "counts": counts, "yes_ratio_stats": bias}, _printed(results))


def lmms_eval(rows: Sequence[Row], flags: list[str]) -> Figures:
    """Three accuracies."""
    found = {"aAcc": by_question(rows), "fAcc": by_figure(rows, flags), "qAcc": by_pair(rows)}
    exact = {name: _percent(one["correct"], one["total"], name, flags) for name, one in found.items()}
    return Figures({"n": len(rows), **{name: round(value, 4) for name, value in exact.items()}}, {**exact, "counts": found})


def vlmevalkit(rows: Sequence[Row], flags: list[str]) -> Figures:
    """Three accuracies of all, by category and by subcategory. Their keys omit the category, and questions without a figure count."""
    parts = {name: [row for row in rows if row.key[at] == name] for at in (0, 1) for name in dict.fromkeys(row.key[at] for row in rows)}
    results = {**_three(rows), **{name: _three(of) for name, of in parts.items()}}
    return Figures(results, results)


FIGURES: dict[str, Callable[[Sequence[Row], list[str]], Figures]] = {
    "official": official,
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}


def _counts(rows: Sequence[Row], first: Mapping[tuple[str, ...], int], flags: list[str]) -> dict[str, Any]:
    """Easy: pairs without their edited figures; hard: with these alone. Pairs count, though upstream's names say questions."""
    easy, hard = [row for row in rows if row.shown != "2"], [row for row in rows if row.shown == "2"]
    told = {"all": by_question(rows), "figure": by_figure(rows, flags), "pair": blamed(rows, first)}
    return {**told, "pair_easy": by_pair(easy), "pair_hard": by_pair(hard)}


def _accuracies(counts: Mapping[str, Any], flags: list[str]) -> dict[str, float]:
    names = {
        "Acc per question pair (qAcc)": "pair",
        "Acc per figure (fAcc)": "figure",
        "Acc per easy question (easy aAcc)": "pair_easy",
        "Acc per hard question (hard aAcc)": "pair_hard",
        "Acc per question (aAcc)": "all",
    }
    return {name: _percent(counts[part]["correct"], counts[part]["total"], name, flags) for name, part in names.items()}


def _consistency(counts: Mapping[str, Any], flags: list[str]) -> dict[str, float]:
    names = {f"Consistency Test ({what})": counts["figure"][what] for what in ("correct", "inconsistent", "wrong")}
    return {name: _percent(n, counts["figure"]["total"], name, flags) for name, n in names.items()}


def _shares(counts: Mapping[str, Any], flags: list[str]) -> dict[str, float]:
    """Of all wrong answers, those that are language's, vision's, both's."""
    names = {name: counts["pair"][f"{cause}_cg"] for name, cause in (("LH", LANGUAGE), ("VI", VISION), ("Mixed", MIXED))}
    return {name: _percent(n, sum(names.values()), name, flags) for name, n in names.items()}


def _sizes(counts: Mapping[str, Any]) -> dict[str, str]:
    parts = counts["per_category"]

    def both(part: str) -> str:
        return " + ".join(f"{parts[name][part]['total_q']}({title})" for name, title in CATEGORIES.items())

    figures = {f"{title} Figures": str(parts[name]["figure"]["total"]) for name, title in CATEGORIES.items()}
    questions = {
        "Easy Questions": both("pair_easy"),
        "Hard Questions": both("pair_hard"),
        "Total Questions": str(counts["pair"]["total_q"]),
    }
    return {**questions, **figures, "Total Figures": str(counts["figure"]["total"])}


def _printed(results: Mapping[str, Any]) -> list[str]:
    names = list(results)
    tables = [grid([["", *of], ["GPT Eval", *(results[name] for name in of)]]) for of in (names[:5], names[5:13])]
    sizes = [f"{name}: {results[name]}" for name in names[13:]]
    heads = ("##### GPT Evaluate #####", "##### Question Stats #####", "##### Figure Stats #####", "##### Leaderboard Stats #####")
    return [heads[0], heads[1], *sizes[:3], heads[2], *sizes[3:], heads[3], *tables[0], *tables[1]]


def _three(rows: Sequence[Row]) -> dict[str, float]:
    figures: dict[tuple[str, ...], list[bool]] = {}
    questions: dict[tuple[str, ...], list[bool]] = {}
    for row in rows:
        _, subcategory, of_set, figure, question = row.key
        figures.setdefault((subcategory, of_set, figure), []).append(row.code == RIGHT)
        questions.setdefault((subcategory, of_set, question), []).append(row.code == RIGHT)
    whole = {"aAcc": [row.code == RIGHT for row in rows], "fAcc": [*map(all, figures.values())], "qAcc": [*map(all, questions.values())]}
    return {name: sum(right) / len(right) * 100 for name, right in whole.items()}


def _percent(n: int, of: int, what: str, flags: list[str]) -> float:
    return ratio(100 * n, of, what, flags)


def grid(rows: Sequence[Sequence[Any]]) -> list[str]:
    """A table as PrettyTable draws it."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    head, *body = ["|" + "|".join(f" {_centred(cell, width)} " for cell, width in zip(row, widths, strict=True)) + "|" for row in cells]
    return [rule, head, rule, *body, rule]


def _centred(text: str, width: int) -> str:
    """An odd blank more goes behind texts of odd length, before others."""
    left, odd = divmod(width - len(text), 2)
    left += odd and len(text) % 2 == 0
    return " " * left + text + " " * (width - len(text) - left)
