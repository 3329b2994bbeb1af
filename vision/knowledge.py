"""What an image-text encoder knows of each picture's entity: similarity, rank, discrimination, ambiguity; splits and selections by them.

Source-stated ("Beyond Sight", arXiv 2411.16824): VE-Known and VE-Unknown are told apart by metrics on CLIP-style image-text
similarity, and one selection is called High Discrimination Selection. Everything else here, the formulas, the thresholds and the
other selections, is this toolkit's choice.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Split = Literal["known", "unknown", "uncertain"]
TEMPERATURE = 0.01  # CLIP's logit scale of 100
PROMPTS = ("{}.", "a photo of {}.", "a picture of {}.")


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Measures of n pictures against C candidate names, each a tensor [n].

    With s(x, c) = <f(x), g(c)> of unit vectors, y the true entity and p(.|x) = softmax of s / T over the candidates:
    similarity s(x, y). rank 1 + #{c != y: s(x, c) > s(x, y)}. discrimination s(x, y) - max over c != y of s(x, c); above 0
    exactly when the rank is 1 and no other name ties. ambiguity H(p(.|x)) / log C, in [0, 1]. posterior p(y|x).
    """

    similarity: torch.Tensor
    rank: torch.Tensor
    discrimination: torch.Tensor
    ambiguity: torch.Tensor
    posterior: torch.Tensor

    def __len__(self) -> int:
        return len(self.rank)


def measure(
    images: torch.Tensor, names: torch.Tensor, truth: torch.Tensor, *, temperature: float = TEMPERATURE, chunk: int = 256
) -> Knowledge:
    """Unit vectors of pictures [n, D] and of candidate names [C, D], and each picture's true candidate [n] -> measures [n].

    `chunk` pictures are compared at a time and it changes no result: products are summed in float64 and rounded to float32,
    so that equal names tie exactly wherever they stand. Names must be free of aliases (see `candidates`): of two equal names
    no margin is above 0. Raises ValueError for shapes that do not fit, vectors that are not of unit length, fewer than two names.
    """
    _check(images, names, truth, temperature)
    columns = names.double().T  # [D, C]
    pieces = [
        _measure_chunk(images[i : i + chunk].double() @ columns, truth[i : i + chunk].to(names.device), temperature)
        for i in range(0, len(images), chunk)
    ]
    return Knowledge(*(torch.cat([piece[k] for piece in pieces]) for k in range(5)))


def _measure_chunk(products: torch.Tensor, truth: torch.Tensor, temperature: float) -> tuple[torch.Tensor, ...]:
    s = products.float()  # [m, C]
    row = torch.arange(len(s), device=s.device)
    own = s[row, truth]  # [m]
    log_p = torch.log_softmax(s / temperature, dim=1)
    entropy = torch.special.entr(log_p.exp()).sum(1)
    rank = 1 + (s > own[:, None]).sum(1)
    others = s.clone()
    others[row, truth] = -torch.inf
    ambiguity = (entropy / np.log(s.shape[1])).clamp(0, 1)
    return own, rank, own - others.amax(1), ambiguity, log_p[row, truth].exp()


def _check(images: torch.Tensor, names: torch.Tensor, truth: torch.Tensor, temperature: float) -> None:
    if images.ndim != 2 or names.ndim != 2 or images.shape[1] != names.shape[1]:
        raise ValueError(f"pictures are [n, D] and names [C, D] of one width, got {tuple(images.shape)} and {tuple(names.shape)}")
    if len(names) < 2:
        raise ValueError(f"knowledge of a name is measured against others: at least two candidate names are needed, got {len(names)}")
    if truth.shape != images.shape[:1] or len(truth) == 0:
        raise ValueError(
            f"each of {len(images)} pictures needs the index of its true name (and there must be one), got {tuple(truth.shape)}"
        )
    if int(truth.min()) < 0 or int(truth.max()) >= len(names):
        raise ValueError(f"true names are indices 0 to {len(names) - 1}, got {int(truth.min())} to {int(truth.max())}")
    if temperature <= 0:
        raise ValueError(f"the temperature must be above 0, got {temperature}")
    for what, vectors in (("picture", images), ("name", names)):
        off = (vectors.double().norm(dim=1) - 1).abs()
        if not bool((off < 1e-3).all()):  # also false for NaN
            raise ValueError(f"{what} embeddings must be unit vectors; number {int((~(off < 1e-3)).nonzero()[0])} is not")


