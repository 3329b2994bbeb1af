"""POPE (Li et al. 2023, arXiv 2305.10355): is there a THING in the image? Five evaluators, each with its own reading of an answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers
from .base import Judged
from .extraction import vlmevalkit_yes_no
from .official import Flavor, Official, Scored, ratio, rows_of
from .sources import Published, published

ORIGIN = "https://github.com/RUCAIBox/POPE (output/coco, MIT; A-OKVQA and GQA in output/seem), images: COCO val2014 or GQA"
SPLITS = ("random", "popular", "adversarial")
FILES = {
    "random": Published("coco_pope_random.json", "ac25245170b975a5bdf9080b23fd431dfe6be458bc038259c1f4f09a6bef7994", ORIGIN),
    "popular": Published("coco_pope_popular.json", "72c1a8ad45d0c13514f5f22598261df41d3b533854d29682e924db50ed8aa753", ORIGIN),
    "adversarial": Published("coco_pope_adversarial.json", "420b3407db1fa9f1187a805dca41cb7b97fd91504e6c2179706188c107fb8ef8", ORIGIN),
}


class Counts(NamedTuple):
    """The confusion matrix; yes is the positive class."""

    tp: int
    fp: int
    tn: int
    fn: int


class PopeBenchmark(Official):
    """Question files, each a JSON object a line or a list: question_id, image, text, label (yes or no).

    data: one such file, or a folder of several (`*.json`, `*.jsonl`); without it the three COCO files are used, which are packaged.
    Of several, the responses belong to the file whose questions they repeat, or to all of them where a field `category`, `split`
    or `type` names it. images: the folder of the pictures. split: only this file of the folder.

    Answers and labels are paired by position, as all upstream scripts do; VCD's also asserts that the ids agree. A label other
    than "no" is yes. Several files together: lmms-eval and VLMEvalKit pool them, else figures are means over them. A sheet of
    VLMEvalKit's own (`prediction`, `answer`, `category`) brings its labels along.
    """

    name = "pope"
    needs = "pictures of COCO val2014 (images); questions of A-OKVQA and GQA, and GQA's pictures (data, images)"
    sampling = Sampling(max_tokens=16)
    flavors = {
        "official": Flavor("RUCAIBox/POPE 3df3ba1 evaluate.py (LLaVA's eval_pope.py and LLaVA-RLHF read answers alike)"),
        "vcd": Flavor("DAMO-NLP-SG/VCD d6568ff experiments/eval/eval_pope.py"),
        "opera": Flavor("shikiw/OPERA 61426ef pope_eval.py"),
        "lmms-eval": Flavor("lmms-eval tasks/pope/utils.py"),
        "vlmevalkit": Flavor("VLMEvalKit image_yorn, POPE"),
    }

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        split: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.split, self.images = split, images
        self.main, self.items_metric, self.items_scale = FIGURES[self.flavor]

    @cached_property
    def files(self) -> dict[str, list[dict[str, Any]]]:
        """The questions by split; a file of another name is its own split."""
        found = dict(self._read_files())
        if self.split is not None and self.split not in found:
            raise ValueError(f"there is no split '{self.split}'; there are {', '.join(found) or 'none'}")
        kept = found if self.split is None else {self.split: found[self.split]}
        return {split: rows[: self.limit] for split, rows in kept.items()}

    def _read_files(self) -> Iterable[tuple[str, list[dict[str, Any]]]]:
        if self.data is None:
            for split, file in FILES.items():
                yield split, _questions(published(self.name, file, None, self.flags).decode(), file.name)
            return
        root = Path(self.data)
        if not root.exists():
            raise FileNotFoundError(f"there is no {self.data}")
        paths = [root] if root.is_file() else sorted(path for path in root.rglob("*.json*") if path.is_file())
        names = _names(paths)
        for path, name in zip(paths, names, strict=True):
            questions = _questions(path.read_text(encoding="utf-8-sig"), str(path), must=root.is_file())
            if questions:
                yield name, questions

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        return [self._sample(split, row, at) for split, rows in self.files.items() for at, row in enumerate(rows)]

    def _sample(self, split: str, row: Mapping[str, Any], at: int) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / str(row["image"])))
        asked = (Part("image"), Part("text", f"{row['text']}\nAnswer the question using a single word or phrase."))  # LLaVA-1.5's
        return Sample(f"{split}/{at}", (Message("user", asked),), (picture,), meta={**row, "split": split})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [row.meta for row in rows])

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def report(self, answers: Answers) -> Scored:
        if self.flavor == "vlmevalkit" and all({"prediction", "answer", "category"} <= row.fields.keys() for row in answers.rows):
            return self._scored(answers, *_of_sheet(answers.rows), ["labels and categories are those of the sheet"])
        groups = self._groups(answers)
        flags = []
        for split, rows in groups.items():
            if len(rows) != len(self.files[split]):
                lengths = f"{len(rows)} answers for {len(self.files[split])} questions"
                flags.append(f"{split}: {lengths}; pairs beyond the shorter are dropped, as upstream does")
        return self._scored(answers, groups, self.files, flags)

    def _scored(
        self,
        answers: Answers,
        groups: Mapping[str, Sequence[Answer]],
        questions: Mapping[str, Sequence[Mapping[str, Any]]],
        known: Sequence[str],
    ) -> Scored:
        rules, guarded = RULES[self.flavor], list[str]()
        found = {split: rules(rows, questions[split], guarded) for split, rows in groups.items()}
        flags = [*guarded, *known]
        items: list[Judged] = []
        for split, rows in groups.items():
            items += [Judged(f"{split}/{at}", float(right), split) for at, right in enumerate(found[split].right[: len(rows)])]
        counts = {split: one.counts._asdict() for split, one in found.items()}
        if len(found) == 1:
            (one,) = found.values()
            told = {"raw": one.counts._asdict(), "printed": one.printed, "items": tuple(items)}
            return self.scored(len(answers.rows), one.figures, flags=flags, **told)
        if self.flavor in POOLED:
            whole = rules([row for rows in groups.values() for row in rows], [q for split in groups for q in questions[split]], []).figures
            flags.append("figures without a split are of all questions together, as upstream has them")
        else:
            whole = {name: sum(one.figures[name] for one in found.values()) / len(found) for name in next(iter(found.values())).figures}
            flags.append("figures without a split are means over splits")
        results = {**whole, **{split: one.figures for split, one in found.items()}}
        printed = tuple(line for split, one in found.items() for line in (split, *one.printed))
        return self.scored(len(answers.rows), results, flags=flags, raw=counts, printed=printed, items=tuple(items))

    def _groups(self, answers: Answers) -> dict[str, Sequence[Answer]]:
        """The answers to each split's questions, in their order."""
        told = [_split_of(answer, self.files) for answer in answers.rows]
        if len(self.files) > 1 and all(split is not None for split in told):
            return {split: rows for split in self.files if (rows := [a for a, s in zip(answers.rows, told, strict=True) if s == split])}
        return {self._only_split(answers): answers.rows}

    def _only_split(self, answers: Answers) -> str:
        if len(self.files) == 1:
            return next(iter(self.files))
        if not self.files:
            raise ValueError(f"{self.data} holds no question file: expected rows with question_id, image, text and label")
        fits = {split: _agreement(answers.rows, rows) for split, rows in self.files.items()}
        best = [split for split, fit in fits.items() if fit == max(fits.values())]
        if len(best) > 1:
            told = f"responses could belong to any of {', '.join(best)}"
            raise ValueError(f"{told}; name one with the option `split`, or give its file as data")
        return best[0]


