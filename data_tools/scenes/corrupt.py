"""Web-like damage to true captions, each with its kind and severity, as fixed in the spec."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from . import languages
from .captions import Mention, Plan, noun_phrase, plan_caption, words
from .spec import COLORS, PLACES, SHAPES, SPEC
from .world import OPPOSITE, Scene, relation, sample_scene

STOCK = (
    "Royalty free vector image", "Stock photo", "Buy now and save", "Free shipping on all orders", "Click here to subscribe",
    "Best price online", "Download free wallpaper", "Shop the new collection", "Sign up for our newsletter", "Limited offer today",
)  # fmt: skip
SITES = ("Shutterpix", "PicHub", "Imagezone", "Photomart", "Clipworld")
FILE_STEMS = ("IMG", "DSC", "DSCN", "P", "untitled", "screenshot", "image", "photo", "scan", "final")
FILE_ENDS = (".jpg", ".png", ".jpeg", ".JPG", ".webp")


@dataclass(frozen=True, slots=True)
class Poor:
    """A damaged caption. `severity` is in (0, 1]; 1 says nothing true or nothing at all."""

    text: str
    kind: str
    severity: float


def corrupt(scene: Scene, kind: str, rng: random.Random) -> Poor | None:
    """A caption of `scene` with damage of `kind`, or None when the scene has no room for it (one object cannot be left out)."""
    if kind not in _KINDS:
        raise ValueError(f"corruption kind is {kind!r}; expected one of {', '.join(_KINDS)}")
    return _KINDS[kind](scene, rng)


def _changed_mentions(scene: Scene, rng: random.Random, attribute: str, values: tuple[str, ...]) -> tuple[str, float]:
    """Change `attribute` of one mention, or sometimes two, to a (colour, shape) the scene does not hold."""
    plan = plan_caption(scene, rng)
    present = {(i.color, i.shape) for i in scene.items}
    mentions = list(plan.mentions)
    changes = 2 if len(mentions) > 1 and rng.random() < 0.3 else 1
    for k in rng.sample(range(len(mentions)), changes):
        options = [_with(mentions[k], attribute, value) for value in values]
        mentions[k] = rng.choice([m for m in options if (m.color, m.shape) not in present])
    return words(replace(plan, mentions=tuple(mentions))), changes / len(mentions)


def _with(mention: Mention, attribute: str, value: str) -> Mention:
    return replace(mention, shape=value) if attribute == "shape" else replace(mention, color=value)


def _wrong_object(scene: Scene, rng: random.Random) -> Poor:
    changed = _changed_mentions(scene, rng, "shape", SHAPES)
    return Poor(changed[0], "wrong_object", round(0.35 + 0.3 * changed[1], 3))


def _wrong_color(scene: Scene, rng: random.Random) -> Poor:
    changed = _changed_mentions(scene, rng, "color", COLORS)
    return Poor(changed[0], "wrong_color", round(0.3 + 0.3 * changed[1], 3))


def _wrong_count(scene: Scene, rng: random.Random) -> Poor | None:
    """One group's number is off by one; mostly too low, because captions that say "two" must not be suspicious by themselves."""
    plan = plan_caption(scene, rng, "counts")
    mentions = list(plan.mentions)
    step = -1 if rng.random() < 0.7 else 1
    groups = [k for k, m in enumerate(mentions) if 1 <= m.count + step <= 5]
    if not groups:
        return None
    k = rng.choice(groups)
    mentions[k] = replace(mentions[k], count=mentions[k].count + step)
    return Poor(words(replace(plan, mentions=tuple(mentions))), "wrong_count", 0.4)


def _wrong_relation(scene: Scene, rng: random.Random) -> Poor | None:
    plan = plan_caption(scene, rng, rng.choice(("places", "relation")))
    if plan.style == "relation":
        flipped = OPPOSITE[plan.relation]
        if _holds(scene, plan.mentions[0], flipped, plan.mentions[1]):
            return None
        return Poor(words(replace(plan, relation=flipped)), "wrong_relation", 0.4)
    mentions = _misplaced(plan.mentions, {i.place for i in scene.items}, rng)
    if mentions is None:
        return None
    return Poor(words(replace(plan, mentions=mentions)), "wrong_relation", round(0.3 + 0.4 / len(mentions), 3))


def _holds(scene: Scene, first: Mention, said: str, second: Mention) -> bool:
    """Whether the relation is true of any two objects of the scene that look as mentioned (twins make a flip true at times)."""
    ones, others = ([i for i in scene.items if (i.color, i.shape) == (m.color, m.shape)] for m in (first, second))
    return any(a is not b and relation(a, b) == said for a in ones for b in others)


