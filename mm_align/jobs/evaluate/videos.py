"""How a model is shown a benchmark's videos: as so many pictures, evenly spaced, which any model can be, or as its own config says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ..video_processor import video_processor

if TYPE_CHECKING:
    import PIL.Image

    from data_tools.records import Message, Part, Sample

OWN = "own"


class Way(NamedTuple):
    """shown: a sample -> as the model sees it. frames: what tells this way from others, for what was answered before."""

    shown: Callable[[Sample], Sample]
    frames: Any


def way_of(frames: int | str, backend: Any) -> Way:
    """By --frames. UserError where a model is to be shown videos by a config that says nothing of them."""
    if frames != OWN:
        return Way(partial(with_frames, frames=int(frames)), frames)
    from ...models.films import filmed

    processor = video_processor(backend, "--frames own")
    return Way(lambda sample: filmed(sample, processor), processor.video_settings.to_dict())


def has_video(sample: Sample) -> bool:
    return any(part.kind == "video" for message in sample.messages for part in message.parts)


def with_frames(sample: Sample, frames: int) -> Sample:
    """The sample with `frames` pictures for each of its videos, fewer for a shorter one. Raises BadImage where one cannot be decoded."""
    from data_tools.records import Image, Part

    if not has_video(sample):
        return sample
    given = iter(sample.images)
    images: list[Image] = []

    def shown(message: Message) -> Iterator[Part]:
        for part in message.parts:
            if part.kind == "text":
                yield part
                continue
            image = next(given)
            found = [image] if part.kind == "image" else [Image(pixels=frame) for frame in frames_of(str(image.path), frames)]
            images.extend(found)
            yield from (Part("image") for _ in found)

    messages = tuple(replace(message, parts=tuple(shown(message))) for message in sample.messages)
    return replace(sample, messages=messages, images=tuple(images))


def frames_of(path: str, frames: int) -> tuple[PIL.Image.Image, ...]:
    """Raises BadImage."""
    from data_tools.io import BadImage
    from video.pictures import shown

    try:
        return shown(path, "uniform", frames).pictures
    except FileNotFoundError as error:
        raise BadImage("video_missing", f"no file {path[:300]}") from error
    except (ValueError, OSError) as error:
        raise BadImage("video_unreadable", str(error)) from error
