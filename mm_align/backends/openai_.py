"""Models behind any OpenAI-compatible endpoint (vLLM, SGLang, llama-server, OpenAI ...), asked over HTTP by several threads."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any

from data_tools.calls import CallFailed, CallNotSupported, Decision, Sampling
from data_tools.records import Response, Sample

from ..config import Stopped, UserError
from .capabilities import Capabilities
from .chat_completions import (
    COMPLETIONS,
    NO_LOGPROBS,
    TOP,
    Choice,
    Reply,
    asking_ids,
    data_url,
    messages,
    read_decision,
    read_decision_by_ids,
    read_models,
    read_reply,
    spread_tokens,
    text_part,
)
from .conversations import conversations
from .endpoint_options import CONCURRENT, EndpointOptions
from .http import Endpoint, NothingThere
from .many import Many, settled
from .probing import probed
from .typed_decisions import AT_ONCE, DIALECTS, Dialect

log = logging.getLogger(__name__)
ASSUMED = Capabilities(images=True, top_logprobs=TOP)


class OpenAiBackend:
    """Generate and Decide over a chat endpoint; it tells no likelihoods.

    `batch_size`: samples to ask about in one call; how many requests are under way at once is the endpoint's pace. A request that fails
    for good raises `CallFailed` once the others of its call are answered; asking row by row then costs none of these again.
    learn: tells what the endpoint offers, asked for when it is first needed and believed from then on. Each (seed, sample, candidate)
    has a seed of its own in its request; what an endpoint makes of it is its own affair. `stop` is applied here, a prefix cannot be
    forced, branches stay empty.
    """

    faces = frozenset({"generate", "decide"})

    def __init__(
        self, endpoint: Endpoint, model: str, batch_size: int = 2 * CONCURRENT, learn: Callable[[], Capabilities] = lambda: ASSUMED
    ) -> None:
        self.name, self.batch_size = model, batch_size
        self.requests = Many(endpoint)
        plain = [{"role": "user", "content": [text_part("Say yes.")]}]
        endpoint.pulse = COMPLETIONS, {"model": model, "messages": plain, "max_tokens": 1}
        self.takes_n = True
        self._learn = learn
        self._offered: Capabilities | None = None

    @property
    def offered(self) -> Capabilities:
        """What the endpoint offers. Raises CallFailed, UserError where it sees no pictures."""
        if self._offered is None:
            found = self._learn()
            if found.images is False:
                raise UserError(f"{self.name} at its endpoint takes no pictures; choose an image-text model")
            if found.images is None:
                log.warning("whether the endpoint shows its model the pictures is not known: %s", found.notes.get("pictures", ""))
            self._offered = found
        return self._offered

    def describe(self) -> dict[str, Any]:
        """The model's name at its endpoint; which weights it stands for, only who serves it knows."""
        return {"model": self.name, "revision": "endpoint"}

    def describe_decisions(self) -> dict[str, Any]:
        """Also the way to yes and no, for what must not be mixed with another. Raises Stopped where the endpoint does not answer."""
        try:
            way = self.offered.decisions
        except CallFailed as failure:
            raise Stopped(f"{failure}; see to it, then run the same command to continue") from failure
        log.info("%s says yes or no by %s", self.name, way or "nothing that its endpoint offers")
        return self.describe() | ({"decisions": way} if way and way != "top_logprobs" else {})

    # -- answers -----------------------------------------------------------------------------------------------------

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        """`sampling.n` responses a sample, sample-major; `logprob` is not known. Raises CallFailed, UserError, BadImage."""
        if sampling.prefix:
            raise UserError("an endpoint cannot be made to begin its answer with given words; use a model in this process for that")
        if sampling.beams > 1:
            raise UserError("an endpoint does no beam search; use a model in this process for that, or set beams to 1")
        with self.requests.call():
            found = self._found(samples, sampling)
        settings = sampling.to_dict()
        return [self._response(s, j, *one, settings) for s, row in zip(samples, found, strict=True) for j, one in enumerate(row)]

    def _found(self, samples: Sequence[Sample], sampling: Sampling) -> list[list[tuple[Choice, int]]]:
        """The answers of each sample: in one request where the endpoint gives them so, else each in its own."""
        talks = [messages(sample) for sample in samples]
        once = sampling.n if self.takes_n and self.offered.n is not False else 1
        first = self._replies([self._body(s, t, sampling, 0, once) for s, t in zip(samples, talks, strict=True)], once)
        found = [self._choices(reply, sampling.n) for reply in first]
        lacking = [(i, j) for i, row in enumerate(found) for j in range(len(row), sampling.n)]
        rest = self._replies([self._body(samples[i], talks[i], sampling, j, 1) for i, j in lacking])
        for (i, _), reply in zip(lacking, rest, strict=True):
            found[i] += self._choices(reply, 1)
        if lacking and once > 1:
            self.takes_n = False
            log.warning("the endpoint gives fewer answers than asked for in one request; each is asked for by itself from now on")
        return found

    def _body(self, sample: Sample, talk: Any, sampling: Sampling, j: int, n: int) -> dict[str, Any]:
        body = {"model": self.name, "messages": talk, "max_tokens": sampling.max_tokens, "seed": seed_of(sampling.seed, sample.id, j)}
        # Sent though they are OpenAI's defaults too: servers put a model's own settings in the place of what is left out.
        body |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        return body | ({"n": n} if n > 1 else {})

    def _replies(self, bodies: Sequence[dict[str, Any]], n: int = 1) -> list[Reply]:
        """No choices for a request for several answers that was refused: it may be their number."""
        results = self.requests.ask(COMPLETIONS, bodies, read_reply)
        if n > 1:
            results = [Reply([], 0) if isinstance(r, CallFailed) and not r.again else r for r in results]
        return settled(results)

    @staticmethod
    def _choices(reply: Reply, most: int) -> list[tuple[Choice, int]]:
        """Each answer with its tokens."""
        if reply.choices and all(choice.withheld for choice in reply.choices):
            raise CallFailed(f"the endpoint withholds its answer ({reply.choices[0].withheld})", again=False)
        return list(zip(reply.choices, spread_tokens(reply.tokens, len(reply.choices)), strict=True))[:most]

    def _response(self, sample: Sample, j: int, choice: Choice, tokens: int, settings: dict[str, Any]) -> Response:
        text = until_stop(choice.text, settings["stop"])
        truncated = choice.truncated and text == choice.text
        tokens = tokens or int(truncated)  # what hit the limit has some, counted or not: an endpoint refuses a prompt that leaves no room
        return Response(f"{sample.id}:{j}", sample.id, text.strip(), self.name, settings, tokens=tokens, truncated=truncated)

    def likelihood(self, *args: Any, **kwargs: Any) -> Any:
        raise CallNotSupported("an endpoint tells no log-probabilities of given texts; use a model in this process")

    # -- yes or no ---------------------------------------------------------------------------------------------------

    def decide(self, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]:
        """By the best way that the endpoint offers (see `Capabilities.decisions`), the same for all questions.

        Typed decisions: some questions a request; a dialect may add words to a question and tell yes against no only. Else one request
        a question with one token to write: yes and no are summed over their tokens, or over their spellings among the likeliest 20
        tokens, where what is not among them counts as neither. Raises UserError where the endpoint offers none, CallFailed, BadImage.
        """
        if len(samples) != len(questions):
            raise ValueError(f"{len(samples)} samples but {len(questions)} lists of questions")
        if self.offered.typed:
            return self._typed(DIALECTS[self.offered.typed], samples, questions)
        asking, read = self._reading()
        talks = (talk for sample, texts in zip(samples, questions, strict=True) for talk in talks_about(sample, texts))
        with self.requests.call():
            found = iter(self._decided([asking | {"messages": talk} for talk in talks], read))
        return [[next(found) for _ in texts] for texts in questions]

    def _reading(self) -> tuple[dict[str, Any], Callable[[Any], Decision]]:
        """What a question says beside its messages, and what reads its answer."""
        asking = {"model": self.name, "max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "seed": 0}
        ids = self.offered.verdict_ids
        if ids:
            return asking | asking_ids(sorted({*ids["yes"], *ids["no"]})), partial(read_decision_by_ids, ids=ids)
        if not self.offered.top_logprobs:
            raise UserError(f"{NO_LOGPROBS} ({self.offered.notes.get('logprobs', 'found when it was tried')})")
        return asking | {"logprobs": True, "top_logprobs": TOP}, read_decision

    def _decided(self, bodies: Sequence[dict[str, Any]], read: Callable[[Any], Decision]) -> list[Decision]:
        results = self.requests.ask(COMPLETIONS, bodies, read)
        refused = [result for result in results if isinstance(result, CallFailed) and not result.again and "logprob" in str(result)]
        if refused:
            raise UserError(f"{NO_LOGPROBS} ({refused[0]})")
        return settled(results)

    def _typed(self, dialect: Dialect, samples: Sequence[Sample], questions: Sequence[Sequence[str]]) -> list[list[Decision]]:
        """Up to `AT_ONCE` questions of a sample in a request."""
        bodies, sizes = [], []
        for sample, texts in zip(samples, questions, strict=True):
            shown = [data_url(image) for image in sample.images] if texts else []
            parts = [texts[at : at + AT_ONCE] for at in range(0, len(texts), AT_ONCE)]
            bodies += [dialect.body(self.name, shown, [text_part(text)["text"] for text in part]) for part in parts]
            sizes += [len(part) for part in parts]
        try:
            with self.requests.call():
                rows = settled(self.requests.ask(dialect.path, bodies, dialect.read))
        except NothingThere as error:
            raise UserError(
                f"{error}. It took typed decisions when it was tried, within the last day: "
                f"`mmalign doctor --endpoint openai:{self.requests.endpoint.url}#{self.name} --refresh` finds out anew what it offers"
            ) from error
        if [len(row) for row in rows] != sizes:
            raise CallFailed("the endpoint answered another number of questions than it was asked")
        found = chain.from_iterable(rows)
        return [[next(found) for _ in texts] for texts in questions]


def talks_about(sample: Sample, questions: Sequence[str]) -> list[Any]:
    """Messages of each question; the pictures are encoded once."""
    if not questions:
        return []
    asked = conversations(sample, questions)
    first = messages(asked[0])
    pictures = first[0]["content"][:-1]
    return [first, *([{"role": "user", "content": [*pictures, text_part(q)]}] for q in questions[1:])]


def until_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to and with the stop string that ends first."""
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text


def seed_of(seed: int, sample_id: str, j: int) -> int:
    """31 bits of its own for each candidate of each sample."""
    digest = hashlib.sha256(f"{seed}\0{sample_id}\0{j}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def load(name: str, *, batch_size: int | str = "auto", endpoint: EndpointOptions | None = None, **_: Any) -> OpenAiBackend:
    """The backend of `openai:URL#MODEL`; without a model, the only one that the endpoint serves. UserError where there is none.

    batch_size: samples in one call, "auto" is twice the requests under way at once, so that few wait for the slowest of a call.
    Device, dtype and revision are the endpoint's.
    """
    options = endpoint or EndpointOptions()
    opened, model = open_endpoint(name, options)
    return OpenAiBackend(
        opened, model, 2 * options.concurrency if batch_size == "auto" else int(batch_size), partial(probed, opened, model)
    )


def open_endpoint(name: str, options: EndpointOptions | None = None) -> tuple[Endpoint, str]:
    """Endpoint and model of `URL#MODEL`; without a model, the only one that it serves. UserError where there is none."""
    url, _sign, model = name.partition("#")
    endpoint = Endpoint(url, options)
    return endpoint, model or only_model(endpoint)


def only_model(endpoint: Endpoint) -> str:
    """The name of the model that is served. UserError unless it is one, or where the endpoint does not say."""
    try:
        names = endpoint.ask("/models", None, read_models)
    except CallFailed as failure:
        raise UserError(f"{endpoint.url} does not say which models it serves ({failure}); give one: openai:{endpoint.url}#MODEL") from None
    if len(names) != 1:
        raise UserError(f"{endpoint.url} serves {', '.join(names) or 'no model'}; choose one: openai:{endpoint.url}#MODEL")
    return names[0]