def _misplaced(mentions: tuple[Mention, ...], taken: set[str], rng: random.Random) -> tuple[Mention, ...] | None:
    """Two different objects change places, or a lone one moves to an empty place."""
    pairs = [
        (a, b) for a in range(len(mentions)) for b in range(a)
        if (mentions[a].color, mentions[a].shape) != (mentions[b].color, mentions[b].shape)
    ]  # fmt: skip
    moved = list(mentions)
    if pairs:
        a, b = rng.choice(pairs)
        moved[a], moved[b] = replace(moved[a], place=moved[b].place), replace(moved[b], place=moved[a].place)
        return tuple(moved)
    empty = [p for p in PLACES if p not in taken]
    if not empty:
        return None
    k = rng.randrange(len(moved))
    moved[k] = replace(moved[k], place=rng.choice(empty))
    return tuple(moved)


def _missing_detail(scene: Scene, rng: random.Random) -> Poor | None:
    plan = plan_caption(scene, rng)
    total = sum(m.count for m in plan.mentions)
    if len(plan.mentions) < 2:
        return None
    kept = list(plan.mentions)
    least = 2 if plan.style == "relation" else 1
    if len(kept) <= least:
        return None
    for _ in range(rng.randint(1, min(2, len(kept) - least))):
        kept.pop(rng.randrange(least if plan.style == "relation" else 0, len(kept)))
    left_out = 1 - sum(m.count for m in kept) / total
    return Poor(words(replace(plan, mentions=tuple(kept))), "missing_detail", round(0.2 + 0.4 * left_out, 3))


def _other_image(scene: Scene, rng: random.Random) -> Poor | None:
    other = sample_scene(rng, scene.split())
    here, there = (Counter((i.color, i.shape) for i in s.items) for s in (scene, other))
    if (here & there).total() > len(other.items) // 2:
        return None
    return Poor(words(plan_caption(other, rng)), "other_image", 0.9)


def _file_name(scene: Scene, rng: random.Random) -> Poor:
    number = "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 5)))
    return Poor(rng.choice(FILE_STEMS) + rng.choice(("_", "-", "")) + number + rng.choice(FILE_ENDS), "file_name", 0.8)


def _boilerplate(scene: Scene, rng: random.Random) -> Poor:
    pieces = rng.sample(STOCK, rng.randint(1, 3))
    if rng.random() < 0.4:
        item = rng.choice(scene.items)
        pieces.insert(0, f"{item.color} {item.shape}")
    if rng.random() < 0.5:
        pieces.append(rng.choice(SITES))
    return Poor(rng.choice((" | ", " - ", ", ")).join(pieces), "boilerplate", 0.75)


def _broken_grammar(scene: Scene, rng: random.Random) -> Poor | None:
    tokens = words(replace(plan_caption(scene, rng), intro=0)).rstrip(".").lower().replace(",", "").split()
    kept = [t for t in tokens if t not in ("a", "an", "the") and rng.random() > 0.1]
    if len(kept) < 2:
        return None
    for _ in range(max(2, len(kept) // 2)):
        a = rng.randrange(len(kept) - 1)
        kept[a], kept[a + 1] = kept[a + 1], kept[a]
    text = " ".join(kept)
    return Poor(text, "broken_grammar", 0.5)


def _repetition(scene: Scene, rng: random.Random) -> Poor:
    item = rng.choice(scene.items)
    phrase = noun_phrase(Mention(item.shape, item.color))
    return Poor(" ".join([phrase] * rng.randint(3, 5)), "repetition", 0.6)


def _empty(scene: Scene, rng: random.Random) -> Poor:
    return Poor("", "empty", 1.0)


def _other_language(scene: Scene, rng: random.Random) -> Poor:
    plan: Plan = plan_caption(scene, rng, "places")
    return Poor(languages.translate(plan.mentions, rng.choice(languages.NAMES)), "other_language", 0.55)


_KINDS: dict[str, Callable[[Scene, random.Random], Poor | None]] = {
    "wrong_object": _wrong_object, "wrong_color": _wrong_color, "wrong_count": _wrong_count, "wrong_relation": _wrong_relation,
    "missing_detail": _missing_detail, "other_image": _other_image, "file_name": _file_name, "boilerplate": _boilerplate,
    "broken_grammar": _broken_grammar, "repetition": _repetition, "empty": _empty, "other_language": _other_language,
}  # fmt: skip
assert set(_KINDS) == set(SPEC["corruptions"])
