"""Films in prompts: a sample whose videos became frames, and the text around them."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL.Image

from data_tools.records import Image, Message, Sample
from video.timestamps import ClipText, clip_text

from .video_settings import VideoSettings

if TYPE_CHECKING:
    from video.clip import VideoClip

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

    ValueError for a video without a path, or one that is no video; see `video.decode`.
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
        clip = _clip(image, sample.id, processor.video)
        images += [Image(pixels=picture) for picture in _pictures(clip)]
        films.append(film_of(clip.times.tolist(), clip.source.duration, processor))
    given = {name: getattr(sample, name) for name in Sample.__dataclass_fields__}
    return Filmed(**given | {"images": tuple(images)}, films=tuple(films))


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


def check_pictures(sample: Sample) -> None:
    """Raises ValueError unless a sample has as many images as its messages place, frames of films counted."""
    wanted = sum(1 if frames is None else frames for frames in clips_of(sample))
    if wanted != len(sample.images):
        raise ValueError(f"sample '{sample.id}' has {wanted} image parts in its messages and {len(sample.images)} images")


def _pictures(clip: VideoClip) -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(frame) for frame in clip.frames.permute(0, 2, 3, 1).cpu().numpy()]


def _clip(image: Image, sample_id: str, video: Mapping[str, Any] | None) -> VideoClip:
    if image.path is None or not Path(image.path).is_file():
        raise ValueError(f"sample '{sample_id}' has a video {image.path!r} that is no file; videos are given by their path")
    settings = VideoSettings.of({key: value for key, value in (video or {}).items() if key != "grid"})
    chosen = {"sampler": settings.sampler, "frames": settings.frames, "options": settings.options}
    status = Path(image.path).stat()
    return _decoded(image.path, status.st_mtime_ns, status.st_size, json.dumps(chosen, sort_keys=True))


@functools.lru_cache(maxsize=KEPT)
def _decoded(path: str, changed: int, size: int, chosen: str) -> VideoClip:
    """By path, time and size of the file: another file of the same name is another film."""
    from video.decode import decode, probe
    from video.frames import sample

    settings, info = json.loads(chosen), probe(path)
    return decode(path, indices=sample(info, settings["sampler"], settings["frames"], **settings["options"]).tolist())
