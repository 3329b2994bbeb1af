"""Divide: what an answer says, as claims that can be judged one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from data_tools.calls import Generate, Sampling
from data_tools.records import Claim, Message, Part, Response, Sample
from data_tools.text.claims import claims as plain_claims
from data_tools.text.lists import read_list
from data_tools.text.sentences import sentences

from ..config import JobConfig
from .files import answered, prompt_text
from .stage import Done, Gone, Stage, Unit

RULES = 1  # to be raised when the plain splitter divides otherwise: what is in ledgers is then divided anew
WORDS = 300  # that the reference code keeps of the splitter's prompt
TOKENS = 256  # that the reference code lets the splitter and the question writer write
ANSWERS = 64  # in a block: one call of the splitter
PROMPT = """You prepare the checking of an answer to a question about an image.
Write down every fact that the answer states about the image.
Each fact is one short sentence that says one thing and can be understood by itself: name what it is about, without "it" or "they".
Keep to what the answer says, right or wrong. Leave out opinions, guesses about feelings, and advice.
Write one fact a line and begin each line with "- ". If the answer states no fact, write nothing.

Question: {question}
Answer: {answer}

Facts:"""


class Claims(JobConfig):
    """How answers are divided. Fields that begin `as the reference code` reproduce a defect of it, for comparison."""

    splitter: Literal["plain", "llm", "whole"] = Field(
        "plain", description="plain: by sentences and lists, no model; llm: by a model; whole: the answer itself is the one claim"
    )
    temperature: float = Field(0.0, ge=0, description="of the model that divides (the paper's: 0.2)")
    top_p: float = Field(1.0, gt=0, le=1, description="share of its likeliest tokens that are drawn from (the paper's: 0.9)")
    max_tokens: int = Field(1024, ge=1, description="longest list it may write at once; a longer one is asked for in parts")
    seed: int = Field(0, description="of its drawing")
    cut_300_words: bool = Field(
        False, description="as the reference code: its prompt ends after 300 words, what comes behind is never checked"
    )
    cap_256_tokens: bool = Field(False, description="as the reference code: it may write 256 tokens, what comes behind is lost")
    first_character_parser: bool = Field(
        False, description="as the reference code: every line of its list loses its first character, dash or not"
    )

    def sampling(self) -> Sampling:
        tokens = TOKENS if self.cap_256_tokens else self.max_tokens
        return Sampling(temperature=self.temperature, top_p=self.top_p, max_tokens=tokens, seed=self.seed)


class Answer(NamedTuple):
    """An answer and the question that it answers."""

    question: str
    response: Response


def claims_stage(folder: Path, options: Claims, generate: Generate | None = None, model: Mapping[str, Any] | None = None) -> Stage:
    """candidates.jsonl -> claims.jsonl (Claim, answer by answer, numbered from 0). `generate` and `model`: of the splitter `llm`."""

    def units() -> Iterator[Unit]:
        for sample, answers in answered(folder):
            question = prompt_text(sample)
            for answer in answers:
                yield Unit((answer.id,), {"question": question, "text": answer.text}, Answer(question, answer))

    divide = Divider(generate, options) if generate is not None and options.splitter == "llm" else _without_model(options)
    by_model = {"options": options.model_dump(), "model": model, "prompt": PROMPT}
    settings = by_model if options.splitter == "llm" else {"splitter": options.splitter, "rules": RULES}
    return Stage("claims", settings, units, divide, ANSWERS)


def _without_model(options: Claims) -> Callable[[Sequence[Answer]], list[Done]]:
    def whole(item: Answer) -> list[str]:
        return [item.response.text] if item.response.text.strip() else []

    def plain(item: Answer) -> list[str]:
        return plain_claims(item.response.text, item.question)

    split = whole if options.splitter == "whole" else plain
    return lambda items: [numbered(item.response.id, split(item)) for item in items]


def numbered(response_id: str, found: Sequence[str]) -> Done:
    """Claims are known by their number: equal ones stay as many as there are."""
    return Done([Claim(response_id, index, text).to_dict() for index, text in enumerate(found)])


class Divider:
    """Divides answers by a model. Nothing is lost to the length of its list: an answer whose list does not end in time is halved at
    a sentence, as often as it takes; one whose single sentence yields no list that ends leaves (`split_failed`)."""

    def __init__(self, generate: Generate, options: Claims) -> None:
        self.generate, self.options = generate, options

    def __call__(self, items: Sequence[Answer]) -> list[Done]:
        parts = [[Piece(item.response.text)] if item.response.text.strip() else [] for item in items]
        while pending := [(i, k) for i, pieces in enumerate(parts) for k, piece in enumerate(pieces) if piece.open]:
            asked = [self._sample(items[i], parts[i][k], k) for i, k in pending]
            for (i, k), reply in sorted(zip(pending, self.generate(asked, self.options.sampling()), strict=True), key=_last_first):
                parts[i][k : k + 1] = self._read(parts[i][k], reply)
        return [self._done(item, pieces) for item, pieces in zip(items, parts, strict=True)]

    def _sample(self, item: Answer, piece: Piece, number: int) -> Sample:
        text = PROMPT.format(question=" ".join(item.question.split()), answer=piece.text.strip())
        if self.options.cut_300_words:
            text = " ".join(text.split(" ")[:WORDS])
        return Sample(f"{item.response.id}/{number}", (Message("user", (Part("text", text),)),))

    def _read(self, piece: Piece, reply: Response) -> list[Piece]:
        if not reply.truncated or self.options.cap_256_tokens:
            return [piece._replace(found=tuple(self._listed(reply.text)))]
        said = sentences(piece.text)
        if len(said) < 2:
            return [piece._replace(failed=True)]
        half = len(said) // 2
        return [Piece(" ".join(said[:half])), Piece(" ".join(said[half:]))]

    def _listed(self, text: str) -> list[str]:
        return first_characters_off(text) if self.options.first_character_parser else read_list(text)

    @staticmethod
    def _done(item: Answer, pieces: Sequence[Piece]) -> Done:
        if any(piece.failed for piece in pieces):
            return Done(gone=[Gone(item.response.id, "split_failed", "the model's list of claims did not end, not even for one sentence")])
        return numbered(item.response.id, [claim for piece in pieces for claim in piece.found or ()])


class Piece(NamedTuple):
    """A part of an answer, and the claims found in it once the model was asked."""

    text: str
    found: tuple[str, ...] | None = None
    failed: bool = False

    @property
    def open(self) -> bool:
        return self.found is None and not self.failed


def _last_first(told: tuple[tuple[int, int], Response]) -> tuple[int, int]:
    """Later pieces of an answer are replaced first, so that the places of the earlier ones hold."""
    (i, k), _ = told
    return i, -k


def first_characters_off(text: str) -> list[str]:
    """The reference parser: lines without `###`, each without its first character."""
    return [line[1:].strip() for line in map(str.strip, text.strip().split("\n")) if line and "###" not in line]
