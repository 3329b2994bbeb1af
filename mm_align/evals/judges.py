"""Judges of answers: replies from a file, or a model that is asked a bounded number of times and whose replies are kept."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from data_tools.calls import CallFailed, Generate, Sampling
from data_tools.io.jsonl import dump
from data_tools.records import Image, Message, Part, Sample

from .answers import read_text

REPLIES = ("replies", "reply", "judge_replies", "judge_reply", "review", "gpt4_review", "content", "output")
NAMES = ("key", "row", "id", "question_id", "index")
ATTEMPTS = 5
FIRST = Sampling(max_tokens=1024)
AGAIN = 0.7  # temperature from the second attempt on: a greedy model would say the same again


class JudgeCall(NamedTuple):
    """One question to a judge. topic: what kind of question, "" where a benchmark has one kind only. key: which of them (a row, a
    question's name). subject: the text that is judged; canned replies may be filed under it. picture: path of one that the judge sees
    before the prompt, "" for none."""

    key: str
    prompt: str
    topic: str = ""
    subject: str = ""
    picture: str = ""

    @property
    def name(self) -> str:
        return named(self.key, self.topic)


class Judge(Protocol):
    """Who answers `JudgeCall`s."""

    def ask(self, calls: Sequence[JudgeCall], accept: Callable[[str], bool]) -> list[list[str]]:
        """Of each call the replies in order, up to the first that `accept` takes; there may be none that it does."""
        ...

    def describe(self) -> dict[str, Any]:
        """For reports: who judged, at what temperature, how many calls, replies, calls without a reply that could be read."""
        ...


def named(key: str, topic: str = "") -> str:
    return f"{topic}/{key}" if topic else key


def until(replies: Sequence[str], accept: Callable[[str], bool]) -> list[str]:
    """The replies up to the first accepted one."""
    at = next((at for at, reply in enumerate(replies, 1) if accept(reply)), len(replies))
    return list(replies[:at])


# -- canned --------------------------------------------------------------------------------------------------------------


class CannedJudge:
    """Replies that are there already, by the name of the call (`topic/key`), by what is judged, or by the hash of the prompt."""

    def __init__(self, replies: Mapping[str, Sequence[str]], where: str = "the judge's replies") -> None:
        self.replies, self.where = replies, where
        self.calls = self.unread = 0

    @classmethod
    def read(cls, path: str | Path) -> CannedJudge:
        """A file as `read_replies` reads it."""
        return cls(read_replies(Path(path)), Path(path).name)

    def ask(self, calls: Sequence[JudgeCall], accept: Callable[[str], bool]) -> list[list[str]]:
        """ValueError that names the call for one without a reply."""
        found = [until(self._of(call), accept) for call in calls]
        self.calls += len(found)
        self.unread += sum(not (replies and accept(replies[-1])) for replies in found)
        return found

    def _of(self, call: JudgeCall) -> Sequence[str]:
        for name in (call.name, named(call.subject, call.topic), _print(call)):
            if name in self.replies:
                return self.replies[name]
        raise ValueError(f"{self.where} has no reply for {call.name!r}")

    def describe(self) -> dict[str, Any]:
        return {"replies": self.where, "calls": self.calls, "unread": self.unread}


def read_replies(path: Path) -> dict[str, list[str]]:
    """Replies by name, from JSON or JSON lines.

    {name: reply or list of replies}, nested for topics; a list of replies, named "0", "1", ...; rows with a name in `key`, `row` or
    `id`, a `topic` if there are several, and the text in `reply`, `replies` or `review`, as a `ModelJudge`'s ledger has them (rows of
    one name follow each other). A reply is a text or an answer of OpenAI's API. ValueError for anything else.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = [_line(path, number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if isinstance(content, Mapping) and any(name in content for name in NAMES) and any(name in content for name in REPLIES):
        content = [content]  # JSON lines of one row
    found: dict[str, list[str]] = defaultdict(list)
    for name, reply in _named_replies(content, path.name):
        found[name].append(reply)
    if not found:
        raise ValueError(f"{path} holds no replies of a judge")
    return dict(found)


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}, line {number}: no JSON ({error})") from error


