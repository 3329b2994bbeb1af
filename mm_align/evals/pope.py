"""POPE (Li et al. 2023, arXiv 2305.10355): is there a THING in the image? Six evaluators, each with its own reading of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import HARNESS, TEXTS, Answer, Answers, read_text
from .base import Judged
from .official import Flavor, Official, Scored, rows_of
from .pope_rules import FIGURES, POOLED, RULES, Found
from .sources import Published, published

ORIGIN = "https://github.com/RUCAIBox/POPE (output/coco, MIT; A-OKVQA and GQA in output/seem), images: COCO val2014 or GQA"
SPLITS = ("random", "popular", "adversarial")
FILES = {
    "random": Published("coco_pope_random.json", "ac25245170b975a5bdf9080b23fd431dfe6be458bc038259c1f4f09a6bef7994", ORIGIN),
    "popular": Published("coco_pope_popular.json", "72c1a8ad45d0c13514f5f22598261df41d3b533854d29682e924db50ed8aa753", ORIGIN),
    "adversarial": Published("coco_pope_adversarial.json", "420b3407db1fa9f1187a805dca41cb7b97fd91504e6c2179706188c107fb8ef8", ORIGIN),
}
SAYS = re.compile(r"\b(yes|no|not)\b", re.IGNORECASE)


class PopeBenchmark(Official):
    """Question files, each a JSON object a line or a list: question_id, image, text, label (yes or no).

    data: one such file, or a folder of several (`*.json`, `*.jsonl`); without it the three COCO files are used, which are packaged.
    Of several, the responses belong to the file whose questions they repeat, or to all of them where a field `category`, `split`
    or `type` names it, or a file of question_id and category without labels in that folder (LLaVA's llava_pope_test.jsonl).
    lmms-eval's logs and VLMEvalKit's sheets bring their labels along. images: the folder of the pictures. split: only this file of
    the folder.

    Answers and labels are paired by position, as all upstream scripts do; VCD's also asserts that the ids agree. A label other
    than "no" is yes. Several files together: lmms-eval and VLMEvalKit pool them, else figures are means over them.
    """

    name = "pope"
    texts = tuple(name for name in TEXTS if name != "caption")
    needs = "pictures of COCO val2014 (images); questions of A-OKVQA and GQA, and GQA's pictures (data, images)"
    sampling = Sampling(max_tokens=16)
    flavors = {
        "official": Flavor("RUCAIBox/POPE 3df3ba1 evaluate.py"),
        "llava": Flavor("haotian-liu/LLaVA c121f04 llava/eval/eval_pope.py (LLaVA-RLHF reads answers alike)"),
        "vcd": Flavor("DAMO-NLP-SG/VCD d6568ff experiments/eval/eval_pope.py"),
        "opera": Flavor("shikiw/OPERA 61426ef pope_eval.py"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/pope/utils.py"),
        "vlmevalkit": Flavor("VLMEvalKit e8e78f0 POPE_rating, answers by YOrN_Extraction"),
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

    @cached_property
    def categories(self) -> dict[str, str]:
        """The split of each question id, by a question file in the folder that has no labels (LLaVA's llava_pope_test.jsonl)."""
        if self.data is None or not Path(self.data).is_dir():
            return {}
        paths = sorted(path for path in Path(self.data).rglob("*.json*") if path.is_file())
        rows = [row for path in paths for row in _rows(read_text(path), str(path), must=False)]
        asked = [row for row in rows if isinstance(row, dict) and {"question_id", "category"} <= row.keys() and "label" not in row]
        return {str(row["question_id"]): row["category"] for row in asked if str(row["category"]) in self.files}

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
            questions = _questions(read_text(path), str(path), must=root.is_file())
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
        if (self.data is None or self.flavor in POOLED) and all(_brings_its_label(row) for row in answers.rows):
            return self._scored(answers, *_by_category(answers.rows), ["labels and categories are those of the responses"])
        groups = self._groups(answers)
        flags = []
        for split, rows in groups.items():
            if len(rows) != len(self.files[split]):
                lengths = f"{len(rows)} answers for {len(self.files[split])} questions"
                flags.append(f"{split}: {lengths}; pairs beyond the shorter are dropped, as upstream does")
            if not any(SAYS.search(str(row.text)) for row in rows):
                flags.append(f"{split}: no answer holds yes, no or not; are they of another benchmark?")
            if _asks_otherwise(rows, self.files[split]):
                flags.append(f"{split}: no row repeats the question at its place; were they made for other questions?")
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
            told = {"raw": one.counts._asdict(), "printed": self._lines(found, groups), "items": tuple(items)}
            return self.scored(len(answers.rows), one.figures, flags=flags, **told)
        if self.flavor in POOLED:
            whole = rules([row for rows in groups.values() for row in rows], [q for split in groups for q in questions[split]], []).figures
            flags.append("figures without a split are of all questions together, as upstream has them")
        else:
            whole = {name: sum(one.figures[name] for one in found.values()) / len(found) for name in next(iter(found.values())).figures}
            flags.append("figures without a split are means over splits")
        results = {**whole, **{split: one.figures for split, one in found.items()}}
        return self.scored(len(answers.rows), results, flags=flags, raw=counts, printed=self._lines(found, groups), items=tuple(items))

    def _lines(self, found: Mapping[str, Found], groups: Mapping[str, Sequence[Answer]]) -> tuple[str, ...]:
        """What upstream prints; only LLaVA's script knows of splits."""
        lines: list[str] = []
        for split, one in found.items():
            if self.flavor == "llava":
                lines += [f"Category: {split}, # samples: {len(groups[split])}", *one.printed, "=" * 36]
            else:
                lines += [*([split] if len(found) > 1 else []), *one.printed]
        return tuple(lines)

    def _groups(self, answers: Answers) -> dict[str, Sequence[Answer]]:
        """The answers to each split's questions, in their order."""
        told = [_split_of(answer, self.files) or self.categories.get(str(answer.key)) for answer in answers.rows]
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


def _brings_its_label(row: Answer) -> bool:
    """Rows of lmms-eval's logs and VLMEvalKit's sheets, whose `answer` is the label."""
    return "answer" in row.fields and any(name in row.fields for name in (*HARNESS, "prediction"))


def _by_category(rows: Sequence[Answer]) -> tuple[dict[str, list[Answer]], dict[str, list[dict[str, Any]]]]:
    """Answers and labels by category; a row of several (`random,popular`) counts in each. Of rows of one `index` all have the last
    one's answer, as VLMEvalKit keeps answers by index."""
    last = {str(row.fields["index"]): row.text for row in rows if "index" in row.fields}
    parts = [
        (category, replace(row, text=last.get(str(row.fields.get("index")), row.text)))
        for row in rows
        for category in str(row.fields.get("category", "all")).split(",")
    ]
    answers = {category: [row for part, row in parts if part == category] for category in dict.fromkeys(part for part, _ in parts)}
    labels = {category: [{"question_id": row.key, "label": row.fields["answer"]} for row in told] for category, told in answers.items()}
    return answers, labels


# -- question files ----------------------------------------------------------------------------------------------------


def _questions(text: str, where: str, *, must: bool = True) -> list[dict[str, Any]]:
    """The rows of a question file; with `must`, ValueError for a file of something else, else none."""
    rows = _rows(text, where, must=must)
    bad = next((at for at, row in enumerate(rows, 1) if not isinstance(row, dict) or "label" not in row), None)
    if rows and bad is None:
        return rows
    if not must:
        return []
    raise ValueError(f"{where} is no question file of POPE: row {bad or 1} has no `label`; expected question_id, image, text, label")


def _rows(text: str, where: str, *, must: bool) -> list[Any]:
    """A JSON list, or JSON lines; with `must`, ValueError for anything else, else none."""
    try:
        return json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError) as error:
        if not must:
            return []
        raise ValueError(f"{where} is no question file: {error}") from error


def _names(paths: Sequence[Path]) -> list[str]:
    """What each file's split is called: random, popular, adversarial where its name ends so and no other's does, else its stem."""
    short = [next((split for split in SPLITS if path.stem.endswith(split)), path.stem) for path in paths]
    if len(set(short)) == len(short):
        return short
    return [f"{path.parent.name}/{path.stem}" for path in paths]


def _split_of(answer: Answer, files: Mapping[str, Any]) -> str | None:
    return next((str(answer.fields[name]) for name in ("category", "split", "type") if str(answer.fields.get(name)) in files), None)


def _asks_otherwise(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the rows hold questions, and none of them is, or holds, the one at its place."""
    pairs = [
        (str(answer.fields[name]), str(question.get("text")))
        for answer, question in zip(answers, questions, strict=False)
        for name in ("question", "prompt")
        if name in answer.fields
    ]
    return bool(pairs) and not any(asked in said for said, asked in pairs)


def _agreement(answers: Sequence[Answer], questions: Sequence[Mapping[str, Any]]) -> tuple[bool, int]:
    """Whether there is an answer a question, and how many answers repeat the question (or image) at their place."""
    same = sum(
        any(answer.fields.get(name) == question.get(to) for name, to in (("question", "text"), ("prompt", "text"), ("image", "image")))
        for answer, question in zip(answers, questions, strict=False)
    )
    return len(answers) == len(questions), same
