"""`mmalign video sample`: choose frames of a film by any rule or selector and lay them out on a contact sheet with their times."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from ...choices import Keys
from ...config import UserError
from .film import FilmConfig, Stretch, cut, told_plainly
from .scoring import ScorerConfig, candidates_of

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    from video.decode import Reader

SHEETS = (".png", ".jpg", ".jpeg", ".webp")


class VideoSampleConfig(FilmConfig, ScorerConfig):
    """Which film, how many frames, chosen how, shown how."""

    frames: int | None = Field(None, ge=1, description="frames to choose (default: 16; all of a --plan or --at)")
    method: Annotated[str, Keys("video/frames/__init__.py", "SAMPLERS", "SELECTORS")] = Field(
        "uniform", description="a sampler (by time alone) or a selector (looks at the frames)"
    )
    query: str | None = Field(None, description="what the frames are asked for; selectors by relevance need it")
    rate: float = Field(1.0, gt=0, description="candidates a second that a selector chooses among; more where that gives too few")
    options: dict[str, Any] = Field({}, description="options of the method, such as options.depth=3")
    at: list[float] = Field([], description="the frames shown at these seconds, in place of a method")
    plan: Path | None = Field(None, description="a plan of `mmalign video plan --out`: its frames, in place of a method")
    out: Path = Field(description="contact sheet to write: .png, .jpg or .webp")
    columns: int | None = Field(None, ge=1, description="pictures a row")
    width: int = Field(240, ge=32, le=2000, description="of a picture on the sheet")
    backend: Annotated[str, Keys("video/decode/__init__.py", "DECODERS", besides=("auto",))] = Field("auto", description="what decodes")
    json_output: bool = Field(False, description="one JSON object on standard output", json_schema_extra={"flag": "json"})
    overwrite: bool = Field(False, description="replace a sheet that is there")


class Chosen(NamedTuple):
    """Frames of the film, int64 [n], and of how many candidates they were; scores: of each, where a selector asked for them."""

    places: np.ndarray
    among: int
    how: str
    scores: list[float] | None = None


def run(config: VideoSampleConfig) -> int:
    """Write the sheet and say what is on it. Raises UserError."""
    from data_tools.disk.durable import write_atomic
    from video.decode import open_video

    out = _out(config)
    if config.video is None:
        raise UserError("no video: mmalign video sample film.mp4 --frames 32 --out sheet.png")
    with told_plainly(config.video), open_video(config.video, config.backend, network=config.network) as video:
        stretch = cut(video.info, config.start, config.end)
        chosen = choose(config, video, stretch)
        sheet = draw(config, video, chosen)
    held = io.BytesIO()
    sheet.save(held, format={".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(out.suffix.lower(), "PNG"))
    write_atomic(out, held.getvalue())
    print(json.dumps(_row(config, stretch, chosen)) if config.json_output else "\n".join(_lines(config, stretch, chosen)))
    return 0


def _out(config: VideoSampleConfig) -> Path:
    out = config.out.expanduser()
    if out.suffix.lower() not in SHEETS:
        raise UserError(f"--out {config.out} should name a {', '.join(SHEETS)} file")
    if not out.parent.is_dir():
        raise UserError(f"--out {config.out}: there is no folder {out.parent}")
    if out.exists() and not config.overwrite:
        raise UserError(f"--out {config.out} is there already; --overwrite replaces it")
    return out


# Which frames


def choose(config: VideoSampleConfig, video: Reader, stretch: Stretch) -> Chosen:
    """By a plan, by seconds, or by a method. Raises UserError for more than one of them, and for more frames than there are."""
    from video.frames import SAMPLERS

    if (config.plan is not None) + bool(config.at) > 1 or (config.frames and (config.plan or config.at)):
        raise UserError("give one of --frames with a method, --at and --plan")
    if config.plan is not None:
        return _planned(config.plan, stretch)
    if config.at:
        return Chosen(_at(config.at, stretch), stretch.info.n_frames, "seconds asked for")
    wanted = config.frames or min(16, stretch.part.n_frames)
    if wanted > stretch.part.n_frames:
        raise UserError(f"{config.video}: {wanted} frames were asked for and there are {stretch.part.n_frames}")
    return _sampled(config, stretch, wanted) if config.method in SAMPLERS else _selected(config, video, stretch, wanted)


def _planned(path: Path, stretch: Stretch) -> Chosen:
    from video.clip import FramePlan

    try:
        plan = FramePlan.from_dict(json.loads(path.expanduser().read_text(encoding="utf-8"))["plan"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--plan {path} is no plan of `mmalign video plan --out`: {error}") from error
    if not plan.times:
        raise UserError(f"--plan {path} was made without a video, so it names no frames")
    return Chosen(_at(list(plan.times), stretch), stretch.info.n_frames, f"plan {path.name}")


def _at(seconds: list[float], stretch: Stretch) -> np.ndarray:
    from video.decode.base import wanted_indices

    return wanted_indices(stretch.info, None, seconds, None)


def _sampled(config: VideoSampleConfig, stretch: Stretch, wanted: int) -> Chosen:
    from video.frames import sample

    if config.query is not None or config.encoder is not None:
        raise UserError(f"the sampler {config.method!r} looks at times alone; --query and --encoder are for a selector, such as aks")
    return Chosen(sample(stretch.part, config.method, wanted, **config.options) + stretch.first, stretch.part.n_frames, config.method)


def _selected(config: VideoSampleConfig, video: Reader, stretch: Stretch, wanted: int) -> Chosen:
    """Among candidates at `rate`, of which there are at least twice the frames wanted where the film has them."""
    from video.frames import sample, select

    count = min(stretch.part.n_frames, max(math.ceil(stretch.part.duration * config.rate), 2 * wanted))
    places = sample(stretch.part, "uniform", count) + stretch.first
    candidates = candidates_of(config, video, places, config.query)
    try:
        found = select(candidates, config.method, wanted, **config.options)
    except ValueError as error:
        if candidates.ask_score is None and "scorer" in str(error):
            raise UserError(f"{config.method} goes by how near frames are to a query: give --encoder NAME and --query TEXT") from error
        raise
    scores = candidates.scores(found).tolist() if candidates.asked else None
    return Chosen(places[found], count, f"{config.method}{'' if config.encoder else ' by colour'}", scores)


# The sheet


def draw(config: VideoSampleConfig, video: Reader, chosen: Chosen) -> PIL.Image.Image:
    """The frames, decoded small, a few at a time."""
    from .contact_sheet import contact_sheet

    info = video.info
    height = max(1, round(config.width * info.height / info.width))
    scores: list[float | None] = [*chosen.scores] if chosen.scores else [None] * len(chosen.places)
    labels = [
        f"{time:.2f} s" + ("" if score is None else f"  {score:.3f}") for time, score in zip(info.times[chosen.places], scores, strict=True)
    ]
    title = f"{Path(info.path).name}: {len(chosen.places)} of {chosen.among} frames, {chosen.how}" + (
        f", “{config.query}”" if config.query else ""
    )
    return contact_sheet(
        _pictures(video, chosen.places, (height, config.width)),
        labels,
        title=title,
        width=config.width,
        height=height,
        columns=config.columns,
    )


def _pictures(video: Reader, places: np.ndarray, size: tuple[int, int]) -> Iterator[PIL.Image.Image]:
    from PIL import Image

    for clip in video.pieces(places.tolist(), size=size):
        for frame in clip.frames.numpy():
            yield Image.fromarray(frame.transpose(1, 2, 0))


def _row(config: VideoSampleConfig, stretch: Stretch, chosen: Chosen) -> dict[str, Any]:
    return {
        "video": stretch.info.path,
        "how": chosen.how,
        "among": chosen.among,
        "indices": chosen.places.tolist(),
        "times": stretch.info.times[chosen.places].tolist(),
        "scores": chosen.scores,
        "out": str(config.out),
    }


def _lines(config: VideoSampleConfig, stretch: Stretch, chosen: Chosen) -> list[str]:
    times = " ".join(f"{time:.2f}" for time in stretch.info.times[chosen.places])
    return [
        repr(stretch.info),
        f"{len(chosen.places)} of {chosen.among} frames, {chosen.how}",
        f"times: {times}",
        f"written to {config.out}",
    ]