# Splits


def split(knowledge: Knowledge, *, known_quantile: float = 0.5, rank_limit: int = 10, ambiguity_quantile: float = 0.75) -> list[Split]:
    """ "known", "unknown" or "uncertain" for each picture.

    known: rank 1 alone (discrimination above 0) and discrimination at or above `known_quantile` of such pictures. unknown:
    rank above `rank_limit`, or, of the pictures that are neither, ambiguity at or above `ambiguity_quantile` among them. The
    middle band is uncertain and belongs to neither side of a comparison. Ties at a threshold fall on one side together.
    """
    for name, value in (("known_quantile", known_quantile), ("ambiguity_quantile", ambiguity_quantile)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {value}")
    rank, margin, ambiguity = (t.cpu().double().numpy() for t in (knowledge.rank, knowledge.discrimination, knowledge.ambiguity))
    first = (rank == 1) & (margin > 0)  # a name that ties with the true one is not told from it
    known = first & (margin >= _quantile(margin[first], known_quantile))
    far = rank > rank_limit
    rest = ~known & ~far
    unknown = far | (rest & (ambiguity >= _quantile(ambiguity[rest], ambiguity_quantile)))
    return ["known" if k else "unknown" if u else "uncertain" for k, u in zip(known, unknown, strict=True)]


def _quantile(values: np.ndarray, share: float) -> float:
    return float(np.quantile(values, share)) if len(values) else np.inf


# Selections

SELECTIONS = {
    "hds": "high discrimination: the largest margins",
    "hss": "high similarity: the most similar to their own name",
    "lds": "low discrimination: the smallest margins",
    "random": "uniform, by a hash of seed and id",
}


def select(
    knowledge: Knowledge,
    ids: Sequence[str],
    entities: Sequence[str],
    how: str,
    *,
    fraction: float = 0.5,
    per_entity: int | None = None,
    seed: int = 0,
) -> list[int]:
    """Positions of the chosen pictures, ascending: of every entity the same number, whatever `how` (a key of `SELECTIONS`).

    Of an entity with m pictures max(1, floor(fraction x m)) are taken, or `per_entity`, entities with fewer being left out
    of every selection alike. The counts depend on `entities` alone, so entities, and with them every level above, are
    represented equally often in each selection, and a comparison of selections is not one of class balance.
    Equal values are ordered by id: the choice does not depend on the order of the rows.
    """
    if how not in SELECTIONS:
        raise ValueError(f"unknown selection '{how}'; known: {', '.join(SELECTIONS)}")
    if not len(ids) == len(entities) == len(knowledge):
        raise ValueError(f"ids and entities are one for each of {len(knowledge)} pictures, got {len(ids)} and {len(entities)}")
    if per_entity is None and not 0 < fraction <= 1:
        raise ValueError(f"fraction is above 0 and at most 1, got {fraction}")
    order = _keys(knowledge, ids, how, seed)
    members: dict[str, list[int]] = {}
    for position, entity in enumerate(entities):
        members.setdefault(entity, []).append(position)
    chosen = [sorted(group, key=lambda i: order[i])[: _quota(len(group), fraction, per_entity)] for group in members.values()]
    return sorted(position for group in chosen for position in group)


def _quota(size: int, fraction: float, per_entity: int | None) -> int:
    if per_entity is not None:
        return per_entity if size >= per_entity else 0
    return max(1, int(fraction * size + 1e-9))


def _keys(knowledge: Knowledge, ids: Sequence[str], how: str, seed: int) -> list[tuple[float | str, str]]:
    """What to sort by, the first ones being chosen."""
    if how == "random":
        return [(hashlib.sha256(f"{seed}\0{i}".encode()).hexdigest(), i) for i in ids]
    values = (knowledge.similarity if how == "hss" else knowledge.discrimination).tolist()
    sign = 1 if how == "lds" else -1
    return [(sign * value, i) for value, i in zip(values, ids, strict=True)]


# Names


@dataclass(frozen=True, slots=True)
class Candidates:
    """`names`: the distinct candidate names. `of`: every spelling that was given -> its index in `names`."""

    names: list[str]
    of: dict[str, int]

    def truth(self, names: Iterable[str]) -> torch.Tensor:
        """[n] indices of the candidates that these spellings mean."""
        return torch.tensor([self.of[name] for name in names], dtype=torch.long)


def candidates(names: Iterable[str], aliases: Mapping[str, Sequence[str]] | None = None) -> Candidates:
    """Distinct candidates of the spellings in `names`: those equal after `normalised`, or joined by `aliases`, are one.

    aliases: a name -> its other names; the name given there speaks for the group, else the first spelling in sorted order, so
    that the order of the rows does not matter. Raises ValueError for a name without any letter or digit.
    """
    groups = _Groups()
    spellings = sorted(set(names))
    for spelling in spellings:
        groups.add(_key(spelling))
    speakers: dict[str, str] = {}
    for name, others in sorted((aliases or {}).items()):
        for other in others:
            groups.join(_key(name), _key(other))
    for name in [*sorted(aliases or {}), *spellings]:
        speakers.setdefault(groups.root(_key(name)), name)
    present = sorted({groups.root(_key(spelling)) for spelling in spellings})
    index = {root: i for i, root in enumerate(present)}
    return Candidates([speakers[root] for root in present], {s: index[groups.root(_key(s))] for s in spellings})


class _Groups:
    """Keys that mean the same; a group's root is its smallest key."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def add(self, key: str) -> None:
        self.parent.setdefault(key, key)

    def root(self, key: str) -> str:
        self.add(key)
        while self.parent[key] != key:
            key = self.parent[key]
        return key

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        self.parent[high] = low


def normalised(name: str) -> str:
    """Case, accents, punctuation, underscores and spacing taken out: "Tour_Eiffel", "tour  eiffel." -> "tour eiffel"."""
    plain = (c for c in unicodedata.normalize("NFKD", name.casefold()) if not "\u0300" <= c <= "\u036f")  # Latin accents only
    letters = "".join(c if c.isalnum() or unicodedata.category(c)[0] == "M" else " " for c in plain)
    return unicodedata.normalize("NFKC", " ".join(letters.split()))


def _key(name: str) -> str:
    key = normalised(name)
    if not key:
        raise ValueError(f"{name!r} is no name: it has no letter or digit")
    return key


def name_embeddings(
    encode: Callable[[list[str]], torch.Tensor], names: Sequence[str], prompts: Sequence[str] = PROMPTS, *, batch: int = 256
) -> torch.Tensor:
    """Unit vectors [C, D] of names: each prompt's unit vector from `encode` (texts -> [m, D]), averaged over `prompts`, renormalised.

    Every prompt holds one {} for the name; ValueError otherwise.
    """
    wrong = [prompt for prompt in prompts if prompt.count("{}") != 1]
    if wrong or not prompts:
        raise ValueError(f"a prompt holds one {{}} where the name goes, got {wrong[0]!r}" if wrong else "at least one prompt is needed")
    total = sum(_encoded(encode, [prompt.replace("{}", name) for name in names], batch) for prompt in prompts)
    return torch.nn.functional.normalize(torch.as_tensor(total), dim=-1)


def _encoded(encode: Callable[[list[str]], torch.Tensor], texts: list[str], batch: int) -> torch.Tensor:
    return torch.cat([encode(texts[i : i + batch]).float() for i in range(0, len(texts), batch)])
