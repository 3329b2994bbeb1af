"""Films in prompts: a sample whose videos became frames, and the text around them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL.Image

from data_tools.io import BadImage
from data_tools.records import Image, Message, Sample
from video.timestamps import ClipText, clip_text

if TYPE_CHECKING:
    import numpy as np

    from video.clip import VideoInfo

    from .processor import LvlmProcessor

KEPT = 2  # films whose frames stay in memory: a batch and its length are asked for one after another


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
        shown = _shown(image, sample.id, processor)
        images += [Image(pixels=picture) for picture in shown.pictures]
        films.append(film_of(shown.times, shown.duration, processor))
    given = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
    return Filmed(**given | {"images": tuple(images)}, films=tuple(films))


def films_before(sample: Sample, processor: LvlmProcessor) -> tuple[Film, ...]:
    """What `filmed` will put into the prompt for each video, told by the frames' times alone: no frame is decoded. BadImage as there."""
    settings, found = processor.video_settings, []
    for image in videos_of(sample):
        path = _file(image, sample.id)
        try:
            info, places = _places(path, settings.sampler, settings.frames, settings.options)
        except ValueError as error:
            raise BadImage("video_unreadable", str(error)) from error
        found.append(film_of(info.times[places].tolist(), info.duration, processor))
    return tuple(found)


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


def _file(image: Image, sample_id: str) -> str:
    if image.path is None or not Path(image.path).is_file():
        raise BadImage("video_missing", f"sample '{sample_id}' has a video {image.path!r} that is no file; videos are given by their path")
    return image.path


class _Shown(NamedTuple):
    """A video's frames as pictures, when each is shown, and the video's length, in seconds."""

    pictures: tuple[PIL.Image.Image, ...]
    times: list[float]
    duration: float


def _shown(image: Image, sample_id: str, processor: LvlmProcessor) -> _Shown:
    path, settings = _file(image, sample_id), processor.video_settings
    chosen = {"sampler": settings.sampler, "frames": settings.frames, "options": settings.options}
    try:
        status = Path(path).stat()
        return _decoded(path, status.st_mtime_ns, status.st_size, json.dumps(chosen, sort_keys=True))
    except (ValueError, OSError) as error:
        raise BadImage("video_unreadable", str(error)) from error


@functools.lru_cache(maxsize=KEPT)
def _decoded(path: str, changed: int, size: int, chosen: str) -> _Shown:
    """By path, time and size of the file: another file of the same name is another film. Rows of one film get the same pictures."""
    from video.decode import decode

    settings = json.loads(chosen)
    clip = decode(path, indices=_places(path, settings["sampler"], settings["frames"], settings["options"])[1].tolist())
    pictures = tuple(PIL.Image.fromarray(frame) for frame in clip.frames.permute(0, 2, 3, 1).cpu().numpy())
    return _Shown(pictures, clip.times.tolist(), clip.source.duration)


def _places(path: str, sampler: str, frames: int | None, options: Mapping[str, Any]) -> tuple[VideoInfo, np.ndarray]:
    """The video, and which of its frames are shown."""
    from video.decode import probe
    from video.frames import sample

    info = probe(path)
    return info, sample(info, sampler, frames, **options)
