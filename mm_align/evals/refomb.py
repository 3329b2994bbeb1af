"""RefoMB (RLAIF-V, Yu et al. 2024, arXiv 2405.17220): a judge compares a model's answers with GPT-4V's, pair by pair."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, read_rows, read_text
from .base import Judged
from .official import Flavor, Official, Scored, rows_of
from .sources import find

QUESTIONS = ("RefoMB_dev.jsonl", "RefoMB_test.jsonl")
REPLIES = ("judge_replies_by_row.json", "judge_replies.json")
SECOND = ("hallucination_judge_replies.json",)
ANSWERS = ("model_answers.jsonl", "answers.jsonl", "reviews.jsonl")
TYPES = (
    "Coarse Perception", "Fine-grained perception", "Relation reasoning", "Attribute reasoning", "Time series inference",
    "Mechanical logical reasoning", "Creative generation", "OCR",
)  # fmt: skip
ORIGIN = "https://github.com/RLHF-V/RLAIF-V (eval/data, CC BY-NC 4.0; images by their URLs)"
VERDICTS = {"A": -1, "B": 1, "C": 0}


class RefombBenchmark(Official):
    """Verdicts of a judge on pairs of answers: [[A]] the first model's is better, [[B]] the second's, [[C]] equal.

    data: the folder of RefoMB_dev.jsonl, which may not be packaged, or the file. Responses: rows with `row` (0-based in that file) or
    `question` and `image_url`, and `answer`; or the reviews that upstream's script saves (`review`, `type_name`), which hold the
    verdicts. judge_replies: {row: [replies in order until one has a verdict]}; and a second pass on hallucinations alone by
    {review: [replies]}, hallucination_judge_replies.json. Both, and the answers, are also looked for by these names beside the responses.
    model_a, model_b: names for the table. images: the folder of pictures, called as at the end of their URLs.

    The first verdict in a reply counts. Score: the mean of (verdict + 1) / 2 with A as -1, B as +1, whichever side the model has.
    """

    name = "refomb"
    main = "score_full"
    needs = "RefoMB_dev.jsonl (data), pictures (images), a judge"
    sampling = Sampling(max_tokens=512)
    items_metric = "score_full"
    flavors = {"official": Flavor("RLHF-V/RLAIF-V 83d917b eval/eval_RefoMB_p0.py, eval_hallucination.py, json_to_excel.py")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        images: str | None = None,
        model_a: str = "GPT-4V",
        model_b: str = "model",
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.judge_replies, self.images, self.models, self.beside = judge_replies, images, (model_a, model_b), ""

    @cached_property
    def questions(self) -> list[dict[str, Any]]:
        """The items; none where no data is given. ValueError for a file of something else."""
        path = find(self.data, QUESTIONS) or find(self.beside or None, QUESTIONS)
        if path is None:
            return []
        rows = read_rows(path)[1]
        if not all(isinstance(row, dict) and "question" in row and "image_url" in row for row in rows):
            raise ValueError(f"{path} is no question file of RefoMB: expected rows with question, image_url and type")
        return rows[: self.limit]

    @cached_property
    def replies(self) -> dict[str, Any]:
        return self._replies(self.judge_replies, REPLIES)

    @cached_property
    def second(self) -> dict[str, Any]:
        """Replies of the pass on hallucinations, by review."""
        given = str(Path(self.judge_replies).parent) if self.judge_replies else None
        return self._replies(given, SECOND)

    def _replies(self, given: str | None, names: Sequence[str]) -> dict[str, Any]:
        path = find(given, names) or find(self.beside or None, names)
        if path is None:
            return {}
        try:
            found = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{path} should hold lists of replies by row, or by review")
        return found

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        if not self.questions:
            raise ValueError(
                f"{self.name} asks the questions of {QUESTIONS[0]}, which may not be packaged; it comes from {ORIGIN}: give data"
            )
        return [self._sample(at, row) for at, row in enumerate(self.questions)]

    def _sample(self, at: int, row: Mapping[str, Any]) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / str(row["image_url"]).rpartition("/")[2]))
        asked = (Part("image"), Part("text", str(row["question"])))
        return Sample(str(at), (Message("user", asked),), (picture,), meta={"row": at, "type": row.get("type", "")})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [{**row.meta, "missing": row.id not in responses} for row in rows])

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: str | Path | Sequence[Mapping[str, Any]]) -> Answers:
        if not isinstance(responses, str | Path):
            rows, what = list(responses), "rows"
        else:
            path = Path(responses)
            self.beside = str(path if path.is_dir() else path.parent)
            file = find(str(path), ANSWERS)
            if file is None:
                raise ValueError(f"{path} holds none of {', '.join(ANSWERS)}")
            what, rows = read_rows(file)
        if not rows:
            raise ValueError("there are no responses")
        for number, row in enumerate(rows, 1):
            if not isinstance(row, Mapping):
                raise ValueError(f"row {number}: expected row and answer, found {str(row)[:60]}")
        return Answers(
            tuple(Answer(n, row.get("row", n - 1), row.get("answer"), row) for n, row in enumerate(rows, 1)), f"{what}, {len(rows)} rows"
        )

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        reviews = [review for row in answers.rows if (review := self._review(row, flags)) is not None]
        if not reviews:
            raise ValueError("no row has a judge's verdict; give the judge's replies (judge_replies) or upstream's reviews")
        verdicts = {at: verdict for at, _, verdict, _ in reviews}
        by_type = {kind: Counter(v for *_, v, k in reviews if k == kind) for kind in (*TYPES, *{k for *_, k in reviews if k not in TYPES})}
        counts = Counter(verdicts.values())
        score = sum((verdict + 1) / 2 for verdict in verdicts.values()) / len(verdicts)
        results: dict[str, Any] = {
            "printed_score": float(f"{score:.3f}"),
            "score_full": score,
            "verdicts": {str(verdict): counts[verdict] for verdict in (1, 0, -1)},
            "per_type_win_loss_tie_for_B": {k: [c[1], c[-1], c[0]] for k, c in sorted(by_type.items()) if c and k},
            "json_to_excel_row": self._table(counts, by_type, flags),
            "per_row_score": {str(at): verdict for at, verdict in verdicts.items()},
        }
        if any(not kind for *_, kind in reviews):
            flags.append(f"rows without a type are in no type's figures; types stand in {QUESTIONS[0]} (data)")
        if self.second:
            results["hallucination_pass"] = self._hallucinations([text for _, text, *_ in reviews], flags)
        printed = tuple(f"Score is {block['printed_score']:.3f}" for block in (results, results.get("hallucination_pass")) if block)
        items = tuple(Judged(str(at), (verdict + 1) / 2, kind) for at, _, verdict, kind in reviews)
        return self.scored(len(answers.rows), results, flags=flags, raw=results, printed=printed, items=items)

    def _review(self, row: Answer, flags: list[str]) -> tuple[int, str, int, str] | None:
        """(row of the questions, the review, its verdict, its type); None where no reply has a verdict."""
        at = self._place(row)
        kind = str(
            row.fields.get("type_name")
            or row.fields.get("type")
            or (self.questions[at].get("type", "") if at < len(self.questions) else "")
        )
        if row.fields.get("missing"):
            flags.append("questions without an answer count as lost; upstream stops at them")
            return at, "", -1, kind
        review = row.fields.get("review")
        replies = [review] if isinstance(review, str) else self.replies.get(str(at))
        if replies is None:
            raise ValueError(f"row {row.row}: no judge's reply for question {at}")
        found = first_verdict(replies if isinstance(replies, list) else [replies])
        if found is None:
            flags.append(f"question {at}: no reply has a verdict; left out (upstream asks for ever)")
            return None
        return at, found[0], found[1], kind

    def _place(self, row: Answer) -> int:
        if isinstance(row.fields.get("row"), int):
            at = int(row.fields["row"])
        elif "image_url" in row.fields and self.questions:
            asked = (row.fields.get("question", row.fields.get("prompt")), row.fields["image_url"])
            at = next((k for k, q in enumerate(self.questions) if (q["question"], q["image_url"]) == asked), -1)
        else:
            at = row.row - 1
        if at < 0 or (self.questions and at >= len(self.questions)):
            raise ValueError(f"row {row.row} answers no question of {QUESTIONS[0]}")
        return at

    def _table(self, counts: Counter[int], by_type: Mapping[str, Counter[int]], flags: list[str]) -> dict[str, Any]:
        """The row of upstream's spreadsheet."""
        n = sum(counts.values())
        totals = {title: sum(by_type[kind][v] for kind in TYPES) for title, v in (("WIN", 1), ("LOSS", -1), ("TIE", 0))}
        return {
            "model A": self.models[0],
            "model B": self.models[1],
            "win": counts[1],
            "loss": counts[-1],
            "tie": counts[0],
            "score": (counts[1] + counts[0] / 2) / n,
            "model B win to model A": counts[1],
            "model B loss to model A": counts[-1],
            **{kind: "/".join(str(by_type[kind][v]) for v in (1, -1, 0)) for kind in TYPES},
            **{f"{title} Check": total for title, total in totals.items()},
            "ALL Check": sum(totals.values()),
        }

    def _hallucinations(self, reviews: Sequence[str], flags: list[str]) -> dict[str, float]:
        verdicts = []
        for review in reviews:
            if review not in self.second:
                raise ValueError(f"no judge's reply on the hallucinations of the review {review[:60]!r}")
            found = first_verdict(self.second[review])
            if found is None:
                flags.append("a review without a verdict on hallucinations is left out (upstream asks for ever)")
            else:
                verdicts.append(found[1])
        score = sum((verdict + 1) / 2 for verdict in verdicts) / max(1, len(verdicts))
        return {"printed_score": float(f"{score:.3f}"), "score_full": score}


def first_verdict(replies: Sequence[str]) -> tuple[str, int] | None:
    """The first reply with a verdict, and its first verdict."""
    for reply in replies:
        for verdict in _verdicts(str(reply)):
            return reply, VERDICTS[verdict]
    return None


def _verdicts(reply: str) -> Iterator[str]:
    return (found[1] for found in re.finditer(r"\[\[([ABC])\]\]", reply))
