"""The dialect of OpenAI-compatible endpoints: samples as chat messages with pictures in them, and what their answers say."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import PIL.Image

from data_tools.calls import CallFailed, Decision
from data_tools.io.images import ORIENTATION, decode, encoded
from data_tools.records import Image, Sample

from ..config import UserError
from .conversations import check_pictures
from .http import Trouble

FORMATS = {"JPEG": "jpeg", "PNG": "png", "WEBP": "webp"}
YES, NO = ({word, word.capitalize(), word.upper()} for word in ("yes", "no"))
SPACES = "\u2581\u0120"  # how some servers show the leading space of a token
COMPLETIONS = "/chat/completions"
BY_ID = "token_id:"
TOP = 20  # as many as OpenAI and vLLM give without being configured


class Choice(NamedTuple):
    """One answer; `withheld`: why the endpoint kept it back, if it did."""

    text: str
    truncated: bool
    withheld: str = ""


class Reply(NamedTuple):
    """What an endpoint answered: its choices in their order and the tokens of all of them together."""

    choices: list[Choice]
    tokens: int


def messages(sample: Sample) -> list[dict[str, Any]]:
    """The conversation with its pictures inside. Raises ValueError where pictures and messages disagree, BadImage."""
    check_pictures(sample)
    pictures = (data_url(image) for image in sample.images)
    return [{"role": m.role, "content": [_part(p, pictures) for p in m.parts]} for m in sample.messages]


def _part(part: Any, pictures: Iterator[str]) -> dict[str, Any]:
    if part.kind == "text":
        return text_part(part.text)
    if part.kind == "image":
        return {"type": "image_url", "image_url": {"url": next(pictures)}}
    raise ValueError(f"an endpoint is shown text and images, got a part of kind '{part.kind}'; show it frames as pictures")


def text_part(text: str) -> dict[str, Any]:
    """Half surrogate pairs, which JSON can write and no tokenizer reads, become question marks."""
    return {"type": "text", "text": text.encode("utf-8", "replace").decode("utf-8")}


def data_url(image: Image) -> str:
    """The file itself where every reader sees the same picture in it, else the decoded picture as PNG."""
    kind, data = _plain(image) or ("png", _as_png(image))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _plain(image: Image) -> tuple[str, bytes] | None:
    """Format and bytes of a file that is not turned, transparent, of 16 bits or of a rare kind."""
    if image.data is None and image.path is None:
        return None
    data = encoded(image)
    try:
        with PIL.Image.open(io.BytesIO(data)) as opened:
            upright = opened.getexif().get(ORIENTATION, 1) in (0, 1)
            if opened.format in FORMATS and opened.mode in ("RGB", "L") and upright and not getattr(opened, "is_animated", False):
                return FORMATS[opened.format], data
    except (OSError, ValueError, SyntaxError):
        return None  # decoding says what is wrong with it
    return None


def _as_png(image: Image) -> bytes:
    pixels = decode(image).pixels
    assert pixels is not None
    out = io.BytesIO()
    pixels.save(out, "PNG", compress_level=1)
    return out.getvalue()


def read_reply(answer: Any) -> Reply:
    """The answers in a chat completion. Raises Trouble where it is none."""
    try:
        choices = [_choice(choice) for choice in answer["choices"]]
        usage = answer.get("usage") or {}
        if choices:
            return Reply(choices, int(usage.get("completion_tokens") or 0))
        raise Trouble("it answered with no choice at all")
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise Trouble(f"it answered with something that is no chat completion: {str(answer)[:200]}") from None


def _choice(choice: Mapping[str, Any]) -> Choice:
    text = choice["message"].get("content")
    reason = choice.get("finish_reason") or ""
    withheld = reason if reason == "content_filter" else ""
    if not isinstance(text, str | None):
        raise TypeError
    return Choice(text or "", reason == "length", withheld)


def read_models(answer: Any) -> list[str]:
    """The names in a list of models. Raises Trouble where it is none."""
    try:
        return [str(model["id"]) for model in answer["data"]]
    except (KeyError, TypeError):
        raise Trouble(f"it answered with something that is no list of models: {str(answer)[:200]}") from None


def read_decision(answer: Any) -> Decision:
    """Yes and no at the first token, summed over their spellings among the likeliest tokens that the endpoint tells.

    Raises UserError where it tells none (an endpoint may ignore that it was asked), CallFailed where there is no first token.
    """
    read_reply(answer)
    logprobs = answer["choices"][0].get("logprobs")
    if not logprobs or "content" not in logprobs:
        raise UserError(NO_LOGPROBS)
    if not logprobs["content"]:
        raise CallFailed("the endpoint wrote no token where yes or no was asked for", again=False)
    first = logprobs["content"][0]
    if not first.get("top_logprobs"):
        raise UserError(NO_LOGPROBS)
    try:
        shares = {str(entry["token"]): math.exp(min(0.0, float(entry["logprob"]))) for entry in (first, *first["top_logprobs"])}
    except (KeyError, TypeError, ValueError):
        raise Trouble(f"it answered with log-probabilities that cannot be read: {str(first)[:200]}") from None
    return Decision(_sum(shares, YES), _sum(shares, NO))


def asking_ids(ids: Iterable[int]) -> dict[str, Any]:
    """What asks for the log-probabilities of given tokens at the first token of an answer, whichever are the likeliest (vLLM)."""
    return {"max_tokens": 1, "logprobs": True, "logprob_token_ids": list(ids), "return_tokens_as_token_ids": True}


def read_decision_by_ids(answer: Any, ids: Mapping[str, Sequence[int]]) -> Decision:
    """Yes and no at the first token, summed over their tokens. Raises Trouble for an answer that does not tell all of them."""
    read_reply(answer)
    shares = shares_by_id(answer)
    try:
        return Decision(*(min(1.0, sum(math.exp(shares[i]) for i in ids[word])) for word in ("yes", "no")))
    except (KeyError, OverflowError):
        raise Trouble("it left out log-probabilities of tokens that it was asked for") from None


def shares_by_id(answer: Any) -> dict[int, float]:
    """Log-probabilities of first tokens by id, where the endpoint names tokens by their ids (`token_id:9`)."""
    named = {token.removeprefix(BY_ID): share for token, share in first_shares(answer).items() if token.startswith(BY_ID)}
    return {int(token): share for token, share in named.items() if token.isdecimal()}


def first_shares(answer: Any) -> dict[str, float]:
    """Log-probabilities of the likeliest first tokens, the one that was drawn among them; empty where the answer tells none."""
    try:
        return {str(entry["token"]): float(entry["logprob"]) for entry in answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        return {}


def _sum(shares: Mapping[str, float], words: set[str]) -> float:
    return min(1.0, sum(share for token, share in shares.items() if token.strip().strip(SPACES).strip() in words))


NO_LOGPROBS = (
    "the endpoint told no log-probabilities of its first token, so it cannot judge: choose one that does (vLLM, SGLang, llama-server "
    "and OpenAI do for most models; `transformers serve` and reasoning models do not), or a model in this process"
)


def spread_tokens(total: int, count: int) -> Sequence[int]:
    """An endpoint counts the tokens of all its answers together: even shares that add up to its count."""
    return [total // count + (i < total % count) for i in range(count)]
