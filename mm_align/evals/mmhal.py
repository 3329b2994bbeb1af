"""MMHal-Bench (Sun et al. 2023, LLaVA-RLHF, arXiv 2309.14525): answers to 96 questions, rated from 0 to 6 by a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, parse_json, read_rows
from .base import Judged
from .judged import OWN_WORDS, JudgedBenchmark, Prompt
from .judges import JudgeCall, text_of
from .official import Flavor, Scored, ratio, rows_of
from .sources import Published, published

TEMPLATE = Published(
    "mmhal-bench_answer_template.json",
    "28ed24e19ffef292597c35f1dad37760b2e0a088b3b40ca3b50f105fc1b951bb",
    "https://huggingface.co/datasets/Shengcao1006/MMHal-Bench (Apache-2.0), images: the links in image_src",
)
TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
FIELDS = frozenset(("question", "gt_answer", "image_content", "image_src"))
QUESTIONS = 96
BEST = 6
REVIEWS = ("gpt4_review", "review", "judge_reply")  # fields of rows that hold an answer and its review
ANSWERS = ("answer", "text", "model_answer")  # the first one that is there, as RLAIF-V merges them


class Rules(NamedTuple):
    """How many reviews an evaluator takes, and whether it tells informativeness."""

    least: int = 1
    most: int | None = None
    informativeness: bool = True


RULES = {"official": Rules(), "llava-rlhf": Rules(QUESTIONS, QUESTIONS, informativeness=False), "rlaif-v": Rules(QUESTIONS)}


class MmhalBenchmark(JudgedBenchmark):
    """Reviews, or answers and a judge.

    Responses are the reviews as both evaluators save them (a list of {"choices": [{"message": {"content": ...}}]}), rows with a review in
    `gpt4_review`, a list of texts, or answers (`answer`, `text` or `model_answer`) in the order of the template, which are judged. data:
    the template of questions, which is packaged. prompt: fields image_content, question, gt_answer, model_answer. Replies may be filed
    under the row, counted from 0, or under the answer.

    As upstream, a review's score is the one number of 0 to 6 for which "rating: N" occurs in it, small letters or capitals, and 0 if
    there is none or there are two; below 3 is a hallucination. The type is that of the row's place. The flavor `official` takes any
    number of reviews, where LLaVA-RLHF's script asserts 96 and RLAIF-V's stops below 96 but averages over more.
    """

    name = "mmhal"
    main = "mean"
    lower = frozenset(("hallucination_rate",))
    needs = "pictures of OpenImages (images), a judge"
    sampling = Sampling(max_tokens=512)
    items_metric = "mean"
    items_scale = float(BEST)
    flavors = {
        "official": Flavor("LLaVA-RLHF 830a083 summarize_gpt_mmhal.py, RLAIF-V 83d917b summarize_gpt_mmhal_review.py"),
        "llava-rlhf": Flavor("LLaVA-RLHF 830a083 Eval/summarize_gpt_mmhal.py"),
        "rlaif-v": Flavor("RLAIF-V 83d917b eval/summarize_gpt_mmhal_review.py"),
    }

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        """ValueError for a file of something else."""
        content = parse_json(published(self.name, TEMPLATE, self.data, self.flags), self.data or TEMPLATE.name)
        rows = content if isinstance(content, list) else [content]
        bad = next((at for at, row in enumerate(rows, 1) if not (isinstance(row, dict) and row.keys() >= FIELDS)), None)
        if bad is not None or not rows:
            raise ValueError(f"{self.data} is no template of MMHal-Bench: expected {', '.join(sorted(FIELDS))} in row {bad or 1}")
        return rows[: self.limit]

    def samples(self) -> list[Sample]:
        return [self._sample(at, row) for at, row in enumerate(self.questions)]

    def _sample(self, at: int, row: Mapping[str, Any]) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / Path(str(row["image_src"])).name))
        asked = (Part("image"), Part("text", str(row["question"])))
        return Sample(str(at), (Message("user", asked),), (picture,), meta={"id": at, **row})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [row.meta for row in rows], text="model_answer")

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        if not isinstance(responses, str | Path):
            return rows_in(responses, "rows")
        path = _in_folder(Path(responses))
        self.beside = str(path.parent)
        shape, rows = read_rows(path)
        return rows_in(rows, f"{path.name}: {shape}")

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        reviews = self._reviews(answers.rows, flags)
        self._check_number(len(reviews), flags)
        scores = [rating(review) for review in reviews]
        if unread := [at for at, review in enumerate(reviews) if len(ratings(review)) != 1]:
            flags.append(f"{len(unread)} reviews have no rating or several and count as 0 (row {unread[0] + 1} for one), as upstream does")
        results = _figures(scores, RULES[self.flavor], flags)
        types = {name: scores[at:QUESTIONS:8] for at, name in enumerate(TYPES)}
        raw = {name: ratio(sum(of), len(of), f"average score of {name}", flags) for name, of in types.items()}
        told = {**results, "types": {name: round(value, 2) for name, value in raw.items()}}
        told["per_item_score_as_upstream_rule"] = scores
        more = {"judge": self.judging} if self.judging else {}
        items = tuple(Judged(str(at), score / BEST, TYPES[at % 8]) for at, score in enumerate(scores))
        lines = tuple(_printed(results, told["types"], RULES[self.flavor]))
        return self.scored(len(scores), told, flags=flags, raw={**results, "types": raw, **more}, printed=lines, items=items)

    def _check_number(self, n: int, flags: list[str]) -> None:
        rules = RULES[self.flavor]
        if n < rules.least or (rules.most is not None and n > rules.most):
            raise ValueError(f"{n} reviews; the rules of {self.flavor} need {QUESTIONS}" + ("" if rules.most else " or more"))
        if n != QUESTIONS:
            told = "RLAIF-V's averages over all of them, and over the first 96 by type" if n > QUESTIONS else "RLAIF-V's stops below 96"
            flags.append(f"{n} reviews: LLaVA-RLHF's script asserts {QUESTIONS}, {told}")

    def _reviews(self, rows: Sequence[Answer], flags: list[str]) -> list[str]:
        if "review" in rows[0].fields:
            return [row.fields["review"] for row in rows]
        said = self._said(rows, flags)
        prompt = Prompt(self.name, "prompt.txt", self.prompt)
        calls = [self._call(at, row, text, prompt) for at, (row, text) in enumerate(zip(rows, said, strict=False))]
        replies = self.ask(calls, lambda reply: len(ratings(reply)) == 1)
        self.judging["prompt_sha256"] = prompt.sha256
        if self.judge_replies is None and self.prompt is None and "model" in self.judging:
            flags.append(OWN_WORDS)
        return [said[-1] if said else "" for said in replies]

    def _call(self, at: int, row: Answer, text: str, prompt: Prompt) -> JudgeCall:
        question = {**self.questions[at], **{k: v for k, v in row.fields.items() if k in ("question", "gt_answer", "image_content")}}
        fields = {"image_content": ", ".join(question["image_content"]), "question": question["question"]}
        return JudgeCall(str(at), prompt.filled({**fields, "gt_answer": question["gt_answer"], "model_answer": text}), subject=text)

    def _said(self, rows: Sequence[Answer], flags: list[str]) -> list[str]:
        """The answers, as RLAIF-V merges them into the template: beyond its rows they are dropped."""
        if len(rows) < len(self.questions):
            raise ValueError(f"row {len(rows) + 1} is missing: there are {len(rows)} answers for {len(self.questions)} questions")
        if len(rows) > len(self.questions):
            flags.append(f"{len(rows)} answers for {len(self.questions)} questions; those beyond are dropped, as upstream does")
        said: list[str] = []
        for row in rows[: len(self.questions)]:
            said.append(_answer_of(row, said))
        if silent := [row.row for row in rows[: len(self.questions)] if not any(name in row.fields for name in ANSWERS)]:
            flags.append(f"{len(silent)} rows have no answer and count with the one before (row {silent[0]} for one), as upstream does")
        return said


# -- upstream's rules --------------------------------------------------------------------------------------------------


def ratings(review: str) -> list[int]:
    """The numbers for which "rating: N" occurs: "Rating: 10" says 1, "Rating:5" nothing."""
    said = review.lower()
    return [score for score in range(BEST + 1) if f"rating: {score}" in said]


def rating(review: str) -> int:
    """The only one of `ratings`, else 0."""
    found = ratings(review)
    return found[0] if len(found) == 1 else 0


def _figures(scores: Sequence[int], rules: Rules, flags: list[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "mean": ratio(sum(scores), len(scores), "mean", flags),
        "hallucination_rate": ratio(sum(score < 3 for score in scores), len(scores), "hallucination_rate", flags),
    }
    if rules.informativeness:
        each = [score - 3 if score >= 3 else score for score in scores]
        figures["informativeness_percent"] = ratio(sum(each), len(each), "informativeness", flags) / 3 * 100
        figures["informativeness_per_item"] = each
    return figures


def _printed(results: Mapping[str, Any], types: Mapping[str, float], rules: Rules) -> list[str]:
    told = [f"Informativeness: {results['informativeness_percent']:.2f}"] if rules.informativeness else []
    return [
        *told,
        f"Average score: {results['mean']:.2f}",
        f"Hallucination rate: {results['hallucination_rate']:.2f}",
        f"Average score for each question type: {','.join(map(str, types.values()))}",
    ]


# -- response files ------------------------------------------------------------------------------------------------------


def rows_in(rows: Sequence[Any], what: str) -> Answers:
    """Rows with a `review`, or rows with answers. ValueError for none, and for a row of another kind than the first."""
    if not rows:
        raise ValueError(f"{what} holds no reviews and no answers")
    reviewed = _review_of(rows[0], 1) is not None
    found = []
    for number, row in enumerate(rows, 1):
        review = _review_of(row, number)
        if (review is not None) != reviewed or not isinstance(row, Mapping | str):
            raise ValueError(f"row {number}: expected {'a review' if reviewed else 'an answer'} as in row 1, found {str(row)[:60]}")
        fields = dict(row) if isinstance(row, Mapping) else {}
        found.append(Answer(number, number - 1, review, {**fields, **({"review": review} if reviewed else {})}))
    return Answers(tuple(found), f"{what}, {len(rows)} {'reviews' if reviewed else 'answers'}")


def _review_of(row: Any, number: int) -> str | None:
    """None for a row that is no review. ValueError for a review without a text."""
    if isinstance(row, str):
        return row
    if not isinstance(row, Mapping):
        return None
    if "choices" in row:
        return text_of(row, f"row {number}")
    field = next((name for name in REVIEWS if name in row), None)
    return None if field is None else text_of(row[field], f"row {number}")


def _answer_of(row: Answer, before: Sequence[str]) -> str:
    """The row's answer; that of the row before for a row without one, as upstream does."""
    field = next((name for name in ANSWERS if name in row.fields), None)
    if field is None and before:
        return before[-1]
    if field is None or not isinstance(row.fields[field], str):
        raise ValueError(f"row {row.row}: expected a text in one of {', '.join(ANSWERS)}, found {str(dict(row.fields))[:80]}")
    return str(row.fields[field]).replace("Assistant:", "").strip()


def _in_folder(path: Path) -> Path:
    """The reviews in a folder, else the only file of answers. ValueError for none or several."""
    if not path.is_dir():
        return path
    reviews = [one for one in sorted(path.rglob("*mmhal_test_eval*.json")) if "merge_gpt4_score" not in one.name]
    others = [one for one in sorted(path.glob("*.json*")) if one.name not in ("expected.json", TEMPLATE.name) and "replies" not in one.name]
    found = reviews or others
    if len(found) != 1:
        told = ", ".join(one.name for one in found) or "none"
        raise ValueError(f"{path} should hold one file of reviews (*mmhal_test_eval*.json) or of answers; found {told}")
    return found[0]