def _of_sheet(rows: Sequence[Answer]) -> tuple[dict[str, list[Answer]], dict[str, list[dict[str, Any]]]]:
    """VLMEvalKit's answers and labels by category; a row of several (`random,popular`) counts in each."""
    parts = [(category, row) for row in rows for category in str(row.fields["category"]).split(",")]
    answers = {category: [row for part, row in parts if part == category] for category in dict.fromkeys(part for part, _ in parts)}
    return answers, {category: [{"label": row.fields["answer"]} for row in told] for category, told in answers.items()}


# -- question files ----------------------------------------------------------------------------------------------------


def _questions(text: str, where: str, *, must: bool = True) -> list[dict[str, Any]]:
    """The rows of a question file; with `must`, ValueError for a file of something else, else none."""
    try:
        rows = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        if not must:
            return []
        raise ValueError(f"{where} is no question file: {error}") from error
    bad = next((at for at, row in enumerate(rows, 1) if not isinstance(row, dict) or "label" not in row), None)
    if rows and bad is None:
        return rows
    if not must:
        return []
    raise ValueError(f"{where} is no question file of POPE: row {bad or 0} has no `label`; expected question_id, image, text, label")


def _names(paths: Sequence[Path]) -> list[str]:
    """What each file's split is called: random, popular, adversarial where its name ends so and no other's does, else its stem."""
    short = [next((split for split in SPLITS if path.stem.endswith(split)), path.stem) for path in paths]
    if len(set(short)) == len(short):
        return short
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def _split_of(answer: Answer, files: Mapping[str, Any]) -> str | None:
    return next((str(answer.fields[name]) for name in ("category", "split", "type") if str(answer.fields.get(name)) in files), None)


