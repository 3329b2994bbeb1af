"""MME (Fu et al. 2023, arXiv 2306.13394): two yes/no questions an image in 14 tasks, scored singly and as a pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import HARNESS, TEXTS, Answer, Answers, as_answers, read_rows, read_text
from .base import Judged
from .mme_rules import COGNITION, HALLUCINATION, HALLUCINATION_TOTAL, PERCEPTION, RULES, Asked, Found
from .official import Flavor, Official, Scored, flat, rows_of

TASKS = (*PERCEPTION, *COGNITION)
SUBSETS = {"all": TASKS, "hallucination": HALLUCINATION, "perception": PERCEPTION, "cognition": COGNITION}
ORIGIN = "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models (on request, for research only)"
IMAGES = ("image_name", "image_path", "question_id", "image")  # fields that may name a row's image, the first that is there
TRUTHS = ("annotation", "gt_answer", "gt", "label", "target")
PREDICTIONS = (*HARNESS, "prediction", "pred", "response")  # beside these, `answer` is the truth
POLITE = " Please answer yes or no."
SUFFIX = "\nAnswer the question using a single word or phrase."  # in its place, as LLaVA-1.5 and mPLUG-Owl2 ask
COLUMNS = ("image_name", "question", "annotation", "answer")


class MmeBenchmark(Official):
    """Responses are rows with category (the task), image_name, question, annotation and answer; lmms-eval's logs; VLMEvalKit's sheets
    (image_path, answer as the truth, prediction); or upstream's folder of TASK.txt files, a line an answer (image, question, truth and
    answer, with tabs between them), whose lines are paired by twos. Rows are paired by image.

    data: question files of the same kinds, the answers left out: the folder eval_tool/Your_Results, say. Needed to ask, and for
    responses that are nothing but answers, which it pairs by position. images: the folder of the pictures, TASK/NAME or
    TASK/images/NAME. subset: hallucination (existence, count, position, color), perception, cognition, or tasks with commas; without
    it all 14 tasks have to be there, as upstream needs them.
    """

    name = "mme"
    needs = "the questions (data, a folder of TASK.txt) and pictures (images)"
    sampling = Sampling(max_tokens=16)
    items_metric = "accuracy"
    texts = ("prediction", "pred", "response", "answer", *TEXTS)
    flavors = {
        "official": Flavor("X-PLUG/mPLUG-Owl 0f3068f mPLUG-Owl2 evaluate_mme.py, the calculation of MME's eval_tool"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/mme/utils.py"),
        "vlmevalkit": Flavor("VLMEvalKit e8e78f0 MME_rating, answers by YOrN_Extraction"),
    }

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        subset: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.tasks, self.images = tasks_of(subset or "all"), images
        total = "perception" if set(PERCEPTION) <= set(self.tasks) else HALLUCINATION_TOTAL
        known = set(self.tasks) >= set(HALLUCINATION)
        named = {"official": f"totals.{total}", "lmms-eval": "mme_perception_score", "vlmevalkit": "perception"}[self.flavor]
        self.main = named if known and (self.flavor == "official" or total == "perception") else "accuracy"

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        """Rows of data, `limit` images of each task. ValueError without data."""
        if self.data is None:
            raise ValueError(f"mme asks the questions of its release, which may not be packaged; it comes from {ORIGIN}: give data")
        rows = [row for row in rows_in(Path(self.data)) if row.get("category") in self.tasks]
        if not rows:
            raise ValueError(f"{self.data} holds no questions of {', '.join(self.tasks)}: expected rows with category, image, question")
        if self.limit is None:
            return rows
        images: dict[str, dict[str, None]] = {}
        for row in rows:
            images.setdefault(row["category"], {}).setdefault(_first(row, IMAGES), None)
        return [row for row in rows if _first(row, IMAGES) in list(images[row["category"]])[: self.limit]]

    def samples(self) -> list[Sample]:
        named = _sample_ids((row["category"], _first(row, IMAGES)) for row in self.questions)
        return [self._sample(name, row) for name, row in zip(named, self.questions, strict=True)]

    def _sample(self, name: str, row: Mapping[str, Any]) -> Sample:
        root, image = Path(self.images or "."), _first(row, IMAGES)
        places = [root / row["category"] / image, root / row["category"] / "images" / image]
        path = next((place for place in places if place.exists()), root / image)
        asked = (Part("image"), Part("text", str(row["question"]).replace(POLITE, "") + SUFFIX))
        meta = {
            "category": row["category"],
            "image_name": image,
            "question": row["question"],
            "annotation": _first(row, (*TRUTHS, "answer")),
        }
        return Sample(name, (Message("user", asked),), (Image(path=str(path)),), meta=meta)

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [row.meta for row in rows])

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        if isinstance(responses, str | Path) and Path(responses).is_dir():
            return as_answers(rows_in(Path(responses)), f"{Path(responses).name}/", texts=("prediction", "response", "answer"))
        return super().read(responses)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        found: Found = RULES[self.flavor](self._asked(answers, flags), self.tasks, flags)
        right = found.right
        items = tuple(Judged(one.sample, float(hit), one.task) for one, hit in right)
        raw = {**found.results, **found.raw, "accuracy": sum(hit for _, hit in right) / len(right)}
        return self.scored(len(answers.rows), found.results, flags=flags, raw=raw, printed=found.printed, items=items)

    def figures(self, scored: Scored) -> dict[str, float]:
        """With the plain share of right answers: no evaluator reports it, but it is a mean over questions."""
        return {**dict(flat(scored.results)), "accuracy": scored.raw["accuracy"]}

    def _asked(self, answers: Answers, flags: list[str]) -> list[Asked]:
        rows = self._with_questions(answers)
        named = _sample_ids((str(row.get("category")), _first(row, IMAGES)) for row in rows)
        told = [_question(answer, row, name) for answer, row, name in zip(answers.rows, rows, named, strict=True)]
        every = self.flavor != "official" and self.tasks == TASKS  # the ports count tasks that they do not know
        kept = told if every else [one for one in told if one.task in self.tasks]
        if left := Counter(one.task for one in told if one.task not in self.tasks):
            flags.append("tasks that are not in the benchmark or its subset: " + ", ".join(f"{task} ({n})" for task, n in left.items()))
        if not kept:
            raise ValueError(f"no row has a category of {', '.join(self.tasks)}; found {', '.join(left)}")
        return kept

    def _with_questions(self, answers: Answers) -> list[Mapping[str, Any]]:
        """The fields of each row; those of the question at its place where the rows have no category."""
        if "category" in answers.rows[0].fields:
            return [answer.fields for answer in answers.rows]
        if self.data is None:
            found = ", ".join(map(str, answers.rows[0].fields))
            raise ValueError(f"row 1 has no `category`; expected category, image_name, annotation and answer (or data), found {found}")
        if len(self.questions) != len(answers.rows):
            raise ValueError(
                f"{len(answers.rows)} answers for {len(self.questions)} questions; without a category they are paired by place"
            )
        return [sample.meta for sample in self.samples()]


# -- files -------------------------------------------------------------------------------------------------------------


def tasks_of(subset: str) -> tuple[str, ...]:
    """The tasks of a subset's name, or of task names with commas. ValueError for an unknown one."""
    if subset in SUBSETS:
        return SUBSETS[subset]
    named = tuple(task.strip() for task in subset.split(","))
    if strange := [task for task in named if task not in TASKS]:
        raise ValueError(f"mme has no subset or task '{strange[0]}'; there are {', '.join((*SUBSETS, *TASKS))}")
    return tuple(task for task in TASKS if task in named)


