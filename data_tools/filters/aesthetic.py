"""How pleasing a picture is, by an aesthetic predictor that comes in as a function."""

from __future__ import annotations

from .scored import ScoredPicture


class AestheticFilter(ScoredPicture):
    """`aesthetic.score`: LAION's predictors tell about 1 to 10."""

    kinds: dict[str, type] = {"aesthetic.score": float}
