"""Film rows: an MP4 with its questions and, under `sceneworld`, the whole truth."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ..records import Sample, Source
from .films import DURATION, VERSION, Film, film_questions, sample_film
from .render import render


def make_film(seed: int, split: str, index: int, duration: float = DURATION) -> tuple[dict[str, Any], Film]:
    """Row `index` of (seed, split) without its video, and its film; any row can be made alone. ValueError for an unknown split."""
    rng = random.Random(f"films-{VERSION}-{seed}-{split}-{index}")
    film = sample_film(rng, split, duration)
    truth = {"family": "films", "version": VERSION, "split": split, "film": film.to_dict(), "questions": film_questions(film)}
    return {"id": f"sw-films{VERSION}-{split}-{seed}-{index:07d}", "sceneworld": truth}, film


def film_rows(n: int, seed: int = 0, split: str = "train") -> Iterator[Sample]:
    """`n` samples, streaming; `meta["video"]` is where the film belongs, which `write_mp4` makes."""
    for index in range(n):
        row, _ = make_film(seed, split, index)
        source = Source(f"sceneworld-films-{split}", index, "jsonl", None, (), "id")
        yield Sample(row["id"], (), (), None, source, {"id": row["id"], "video": f"videos/{row['id']}.mp4", **row})


def frames(film: Film, times: Sequence[float]) -> list[Image.Image]:
    """The pictures at `times`, in seconds."""
    return [render(film.scene(time)) for time in times]


def write_mp4(film: Film, path: Path, fps: int = 8) -> None:
    """The film as H.264 in MP4. ImportError without PyAV."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = film.size
        stream.pix_fmt, stream.options = "yuv444p", {"crf": "12", "preset": "veryfast", "threads": "1"}
        for number, picture in enumerate(frames(film, [k / fps for k in range(round(film.duration * fps))])):
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
