"""The dialects of typed decisions: yes-or-no questions about pictures in one request, answered by probabilities.

assets: `/systemone` of `transformers serve` (a placeholder in the state, the picture in `assets`); images: `/systemone` of vLLM and
SGLang (a list of pictures); decisions: `/decisions` as OpenAI documents it. A dialect that a server does not speak may be answered
with HTTP 200 and an unseen picture, so none is used that a black and a white picture have not told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from data_tools.calls import CallFailed, Decision

from .http import Trouble

AT_ONCE = 16  # questions in a request; transformers takes up to 64
PLACEHOLDER = "[[picture {}]]"


class Dialect(NamedTuple):
    """`body(model, pictures as data URLs, questions)` is the request, `answers(answer)` finds what belongs to a question by its name."""

    path: str
    body: Callable[[str, Sequence[str], Sequence[str]], dict[str, Any]]
    answers: Callable[[Any], Mapping[str, Any]]

    def read(self, answer: Any) -> list[Decision]:
        """A decision for each question that was answered. Raises Trouble for an answer that is none, CallFailed where one is declined.

        The two probabilities add up to the share of yes and no in all words where the endpoint tells it (`label_mass`), else to 1.
        """
        try:
            found = self.answers(answer)
            return [_decision(found[_name(i)]) for i in range(len(found))]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Trouble(f"it answered with something that is no decision: {str(answer)[:200]}") from None


def _decision(answer: Mapping[str, Any]) -> Decision:
    if answer.get("type") == "refusal":
        raise CallFailed("the endpoint declines to answer the question", again=False)
    yes = float(answer["noul"] if "noul" in answer else answer["probability"])
    mass = float(answer.get("label_mass", 1.0))
    if not (0 <= yes <= 1 and 0 <= mass <= 1.001):
        raise ValueError
    return Decision(min(mass, 1.0) * yes, min(mass, 1.0) * (1 - yes))


def _name(i: int) -> str:
    return f"q{i}"


def _nouls(questions: Sequence[str]) -> dict[str, Any]:
    return {_name(i): {"type": "noul", "instructions": question} for i, question in enumerate(questions)}


def _assets(model: str, pictures: Sequence[str], questions: Sequence[str]) -> dict[str, Any]:
    shown = {PLACEHOLDER.format(i + 1): _asset(url) for i, url in enumerate(pictures)}
    return {"model": model, "state": " ".join(shown), "questions": _nouls(questions), "assets": shown}


def _asset(url: str) -> dict[str, Any]:
    kind, _, data = url.removeprefix("data:image/").partition(";base64,")
    return {"type": "image", "format": kind, "data_base64": data}


def _images(model: str, pictures: Sequence[str], questions: Sequence[str]) -> dict[str, Any]:
    return {"model": model, "state": "A picture.", "images": list(pictures), "questions": _nouls(questions)}


def _predicates(model: str, pictures: Sequence[str], questions: Sequence[str]) -> dict[str, Any]:
    content = [{"type": "input_image", "image_url": url} for url in pictures]
    asked = [{"type": "predicate", "name": _name(i), "instructions": question} for i, question in enumerate(questions)]
    return {"model": model, "input": [{"role": "user", "content": content}], "questions": asked}


def _by_key(answer: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] = answer["answers"]
    return found


def _in_order(answer: Any) -> Mapping[str, Any]:
    return {str(one.get("name") or _name(i)): one for i, one in enumerate(answer["answers"])}


DIALECTS = {
    "systemone (images)": Dialect("/systemone", _images, _by_key),
    "systemone (assets)": Dialect("/systemone", _assets, _by_key),
    "decisions": Dialect("/decisions", _predicates, _in_order),
}
