"""How six evaluators read the answers of POPE and what they count."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .answers import Answer
from .extraction import vlmevalkit_yes_no
from .official import ratio


class Counts(NamedTuple):
    """The confusion matrix; yes is the positive class."""

    tp: int
    fp: int
    tn: int
    fn: int


class Found(NamedTuple):
    """One file's figures, under the names of the evaluator; whether each answer is right, by its rules."""

    figures: dict[str, float]
    counts: Counts
    right: list[bool]
    printed: tuple[str, ...]


def official(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    yes = [says_yes(_text(answer)) for answer in answers]
    return _four_numbers(yes, questions, flags, ("acc", "precision", "recall", "f1", "yes_ratio"))


def llava(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    """RUCAIBox's reading and figures, and a line of them with three decimals."""
    found = official(answers, questions, flags)
    short = ", ".join(f"{found.figures[name]:.3f}" for name in ("f1", "acc", "precision", "recall", "yes_ratio"))
    return found._replace(printed=(*found.printed, short))


def opera(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    yes = [opera_says_yes(_text(answer)) for answer in answers]
    return _four_numbers(yes, questions, flags, ("Accuracy", "Precision", "Recall", "F1 score", "Yes ratio"))


def says_yes(text: str) -> bool:
    """RUCAIBox's reading: yes, unless a piece of the first sentence, split at single blanks, is exactly No, not or no."""
    pieces = text.split(".")[0].replace(",", "").split(" ")
    return not any(word in pieces for word in ("No", "not", "no"))


def opera_says_yes(text: str) -> bool:
    """OPERA's reading: of the whole text, with NO and every word that ends in n't among the negative ones."""
    pieces = text.replace(".", "").replace(",", "").split(" ")
    return not any(word in ("No", "not", "no", "NO") or word.endswith("n't") for word in pieces)


def _four_numbers(yes: Sequence[bool], questions: Sequence[Mapping[str, Any]], flags: list[str], names: Sequence[str]) -> Found:
    """The shared last lines of RUCAIBox's and OPERA's scripts. The yes ratio is over answers, also those without a question."""
    labels = [question["label"] != "no" for question in questions]
    counts = _counts(zip(yes, labels, strict=False))
    precision = ratio(counts.tp, counts.tp + counts.fp, "precision", flags)
    recall = ratio(counts.tp, counts.tp + counts.fn, "recall", flags)
    f1 = ratio(2 * precision * recall, precision + recall, "f1", flags)
    acc = ratio(counts.tp + counts.tn, sum(counts), "acc", flags)
    values = (acc, precision, recall, f1, ratio(sum(yes), len(yes), "yes_ratio", flags))
    titles = ("Accuracy", "Precision", "Recall", "F1 score", "Yes ratio")
    matrix = "\t".join(map(str, counts))
    printed = ("TP\tFP\tTN\tFN\t", matrix, *(f"{title}: {value}" for title, value in zip(titles, values, strict=True)))
    return Found(dict(zip(names, values, strict=True)), counts, [a == b for a, b in zip(yes, labels, strict=False)], printed)


def vcd(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    """A label's word has to occur in the lower-cased answer ("know" says no); what has neither counts against the model, as does an
    answer whose label is neither yes nor no."""
    if len(answers) < len(questions):
        raise ValueError(f"{len(answers)} answers for {len(questions)} questions; VCD's evaluator needs one for each")
    pairs, right, warnings = [], [], []
    for answer, question in zip(answers, questions, strict=False):
        if answer.key != question.get("question_id"):
            next_one = question.get("question_id")
            raise ValueError(f"row {answer.row} answers question {answer.key!r}, but {next_one!r} is next in the question file")
        label, text = str(question["label"]).lower().strip(), _text(answer).lower().strip()
        right.append(label in ("yes", "no") and label in text)
        if label in ("yes", "no"):
            pairs.append((right[-1] == (label == "yes"), label == "yes"))
        else:
            warnings.append(f"Warning: unknown gt_answer: {label}")
    counts = _counts(pairs)
    precision = ratio(counts.tp, counts.tp + counts.fp, "Precision", flags)
    recall = ratio(counts.tp, counts.tp + counts.fn, "Recall", flags)
    figures = {
        "Precision": precision,
        "Recall": recall,
        "F1": ratio(2 * precision * recall, precision + recall, "F1", flags),
        "Accuracy": (counts.tp + counts.tn) / len(questions),
        "yes": (counts.tp + counts.fp) / len(questions),
        "unknow": len(warnings) / len(questions),
    }
    return Found(figures, counts, right, (*warnings, *(f"{name}: {value}" for name, value in figures.items())))


def lmms_eval(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    """The stripped, lower-cased text has to be the label; its yes ratio is of the labels. Divisions by zero give 0."""
    said = [_text(answer).lower().strip() for answer, _ in zip(answers, questions, strict=False)]
    labels = [str(question["label"]).lower().strip() for question in questions[: len(said)]]
    if strange := [(number, label) for number, label in enumerate(labels, 1) if label not in ("yes", "no")]:
        raise ValueError(f"question {strange[0][0]} has the label {strange[0][1]!r}; lmms-eval asserts yes or no")
    pairs = list(zip(said, labels, strict=True))
    counts = Counts(*(pairs.count(pair) for pair in (("yes", "yes"), ("yes", "no"), ("no", "no"), ("no", "yes"))))
    precision = counts.tp / (counts.tp + counts.fp) if counts.tp + counts.fp else 0.0
    recall = counts.tp / (counts.tp + counts.fn) if counts.tp + counts.fn else 0.0
    right = [a == b for a, b in pairs]
    figures = {
        "accuracy": sum(right) / len(right),
        "precision": precision,
        "recall": recall,
        "f1_score": 2 * precision * recall / (precision + recall) if precision + recall else 0.0,
        "yes_ratio": labels.count("yes") / len(labels),
    }
    return Found(figures, counts, right, ())


def vlmevalkit(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    """Words yes and no after punctuation is processed; an unknown answer is no for F1 and wrong for accuracy. Percentages; divisions
    by zero give 0; what is no text counts as its name, which is unknown."""
    read = [vlmevalkit_yes_no(str(answer.text)) for answer in answers]
    labels = [str(question["label"]).capitalize() for question in questions[: len(read)]]
    counts = _counts((answer == "Yes", label == "Yes") for answer, label in zip(read, labels, strict=False))
    right = [answer == label for answer, label in zip(read, labels, strict=False)]
    precision = counts.tp / (counts.tp + counts.fp) if counts.tp + counts.fp else 0.0
    recall = counts.tp / (counts.tp + counts.fn) if counts.tp + counts.fn else 0.0
    figures = {
        "Overall": 2 * precision * recall / (precision + recall) * 100 if precision + recall else 0.0,
        "acc": sum(right) / len(right) * 100,
        "precision": precision * 100,
        "recall": recall * 100,
    }
    return Found(figures, counts, right, ())


RULES: dict[str, Callable[[Sequence[Answer], Sequence[Mapping[str, Any]], list[str]], Found]] = {
    "official": official,
    "llava": llava,
    "vcd": vcd,
    "opera": opera,
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}
POOLED = ("lmms-eval", "vlmevalkit")
FIGURES = {  # the one that stands for the whole, the one that is the mean of right answers, and its scale
    "official": ("f1", "acc", 1.0),
    "llava": ("f1", "acc", 1.0),
    "vcd": ("F1", "Accuracy", 1.0),
    "opera": ("F1 score", "Accuracy", 1.0),
    "lmms-eval": ("f1_score", "accuracy", 1.0),
    "vlmevalkit": ("Overall", "acc", 100.0),
}


def _counts(pairs: Iterable[tuple[bool, bool]]) -> Counts:
    """Of (says yes, is yes)."""
    seen = list(pairs)
    return Counts(*(seen.count(pair) for pair in ((True, True), (True, False), (False, False), (False, True))))


def _text(answer: Answer) -> str:
    """ValueError for an answer that is no text: every upstream script stops there."""
    if not isinstance(answer.text, str):
        raise ValueError(f"row {answer.row}: the answer is {answer.text!r}; expected a text (an empty one counts as yes)")
    return answer.text