def rows_in(path: Path) -> list[dict[str, Any]]:
    """Rows of a file, or of the TASK.txt files or else the first table in a folder. ValueError for a folder of nothing such."""
    if path.is_file():
        return read_rows(path)[1] if path.suffix != ".txt" else list(_task_file(path))
    texts = [path / f"{task}.txt" for task in TASKS if (path / f"{task}.txt").is_file()]
    if texts:
        return [row for text in texts for row in _task_file(text)]
    tables = [file for file in sorted(path.iterdir()) if file.suffix in (".jsonl", ".tsv", ".csv", ".xlsx")]
    if not tables:
        raise ValueError(f"{path} holds no TASK.txt ({', '.join(TASKS[:3])}, ...) and no table of rows")
    return read_rows(tables[0])[1]


def _task_file(path: Path) -> Iterator[dict[str, Any]]:
    """Upstream's results of one task: image, question, truth and (in results) answer, tabs between. Lines make pairs by twos."""
    lines = [line for line in read_text(path).split("\n") if line]
    for number, line in enumerate(lines):
        cells = line.removesuffix("\r").split("\t")
        if len(cells) not in (3, 4):
            raise ValueError(
                f"{path}, line {number + 1}: expected image, question, truth and answer with tabs between, found {line[:80]!r}"
            )
        yield {"category": path.stem, **dict(zip(COLUMNS, cells, strict=False)), "pair": f"{number // 2}: {cells[0]}"}


def _question(answer: Answer, row: Mapping[str, Any], name: str) -> Asked:
    """ValueError for a row without what it takes."""
    truth, image = _truth(row), row.get("pair") or _first(row, IMAGES)
    if not isinstance(truth, str) or not image or not row.get("category"):
        told = "expected category, image_name (or image_path), annotation (the truth) and answer"
        raise ValueError(f"row {answer.row}: {told}, found {', '.join(map(str, row))}")
    return Asked(answer.row, name, str(row["category"]), image, truth, answer.text)


def _truth(row: Mapping[str, Any]) -> Any:
    names = (*TRUTHS, "answer") if any(name in row for name in PREDICTIONS) else TRUTHS
    return next((row[name] for name in names if name in row), None)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str:
    return next((str(row[name]) for name in names if row.get(name) not in (None, "")), "")


def _sample_ids(images: Iterator[tuple[str, str]]) -> list[str]:
    """TASK/IMAGE/0 and TASK/IMAGE/1: two questions an image."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for task, image in images:
        found.append(f"{task}/{image}/{seen[task, image]}")
        seen[task, image] += 1
    return found
