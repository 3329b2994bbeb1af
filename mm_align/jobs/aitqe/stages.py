"""The stages of `mmalign aitqe data`: scores of raw captions, contrasting captions, their scores, training rows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.aitqe import construction as made
from data_tools.aitqe.parser import Reply
from data_tools.calls import Generate, Sampling
from data_tools.records import Sample

from ...rlaif.files import joined, read_rows, samples
from ...rlaif.pictures import prints, with_pictures
from ...rlaif.stage import Done, Gone, Stage, Unit
from .config import AitqeDataConfig

TOO_LONG = made.Refused("prompt_too_long", "the model has no room for an answer behind this prompt")


@dataclass(frozen=True)
class Scored:
    """A line of scored.jsonl or rescored.jsonl: a caption, the judge's scores of it, the phrasing it was asked in."""

    id: str
    caption: str
    reply: Reply
    phrasing: int

    @property
    def overall(self) -> float:
        return self.reply.overall or 0.0

    def to_dict(self) -> dict[str, Any]:
        scores, why = self.reply.all_scores(), dict(self.reply.explanations)
        return {"id": self.id, "caption": self.caption, "scores": scores, "explanations": why, "phrasing": self.phrasing}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Scored:
        aspects = {key: score for key, score in d["scores"].items() if key != "overall" and score is not None}
        return cls(d["id"], d["caption"], Reply("ok", None, d["scores"]["overall"], aspects, d["explanations"]), d["phrasing"])


@dataclass(frozen=True)
class Contrasting:
    """A line of contrasts.jsonl: the new caption of a row, and what was asked for."""

    id: str
    caption: str
    style: str
    phrasing: int

    def to_dict(self) -> dict[str, Any]:
        return {"id": self.id, "caption": self.caption, "style": self.style, "phrasing": self.phrasing}

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Contrasting:
        return cls(d["id"], d["caption"], d["style"], d["phrasing"])


class Item(NamedTuple):
    """A row of the source as a stage sees it; `caption` is the one that is asked about."""

    sample: Sample
    caption: str
    good: bool = False


# Stages that ask the judge


def scored_stage(root: Path, config: AitqeDataConfig, generate: Generate, model: Mapping[str, Any], block: int) -> Stage:
    """samples.jsonl -> scored.jsonl."""
    items = (Item(sample, sample.caption or "") for sample in samples(root))
    return _scoring("scored", items, config, generate, model, block)


def rescored_stage(root: Path, config: AitqeDataConfig, generate: Generate, model: Mapping[str, Any], block: int) -> Stage:
    """contrasts.jsonl -> rescored.jsonl: a worse caption that is not scored as bad, or a better one not as good, leaves."""
    items = (Item(sample, contrast.caption, raw.overall >= config.good_from) for sample, raw, contrast in contrasted(root))
    return _scoring("rescored", items, config, generate, model, block, turns=True)


def _scoring(
    name: str, items: Iterable[Item], config: AitqeDataConfig, generate: Generate, model: Mapping[str, Any], block: int, turns: bool = False
) -> Stage:
    """turns: `Item.good` says of the caption before; this one has to lie on the other side."""
    templates = config.scoring.prompts or made.SCORING
    options = {"options": config.scoring.model_dump(), "templates": list(templates), "attempts": config.attempts, "seed": config.seed}
    settings = {**options, "model": dict(model), **({"good_from": config.good_from} if turns else {})}

    def ask(item: Item, attempt: int) -> made.Question:
        return made.scoring_question(f"{item.sample.id}/{name}", config.seed, attempt, templates)

    def read(item: Item, text: str, question: made.Question) -> Done | made.Refused:
        reply = made.scored(text, partial=config.scoring.partial)
        if isinstance(reply, made.Refused):
            return reply
        line = Scored(item.sample.id, item.caption, reply, question.phrasing)
        if turns and (line.overall >= config.good_from) == item.good:
            reason = "contrast_not_worse" if item.good else "contrast_not_better"
            return Done(gone=[Gone(line.id, reason, f"scored {line.overall:g}: {item.caption[:200]}")])
        return Done([line.to_dict()])

    sampling = Sampling(temperature=config.scoring.temperature, max_tokens=config.scoring.max_tokens, seed=config.seed)
    return Stage(name, settings, lambda: map(_unit, items), _asking(generate, sampling, config.attempts, ask, read), block)


def contrasts_stage(root: Path, config: AitqeDataConfig, generate: Generate, model: Mapping[str, Any], block: int) -> Stage:
    """scored.jsonl -> contrasts.jsonl: a worse caption for a good one, a better one for a poor one."""
    given, shares = config.contrast, config.contrast.shares()
    settings = {
        "options": given.model_dump(), "attempts": config.attempts, "seed": config.seed, "good_from": config.good_from,
        "templates": [made.WORSE, made.BETTER], "model": dict(model),
    }  # fmt: skip

    def ask(item: Item, attempt: int) -> made.Question:
        if item.good:
            return made.worse_question(item.sample.id, config.seed, attempt, shares)
        return made.better_question(item.sample.id, config.seed, attempt)

    def read(item: Item, text: str, question: made.Question) -> Done | made.Refused:
        caption = made.new_caption(text, item.caption, better=not item.good, max_similarity=given.max_similarity)
        if isinstance(caption, made.Refused):
            return caption
        return Done([Contrasting(item.sample.id, caption, question.style, question.phrasing).to_dict()])

    items = (Item(sample, raw.caption, raw.overall >= config.good_from) for sample, raw in with_scores(root))
    sampling = Sampling(temperature=given.temperature, max_tokens=given.max_tokens, seed=config.seed)
    return Stage("contrasts", settings, lambda: map(_unit, items), _asking(generate, sampling, config.attempts, ask, read), block)