def _agreement(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]]) -> tuple[bool, int]:
    """Whether there is an answer a question, and how many answers repeat the question (or image) at their place."""
    same = sum(
        any(answer.fields.get(name) == question.get(to) for name, to in (("question", "text"), ("prompt", "text"), ("image", "image")))
        for answer, question in zip(answers, questions, strict=False)
    )
    return len(answers) == len(questions), same


# -- the evaluators ----------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """One file's figures, under the names of the evaluator; whether each answer is right, by its rules."""

    figures: dict[str, float]
    counts: Counts
    right: list[bool]
    printed: tuple[str, ...]


def official(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    yes = [says_yes(_text(answer)) for answer in answers]
    return _four_numbers(yes, questions, flags, ("acc", "precision", "recall", "f1", "yes_ratio"))


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
    """A label's word has to occur in the lower-cased answer ("know" says no); what has neither counts against the model."""
    if len(answers) < len(questions):
        raise ValueError(f"{len(answers)} answers for {len(questions)} questions; VCD's evaluator needs one for each")
    right, yes, labels = [], [], []
    for answer, question in zip(answers, questions, strict=False):
        if answer.key != question.get("question_id"):
            next_one = question.get("question_id")
            raise ValueError(f"row {answer.row} answers question {answer.key!r}, but {next_one!r} is next in the question file")
        label, text = str(question["label"]).lower().strip(), _text(answer).lower().strip()
        if label not in ("yes", "no"):
            continue
        right.append(label in text)
        labels.append(label == "yes")
        yes.append(right[-1] == labels[-1])
    counts = _counts(zip(yes, labels, strict=True))
    precision = ratio(counts.tp, counts.tp + counts.fp, "Precision", flags)
    recall = ratio(counts.tp, counts.tp + counts.fn, "Recall", flags)
    figures = {
        "Precision": precision,
        "Recall": recall,
        "F1": ratio(2 * precision * recall, precision + recall, "F1", flags),
        "Accuracy": (counts.tp + counts.tn) / len(questions),
        "yes": (counts.tp + counts.fp) / len(questions),
        "unknow": (len(questions) - len(right)) / len(questions),
    }
    return Found(figures, counts, right, tuple(f"{name}: {value}" for name, value in figures.items()))


def lmms_eval(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]], flags: list[str]) -> Found:
    """The stripped, lower-cased text has to be the label; its yes ratio is of the labels. Divisions by zero give 0."""
    said = [_text(answer).lower().strip() for answer, _ in zip(answers, questions, strict=False)]
    labels = [str(question["label"]).lower().strip() for question in questions[: len(said)]]
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
    said = [vlmevalkit_yes_no(str(answer.text)) for answer, _ in zip(answers, questions, strict=False)]
    labels = [str(question["label"]).lower() == "yes" for question in questions[: len(said)]]
    counts = _counts((answer == "Yes", label) for answer, label in zip(said, labels, strict=True))
    right = [answer == ("Yes" if label else "No") for answer, label in zip(said, labels, strict=True)]
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
    "vcd": vcd,
    "opera": opera,
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}
POOLED = ("lmms-eval", "vlmevalkit")
FIGURES = {  # the one that stands for the whole, the one that is the mean of right answers, and its scale
    "official": ("f1", "acc", 1.0),
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
