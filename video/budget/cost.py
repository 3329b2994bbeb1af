"""What T frames of M tokens cost: positions of the window, FLOPs, seconds or bytes, the vision tower included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True)
class Cost:
    """c(T, M) = fixed + per_frame T + per_position P + per_pair P^2, with P = T (M + text_a_frame) + text positions.

    unit: of c. per_frame: what the vision tower takes for a frame. per_position: what each position of the language model takes.
    per_pair: attention. text_a_frame: text tokens that a frame brings along (its time stamp). text: all other text of the prompt.

    Raises ValueError for negative parts, or when nothing costs anything.
    """

    unit: str
    per_position: float = 0.0
    per_frame: float = 0.0
    per_pair: float = 0.0
    fixed: float = 0.0
    text_a_frame: float = 0.0
    text: float = 0.0

    def __post_init__(self) -> None:
        for name in ("per_position", "per_frame", "per_pair", "fixed", "text_a_frame", "text"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value >= 0):
                raise ValueError(f"{name} of a cost is a number from 0 on, got {value!r}")
        if not (self.per_position or self.per_frame or self.per_pair):
            raise ValueError("a cost that grows neither with frames nor with positions limits nothing")

    def positions(self, frames: Any, tokens: Any) -> Any:
        """Positions of the language model."""
        return np.asarray(frames) * (np.asarray(tokens) + self.text_a_frame) + self.text

    def __call__(self, frames: Any, tokens: Any) -> Any:
        return self.of(np.asarray(frames), self.positions(frames, tokens))

    def of(self, frames: Any, positions: Any) -> Any:
        """The same where the positions, text and all, have been counted."""
        return self.fixed + self.per_frame * frames + self.per_position * positions + self.per_pair * positions**2

    def most_frames(self, tokens: Any, limit: float) -> np.ndarray:
        """The real T at which T frames of `tokens` cost just `limit`; below 0 where not even the text fits."""
        width = np.asarray(tokens, dtype=np.float64) + self.text_a_frame
        square = self.per_pair * width**2
        line = self.per_frame + self.per_position * width + 2 * self.per_pair * width * self.text
        rest = self.fixed + self.per_position * self.text + self.per_pair * self.text**2 - limit
        root = np.sqrt(np.maximum(line**2 - 4 * square * rest, 0.0))
        return np.where(rest > 0, -1.0, -2 * rest / (line + root))  # the form that keeps its digits as `square` goes to 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Cost:
        """The inverse of `to_dict`."""
        return cls(**row)


class Sizes(NamedTuple):
    """A transformer: layers, width, the width of its MLP, matrices of that MLP (3 where gated), width of keys and of values together
    per layer over the width (2 for plain attention, less for grouped heads)."""

    layers: int
    width: int
    mlp_width: int
    mlp_matrices: int = 2
    kv_share: float = 2.0

    @property
    def weights(self) -> float:
        """Weights that every position passes through; embeddings and the output layer are not among them."""
        return self.layers * (self.width**2 * (2 + self.kv_share) + self.mlp_matrices * self.width * self.mlp_width)


# Published sizes, of the released Opt-Visor checkpoint's parts.
SIGLIP_SO400M = Sizes(27, 1152, 4304)
QWEN2_7B = Sizes(28, 3584, 18944, 3, 2 * 512 / 3584)


def window(text_a_frame: float = 0.0, text: float = 0.0) -> Cost:
    """Positions: the window of the language model."""
    return Cost("positions", per_position=1.0, text_a_frame=text_a_frame, text=text)


def flops(tower: Sizes, patches: int, language: Sizes, text_a_frame: float = 0.0, text: float = 0.0) -> Cost:
    """FLOPs of a forward pass: two a weight and position, and attention, whole in the tower, causal in the language model.

    patches: positions of the tower for a frame, whatever of them is kept afterwards.
    """
    in_tower = 2 * tower.weights * patches + 4 * tower.layers * tower.width * patches**2
    return Cost("FLOPs", 2 * language.weights, in_tower, 2 * language.layers * language.width, 0.0, text_a_frame, text)


def cache_bytes(language: Sizes, bytes_a_number: int = 2, text_a_frame: float = 0.0, text: float = 0.0) -> Cost:
    """Bytes of the keys and values that the language model keeps."""
    each = language.layers * language.kv_share * language.width * bytes_a_number
    return Cost("bytes", each, text_a_frame=text_a_frame, text=text)


def fit_seconds(frames: Any, tokens: Any, seconds: Any, text_a_frame: float = 0.0, text: float = 0.0) -> Cost:
    """A cost in seconds from timings: least squares in relative error, no part negative. Raises ValueError for fewer than 4 timings."""
    t, m, took = (np.asarray(column, dtype=np.float64) for column in (frames, tokens, seconds))
    if len(took) < 4:
        raise ValueError(f"a model of seconds needs at least 4 timings, got {len(took)}")
    positions = t * (m + text_a_frame) + text
    columns = np.stack([positions, t, positions**2, np.ones_like(t)], axis=1) / took[:, None]
    position, frame, pair, fixed = map(float, _not_negative(columns, np.ones_like(took)))
    return Cost("seconds", position, frame, pair, fixed, text_a_frame, text)


def _not_negative(columns: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares without negative parts, by trying every choice of columns: there are fifteen."""
    scale = np.linalg.norm(columns, axis=0)
    best, least = np.zeros(columns.shape[1]), np.inf
    for size in range(1, columns.shape[1] + 1):
        for chosen in map(list, combinations(range(columns.shape[1]), size)):
            found = np.linalg.lstsq(columns[:, chosen] / scale[chosen], wanted, rcond=None)[0] / scale[chosen]
            error = float(((columns[:, chosen] @ found - wanted) ** 2).sum())
            if found.min() >= 0 and error < least - 1e-12 and chosen != [columns.shape[1] - 1]:
                best, least = np.zeros(columns.shape[1]), error
                best[chosen] = found
    return best
