"""How a model is shown films: which frames, what the prompt says around them, which visual tokens are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from video.frames import SAMPLERS
from video.timestamps import clip_text
from video.tokens import Reducer, build_reducer

from ..options import nearest


@dataclass(frozen=True)
class VideoSettings:
    """`video:` of a model's config.

    sampler, frames, options: of `video.frames.sample` (frames None: as many as the rule gives). times: style or pattern of
    `video.timestamps.clip_text`. reducer: {"type": ..., options} of `video.tokens`, or None. at: it works on what the "adapter" gives, or
    on what the "tower" gives, whose tokens the adapter then maps one by one. attention: for reducers that need it, of the "last" layer that
    is read, or of the "next" one.

    Raises ValueError for anything else.
    """

    sampler: str = "uniform"
    frames: int | None = 8
    options: dict[str, Any] = field(default_factory=dict)
    times: str = "mm_ss"
    reducer: dict[str, Any] | None = None
    at: Literal["adapter", "tower"] = "adapter"
    attention: Literal["last", "next"] = "last"

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS:
            raise ValueError(f"unknown sampler '{self.sampler}' of films; known: {', '.join(SAMPLERS)}")
        if self.frames is not None and self.frames < 1:
            raise ValueError(f"a film is shown in at least 1 frame, got frames: {self.frames}")
        if self.at not in ("adapter", "tower") or self.attention not in ("last", "next"):
            raise ValueError(f"at is 'adapter' or 'tower', attention 'last' or 'next'; got {self.at!r} and {self.attention!r}")
        clip_text([], 0.0, self.times)
        self.built()

    def built(self) -> Reducer | None:
        """The reducer itself."""
        return None if self.reducer is None else build_reducer(self.reducer)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a config file."""
        return asdict(self)

    @classmethod
    def of(cls, described: Mapping[str, Any] | VideoSettings | None) -> VideoSettings:
        """From a config's dict; the defaults for None. ValueError for an unknown key, with the nearest known one."""
        if described is None or isinstance(described, VideoSettings):
            return described or cls()
        known = [one.name for one in fields(cls)]
        for key in described:
            if key not in known:
                raise ValueError(f"`video` of a model has no key '{key}'; {nearest(key, known)}")
        return cls(**described)

    def frame_tokens(self, frames: int, grid: tuple[int, int] | None, each: int) -> list[int]:
        """Placeholders of each of so many frames: what the reducer will keep, all that there are where it cannot tell before it runs, and
        `each` without a reducer. grid: rows and columns of what it works on."""
        reducer = self.built()
        if reducer is None or grid is None:
            return [each] * frames
        return reducer.tokens_out(frames, grid) or [grid[0] * grid[1]] * frames
