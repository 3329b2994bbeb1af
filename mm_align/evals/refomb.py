"""RefoMB (RLAIF-V, Yu et al. 2024, arXiv 2405.17220): a judge compares a model's answers with GPT-4V's, pair by pair."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, read_rows
from .base import Judged
from .judged import OWN_WORDS, JudgedBenchmark, Prompt
from .judges import CannedJudge, Judge, JudgeCall, named, read_replies
from .official import Flavor, Scored, ratio, rows_of
from .sources import find

QUESTIONS = ("gpt4v_RefoMB_dev_0521.jsonl", "RefoMB_dev.jsonl", "RefoMB_test.jsonl")
SECOND = ("hallucination_judge_replies.json", "hallucination_judge_replies.jsonl")
ANSWERS = ("model_answers.jsonl", "answers.jsonl", "reviews.jsonl", "A-*_B-*.json")
TYPES = (
    "Coarse Perception", "Fine-grained perception", "Relation reasoning", "Attribute reasoning", "Time series inference",
    "Mechanical logical reasoning", "Creative generation", "OCR",
)  # fmt: skip
ORIGIN = "https://github.com/RLHF-V/RLAIF-V (eval/data, CC BY-NC 4.0; images by their URLs)"
VERDICTS = {"A": -1, "B": 1, "C": 0}
PASS = "hallucination"  # the topic of the second pass
GPT4V = "GPT-4V"


class Review(NamedTuple):
    """A judge's review of the pair of question `at`, its verdict (1: B is better), and the question's type."""

    at: int
    text: str
    verdict: int
    kind: str


class RefombBenchmark(JudgedBenchmark):
    """Verdicts of a judge on pairs of answers: [[A]] the first model's is better, [[B]] the second's, [[C]] equal.

    data: the folder of gpt4v_RefoMB_dev_0521.jsonl and RefoMB_dev.jsonl, which may not be packaged, or one of the files; a live judge
    needs the first, which holds GPT-4V's answers. Responses: rows with `row` (0-based in that file) or `question` and `image_url`, and
    `answer`; or the reviews that upstream's script saves (`review`, `type_name`), which hold the verdicts. judge_replies: {row: [replies
    in order until one has a verdict]}, beside it hallucination_judge_replies.json, {review: [replies]}, a second pass on hallucinations
    alone. These, and the answers, are also looked for by their names beside the responses. A live judge is asked for both passes
    (topic `hallucination`). model_a, model_b: names for the table; where model_a is not GPT-4V the model answers as A. prompt: a file
    with description, question, answer_a and answer_b. images: the folder of pictures, called as at the end of their URLs.

    The first verdict in a reply counts. Score: the mean of (verdict + 1) / 2 with A as -1, B as +1, whichever side the model has.
    """

    name = "refomb"
    main = "score_full"
    needs = "RefoMB_dev.jsonl (data), pictures (images), a judge"
    sampling = Sampling(max_tokens=512)
    items_metric = "score_full"
    reply_files = ("judge_replies_by_row.json", "judge_replies.json", "judge_replies.jsonl")
    flavors = {"official": Flavor("RLHF-V/RLAIF-V 83d917b eval/eval_RefoMB_p0.py, eval_hallucination.py, json_to_excel.py")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        prompt: str | None = None,
        images: str | None = None,
        model_a: str = GPT4V,
        model_b: str = "model",
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, judge_replies=judge_replies, prompt=prompt, images=images, limit=limit)
        self.models = (model_a, model_b)

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        """The items; none where no data is given. ValueError for a file of something else."""
        path = find(self.data, QUESTIONS) or find(self.beside, QUESTIONS)
        if path is None:
            return []
        rows = read_rows(path)[1]
        if not rows or not all(isinstance(row, dict) and "question" in row and "image_url" in row for row in rows):
            raise ValueError(f"{path} is no question file of RefoMB: expected rows with question, image_url and type")
        return rows[: self.limit]

    def chosen_judge(self) -> Judge | None:
        """Canned replies are those of both passes."""
        first = super().chosen_judge()
        given = Path(self.judge_replies) if self.judge_replies else None
        beside = str(given.parent if given.is_file() else given) if given else self.beside
        path = None if first is not None and first is self.judge else find(beside, SECOND)
        if path is None:
            return first
        second = {named(review, PASS): replies for review, replies in read_replies(path).items()}
        return CannedJudge({**(first.replies if isinstance(first, CannedJudge) else {}), **second}, "the judge's replies")

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        if not self.questions:
            told = f"{self.name} asks the questions of {QUESTIONS[1]}, which may not be packaged; it comes from {ORIGIN}"
            raise ValueError(f"{told}: give data")
        return [self._sample(at, row) for at, row in enumerate(self.questions)]

    def _sample(self, at: int, row: Mapping[str, Any]) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / str(row["image_url"]).rpartition("/")[2]))
        asked = (Part("image"), Part("text", str(row["question"])))
        return Sample(str(at), (Message("user", asked),), (picture,), meta={"row": at, "type": row.get("type", "")})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [{**row.meta, "missing": row.id not in responses} for row in rows])

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        if not isinstance(responses, str | Path):
            return _answers(list(responses), "rows")
        path = Path(responses)
        self.beside = str(path if path.is_dir() else path.parent)
        names = ANSWERS if super().chosen_judge() is not None else ANSWERS[::-1]  # without a judge the reviews
        file = next((one for name in names for one in sorted(path.glob(name))), None) if path.is_dir() else path
        if file is None:
            raise ValueError(f"{path} holds none of {', '.join(ANSWERS)}")
        shape, rows = read_rows(file)
        return _answers(rows, f"{file.name}: {shape}")

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        reviews = self._reviews(answers.rows, flags)
        if not reviews:
            raise ValueError("no row has a judge's verdict; upstream asks for ever")
        by_type = {
            kind: Counter(r.verdict for r in reviews if r.kind == kind) for kind in dict.fromkeys((*TYPES, *(r.kind for r in reviews)))
        }
        counts = Counter(review.verdict for review in reviews)
        score = sum((review.verdict + 1) / 2 for review in reviews) / len(reviews)
        results: dict[str, Any] = {
            "printed_score": float(f"{score:.3f}"),
            "score_full": score,
            "verdicts": {str(verdict): counts[verdict] for verdict in (1, 0, -1)},
            "per_type_win_loss_tie_for_B": {kind: [c[1], c[-1], c[0]] for kind, c in sorted(by_type.items()) if c and kind},
            "json_to_excel_row": _table(self._names(answers.rows[0]), counts, by_type, flags),
            "per_row_score": {str(review.at): review.verdict for review in reviews},
        }
        if second := self._second(reviews, flags):
            results["hallucination_pass"] = second
        if "model" in self.judging and self.prompt is None:
            flags.append(OWN_WORDS)
        raw = {**results, "judge": self.judging} if self.judging else results
        printed = tuple(f"Score is {block['printed_score']:.3f}" for block in (results, second) if block)
        items = tuple(Judged(str(review.at), (review.verdict + 1) / 2, review.kind) for review in reviews)
        return self.scored(len(answers.rows), results, flags=flags, raw=raw, printed=printed, items=items)

    def _names(self, first: Answer) -> tuple[str, str]:
        """Of the models: as upstream's reviews say, else as given."""
        return str(first.fields.get("modelA", self.models[0])), str(first.fields.get("modelB", self.models[1]))

    def _reviews(self, rows: Sequence[Answer], flags: list[str]) -> list[Review]:
        """What the rows hold, or what the judge says of their answers; without those that have no verdict."""
        if isinstance(rows[0].fields.get("review"), str):
            found = [(_row_of(row), self._kind(row, _row_of(row)), [str(row.fields.get("review"))]) for row in rows]
            return _with_verdict(found, flags)
        placed = self._placed(rows, flags)
        asked = {at: row for at, row in placed.items() if not row.fields.get("missing")}
        replies = self.ask(self._calls(asked), lambda reply: verdict_of(reply) is not None) if asked else []
        found = [(at, self._kind(row, at), said) for (at, row), said in zip(asked.items(), replies, strict=True)]
        lost = [Review(at, "", -1, self._kind(row, at)) for at, row in placed.items() if at not in asked]
        if lost:
            flags.append("questions without an answer count as lost; upstream stops at them")
        return [*_with_verdict(found, flags), *lost]

    def _placed(self, rows: Sequence[Answer], flags: list[str]) -> dict[int, Answer]:
        """Answers by question, the last of several. ValueError where none has a question, and for a reply to a question without one."""
        found: dict[int, Answer] = {}
        if unnamed := next((row for row in rows if not _is_named(row)), None):
            told = "expected `row` (the question's place, from 0), or `question` and `image_url`, beside the answer"
            raise ValueError(f"row {unnamed.row}: {told}, found {', '.join(map(str, unnamed.fields))}")
        strange = [row.row for row in rows if self._place(row) is None]
        if len(strange) == len(rows):
            raise ValueError(f"row {strange[0]} answers no question of {QUESTIONS[1]}, nor does any other row")
        if strange:
            flags.append(f"{len(strange)} rows answer no question and are left out (row {strange[0]} for one), as upstream does")
        for row in rows:
            if (at := self._place(row)) is not None:
                if at in found:
                    flags.append(f"row {row.row} answers question {at} as row {found[at].row} does; the last counts, as upstream does")
                found[at] = row
        judge = self.chosen_judge()
        replies = judge.replies if isinstance(judge, CannedJudge) else {}
        known = range(len(self.questions)) if self.questions else range(1 << 30)
        if lacking := sorted(at for at in map(int, filter(str.isdecimal, replies)) if at in known and at not in found):
            raise ValueError(f"question {lacking[0]} has a judge's reply and no answer; upstream stops there with KeyError")
        return found

    def _place(self, row: Answer) -> int | None:
        if "image_url" in row.fields and self.questions:
            asked = (row.fields.get("question", row.fields.get("prompt")), row.fields["image_url"])
            return next((at for at, one in enumerate(self.questions) if (one["question"], one["image_url"]) == asked), None)
        at = _row_of(row)
        return at if not self.questions or 0 <= at < len(self.questions) else None

    def _kind(self, row: Answer, at: int) -> str:
        own = row.fields.get("type_name") or row.fields.get("type")
        return str(own or (self.questions[at].get("type", "") if at < len(self.questions) else ""))

    def _calls(self, asked: Mapping[int, Answer]) -> list[JudgeCall]:
        texts = {at: _text(row) for at, row in asked.items()}
        if isinstance(self.chosen_judge(), CannedJudge | None):  # nobody reads the prompts
            return [JudgeCall(str(at), "", subject=text) for at, text in texts.items()]
        prompt = Prompt(self.name, "prompt.txt", self.prompt)
        return [JudgeCall(str(at), prompt.filled(self._fields(at, text)), subject=text) for at, text in texts.items()]

    def _fields(self, at: int, text: str) -> dict[str, str]:
        """What a prompt tells of a pair. ValueError where GPT-4V's answer is not known."""
        question = self.questions[at] if at < len(self.questions) else {}
        if not question.get("answer") or not question.get("description"):
            raise ValueError(f"a judge compares with GPT-4V's answers: give the folder of {QUESTIONS[0]} as data; it comes from {ORIGIN}")
        theirs, ours = question["answer"], text
        sides = (theirs, ours) if self.models[0] == GPT4V else (ours, theirs)
        return {"description": question["description"], "question": question["question"], "answer_a": sides[0], "answer_b": sides[1]}

    def _second(self, reviews: Sequence[Review], flags: list[str]) -> dict[str, float]:
        """The pass on hallucinations; nothing where there is no judge for it."""
        judge = self.chosen_judge()
        if judge is None or (isinstance(judge, CannedJudge) and not any(name.startswith(f"{PASS}/") for name in judge.replies)):
            return {}
        prompt = Prompt(self.name, "prompt_hallucination.txt")
        asked = [review for review in reviews if review.text]
        calls = [JudgeCall(str(one.at), prompt.filled({"review": one.text}), PASS, one.text) for one in asked]
        replies = self.ask(calls, lambda reply: verdict_of(reply) is not None)
        found = [(one.at, one.kind, said) for one, said in zip(asked, replies, strict=True)]
        verdicts = [one.verdict for one in _with_verdict(found, flags)] + [one.verdict for one in reviews if not one.text]
        score = ratio(sum((verdict + 1) / 2 for verdict in verdicts), len(verdicts), "hallucination pass", flags)
        return {"printed_score": float(f"{score:.3f}"), "score_full": score}


