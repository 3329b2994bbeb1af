"""MMStar (Chen et al. 2024, arXiv 2403.20330): 1,500 multiple-choice questions that need their image, in 6 categories and 18 parts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import HARNESS, TEXTS, Answer, Answers, read_rows
from .base import Judged
from .extraction import lmms_eval_letter, vlmevalkit_choice, vlmevalkit_option
from .official import Flavor, Official, Scored, flat, ratio, rows_of

PARTS = {
    "coarse perception": ("image scene and topic", "image style & quality", "image emotion"),
    "fine-grained perception": ("object counting", "recognition", "localization"),
    "instance reasoning": ("single-instance reasoning", "cross-instance attribute reasoning", "cross-instance relation reasoning"),
    "logical reasoning": ("code & sequence reasoning", "diagram reasoning", "common reasoning"),
    "science & technology": (
        "biology & chemistry & physics",
        "electronics & energy & mechanical eng.",
        "geography & earth science & agriculture",
    ),
    "math": ("geometry", "numeric commonsense and calculation", "statistical reasoning"),
}
OF_EACH, OF_ALL = 250, 1500  # what the official script divides by, however many rows there are
LEADS = ("", "(", "option ", "the answer is ")  # what may stand before the letter
LETTERS = "ABCD"
PREDICTIONS = (*HARNESS, "prediction", "pred", "response", "output", "text")  # beside these, `answer` is the truth
ORIGIN = "https://huggingface.co/datasets/Lin-Chen/MMStar (no licence stated)"
SUFFIX = "\nAnswer with the option's letter from the given choices directly"


class Asked(NamedTuple):
    """One answered question, with what the row or the question file says of it."""

    row: int
    key: str
    truth: str
    category: str
    part: str
    said: Any
    fields: Mapping[str, Any]


class Found(NamedTuple):
    """An evaluator's figures, whether each answer is right, and what it found in the answers."""

    results: dict[str, float]
    right: list[bool]
    extracted: str = ""


