"""Benchmarks whose answers are judged by a model: where its replies come from, and the prompts it is asked with."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from .answers import read_text
from .judges import CannedJudge, Judge, JudgeCall
from .official import Official
from .sources import PACKAGED, find

OWN_WORDS = "the judge's prompt is this project's wording, as the authors' may not be packaged; give theirs by the option `prompt`"


class JudgedBenchmark(Official):
    """judge_replies: file of replies as `judges.read_replies` reads it, or the folder of one called as in `reply_files`; without it
    `judge` is asked, which whoever has a live one sets; without that, replies are looked for beside the responses. images: the folder of
    the pictures. prompt: file with the judge's prompt, in which {} or the names of its fields stand for what is judged."""

    judge: Judge | None = None
    reply_files: ClassVar[Sequence[str]] = ("judge_replies.json", "judge_replies.jsonl")

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        prompt: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.judge_replies, self.prompt, self.images = judge_replies, prompt, images
        self.beside: str | None = None  # the folder of the responses
        self.judging: dict[str, Any] = {}  # what was told about it, for the report

    def chosen_judge(self) -> Judge | None:
        """The replies given, else the live judge, else replies beside the responses; None for none of them."""
        if self.judge_replies is None and self.judge is not None:
            return self.judge
        path = find(self.judge_replies, self.reply_files) or find(self.beside, self.reply_files)
        return None if path is None else CannedJudge.read(path)

    def ask(self, calls: Sequence[JudgeCall], accept: Callable[[str], bool]) -> list[list[str]]:
        """The judge's replies to each call, up to one that `accept` takes; what there is to tell about them is flagged. ValueError for
        no judge."""
        judge = self.chosen_judge()
        if judge is None:
            told = f"; {self.judge_replies} holds none of {', '.join(self.reply_files)}" if self.judge_replies else ""
            raise ValueError(f"{self.name} is judged by a model: give its replies (judge_replies) or a judge{told}")
        replies = judge.ask(calls, accept)
        self.judging = dict(judge.describe())
        unread = [call.name for call, said in zip(calls, replies, strict=True) if not (said and accept(said[-1]))]
        if unread:
            self.flags.append(f"{len(unread)} of {len(calls)} answers have no reply of the judge that can be read ({unread[0]} for one)")
        return replies


class Prompt:
    """A judge's prompt: a packaged one (`data/BENCH/NAME`), or the user's file."""

    def __init__(self, bench: str, name: str, given: str | None = None) -> None:
        self.where = Path(given) if given else PACKAGED / bench / name
        self.text = read_text(self.where)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def filled(self, fields: Mapping[str, str]) -> str:
        """ValueError for a prompt that names other fields than `fields`."""
        try:
            return self.text.format(*fields.values(), **fields)
        except (LookupError, ValueError) as error:
            names = ", ".join(f"{{{name}}}" for name in fields)
            expected = f"expected {names}, or {{}} in this order"
            raise ValueError(f"{self.where.name} is no prompt of this benchmark ({error!r}): {expected}") from error