# -- upstream's rules --------------------------------------------------------------------------------------------------


def verdict_of(reply: str) -> int | None:
    """Of the first [[A]], [[B]] or [[C]]."""
    found = re.search(r"\[\[([ABC])\]\]", reply)
    return VERDICTS[found[1]] if found else None


def _with_verdict(said: Sequence[tuple[int, str, Sequence[str]]], flags: list[str]) -> list[Review]:
    """Of (question, type, replies) those whose last reply has a verdict, which upstream waits for."""
    found = [(at, kind, replies[-1] if replies else "") for at, kind, replies in said]
    if silent := [at for at, _, text in found if verdict_of(text) is None]:
        flags.append(f"{len(silent)} questions have no verdict and are left out ({silent[0]} for one); upstream asks for ever")
    return [Review(at, text, verdict, kind) for at, kind, text in found if (verdict := verdict_of(text)) is not None]


def _table(names: tuple[str, str], counts: Counter[int], by_type: Mapping[str, Counter[int]], flags: list[str]) -> dict[str, Any]:
    """The row of upstream's spreadsheet."""
    if strange := [kind for kind in by_type if kind not in TYPES]:
        told = "no type" if strange[0] == "" else f"the type '{strange[0]}'"
        flags.append(
            f"rows of {told} are in no type's column (types stand in {QUESTIONS[1]}, data); upstream's json_to_excel.py stops at them"
        )
    if not counts[1] and not counts[0]:
        flags.append("no win and no tie: upstream's json_to_excel.py stops there with IndexError")
    totals = {title: sum(by_type[kind][v] for kind in TYPES) for title, v in (("WIN", 1), ("LOSS", -1), ("TIE", 0))}
    return {
        "model A": names[0],
        "model B": names[1],
        "win": counts[1],
        "loss": counts[-1],
        "tie": counts[0],
        "score": (counts[1] + counts[0] / 2) / sum(counts.values()),
        "model B win to model A": counts[1],
        "model B loss to model A": counts[-1],
        **{kind: "/".join(str(by_type[kind][v]) for v in (1, -1, 0)) for kind in TYPES},
        **{f"{title} Check": total for title, total in totals.items()},
        "ALL Check": sum(totals.values()),
    }


# -- response files ------------------------------------------------------------------------------------------------------


def _answers(rows: Sequence[Any], what: str) -> Answers:
    if not rows:
        raise ValueError(f"{what} holds no responses")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"row {number}: expected row and answer, found {str(row)[:60]}")
    found = [Answer(number, row.get("row", number - 1), row.get("answer", row.get("text")), row) for number, row in enumerate(rows, 1)]
    return Answers(tuple(found), f"{what}, {len(found)} rows")


def _is_named(row: Answer) -> bool:
    """Whether a row says which question it answers."""
    place = row.fields.get("row", row.fields.get("image"))
    return "image_url" in row.fields or (isinstance(place, int) and not isinstance(place, bool))


def _row_of(row: Answer) -> int:
    """The question's place: `row`, upstream's `image`, else the row's own place."""
    told = row.fields.get("row", row.fields.get("image"))
    return told if isinstance(told, int) else row.row - 1


def _text(row: Answer) -> str:
    """ValueError for an answer that is no text, where upstream stops."""
    if not isinstance(row.text, str):
        raise ValueError(f"row {row.row}: the answer is {row.text!r}; expected a text")
    return row.text.replace("<|endoftext|>", "<EOT>")
