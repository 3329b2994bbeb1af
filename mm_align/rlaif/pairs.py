"""Pairs: of the answers to one prompt those whose scores differ, a few for each picture, balanced in length."""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from data_tools.disk.durable import write_atomic
from data_tools.io import BadImage
from data_tools.io.jsonl import dump
from data_tools.io.refusals import RowError
from data_tools.preference import write_pairs as write_preferences
from data_tools.records import PreferencePair, Response, Sample

from ..config import JobConfig
from .files import answered, prompt_text, scores
from .stage import Gone, Places, StageSummary

RATIOS = tuple(step / 50 for step in range(50))  # 0, 0.02 ... 0.98
IMAGE_KEY = "ds_question_id"  # RLAIF-V's name of a picture among its questions


class Pairs(JobConfig):
    """Which answers are paired [RLAIF-V 1.5]."""

    k: int = Field(2, ge=1, description="pairs drawn for each key, at most")
    per: Literal["instruction", "image"] = Field("instruction", description="what is a key: a prompt, or a picture with all its prompts")
    min_difference: float = Field(1.0, gt=0, description="smallest difference of scores")
    balance: bool = Field(True, description="drop pairs whose chosen answer is much the shorter one, until lengths agree on average")
    discard_reappearing: bool = Field(
        False, description="as the reference code: of a prompt that comes again further down, the earlier answers are discarded"
    )
    drop_truncated: bool = Field(False, description="answers that ended at the token limit are in no pair")
    seed: int = Field(0, description="of the drawing")


class Pair(NamedTuple):
    """Two answers to one prompt, the better one first, and the difference of their scores."""

    sample: Sample
    chosen: Response
    rejected: Response
    margin: float


def make_pairs(folder: Path, options: Pairs) -> tuple[list[Pair], list[Pair]]:
    """(pairs, pairs that the length balance dropped), in the order of the prompts."""
    drawn = draw(paired(folder, options), options)
    kept = balanced(drawn) if options.balance else drawn
    held = set(map(_ids, kept))
    return kept, [pair for pair in drawn if _ids(pair) not in held]


def _ids(pair: Pair) -> tuple[str, str]:
    return pair.chosen.id, pair.rejected.id


def paired(folder: Path, options: Pairs) -> Iterator[Pair]:
    """Every pair of answers to one prompt whose scores differ enough. Equal texts and empty answers are never paired."""
    score_of = {score.subject_id: score.value for score in scores(folder)}
    again = reappearing(folder) if options.discard_reappearing else set()
    for sample, answers in answered(folder):
        if sample.id in again:
            continue
        usable = [a for a in answers if a.id in score_of and a.text.strip() and not (options.drop_truncated and a.truncated)]
        for one, other in combinations(usable, 2):
            difference = score_of[one.id] - score_of[other.id]
            if abs(difference) >= options.min_difference and one.text.strip() != other.text.strip():
                better, worse = (one, other) if difference > 0 else (other, one)
                yield Pair(sample, better, worse, abs(difference))


def reappearing(folder: Path) -> set[str]:
    """Prompts whose picture and question come again after others: the reference code starts their group anew and keeps only the last."""
    again: set[str] = set()
    before: tuple[str, str] | None = None
    group: list[str] = []
    groups: dict[tuple[str, str], list[str]] = {}
    for sample, _ in answered(folder):
        key = (image_key(sample), prompt_text(sample))
        if key != before:
            again.update(groups.get(key, ()))
            group = groups[key] = []
        group.append(sample.id)
        before = key
    return again


def draw(pairs: Iterable[Pair], options: Pairs) -> list[Pair]:
    """At most k of each key, uniformly without replacement: those of the smallest seeded hashes. In the order they came in."""
    held: dict[str, list[tuple[int, int, Pair]]] = {}
    for place, pair in enumerate(pairs):
        of_key = held.setdefault(_key(pair, options), [])
        entry = (-_rank(pair, options.seed), place, pair)
        if len(of_key) < options.k:
            heapq.heappush(of_key, entry)
        else:
            heapq.heappushpop(of_key, entry)
    return [pair for _, _, pair in sorted((entry for of_key in held.values() for entry in of_key), key=lambda entry: entry[1])]


def _key(pair: Pair, options: Pairs) -> str:
    return pair.sample.id if options.per == "instruction" else image_key(pair.sample)


def image_key(sample: Sample) -> str:
    """What a picture is called among its questions: the data's own key, else where the picture is."""
    named = sample.meta.get(IMAGE_KEY)
    return str(named) if named is not None else "|".join(image.path or "" for image in sample.images)


def _rank(pair: Pair, seed: int) -> int:
    text = f"{seed}\n{pair.chosen.id}\n{pair.rejected.id}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def balanced(pairs: Sequence[Pair]) -> list[Pair]:
    """RLAIF-V's `get_pairs_filter_shorten`.

    For every ratio r of 0, 0.02 ... 0.98 the pairs with (words rejected - words chosen) / words rejected <= r are kept; of these sets
    the one with the least |mean words chosen - mean words rejected| / mean words rejected is taken, the first of equal ones.
    It only ever drops pairs whose chosen answer is the shorter one.
    """
    words = [(len(pair.chosen.text.split()), len(pair.rejected.text.split())) for pair in pairs]
    best: tuple[float, list[int]] | None = None
    for ratio in RATIOS:
        kept = [place for place, (chosen, rejected) in enumerate(words) if (rejected - chosen) / rejected <= ratio]
        if not kept:
            continue
        chosen_sum, rejected_sum = (sum(words[place][side] for place in kept) for side in (0, 1))
        gap = abs(chosen_sum - rejected_sum) / rejected_sum
        if best is None or gap < best[0]:
            best = (gap, kept)
    return [pairs[place] for place in best[1]] if best else []


def write_pairs(kept: Sequence[Pair], dropped: Sequence[Pair], places: Places) -> StageSummary:
    """pairs.jsonl; in its quarantine the pairs that the length balance dropped, and those that cannot be written."""
    gone = [Gone(_name(preference(pair)), "length_balance") for pair in dropped]

    def refused(record: PreferencePair, error: RowError | BadImage) -> None:
        gone.append(Gone(_name(record), error.reason, error.detail))

    n = write_preferences(places.output, map(preference, kept), refused=refused)
    write_atomic(places.quarantine, b"".join(dump(one.line()) for one in gone))
    reasons = dict(sorted(Counter(one.reason for one in gone).items()))
    return StageSummary(n + len(gone), n, len(gone), n, reasons, fresh=n)


def _name(record: PreferencePair) -> str:
    told = record.sample.meta["feedback"]
    return f"{told['chosen_id']} > {told['rejected_id']}"


def preference(pair: Pair) -> PreferencePair:
    """The pair as a record; `meta` tells which answers it is made of."""
    told: Mapping[str, Any] = {"chosen_id": pair.chosen.id, "rejected_id": pair.rejected.id, "model": pair.chosen.model}
    sample = Sample(pair.sample.id, pair.sample.messages, pair.sample.images, None, None, {**pair.sample.meta, "feedback": told})
    return PreferencePair(sample, pair.chosen.text, pair.rejected.text, pair.margin)
