"""Finds out by a few tiny requests what an endpoint offers; an option that it ignores with HTTP 200 counts as none."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import PIL.Image

from data_tools.calls import CallFailed
from data_tools.records import Image

from ..config import UserError
from .capabilities import Capabilities, assumed, store, stored
from .chat_completions import (
    COMPLETIONS,
    NO,
    TOP,
    YES,
    asking_ids,
    data_url,
    first_shares,
    read_reply,
    shares_by_id,
    text_part,
)
from .http import Endpoint, Trouble
from .typed_decisions import DIALECTS

log = logging.getLogger(__name__)
Read = TypeVar("Read")

ATTEMPTS = 2  # for a question whose answer decides over an option only
SIDE = 56  # pixels of the pictures: a whole number of patches for most encoders
TOKENS = 8
APART = 1e-3  # a log-probability that two pictures move by more than this, and by ten times what the same picture does, was moved by them
COLOUR = "What colour is this picture? Answer with one word."
WHITE = "Is this picture white?"
WORDS = "Write a sentence of random words."
COUNT = "Count from one to ten in words."
SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "probe",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"bright": {"type": "boolean"}},
            "required": ["bright"],
            "additionalProperties": False,
        },
    },
}


def probed(endpoint: Endpoint, model: str, *, refresh: bool = False) -> Capabilities:
    """What the endpoint offers for the model: as found within the last day, else found out now.

    Raises CallFailed where it does not answer at all, UserError where key or model are wrong.
    """
    found = None if refresh else stored(endpoint.url, model)
    if found is None:
        log.info("finding out what %s offers for %s", endpoint.url, model)
        found = Probe(endpoint, model).capabilities()
        store(endpoint.url, model, found)
    return found


class Seen(NamedTuple):
    """An answer to a picture: its text, and the log-probability of each of the likeliest first tokens."""

    text: str
    shares: dict[str, float]

    def gap(self, other: Seen) -> float:
        """Largest difference of a log-probability among tokens that both name; infinite where the texts differ."""
        if self.text != other.text:
            return float("inf")
        return max((abs(self.shares[token] - other.shares[token]) for token in self.shares.keys() & other.shares.keys()), default=0.0)


class Probe:
    """The questions to one endpoint about one model."""

    def __init__(self, endpoint: Endpoint, model: str) -> None:
        self.endpoint, self.model = endpoint, model
        self.black, self.white = (data_url(Image(pixels=PIL.Image.new("RGB", (SIDE, SIDE), colour))) for colour in ("black", "white"))
        self.shown: str | None = self.black  # beside every question, for models that answer about pictures only
        self.notes: dict[str, str] = {}

    def capabilities(self) -> Capabilities:
        """See `probed`. What cannot be tried is believed to be there."""
        refused = self._refused()
        if refused:
            return assumed({"pictures": f"it refuses the questions by which it is tried: {refused}"})
        top = self._top_logprobs()
        return Capabilities(
            images=self._images(top) if self.shown else False,
            top_logprobs=top,
            verdict_ids=self._verdict_ids() if top else None,
            typed=self._typed(),
            n=self._several(),
            seed=self._seed(),
            stop=self._stop(),
            structured=self._structured(),
            notes=self.notes,
        )

    # -- requests ----------------------------------------------------------------------------------------------------

    def _question(self, text: str, picture: str | None = None, **options: Any) -> dict[str, Any]:
        """The body of a greedy question."""
        url = picture or self.shown
        content = [] if url is None else [{"type": "image_url", "image_url": {"url": url}}]
        body = {"model": self.model, "messages": [{"role": "user", "content": [*content, text_part(text)]}]}
        return body | {"max_tokens": TOKENS, "temperature": 0.0, "top_p": 1.0, "seed": 0, **options}

    def _chat(self, text: str, picture: str | None = None, **options: Any) -> Any:
        """The whole answer; None where the endpoint refuses such a question or breaks off."""
        return self._or_none(COMPLETIONS, self._question(text, picture, **options), _whole)

    def _texts(self, text: str, **options: Any) -> list[str] | None:
        """The texts of its answers; None likewise."""
        answer = self._chat(text, **options)
        return None if answer is None else [choice.text for choice in read_reply(answer).choices]

    def _or_none(self, path: str, body: dict[str, Any], read: Callable[[Any], Read]) -> Read | None:
        try:
            return self.endpoint.ask(path, body, read, attempts=ATTEMPTS, fresh=True)
        except (CallFailed, UserError) as error:
            log.debug("not offered: %s", error)
            return None

    # -- options -----------------------------------------------------------------------------------------------------

    def _refused(self) -> str:
        """Why it answers neither with a picture nor without one, if so; the first question of all, which tells whether anybody is there."""
        try:
            self.endpoint.ask(COMPLETIONS, self._question(COLOUR), _whole, fresh=True)
        except CallFailed as failure:
            if failure.again:
                raise
            self.shown, self.notes["pictures"] = None, str(failure)
            return str(failure) if self._chat(COLOUR) is None else ""
        return ""

    def _top_logprobs(self) -> int:
        """How many are told when 20 are asked for."""
        answer = self._chat(WORDS, logprobs=True, top_logprobs=TOP, max_tokens=1)
        told = 0 if answer is None else len(first_shares(answer))
        if not told:
            self.notes["logprobs"] = "refused" if answer is None else "asked for and left out with HTTP 200"
        return told

    def _images(self, top: int) -> bool | None:
        more: dict[str, Any] = {"logprobs": True, "top_logprobs": TOP} if top else {}
        seen = []
        for picture in (self.black, self.white, self.black):
            answer = self._chat(COLOUR, picture, **more)
            if answer is None:
                self.notes["pictures"] = "a request with a picture failed, another did not"
                return None
            seen.append(Seen(read_reply(answer).choices[0].text, first_shares(answer)))
        black, white, again = seen
        moved, noise = black.gap(white), black.gap(again)
        if noise < float("inf") and moved > max(APART, 10 * noise):
            return True
        if "black" in black.text.lower() and "white" in white.text.lower():
            return True
        self.notes["pictures"] = "a black and a white one get the same answer" if moved <= APART else "its answers change by themselves"
        return None

    def _several(self) -> bool:
        texts = self._texts(WORDS, n=2, temperature=1.0)
        if texts is not None and len(texts) != 2:
            self.notes["n"] = f"asked for 2 answers, got {len(texts)} with HTTP 200"
        return texts is not None and len(texts) == 2

    def _seed(self) -> bool | None:
        first, again, other = (self._texts(WORDS, seed=seed, temperature=1.0, max_tokens=2 * TOKENS) for seed in (1, 1, 2))
        if first is None or first != again:
            return False
        return True if first != other else None

    def _stop(self) -> bool | None:
        """A string from the middle of an answer must end the same answer there."""
        whole = self._texts(COUNT, max_tokens=2 * TOKENS)
        text = whole[0] if whole else ""
        stop = text[len(text) // 2 :][:3].strip()
        if not stop:
            return None
        stopped = self._texts(COUNT, max_tokens=2 * TOKENS, stop=[stop])
        if stopped is None:
            return False
        expected = text[: text.index(stop)]
        if stopped[0].strip() in (expected.strip(), (expected + stop).strip()):
            return True
        return False if stopped[0] == text else None

    def _structured(self) -> bool:
        texts = self._texts("Hello.", response_format=SCHEMA, max_tokens=4 * TOKENS)
        try:
            return bool(texts) and isinstance(json.loads(texts[0])["bright"], bool)  # type: ignore[index]
        except (ValueError, KeyError, TypeError):
            return False

    def _verdict_ids(self) -> dict[str, tuple[int, ...]] | None:
        """Ids by the server's own tokenizer; None unless the endpoint tells the log-probability of each of them."""
        ids = {"yes": self._tokens(YES), "no": self._tokens(NO)}
        asked = sorted({*ids["yes"], *ids["no"]})
        if not ids["yes"] or not ids["no"]:
            return None
        answer = self._chat(WHITE, self.black, **asking_ids(asked))
        if answer is None or not set(asked) <= shares_by_id(answer).keys():
            self.notes["logprob_token_ids"] = "refused" if answer is None else "left out with HTTP 200"
            return None
        return ids

    def _tokens(self, words: set[str]) -> tuple[int, ...]:
        """Of the spellings, each with and without a leading space, those that are one token."""
        found = set()
        for text in sorted({space + word for word in words for space in ("", " ")}):
            row = self._or_none(f"{self.endpoint.root}/tokenize", tokenizing(self.model, text), read_tokens)
            if row is None:
                return ()
            found |= set(row) if len(row) == 1 else set()
        return tuple(sorted(found))

    def _typed(self) -> str | None:
        for name, dialect in DIALECTS.items():
            shares = []
            for picture in (self.black, self.white):
                found = self._or_none(dialect.path, dialect.body(self.model, [picture], [WHITE]), dialect.read)
                if found is None:
                    break
                shares.append(found[0].p_yes)
            if len(shares) == 2 and abs(shares[0] - shares[1]) > 1e-6:
                self.notes.pop("typed decisions", None)
                return name
            if len(shares) == 2:
                self.notes["typed decisions"] = f"{name} answers, but a black and a white picture get the same probability"
        return None


def tokenizing(model: str, text: str) -> dict[str, Any]:
    """The body of vLLM's `/tokenize`."""
    return {"model": model, "prompt": text, "add_special_tokens": False}


def read_tokens(answer: Any) -> list[int]:
    """Raises Trouble for an answer that holds no tokens."""
    try:
        return [int(token) for token in answer["tokens"]]
    except (KeyError, TypeError, ValueError):
        raise Trouble("it answered with something that holds no tokens") from None


def _whole(answer: Any) -> Any:
    read_reply(answer)
    return answer
