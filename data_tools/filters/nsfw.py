"""How probably a picture is not safe for work, by a classifier that comes in as a function."""

from __future__ import annotations

from .scored import ScoredPicture


class NsfwFilter(ScoredPicture):
    """`nsfw.score`: a probability, 0 to 1."""

    kinds: dict[str, type] = {"nsfw.score": float}