def _unit(item: Item) -> Unit:
    depends = {"caption": item.caption, "good": item.good, "pictures": prints(item.sample)}
    return Unit((item.sample.id,), depends, item)


def _asking(
    generate: Generate,
    sampling: Sampling,
    attempts: int,
    ask: Callable[[Item, int], made.Question],
    read: Callable[[Item, str, made.Question], Done | made.Refused],
) -> Callable[[Sequence[Item]], list[Done]]:
    """Work of a stage: each row is asked, and while its answer is refused asked again in another phrasing, with another seed."""

    def work(items: Sequence[Item], pictured: Sequence[Sample]) -> list[Done]:
        results: list[Done | made.Refused] = [TOO_LONG] * len(items)
        left = list(range(len(items)))
        for attempt in range(attempts):
            questions = [ask(items[i], attempt) for i in left]
            shown = [replace(pictured[i], messages=(q.prompt.message(items[i].caption),)) for i, q in zip(left, questions, strict=True)]
            answers = generate(shown, replace(sampling, seed=sampling.seed + attempt)) if shown else []
            if len(answers) != len(left):
                raise ValueError(f"the model gave {len(answers)} answers to {len(left)} questions; it must give one each, in order")
            for i, question, answer in zip(left, questions, answers, strict=True):
                results[i] = TOO_LONG if answer.no_room else read(items[i], answer.text, question)
            left = [i for i in left if isinstance(results[i], made.Refused)]
        return [_done(item, found) for item, found in zip(items, results, strict=True)]

    return lambda items: with_pictures(items, lambda item: item.sample, lambda item: [item.sample.id], work)


def _done(item: Item, found: Done | made.Refused) -> Done:
    return Done(gone=[Gone(item.sample.id, *found)]) if isinstance(found, made.Refused) else found


# The stage that asks nobody


def rows_stage(root: Path, config: AitqeDataConfig) -> Stage:
    """rescored.jsonl -> aitqe.jsonl: two training rows a picture."""

    def units() -> Iterator[Unit]:
        stays = _even(root, config) if config.equal_kinds else None
        for number, (sample, raw, contrast, after) in enumerate(rescored(root)):
            held = {"sample": sample.to_dict(), "raw": raw.to_dict(), "contrast": contrast.to_dict(), "after": after.to_dict()}
            kept = stays is None or stays[number]
            yield Unit((sample.id,), {**held, "kept": kept}, (sample, raw, contrast, after, kept))

    def work(items: Sequence[Any]) -> list[Done]:
        return [_rows(root, config.good_from, *item) for item in items]

    return Stage("aitqe", {"good_from": config.good_from}, units, work)


def _rows(root: Path, good_from: float, sample: Sample, raw: Scored, contrast: Contrasting, after: Scored, kept: bool) -> Done:
    if not kept:
        return Done(gone=[Gone(sample.id, "more_of_this_kind", "the other side has fewer pictures, and equal_kinds is asked for")])
    good = raw.overall >= good_from
    rows = made.rows_of(made.Judged(raw.caption, raw.reply), made.Judged(contrast.caption, after.reply), good)
    told = {"style": contrast.style, "phrasing": raw.phrasing, "phrasing_after": after.phrasing}
    here = replace(sample, images=tuple(replace(i, path=_from(root, i.path or "")) for i in sample.images))
    return Done([made.training_sample(row, here, told).to_dict() for row in rows])


def _from(root: Path, path: str) -> str:
    """A local picture's path as it is found from the folder of the file."""
    return path if "://" in path else Path(os.path.relpath(path, root)).as_posix()


def _even(root: Path, config: AitqeDataConfig) -> list[bool]:
    from data_tools.aitqe.construction.rows import evenly

    told = [(sample.id, raw.overall >= config.good_from) for sample, raw, *_ in rescored(root)]
    order = sorted(range(len(told)), key=lambda k: hashlib.sha256(f"{config.seed}\0{told[k][0]}".encode("utf-8", "surrogatepass")).digest())
    return evenly([good for _, good in told], order)


# Lines of the files, with the rows that they belong to


def with_scores(root: Path) -> Iterator[tuple[Sample, Scored]]:
    """The rows whose raw caption was scored."""
    lines = read_rows(root, "scored", Scored)
    return ((sample, raw[0]) for sample, raw in joined(samples(root), lines, lambda s: s.id, lambda r: r.id, "scored") if raw)


def contrasted(root: Path) -> Iterator[tuple[Sample, Scored, Contrasting]]:
    """Of these, the rows that have a contrasting caption."""
    lines = read_rows(root, "contrasts", Contrasting)
    found = joined(with_scores(root), lines, lambda left: left[0].id, lambda r: r.id, "contrasts")
    return ((*left, new[0]) for left, new in found if new)


def rescored(root: Path) -> Iterator[tuple[Sample, Scored, Contrasting, Scored]]:
    """Of these, the rows whose contrasting caption was scored and lies on the other side."""
    lines = read_rows(root, "rescored", Scored)
    found = joined(contrasted(root), lines, lambda left: left[0].id, lambda r: r.id, "rescored")
    return ((*left, after[0]) for left, after in found if after)
