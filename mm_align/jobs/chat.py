"""`mmalign chat`: one question about a picture or a video, or a conversation at the prompt."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from ..config import JobConfig, UserError
from .endpoint_fields import Cache, Concurrency, PriceIn, PriceOut, Timeout, endpoint_options, tell_usage
from .video_processor import video_processor

if TYPE_CHECKING:
    from data_tools.calls import Backend, Reward, Sampling
    from data_tools.records import Image, Message, Response, Sample

    from ..backends.endpoint_options import EndpointOptions

log = logging.getLogger(__name__)
LEAVE = ("exit", "quit", ":q")
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".mpg", ".mpeg", ".ogv", ".wmv", ".flv")


class ChatConfig(JobConfig):
    """Whom to ask, what to show, what to ask."""

    model: str = Field(description="folder, hub id, bundled model or endpoint", json_schema_extra={"positional": True})
    shown: list[str] = Field(
        [],
        description="picture and video files, then the question; without a question, a prompt is opened",
        json_schema_extra={"positional": True},
    )
    max_tokens: int = Field(256, ge=1, description="longest answer")
    temperature: float | None = Field(None, ge=0, description="0: always the likeliest token (default: 0; with --best-of 0.7)")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the likeliest tokens that are drawn from")
    seed: int = Field(0, description="of drawn tokens")
    system: str = Field("", description="text that the model reads before the conversation")
    frames: int | None = Field(None, ge=1, description="how many frames of a video are shown (default: as the model's config says)")
    revision: str | None = Field(None, description="commit or tag of a hub model")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    dtype: str = Field("auto", description="auto, float32, bfloat16 or float16")
    best_of: int = Field(1, ge=1, description="answers that are drawn; the one with the highest implicit reward is printed")
    reference: str | None = Field(None, description="with --best-of: the model that the scorer was before its preference training")
    scorer: str | None = Field(None, description="with --best-of: the model after preference training (default: the one that answers)")
    concurrency: Concurrency = 16
    timeout: Timeout = 120.0
    request_cache: Cache = "off"
    price_in: PriceIn = None
    price_out: PriceOut = None


def run(config: ChatConfig) -> int:
    """Print the answer, or converse until the end of input. Raises UserError for pictures and models that cannot be had."""
    check_best_of(config)
    pictures, question = split(config.shown)
    if question is None and pictures is None:
        raise UserError("name a picture, a question, or both: mmalign chat MODEL picture.png 'What is this?'")
    images = [picture(path) for path in pictures or ()]
    asking = endpoint_options(config)
    backend = loaded(config, config.model, asking, config.revision)
    if config.frames is not None:
        show_frames(backend, config.frames)
    talk = Talk(backend, sampling_of(config), images, config.system, reward_of(config, backend, asking))
    if question is not None:
        print(talk.ask(question))
    else:
        converse(talk, len(images))
    tell_usage(config, asking)
    return 0


def check_best_of(config: ChatConfig) -> None:
    """UserError for options of --best-of that do not go together."""
    if config.best_of == 1 and (config.reference or config.scorer):
        raise UserError("--reference and --scorer choose among several answers: add --best-of 16")
    if config.best_of > 1 and config.reference is None:
        raise UserError("--best-of needs --reference: the model that this one was before its preference training")
    if config.best_of > 1 and config.temperature == 0:
        raise UserError("--best-of needs a temperature above 0: at 0 all answers are the same")


def loaded(config: ChatConfig, model: str, asking: EndpointOptions, revision: str | None = None) -> Backend:
    from ..backends import load_backend

    return load_backend(model, revision=revision, device=config.device, dtype=config.dtype, batch_size=1, endpoint=asking)


def sampling_of(config: ChatConfig) -> Sampling:
    from data_tools.calls import Sampling

    usual = 0.7 if config.best_of > 1 else 0.0  # 0.7: RLAIF-V's candidates
    temperature = usual if config.temperature is None else config.temperature
    return Sampling(config.best_of, temperature, config.top_p, config.max_tokens, config.seed)


def reward_of(config: ChatConfig, backend: Backend, asking: EndpointOptions) -> Reward | None:
    """The implicit reward of the scorer (by default the model that answers) over the reference; None for a single answer.

    Raises UserError for a model that gives no log-probabilities.
    """
    from ..rewards import ImplicitReward

    if config.best_of == 1 or config.reference is None:
        return None
    models = {config.scorer or config.model: loaded(config, config.scorer, asking) if config.scorer else backend}
    models[config.reference] = models.get(config.reference) or loaded(config, config.reference, asking)
    for name, model in models.items():
        if "likelihood" not in model.faces:
            raise UserError(f"{name} gives no log-probabilities of answers, which --best-of scores by; use a model in this process")
    return ImplicitReward(*(models[name].likelihood for name in (config.scorer or config.model, config.reference)))


def show_frames(backend: Backend, frames: int) -> None:
    """So many frames of a video, whatever the model's config says. UserError for a model that is shown no videos."""
    processor = video_processor(backend, "--frames")
    processor.video = (processor.video or {}) | {"frames": frames}