class MmstarBenchmark(Official):
    """Responses are the rows of the official sheet (xlsx, JSON lines, ...): index, answer (the truth), category, l2_category,
    prediction; lmms-eval's logs; or rows with an answer to each index, where data says the rest.

    data: a table of index, question, answer, category, l2_category, and for VLMEvalKit's text matching columns A to D; needed to ask.
    Pictures are its column `image` in base64, or INDEX.jpg or INDEX.png in the folder `images`. without_images, language_model:
    responses of the same model without the pictures, and of its language model alone; with them `raw` has the multi-modal gain and
    leakage of the paper.
    """

    name = "mmstar"
    needs = "the questions (data) and pictures (in data, or images)"
    sampling = Sampling(max_tokens=32)
    items_metric = "accuracy"
    texts = ("prediction", "pred", "response", *TEXTS)
    keys = ("index", "question_id", "id", "doc_id")
    flavors = {
        "official": Flavor("MMStar-Benchmark/MMStar 88f243a eval/vlmeval/evaluate/mmstar.py"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/mmstar/utils.py, letters by extract_mcq_answer"),
        "vlmevalkit": Flavor("VLMEvalKit e8e78f0 report_acc, letters by can_infer, without a judge"),
    }

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        images: str | None = None,
        without_images: str | None = None,
        language_model: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.images, self.without_images, self.language_model = images, without_images, language_model
        self.main = MAIN[self.flavor]

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        """Rows of data, which each have index and answer. ValueError for none."""
        if self.data is None:
            raise ValueError(f"mmstar asks the questions of its table, which may not be packaged; it comes from {ORIGIN}: give data")
        path = Path(self.data)
        tables = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in (".jsonl", ".tsv", ".csv", ".xlsx", ".json"))
        for table in tables:
            rows = [row for row in read_rows(table)[1] if isinstance(row, dict)]
            if rows and all({"index", "answer"} <= row.keys() for row in rows):
                return rows[: self.limit]
        raise ValueError(f"{self.data} holds no table of MMStar: expected rows with index, question, answer, category and l2_category")

    def samples(self) -> list[Sample]:
        return [self._sample(row) for row in self.questions]

    def _sample(self, row: Mapping[str, Any]) -> Sample:
        options = "".join(f"\n{letter}. {text}" for letter, text in _choices(row).items())
        asked = (Part("image"), Part("text", f"{row.get('question', '')}{options}{SUFFIX}"))
        meta = {name: value for name, value in row.items() if name != "image"}
        return Sample(str(row["index"]), (Message("user", asked),), (self._picture(row),), meta=meta)

    def _picture(self, row: Mapping[str, Any]) -> Image:
        places = [Path(self.images or ".") / f"{row['index']}{suffix}" for suffix in (".jpg", ".png")]
        there = next((place for place in places if place.exists()), None)
        if there is None and isinstance(row.get("image"), str):
            try:
                return Image(data=base64.b64decode(row["image"], validate=True))
            except binascii.Error:
                return Image(path=str(Path(self.images or ".") / row["image"]))
        return Image(path=str(there or places[0]))

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [row.meta for row in rows], text="prediction")

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def report(self, answers: Answers) -> Scored:
        asked, flags = self._asked(answers), list[str]()
        found = RULES[self.flavor](asked, flags)
        items = tuple(Judged(one.key, float(hit), one.category) for one, hit in zip(asked, found.right, strict=True))
        raw: dict[str, Any] = {**found.results, "right": sum(found.right), **self._gain(found.results)}
        if found.extracted:
            raw["extracted"] = found.extracted
        printed = [f"{name}:{value}" for name, value in found.results.items()] if self.flavor == "official" else []
        return self.scored(len(asked), found.results, flags=flags, raw=raw, printed=tuple(printed), items=items)

    def figures(self, scored: Scored) -> dict[str, float]:
        """With the plain share of right answers: the official figures divide by 1,500, lmms-eval's are means of means."""
        return {**dict(flat(scored.results)), "accuracy": scored.raw["right"] / scored.n}

    def _gain(self, seen: Mapping[str, float]) -> dict[str, float]:
        """The multi-modal gain, what the pictures add, and leakage, what the model knows without them beyond its language model."""
        if self.without_images is None:
            return {}
        blind = self._figure_of(self.without_images)
        found = {"MG": seen[self.main] - blind}
        if self.language_model is not None:
            found["ML"] = max(0.0, blind - self._figure_of(self.language_model))
        return found

    def _figure_of(self, responses: str) -> float:
        return RULES[self.flavor](self._asked(self.read(responses)), [])[0][self.main]

    def _asked(self, answers: Answers) -> list[Asked]:
        known: dict[str, Mapping[str, Any]] = {}
        if self.data is not None and not all(_is_whole(answer.fields) for answer in answers.rows):
            known = {str(row["index"]): row for row in self.questions}
        return [_question(answer, known.get(str(answer.key), {})) for answer in answers.rows]


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Whether a row needs no table: its `answer` is the truth, beside a prediction."""
    return {"answer", "category", "l2_category"} <= row.keys() and any(name in row for name in PREDICTIONS)


def _question(answer: Answer, known: Mapping[str, Any]) -> Asked:
    """ValueError for a row of no such question, or without its truth."""
    row: dict[str, Any] = dict(answer.fields)
    if not any(name in row for name in PREDICTIONS):
        row.pop("answer", None)
    fields = {**known, **row}
    category, part = str(fields.get("category")), str(fields.get("l2_category"))
    if fields.get("answer") in (None, "") or part not in PARTS.get(category, ()):
        told = (
            "expected prediction, answer (the truth), and one of upstream's categories and l2_categories (in the row, or by index in data)"
        )
        raise ValueError(f"row {answer.row}: {told}; found the fields {', '.join(map(str, row))}, category {category!r} and part {part!r}")
    key = str(answer.row - 1 if answer.key is None else answer.key)
    return Asked(answer.row, key, str(fields["answer"]), category, part, answer.text, fields)


def _choices(row: Mapping[str, Any]) -> dict[str, str]:
    """The texts of the options, where they have columns of their own."""
    return {letter: str(row[letter]) for letter in LETTERS if row.get(letter) not in (None, "")}


# -- the evaluators ----------------------------------------------------------------------------------------------------


def official(asked: Sequence[Asked], flags: list[str]) -> Found:
    """Hits by part over its rows, by category over 250, all over 1,500, however many rows there are."""
    right = [begins_with(str(one.said), one.truth) for one in asked]
    hits = {(one.category, one.part): 0 for one in asked}
    for one, hit in zip(asked, right, strict=True):
        hits[one.category, one.part] += hit
    rows = [(one.category, one.part) for one in asked]
    results: dict[str, float] = {"final score": sum(right) / OF_ALL}
    for category, parts in PARTS.items():
        results[category] = sum(hits.get((category, part), 0) for part in parts) / OF_EACH
        for part in parts:
            what = f"{category}({part})"
            results[what] = ratio(hits.get((category, part), 0), rows.count((category, part)), what, flags)
    if len(asked) != OF_ALL:
        flags.append(f"{len(asked)} rows; the final score is still over {OF_ALL} and a category's over {OF_EACH}, as upstream divides")
    return Found(results, right)


def begins_with(prediction: str, truth: str) -> bool:
    """Whether the truth is the character behind one of `LEADS`, in any case ("Bananas" is b)."""
    said, letter = (text.lower().strip().replace("\n", " ") for text in (prediction, truth))
    return bool(letter) and any(said.startswith(lead) and said[len(lead) : len(lead) + 1] == letter for lead in LEADS)


def lmms_eval(asked: Sequence[Asked], flags: list[str]) -> Found:
    """Means of the accuracies of parts, by category and over all, those of no rows left out."""
    letters = [lmms_eval_letter(_text(one), LETTERS) for one in asked]
    right = [letter == one.truth.strip().upper() for letter, one in zip(letters, asked, strict=True)]
    parts: dict[tuple[str, str], list[bool]] = {}
    for one, hit in zip(asked, right, strict=True):
        parts.setdefault((one.category, one.part), []).append(hit)
    shares = {names: sum(hits) / len(hits) for names, hits in parts.items()}
    results = {}
    for category in PARTS:
        if of := [share for (name, _), share in shares.items() if name == category]:
            results[category] = sum(of) / len(of)
    results["average"] = sum(shares.values()) / len(shares)
    return Found(results, right, "".join(letter or "-" for letter in letters))


def vlmevalkit(asked: Sequence[Asked], flags: list[str]) -> Found:
    """Accuracy over all rows and by category. An answer without an option is wrong: no judge is asked."""
    letters = [_inferred(str(one.said), _choices(one.fields)) for one in asked]
    right = [letter == one.truth for letter, one in zip(letters, asked, strict=True)]
    if not any(_choices(one.fields) for one in asked):
        flags.append("the rows have no options A to D: only letters are looked for, not texts of options")
    results = {"Overall": sum(right) / len(right)}
    for field in ("l2-category", "category"):
        for name in sorted({str(one.fields[field]) for one in asked if field in one.fields}):
            of = [hit for one, hit in zip(asked, right, strict=True) if str(one.fields.get(field)) == name]
            results[name] = sum(of) / len(of)
    return Found(results, right, "".join(letter or "-" for letter in letters))


def _inferred(said: str, choices: Mapping[str, str]) -> str | None:
    return vlmevalkit_choice(said, choices) if choices else vlmevalkit_option(said, LETTERS)


def _text(asked: Asked) -> str:
    """ValueError for an answer that is no text, where lmms-eval stops; None is no answer to it."""
    if asked.said is not None and not isinstance(asked.said, str):
        raise ValueError(f"row {asked.row}: the prediction is {asked.said!r}; expected a text")
    return asked.said or ""


RULES: dict[str, Callable[[Sequence[Asked], list[str]], Found]] = {
    "official": official,
    "lmms-eval": lmms_eval,
    "vlmevalkit": vlmevalkit,
}
MAIN = {"official": "final score", "lmms-eval": "average", "vlmevalkit": "Overall"}