def _named_replies(content: Any, where: str, topic: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(content, Mapping):
        for key, value in content.items():
            if isinstance(value, Mapping) and "choices" not in value:
                yield from _named_replies(value, where, named(str(key), topic))
            else:
                yield from ((named(str(key), topic), reply) for reply in replies_in(value, f"{where}, {key!r}"))
    elif isinstance(content, list):
        for at, row in enumerate(content):
            yield from _of_row(row, at, f"{where}, row {at + 1}")
    else:
        raise ValueError(f"{where}: expected replies by name or in a list, found {str(content)[:60]}")


def _of_row(row: Any, at: int, where: str) -> Iterator[tuple[str, str]]:
    name, value = str(at), row
    if isinstance(row, Mapping) and "choices" not in row:
        name = named(str(next((row[field] for field in NAMES if field in row), at)), str(row.get("topic") or ""))
        value = next((row[field] for field in REPLIES if field in row), None)
    for reply in replies_in(value, where):
        yield name, reply
        if isinstance(row, Mapping) and "prompt_sha256" in row:  # calls of the same prompt share a row of the ledger
            yield str(row["prompt_sha256"]), reply


def replies_in(value: Any, where: str) -> list[str]:
    """The texts of a reply or of a list of replies. ValueError that says where there is none."""
    return [text_of(one, where) for one in value] if isinstance(value, list) else [text_of(value, where)]


def text_of(reply: Any, where: str) -> str:
    """A reply as text: of an answer of OpenAI's API its first choice."""
    if isinstance(reply, str):
        return reply
    try:
        content = reply["choices"][0]["message"]["content"]
    except (LookupError, TypeError):
        content = None
    if not isinstance(content, str):
        raise ValueError(f"{where}: expected a judge's reply (a text, or choices[0].message.content), found {str(reply)[:60]}")
    return content


# -- live ----------------------------------------------------------------------------------------------------------------


class ModelJudge:
    """A model that is asked up to `attempts` times for a reply that can be read, the first time with `sampling`.

    model: what tells it from others, as `Backend.describe` says. ledger: file of JSON lines, one a reply: topic, key, attempt, reply,
    model, sampling, prompt_sha256. Replies to the same prompt by the same model under the same sampling are taken from there, so that a
    run that was stopped costs no call twice; the file may be given as `judge_replies` later. `block` calls are asked and written at once.
    """

    def __init__(
        self,
        generate: Generate,
        model: Mapping[str, Any],
        ledger: Path | None = None,
        *,
        sampling: Sampling = FIRST,
        attempts: int = ATTEMPTS,
        block: int = 32,
    ) -> None:
        self.generate, self.model, self.ledger = generate, json.loads(dump(model)), ledger
        self.sampling, self.attempts, self.block = sampling, attempts, block
        self.counts = {"calls": 0, "asked": 0, "failed": 0, "unread": 0}
        self.known = self._read_ledger()

    def ask(self, calls: Sequence[JudgeCall], accept: Callable[[str], bool]) -> list[list[str]]:
        """A call that the model cannot answer at all (its prompt is too long, say) has no reply more. Raises CallFailed where the model
        does not answer now and may later."""
        prints = [_print(call) for call in calls]
        distinct = dict(zip(prints, calls, strict=True))
        self.counts["calls"] += len(calls)
        for attempt in range(self.attempts):
            waiting = [one for one in distinct if len(said := self.known[one]) == attempt and not any(map(accept, said))]
            for start in range(0, len(waiting), self.block):
                self._ask([(one, distinct[one]) for one in waiting[start : start + self.block]], attempt)
        found = [until(self.known[one], accept) for one in prints]
        self.counts["unread"] += sum(not (replies and accept(replies[-1])) for replies in found)
        return found

    def describe(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.sampling.temperature, "attempts": self.attempts, **self.counts}

    def _sampling(self, attempt: int) -> Sampling:
        if not attempt:
            return self.sampling
        return replace(self.sampling, temperature=max(self.sampling.temperature, AGAIN), seed=self.sampling.seed + attempt)

    def _ask(self, asked: Sequence[tuple[str, JudgeCall]], attempt: int) -> None:
        """One reply more to each prompt, into the ledger."""
        sampling = self._sampling(attempt)
        samples = [_sample(call) for _, call in asked]
        try:
            replies = [response.text for response in self.generate(samples, sampling)]
        except CallFailed as error:
            if len(asked) > 1:  # one call that fails takes no other with it
                for one in asked:
                    self._ask([one], attempt)
                return
            if error.again:
                raise
            self.counts["failed"] += 1
            return
        self.counts["asked"] += len(asked)
        how = {"attempt": attempt, "model": self.model, "sampling": sampling.to_dict()}
        told = list(zip(asked, replies, strict=True))
        self._write({"topic": call.topic, "key": call.key, "reply": said, "prompt_sha256": one, **how} for (one, call), said in told)
        for (print_, _), text in told:
            self.known[print_].append(text)

    def _write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        if self.ledger is None:
            return
        self.ledger.parent.mkdir(parents=True, exist_ok=True)
        with self.ledger.open("ab") as file:
            file.write(b"".join(map(dump, rows)))

    def _read_ledger(self) -> defaultdict[str, list[str]]:
        """Replies by prompt that this judge would get again. A last line that a kill cut off is deleted."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        if self.ledger is None or not self.ledger.is_file():
            return found
        content = self.ledger.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            self.ledger.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            row = _line(self.ledger, number, line.decode())
            said = found[row["prompt_sha256"]]
            if row["model"] == self.model and row["attempt"] == len(said) and row["sampling"] == self._sampling(len(said)).to_dict():
                said.append(row["reply"])
        return found


def _sample(call: JudgeCall) -> Sample:
    if not call.picture:
        return Sample(call.name, (Message("user", (Part("text", call.prompt),)),))
    return Sample(call.name, (Message("user", (Part("image"), Part("text", call.prompt))),), (Image(path=call.picture),))


def _print(call: JudgeCall) -> str:
    asked = f"{call.prompt}\0{call.picture}" if call.picture else call.prompt
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
