"""Videos for models that look at pictures: so many frames, evenly spaced, in the place of the video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import PIL.Image

    from data_tools.records import Message, Part, Sample


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


@lru_cache(maxsize=1)
def frames_of(path: str, frames: int) -> tuple[PIL.Image.Image, ...]:
    """Kept for the questions that follow about the same video. Raises BadImage."""
    import PIL.Image

    from data_tools.io import BadImage
    from video.decode import VideoError, open_video
    from video.frames import sample

    if not Path(path).is_file():
        raise BadImage("image_missing", f"no file {path[:300]}")
    try:
        with open_video(path) as video:
            clip = video.clip(indices=sample(video.info, "uniform", n=frames).tolist())
    except VideoError as error:
        raise BadImage("video_unreadable", str(error)) from error
    return tuple(PIL.Image.fromarray(frame.permute(1, 2, 0).numpy()) for frame in clip.frames)
