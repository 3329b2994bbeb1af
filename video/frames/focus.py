"""FOCUS (arXiv 2510.27280): stretches of film as arms of a bandit, so that a scorer sees few frames of a long one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from .base import filled
from .candidates import Candidates

LEAST_ARMS, LEAST_ZOOMED, MOST_ARMS = 8, 4, 32
EXTRA = 2  # random frames of each arm beside its middle
LEAST_VARIANCE = 1e-6


@dataclass
class _Arm:
    """The candidates first .. last, and the scores known of them."""

    first: int
    last: int
    known: dict[int, float] = field(default_factory=dict)
    bound: float = 0.0

    @property
    def middle(self) -> int:
        return (self.first + self.last) // 2


def focus(
    candidates: Candidates,
    n: int,
    *,
    every: float = 16.0,
    fine: float = 1.0,
    zoom: float = 0.25,
    uniform_share: float = 0.5,
    top_share: float = 0.2,
    temperature: float = 0.06,
    seed: int = 0,
    released: bool = False,
) -> np.ndarray:
    """Arms of about `every` seconds are scored at their middle and two random frames; the `zoom` share of them with the highest bound
    mean + sqrt(2 ln N var / n) + 3 ln N / n is scored every `fine` seconds, half evenly and half at random. A share `top_share` of the
    answer are the best frames scored, the rest is drawn from the best arms, by softmax(nearest known score / temperature)
    [R: NUS-HPC-AI-Lab/FOCUS focus.py and its defaults]. Chance follows `seed`.

    Mended: fine scores reach their arm (the source drops them), the last arm has the end of the film, scores need not lie within 0
    and 1, and there are always n frames. `released` leaves these as they are in the source, but for the number.
    """
    film = _Film(candidates, every, fine, released)
    chance = np.random.default_rng(seed)
    arms = film.arms()
    film.ask(arms, film.coarse(arms, chance), arms)
    zoomed = _best(arms)[: min(max(LEAST_ZOOMED, math.ceil(len(arms) * zoom)), len(arms))]
    seen = {place for arm in arms for place in arm.known}
    film.ask(arms, film.dense(zoomed, seen, uniform_share, chance), [] if released else arms)
    ranked = sorted(film.known.items(), key=lambda item: item[1], reverse=True)
    chosen = [place for place, _ in ranked[: round(top_share * min(n, len(ranked)))]]
    return filled(np.array(chosen + film.rest(arms, chosen, n, zoom, temperature, chance), np.int64), n, candidates.times)


def _best(arms: list[_Arm]) -> list[_Arm]:
    return sorted(arms, key=lambda arm: arm.bound, reverse=True)


class _Film:
    """The candidates with the lengths of arms and steps in frames, and all scores known so far."""

    def __init__(self, candidates: Candidates, every: float, fine: float, released: bool) -> None:
        self.candidates, self.released, self.count = candidates, released, len(candidates)
        rate = candidates.fps
        seconds = self.count / max(1.0, rate)
        arms = max(LEAST_ARMS, math.ceil(seconds / max(1e-6, every)))
        self.stride = max(1, self.count // arms)
        self.fine = min(max(1, round(fine * rate)), self.stride)
        self.half = max(1, round(max(1 / rate, max(1e-6, seconds / arms) / 2) * rate))
        self.known: dict[int, float] = {}

    def arms(self) -> list[_Arm]:
        number = max(1, self.count // self.stride)
        size = max(1, self.count // number)
        arms = [_Arm(i * size, min((i + 1) * size, self.count) - 1) for i in range(number)]
        if not self.released:
            arms[-1].last = self.count - 1
        return arms

    def coarse(self, arms: list[_Arm], chance: np.random.Generator) -> list[int]:
        found: list[int] = []
        for arm in arms:
            others = [place for place in range(arm.first, arm.last + 1) if place != arm.middle]
            extra = chance.choice(others, size=min(EXTRA, len(others)), replace=False).tolist() if others else []
            found += [arm.middle, *extra]
        return found

    def dense(self, zoomed: list[_Arm], seen: set[int], uniform_share: float, chance: np.random.Generator) -> list[int]:
        found: set[int] = set()
        for arm in zoomed:
            first, last = max(0, arm.middle - self.half), min(self.count - 1, arm.middle + self.half)
            size = last - first + 1
            wanted = max(1, size // self.fine)
            evenly = round(wanted * uniform_share)
            step = size / evenly if evenly else 0.0
            even = [(first + last) // 2] if size <= evenly else [min(first + int(i * step + step / 2), last) for i in range(evenly)]
            found |= {place for place in even[:evenly] if place not in seen}
            left = [place for place in range(first, last + 1) if place not in seen and place not in found]
            if wanted > evenly and left:
                found |= set(chance.choice(left, size=min(wanted - evenly, len(left)), replace=False).tolist())
        return sorted(found)

    def ask(self, arms: list[_Arm], places: list[int], told: list[_Arm]) -> None:
        """Scores of `places`; the arms of `told` learn theirs, and all bounds are drawn anew."""
        scores = dict(zip(places, self.candidates.scores(np.array(places, np.int64)).tolist(), strict=True))
        self.known |= scores
        for arm in told:
            arm.known |= {place: score for place, score in scores.items() if arm.first <= place <= arm.last}
        log = math.log(max(sum(len(arm.known) for arm in arms), 1))
        for arm in arms:
            values, number = list(arm.known.values()), len(arm.known)
            variance = max(float(np.var(values)), LEAST_VARIANCE)
            arm.bound = float(np.mean(values)) + math.sqrt(2 * log * variance / number) + 3 * log / number

    def rest(self, arms: list[_Arm], chosen: list[int], n: int, zoom: float, temperature: float, chance: np.random.Generator) -> list[int]:
        """What is missing to n, from the best arms in equal parts."""
        number = min(max(LEAST_ZOOMED, math.ceil(len(arms) * zoom)), MOST_ARMS, len(arms))
        missing, taken = n - len(chosen), set(chosen)
        for rank, arm in enumerate(_best(arms)[:number]):
            wanted = missing // number + (rank < missing % number)
            free = [place for place in range(arm.first, arm.last + 1) if place not in taken]
            if not wanted or not free:
                continue
            draw = chance.choice(len(free), size=min(wanted, len(free)), p=self._odds(arm, free, temperature), replace=False)
            taken |= {free[place] for place in draw}
        return sorted(taken - set(chosen))

    def _odds(self, arm: _Arm, free: list[int], temperature: float) -> np.ndarray:
        places = np.array(list(arm.known), np.float64)
        values = np.array(list(arm.known.values()))
        scores = np.array([values[np.abs(places - place).argmin()] for place in free])
        if self.released:
            scores = scores.clip(0.0, 1.0)
        low, high = scores.min(), scores.max()
        logits = ((scores - low) / (high - low) if high > low else np.ones_like(scores)) / max(1e-12, temperature)
        odds = np.exp(logits - logits.max())
        return odds / odds.sum()