def split(words: Sequence[str]) -> tuple[list[str] | None, str | None]:
    """Pictures and the question: the last word is a question unless it is a file. UserError for a file that is not there."""
    files = [word for word in words if is_file(word)]
    rest = words[len(files) :]
    if list(words[: len(files)]) != files or len(rest) > 1:
        missing = next(word for word in words[:-1] if not is_file(word))
        raise UserError(f"no picture {missing!r}; give picture files first, then one question in quotes")
    if rest and looks_like_file(rest[0]):
        raise UserError(f"no picture {rest[0]!r}: there is no such file")
    return files or None, rest[0] if rest else None


def is_file(word: str) -> bool:
    """Whether a word names a file; a long question is none."""
    try:
        return Path(word).is_file()
    except OSError:
        return False


def looks_like_file(word: str) -> bool:
    """A misspelt picture is no question."""
    return " " not in word and Path(word).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", *VIDEOS)


def is_video(path: str) -> bool:
    """By its name; a GIF is a picture, its first one."""
    return Path(path).suffix.lower() in VIDEOS


def picture(path: str) -> Image:
    """The picture in a file, decoded, or a video's file. UserError where it cannot be."""
    from data_tools.io import BadImage, decode
    from data_tools.records import Image

    if is_video(path):
        return Image(path=path)
    try:
        return decode(Image(path=path))
    except BadImage as error:
        raise UserError(f"cannot read the picture {path}: {error}") from error


class Talk:
    """A conversation about pictures. `ask` remembers what was said; `forget` begins anew with the same pictures.

    reward: what is said is the best of `sampling.n` answers by it.
    """

    def __init__(
        self, backend: Backend, sampling: Sampling, images: Sequence[Image], system: str = "", reward: Reward | None = None
    ) -> None:
        self.backend, self.sampling, self.images, self.system, self.reward = backend, sampling, tuple(images), system, reward
        self.forget()

    def forget(self) -> None:
        from data_tools.records import Message, Part

        self.messages: list[Message] = [Message("system", (Part("text", self.system),))] if self.system else []

    def ask(self, question: str) -> str:
        """The answer. The pictures stand before the first question."""
        from data_tools.records import Message, Part

        first = not any(message.role == "user" for message in self.messages)
        pictures = tuple(Part("video" if image.path and is_video(image.path) else "image") for image in self.images) if first else ()
        self.messages.append(Message("user", (*pictures, Part("text", question))))
        answer = self._answered()
        self.messages.append(Message("assistant", (Part("text", answer),)))
        return answer

    def _answered(self) -> str:
        from data_tools.calls import CallFailed
        from data_tools.records import Sample

        sample = Sample("chat", tuple(self.messages), self.images)
        try:
            response = self._best(sample, self.reward) if self.reward else self.backend.generate([sample], self.sampling)[0]
        except CallFailed as failure:
            raise UserError(f"no answer: {failure}") from failure
        if response.no_room:
            raise UserError("the conversation is too long for the model; begin a new one")
        return response.text

    def _best(self, sample: Sample, reward: Reward) -> Response:
        from ..search import best_of_n

        (choice,) = best_of_n([sample], self.backend.generate, reward, self.sampling)
        for response, value in zip(choice.candidates, choice.rewards, strict=True):
            log.debug("%+.4f  %s", value, response.text)
        return choice.best or choice.candidates[0]


def converse(talk: Talk, pictures: int, read: Callable[[str], str] | None = None) -> None:
    """Questions from the prompt until the end of input; /new forgets, exit leaves."""
    if sys.stdin.isatty():
        print(f"{pictures} picture{'s' * (pictures != 1)}. Ask; /new begins again, exit or Ctrl-D leaves.")
    while True:
        try:
            question = (read or input)("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if question.lower() in LEAVE:
            return
        if question == "/new":
            talk.forget()
        elif question:
            print(talk.ask(question), flush=True)
