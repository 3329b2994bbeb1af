"""FOIL (Shekhar et al. 2017, arXiv 1705.01359) as VALSE uses it (arXiv 2112.07566): does a caption fit, is a foiled one noticed?"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, parse_json, read_text
from .base import Judged
from .official import Flavor, Official, Scored, ratio, rows_of
from .sources import Published, published

FILE = Published(
    "foil-it.json",
    "6f6f0d7494271ed28f6e6f075c3ba36ba1bc45d00ecf7403920f060915130460",
    "https://github.com/Heidelberg-NLP/VALSE (data/foil-it.json, MIT); images: COCO val2014",
)
ASKED = 'Does this sentence describe the image? "{}"\nAnswer the question using yes or no.'
VOTES = 2  # of three people who found that the caption fits


class FoilBenchmark(Official):
    """The 943 of 1,000 items whose caption at least two people found to fit.

    data: foil-it.json or its folder; packaged. images: the folder of COCO's val2014 pictures. Responses are logits:
    {"scores": {id: [[caption does not fit, caption fits], [foil does not fit, foil fits]]}}, also without the outer key, as a JSON
    file or a folder with scores.json. Items whose two foil logits are equal are left out, as upstream does.

    A model that writes is asked about each sentence, and yes or no stands for the logits: this toolkit's choice, flagged.
    """

    name = "foil"
    main = "Pairwise accuracy acc_r"
    needs = "COCO val2014 pictures (images)"
    sampling = Sampling(max_tokens=8)
    items_metric = "FOIL det accuracy (acc)"
    items_scale = 100.0
    flavors = {"official": Flavor("Heidelberg-NLP/VALSE 2152d90 lxmert_valse_eval.py, foil-it")}

    def __init__(self, data: str | None = None, *, flavor: str | None = None, images: str | None = None, limit: int | None = None) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.images = images

    @cached_property
    def every(self) -> dict[str, dict[str, Any]]:
        """All items of the file by id. ValueError for a file of something else."""
        found = parse_json(published(self.name, FILE, self.data, self.flags), self.data or FILE.name)
        if (
            not found
            or not isinstance(found, dict)
            or not all(isinstance(item, dict) and "foil" in item and "mturk" in item for item in found.values())
        ):
            raise ValueError(f"{self.data} is no foil-it.json: expected items with caption, foil and mturk, by id")
        return found

    @cached_property
    def items(self) -> dict[str, dict[str, Any]]:
        """The items that count."""
        valid = [(key, item) for key, item in self.every.items() if item["mturk"]["caption"] >= VOTES]
        return dict(valid[: self.limit])

    def samples(self) -> list[Sample]:
        return [self._sample(key, item, side) for key, item in self.items.items() for side in ("caption", "foil")]

    def _sample(self, key: str, item: Mapping[str, Any], side: str) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / item["image_file"]))
        asked = (Part("image"), Part("text", ASKED.format(item[side])))
        return Sample(f"{key}/{side}", (Message("user", asked),), (picture,), meta={"id": key, "side": side, "fits": side == "caption"})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        said = rows_of([row.id for row in rows], responses, [row.meta for row in rows])
        self.flags.append("yes and no stand for logits: this toolkit's choice, upstream reads the logits of a matching head")
        logits = [_logits(str(row.text)) for row in said.rows]
        paired = zip(said.rows[::2], logits[::2], logits[1::2], strict=True)
        return Answers(tuple(Answer(n, row.key, [caption, foil]) for n, (row, caption, foil) in enumerate(paired, 1)), said.understood)

    def read(self, responses: Any) -> Answers:
        """scores.json, what it holds, or rows of id and logits."""
        if isinstance(responses, Mapping):
            return _logits_by_item(responses, "logits")
        if not isinstance(responses, str | Path):
            return super().read(responses)
        path = Path(responses)
        path = path / "scores.json" if path.is_dir() else path
        return _logits_by_item(parse_json(read_text(path), path), str(path))

    def report(self, answers: Answers) -> Scored:
        logits = {str(row.key): _checked(row) for row in answers.rows}
        if lacking := [key for key in self.items if key not in logits]:
            raise ValueError(f"{len(lacking)} of {len(self.items)} items have no logits, '{lacking[0]}' for one")
        flags: list[str] = []
        if extra := len(set(logits) - set(self.items)):
            flags.append(f"{extra} items that do not count were given and are left out")
        fits = detected = ranked = 0
        items: list[Judged] = []
        for key, item in self.items.items():
            (no_caption, caption), (no_foil, foil) = logits[key]
            if no_foil == foil:
                continue
            right = (no_caption < caption, no_foil >= foil)
            fits, detected, ranked = fits + right[0], detected + right[1], ranked + (caption > foil)
            items.append(Judged(f"{key}/caption", sum(right) / 2, str(item.get("classes", ""))))
        count = len(items)
        raw = {
            "FOIL det accuracy (acc)": 50 * ratio(fits + detected, count, "FOIL det accuracy", flags),
            "Caption fits p_c": 100 * ratio(fits, count, "Caption fits", flags),
            "FOIL detected p_f": 100 * ratio(detected, count, "FOIL detected", flags),
            "Pairwise accuracy acc_r": 100 * ratio(ranked, count, "Pairwise accuracy", flags),
        }
        told = {"raw": {**raw, "counted": [count, len(self.every)]}, "printed": _printed(raw, count, len(self.every))}
        return self.scored(count, {name: round_as_printed(value) for name, value in raw.items()}, flags=flags, items=tuple(items), **told)


def _logits_by_item(content: Any, where: str) -> Answers:
    scores = content.get("scores", content) if isinstance(content, Mapping) else None
    if not isinstance(scores, Mapping) or not scores:
        raise ValueError(f"{where} should hold logits by item id: {{id: [[not fit, fit], [not fit, fit]]}}")
    return Answers(tuple(Answer(n, key, value) for n, (key, value) in enumerate(scores.items(), 1)), f"{where}: logits by item")


def round_as_printed(value: float) -> float:
    """The number that `{value:.2f}` shows."""
    return float(f"{value:.2f}")


def _printed(raw: Mapping[str, float], count: int, every: int) -> tuple[str, ...]:
    lines = [f"    {name}: {value:.2f}" for name, value in raw.items()]
    return (f"foil_it sample {count}/{every}.", *(f"{line}," for line in lines[:-1]), lines[-1])


def _logits(said: str) -> list[float]:
    yes = said.strip().lower().startswith("yes")
    return [float(not yes), float(yes)]


def _single(value: float) -> float:
    """In single precision, as the logits of upstream's model are: ties depend on it."""
    return float(struct.unpack("f", struct.pack("f", value))[0])


def _checked(row: Answer) -> tuple[tuple[float, float], tuple[float, float]]:
    pairs = row.text
    if isinstance(pairs, list | tuple) and len(pairs) == 2 and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        numbers = [value for pair in pairs for value in pair]
        if all(isinstance(value, int | float) for value in numbers):
            a, b, c, d = map(_single, numbers)
            return (a, b), (c, d)
    raise ValueError(
        f"row {row.row}, item {row.key!r}: expected [[not fit, fit], [not fit, fit]] of caption and foil, found {str(pairs)[:80]}"
    )
