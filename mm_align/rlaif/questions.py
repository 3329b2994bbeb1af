"""Claims as questions that a judge answers by yes or no."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from data_tools.calls import Generate, Sampling
from data_tools.records import Claim, Message, Part, Response, Sample
from data_tools.text.lists import read_list, read_numbered
from data_tools.text.yes_no import yes_no_question

from ..config import JobConfig
from .claims import ANSWERS, TOKENS, first_characters_off
from .files import claims
from .stage import Done, Gone, Stage, Unit

RULES = 1  # to be raised when the rules ask otherwise
AT_ONCE = 20  # claims in one call of the model
WHOLE = "{}\nIs this description free of errors?"
PROMPT = """Turn each of these numbered statements about an image into a question that can be answered by yes or no.
Keep the tense, the names and every detail; add nothing; a negation stays a negation.
Answer with a numbered list that has the same numbers, one question a line.

{statements}

Questions:"""


class Questions(JobConfig):
    """How claims become questions. Fields that begin `as the reference code` reproduce a defect of it, for comparison."""

    writer: Literal["rule", "llm", "whole"] = Field(
        "rule", description="rule: by a few rules, no model; llm: by a model; whole: whether the claim, a whole answer, is free of errors"
    )
    ending: str = Field(" Please answer yes or no.", description="what stands behind every question")
    temperature: float = Field(0.0, ge=0, description="of the model that writes (the paper's: 0.2)")
    top_p: float = Field(1.0, gt=0, le=1, description="share of its likeliest tokens that are drawn from (the paper's: 0.9)")
    max_tokens: int = Field(1024, ge=1, description="longest list it may write; a question that is missing is asked for by itself")
    seed: int = Field(0, description="of its drawing")
    cap_256_tokens: bool = Field(False, description="as the reference code: it may write 256 tokens, no more")
    first_character_parser: bool = Field(False, description="as the reference code, with by_order: every line loses its first character")
    by_order: bool = Field(False, description="as the reference code: by order, not by number; an answer with too few questions leaves")

    def sampling(self) -> Sampling:
        tokens = TOKENS if self.cap_256_tokens else self.max_tokens
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=tokens, seed=self.seed)


Told = Sequence[Claim]  # the claims of one answer
Texts = list[str]


def questions_stage(folder: Path, options: Questions, generate: Generate | None = None, model: Mapping[str, Any] | None = None) -> Stage:
    """claims.jsonl -> questions.jsonl (the same claims with their questions). `generate` and `model`: of the writer `llm`."""

    def units() -> Iterator[Unit]:
        for response_id, group in groupby(claims(folder, "claims"), lambda claim: claim.response_id):
            listed = list(group)
            yield Unit((response_id,), [claim.text for claim in listed], listed)

    def work(items: Sequence[Told]) -> list[Done]:
        return [_done(item, texts, options.ending) for item, texts in zip(items, ask(items), strict=True)]

    ask = Writer(generate, options) if generate is not None and options.writer == "llm" else _without_model(options)
    by_model = {"options": options.model_dump(), "model": model, "prompt": PROMPT}
    settings = by_model if options.writer == "llm" else {"writer": options.writer, "ending": options.ending, "rules": RULES, "whole": WHOLE}
    return Stage("questions", settings, units, work, ANSWERS)


def _done(item: Told, questions: Texts | None, ending: str) -> Done:
    if questions is None:
        detail = f"the model wrote fewer questions than there are claims ({len(item)})"
        return Done(gone=[Gone(item[0].response_id, "question_count", detail)])
    return Done([replace(claim, question=text + ending).to_dict() for claim, text in zip(item, questions, strict=True)])


def _without_model(options: Questions) -> Callable[[Sequence[Told]], list[Texts | None]]:
    form = WHOLE.format if options.writer == "whole" else yes_no_question
    return lambda items: [[form(claim.text) for claim in item] for item in items]


class Writer:
    """Writes questions by a model, each found by the number of its claim. What is missing is asked for by itself, and what is missing then
    is written by rule, so that every claim has its question."""

    def __init__(self, generate: Generate, options: Questions) -> None:
        self.generate, self.options = generate, options

    def __call__(self, items: Sequence[Told]) -> list[Texts | None]:
        if self.options.by_order:
            return self._by_order(items)
        found: list[dict[int, str]] = [{} for _ in items]
        self._fill(found, [(i, item[start : start + AT_ONCE]) for i, item in enumerate(items) for start in range(0, len(item), AT_ONCE)])
        self._fill(found, [(i, [claim]) for i, item in enumerate(items) for claim in item if claim.index not in found[i]])
        return [[found[i].get(claim.index) or yes_no_question(claim.text) for claim in item] for i, item in enumerate(items)]

    def _fill(self, found: list[dict[int, str]], chunks: Sequence[tuple[int, Told]]) -> None:
        """Put the questions that the model writes for each chunk of claims into `found`, by item and by the claim's number."""
        for (i, chunk), reply in zip(chunks, self._ask([chunk for _, chunk in chunks]), strict=True):
            found[i] |= {chunk[number - 1].index: text for number, text in _numbered(reply).items() if 1 <= number <= len(chunk)}

    def _ask(self, chunks: Sequence[Told]) -> list[Response]:
        asked = []
        for chunk in chunks:
            statements = "\n".join(f"{number}. {' '.join(claim.text.split())}" for number, claim in enumerate(chunk, 1))
            turn = Message("user", (Part("text", PROMPT.format(statements=statements)),))
            asked.append(Sample(f"{chunk[0].response_id}/{chunk[0].index}", (turn,)))
        return self.generate(asked, self.options.sampling()) if asked else []

    def _by_order(self, items: Sequence[Told]) -> list[Texts | None]:
        read = first_characters_off if self.options.first_character_parser else read_list
        lists = [read(reply.text) for reply in self._ask(items)]
        return [found[: len(item)] if len(found) >= len(item) else None for item, found in zip(items, lists, strict=True)]


def _numbered(reply: Response) -> dict[int, str]:
    """Questions by number; the last one of a list that was cut is not whole."""
    found = read_numbered(reply.text)
    if reply.truncated and found:
        found.pop(max(found))
    return found
