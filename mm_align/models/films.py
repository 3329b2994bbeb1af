"""Films in prompts: a sample whose videos became frames, and the text around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from data_tools.io import BadImage
from data_tools.records import Image, Message, Sample
from video.pictures import Shown, ToShow, shown, to_show
from video.timestamps import ClipText, clip_text

if TYPE_CHECKING:
    from .processor import LvlmProcessor

Video = TypeVar("Video", Shown, ToShow)


class Film(NamedTuple):
    """What a prompt holds of one video: the text around its frames, and how many visual tokens each of them has."""

    text: ClipText
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Filmed(Sample):
    """A sample whose `images` hold the frames of its videos, each in place of its video; `films`: one a video part, in order."""

    films: tuple[Film, ...] = ()


def films_of(sample: Sample) -> tuple[Film, ...]:
    """The films of a sample; none of one without videos. ValueError for videos that nobody has looked at yet."""
    if isinstance(sample, Filmed):
        return sample.films
    if has_video(sample.messages):
        raise ValueError(f"sample '{sample.id}' holds a video; its frames come first (`mm_align.models.films.filmed`)")
    return ()


def has_video(messages: Sequence[Message]) -> bool:
    """Whether a conversation shows a film."""
    return any(part.kind == "video" for message in messages for part in message.parts)


def filmed(sample: Sample, processor: LvlmProcessor) -> Sample:
    """The sample with its videos decoded, as the processor's settings want them; itself where it has none, or has them already.

    BadImage (a ValueError) for a video without a path, or one that is no video: video_missing, video_unreadable; see `video.decode`.
    """
    if isinstance(sample, Filmed) or not has_video(sample.messages):
        return sample
    kinds = [part.kind for message in sample.messages for part in message.parts if part.kind != "text"]
    if len(kinds) != len(sample.images):
        raise ValueError(f"sample '{sample.id}' shows {len(kinds)} pictures and videos in its messages and has {len(sample.images)}")
    images: list[Image] = []
    films: list[Film] = []
    for kind, image in zip(kinds, sample.images, strict=True):
        if kind == "image":
            images.append(image)
            continue
        video = _asked(shown, image, sample.id, processor)
        images += [Image(pixels=picture) for picture in video.pictures]
        films.append(film_of(video.times, video.duration, processor))
    given = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
    return Filmed(**given | {"images": tuple(images)}, films=tuple(films))


def films_before(sample: Sample, processor: LvlmProcessor) -> tuple[Film, ...]:
    """What `filmed` will put into the prompt for each video, told by the frames' times alone: no frame is decoded. BadImage as there."""
    videos = [_asked(to_show, image, sample.id, processor) for image in videos_of(sample)]
    return tuple(film_of(video.times, video.duration, processor) for video in videos)


def videos_of(sample: Sample) -> list[Image]:
    """The images of a sample that stand for its video parts."""
    kinds = [part.kind for message in sample.messages for part in message.parts if part.kind != "text"]
    return [image for kind, image in zip(kinds, sample.images, strict=True) if kind == "video"]


def film_of(times: Sequence[float], duration: float, processor: LvlmProcessor) -> Film:
    """The film of frames at `times`, in the processor's style and number of tokens."""
    settings = processor.video_settings
    tokens = settings.frame_tokens(len(times), processor.film_grid, processor.num_image_tokens)
    return Film(clip_text(times, duration, settings.times), tokens)


def clips_of(sample: Sample) -> Iterator[int | None]:
    """For each picture or film of a sample, in the prompt's order: None, or the number of its frames."""
    films = iter(films_of(sample))
    for message in sample.messages:
        for part in message.parts:
            if part.kind != "text":
                yield len(next(films).tokens) if part.kind == "video" else None


def placeholders(sample: Sample, processor: LvlmProcessor) -> int:
    """Visual tokens that the prompt of a sample whose films were decoded has places for."""
    pictures = sum(frames is None for frames in clips_of(sample))
    return pictures * processor.num_image_tokens + sum(sum(film.tokens) for film in films_of(sample))


def check_pictures(sample: Sample) -> None:
    """Raises ValueError unless a sample has as many images as its messages place, frames of films counted."""
    wanted = sum(1 if frames is None else frames for frames in clips_of(sample))
    if wanted != len(sample.images):
        raise ValueError(f"sample '{sample.id}' has {wanted} image parts in its messages and {len(sample.images)} images")


def _asked(ask: Callable[..., Video], image: Image, sample_id: str, processor: LvlmProcessor) -> Video:
    """What `ask`, of `video.pictures`, says of a video by the processor's settings. BadImage where there is none."""
    if image.path is None or not Path(image.path).is_file():
        raise BadImage("video_missing", f"sample '{sample_id}' has a video {image.path!r} that is no file; videos are given by their path")
    settings = processor.video_settings
    try:
        return ask(image.path, settings.sampler, settings.frames, settings.options)
    except (ValueError, OSError) as error:
        raise BadImage("video_unreadable", str(error)) from error
