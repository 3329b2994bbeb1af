"""Questions with known answers: exact match under aliases, multiple choice, accuracies by kind of question."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Message, Part, Response, Sample
from data_tools.text.words import words

from .base import Benchmark, Judged, check_known
from .intervals import bootstrap
from .rows import rows_to_ask

ARTICLES = frozenset(("a", "an", "the"))
CHOICES_PROMPT = "{question}\n{choices}\nAnswer with the option's letter from the given choices directly."  # LLaVA-1.5's


class Question(NamedTuple):
    """answers: any of these is right. choices: what to choose from, none for an open question. kind, group: see `QaBenchmark`."""

    sample: Sample
    answers: tuple[str, ...]
    choices: tuple[str, ...]
    kind: str
    group: str


class QaBenchmark(Benchmark):
    """Rows with a question and its answers, in any format that `data_tools.io` reads.

    question: the field of the question; None for conversations, whose first answer is the right one (and which may do without a
    picture, or show a film). A row has `answer` (text, number, or a list) or `answers`, optionally `choices`; the answer to a choice is
    its text, letter or 0-based number. prompt: how a question is put, with {question}; choices_prompt: with {choices} too. kind: the
    field by which accuracies are told apart ("known" / "unknown"). group: the field of what rows share when intervals are
    drawn (a picture, an entity). Further options are those of `data_tools.io.read`.

    Metrics: `accuracy`, the share that is right, with `accuracy_low` and `accuracy_high`, its 95 % bootstrap interval;
    `contains`, the share of responses that hold a right answer somewhere; `rows`; `unanswered`, rows without a response (they
    count as wrong); and `accuracy/KIND`, `rows/KIND`. Raises ValueError for rows that cannot be asked.
    """

    sampling = Sampling(max_tokens=32)
    main = "accuracy"
    needs = "rows with a question, its answers and a picture, in any format (data)"

    def __init__(
        self,
        data: str,
        *,
        question: str | None = "question",
        prompt: str = "{question}",
        choices_prompt: str = CHOICES_PROMPT,
        kind: str = "kind",
        group: str | None = None,
        image_key: str | None = None,
        image_root: str | None = None,
        limit: int | None = None,
    ) -> None:
        self.data, self.question, self.prompt, self.choices_prompt = data, question, prompt, choices_prompt
        self.kind, self.group, self.image_key, self.image_root, self.limit = kind, group, image_key, image_root, limit

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """All rows, read once. Pictures are not decoded."""
        options = {"caption_key": self.question, "image_key": self.image_key, "image_root": self.image_root, "videos": True}
        return tuple(self._question(row) for row in rows_to_ask(self.data, limit=self.limit, **options))

    def samples(self) -> list[Sample]:
        return [question.sample for question in self.questions]

    def judged(self, responses: Mapping[str, Response]) -> list[Judged]:
        """1 or 0 a question, in the order of the rows: what intervals and paired differences are made of."""
        check_known(responses, (q.sample.id for q in self.questions))
        texts = {key: response.text for key, response in responses.items()}
        return [Judged(q.sample.id, float(is_right(texts.get(q.sample.id, ""), q.answers, q.choices)), q.kind) for q in self.questions]

    def score(self, responses: Mapping[str, Response]) -> dict[str, float]:
        judged = self.judged(responses)
        groups = [q.group for q in self.questions] if self.group else None
        whole = bootstrap([row.score for row in judged], groups)
        held = [holds(responses[q.sample.id].text, q.answers) for q in self.questions if q.sample.id in responses]
        metrics = {"accuracy": whole.mean, "accuracy_low": whole.low, "accuracy_high": whole.high}
        metrics |= {"contains": sum(held) / len(judged), "rows": len(judged), "unanswered": len(judged) - len(held)}
        for kind in sorted({row.kind for row in judged} - {""}):
            scores = [row.score for row in judged if row.kind == kind]
            metrics |= {f"accuracy/{kind}": sum(scores) / len(scores), f"rows/{kind}": len(scores)}
        return metrics

    def _question(self, row: Sample) -> Question:
        choices = tuple(str(choice) for choice in row.meta.get("choices") or ())
        answers = _right_choices(row, choices) if choices else _answers(row)
        sample = Sample(row.id, self._messages(row, choices), row.images, source=row.source, meta=row.meta)
        group = str(row.meta.get(self.group)) if self.group else ""
        return Question(sample, answers, choices, str(row.meta.get(self.kind, "")), group)

    def _messages(self, row: Sample, choices: Sequence[str]) -> tuple[Message, ...]:
        if row.messages:  # up to the first answer
            end = next(i for i, message in enumerate(row.messages) if message.role == "assistant")
            return row.messages[:end]
        lettered = "\n".join(f"{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False))
        asked = (self.choices_prompt if choices else self.prompt).format(question=row.caption, choices=lettered)
        return (Message("user", (*[Part("image") for _ in row.images], Part("text", asked))),)


# -- rows --------------------------------------------------------------------------------------------------------------


def _answers(row: Sample) -> tuple[str, ...]:
    given = row.meta.get("answers", row.meta.get("answer"))
    if given is None and row.messages:
        given = row.caption  # the first answer of the conversation
    found = tuple(str(answer) for answer in (given if isinstance(given, list | tuple) else [given]) if answer is not None)
    if not any(normalised(answer) for answer in found):
        raise ValueError(f"question '{row.id}' has no answer: expected a field 'answer' or 'answers' with text in it")
    return found


def _right_choices(row: Sample, choices: Sequence[str]) -> tuple[str, ...]:
    if len(choices) > len(string.ascii_uppercase):
        raise ValueError(f"question '{row.id}' has {len(choices)} choices; at most 26 have a letter")
    given = row.meta.get("answer")
    if isinstance(given, int) and 0 <= given < len(choices):
        return (choices[given],)
    chosen = choice_of(str(given), choices)
    if chosen is None:
        raise ValueError(f"question '{row.id}' has the answer {given!r}, which is none of its {len(choices)} choices, letters or numbers")
    return (choices[chosen],)


# -- judging -----------------------------------------------------------------------------------------------------------


def normalised(text: str) -> tuple[str, ...]:
    """The words of a text, casefolded, in compatibility form, without punctuation and English articles.

    As SQuAD's evaluation does (arXiv 1606.05250), with Unicode's casefold and forms. Only articles: kept as they are.
    """
    found = words(unicodedata.normalize("NFKC", text))
    return tuple(word for word in found if word not in ARTICLES) or tuple(found)


def is_right(response: str, answers: Sequence[str], choices: Sequence[str] = ()) -> bool:
    """Whether a response is one of the answers, or names the right one of the choices."""
    if not choices:
        return normalised(response) in {normalised(answer) for answer in answers}
    chosen = choice_of(response, choices)
    return chosen is not None and choices[chosen] in answers


def holds(response: str, answers: Sequence[str]) -> bool:
    """Whether a response holds the words of an answer one after the other."""
    said = normalised(response)
    wanted = [normalised(answer) for answer in answers]
    return any(said[i : i + len(w)] == w for w in wanted if w for i in range(len(said) - len(w) + 1))


def choice_of(text: str, choices: Sequence[str]) -> int | None:
    """Which choice a text names: by its own words, or by a capital letter that begins it ("B", "(B)", "B. the left one")."""
    said = normalised(text)
    same = [i for i, choice in enumerate(choices) if normalised(choice) == said]
    if same:
        return same[0]
    letter = re.match(r"\s*\(?([A-Z])(?![\w'])", text)
    place = string.ascii_uppercase.index(letter[1]) if letter else len(choices)
    return place if place < len(choices) else None
