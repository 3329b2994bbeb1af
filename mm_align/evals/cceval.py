"""CCEval (Zhai et al. 2023, HallE-Switch and HallE-Control, arXiv 2310.01779): invented and uncovered objects, counted by a judge."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, read_answers, read_text
from .base import Judged
from .official import Flavor, Official, Scored, ratio, rows_of
from .sources import find

TRUTH = ("vg_info_100.json", "gt_objects_by_1_based_row.json", "vg_info.json")
REPLIES = ("judge_replies_by_caption.json", "judge_replies.json")
ORIGIN = "https://github.com/bronyayang/HallE_Control (vg_info_100.json, made of Visual Genome)"
MOST = 100  # captions that upstream reads


class Said(NamedTuple):
    """Of one caption: distinct objects outside brackets, in brackets, all of them, those that the judge calls hallucinated and
    uncovered (None where it was not asked), those that are there, and words split at single blanks."""

    named: list[str]
    bracketed: list[str]
    together: list[str]
    invented: list[str]
    uncovered: list[str] | None
    there: list[str]
    words: int


class CcevalBenchmark(Official):
    """Captions with [uncertain] objects in brackets, read by a judge.

    data: the file of objects that are there, {"1": {"gt_objs": [...]}, ...}, or its folder. They belong to the caption of that ROW,
    counted from 1, whatever its image_id; only the first 100 captions are read. judge_replies: {"obj": {caption: reply}, "hall":
    {...}, "unc": {...}}, objects of the caption, hallucinated ones, uncovered ones; without `unc` coverage is left out. Both files are
    also looked for beside the responses. images: pictures called by the row, `1.jpg`, or by the field `image` of the truth.

    A reply's list is what stands between its first [ and the next ] on one line; a reply without one is an empty list.
    """

    name = "cceval"
    main = "CHAIRi"
    lower = frozenset(("CHAIRi", "CHAIRs", "CHAIRi_n"))
    needs = "vg_info_100.json (data), pictures of Visual Genome (images), a judge"
    sampling = Sampling(max_tokens=512)
    items_metric = "CHAIRs"
    texts = ("text", "caption", "answer", "response")
    flavors = {"official": Flavor("bronyayang/HallE_Switch cceval.py, and `converage` of HallE_Control's")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.judge_replies, self.images, self.beside = judge_replies, images, ""

    @cached_property
    def truth(self) -> dict[str, Any]:
        """Objects by 1-based row. ValueError where there is none."""
        path = find(self.data, TRUTH) or find(self.beside or None, TRUTH)
        if path is None:
            raise ValueError(f"no {TRUTH[0]} with the objects that are there; it comes from {ORIGIN}: give it as data")
        found = _json(path)
        if not isinstance(found, dict) or not all(isinstance(v, dict) and isinstance(v.get("gt_objs"), list) for v in found.values()):
            raise ValueError(f'{path} should hold {{"1": {{"gt_objs": [...]}}, ...}}')
        return found

    @cached_property
    def replies(self) -> dict[str, dict[str, str]]:
        """The judge's replies by what was asked. ValueError where there are none."""
        path = find(self.judge_replies, REPLIES) or find(self.beside or None, REPLIES)
        if path is None:
            raise ValueError("cceval is judged by a model: give its replies (judge_replies)")
        found = _json(path)
        if not isinstance(found, dict) or not isinstance(found.get("obj"), dict) or not isinstance(found.get("hall"), dict):
            raise ValueError(f"{path} should hold replies by caption under `obj`, `hall` and `unc`")
        return found

    def samples(self) -> list[Sample]:
        return [self._sample(row) for row in list(self.truth)[: min(MOST, self.limit or MOST)]]

    def _sample(self, row: str) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / str(self.truth[row].get("image", f"{row}.jpg"))))
        asked = (Part("image"), Part("text", "Describe this image in detail."))
        return Sample(row, (Message("user", asked),), (picture,), meta={"image_id": row})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [row.meta for row in rows], text="text")

    def read(self, responses: str | Path | Sequence[Mapping[str, Any]]) -> Answers:
        if not isinstance(responses, str | Path):
            return super().read(responses)
        path = Path(responses)
        self.beside = str(path if path.is_dir() else path.parent)
        return read_answers(path / "captions.json" if path.is_dir() else path, texts=self.texts, keys=self.keys)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        rows = answers.rows[:MOST]
        if len(answers.rows) > MOST:
            flags.append(f"only the first {MOST} of {len(answers.rows)} captions are read, as upstream does")
        said = [self._said(at, row) for at, row in enumerate(rows, 1)]
        hallucination = _hallucination(said, flags)
        blocks = {"compute_chair_vg": hallucination}
        if "unc" in self.replies:
            blocks["coverage"] = _coverage(said, flags)
        else:
            flags.append("no replies about uncovered objects: coverage is left out")
        items = tuple(Judged(str(at), float(bool(one.invented))) for at, one in enumerate(said, 1))
        line = "CHAIRs: {:.1f}\t CHAIRi: {:.1f}\t Sentence length: {:.1f}\t Avg objects: {:.1f}\t"
        told = line.format(*(hallucination[k] * s for k, s in (("CHAIRs", 100), ("CHAIRi", 100), ("sentence len", 1), ("avg objects", 1))))
        results = {**{name: value for block in blocks.values() for name, value in block.items()}, **blocks}
        return self.scored(len(rows), results, flags=flags, raw=results, printed=(told,), items=items)

    def _said(self, at: int, row: Answer) -> Said:
        if not isinstance(row.text, str):
            raise ValueError(f"row {row.row}: the caption is {row.text!r}; expected a text")
        if str(at) not in self.truth:
            raise ValueError(
                f"row {row.row}: there are no objects for row {at} (the truth has {len(self.truth)}); upstream stops here without a score"
            )
        named = _distinct(listed(self._reply("obj", row)))
        bracketed = _distinct(re.findall(r"\[(.*?)\]", row.text))
        invented = [name for name in _distinct(listed(self._reply("hall", row))) if name]
        uncovered = [name for name in _distinct(listed(self._reply("unc", row))) if name] if "unc" in self.replies else None
        there = _distinct(self.truth[str(at)]["gt_objs"])
        return Said(named, bracketed, _distinct([*named, *bracketed]), invented, uncovered, there, len(row.text.split(" ")))

    def _reply(self, what: str, row: Answer) -> str:
        reply = self.replies[what].get(row.text)
        if not isinstance(reply, str):
            raise ValueError(f"row {row.row}: no judge's reply under `{what}` for its caption {row.text[:60]!r}")
        return reply


def listed(reply: str) -> list[str]:
    """The list of a reply, as upstream reads it: "[]" is one empty name."""
    found = re.search(r"\[(.*?)\]", reply)
    return [name.strip(" '") for name in found[1].split(",")] if found else []


def _distinct(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _hallucination(said: Sequence[Said], flags: list[str]) -> dict[str, float]:
    n = len(said)
    invented, together, named = (
        sum(len(part) for part in parts) for parts in zip(*((s.invented, s.together, s.named) for s in said), strict=True)
    )
    return {
        "CHAIRs": ratio(sum(bool(s.invented) for s in said), n, "CHAIRs", flags),
        "CHAIRi": ratio(invented, together, "CHAIRi", flags),
        "CHAIRi_n": ratio(invented, named, "CHAIRi_n", flags),
        "sentence len": sum(s.words for s in said) / n,
        "avg brack objects": sum(len(s.bracketed) for s in said) / n,
        "avg objects": together / n,
        "avg all objects": named / n,
    }


def _coverage(said: Sequence[Said], flags: list[str]) -> dict[str, float]:
    n, there = len(said), sum(len(s.there) for s in said)
    uncovered = ratio(sum(len(s.uncovered or ()) for s in said), there, "Uncoveri", flags)
    return {
        "Uncovers": sum(bool(s.uncovered) for s in said) / n,
        "Uncoveri": uncovered,
        "Coveri": 1 - uncovered,
        "sentence len": sum(s.words for s in said) / n,
        "avg gt objects": there / n,
        "avg cap objects": sum(len(s.together) for s in said) / n,
    }


def _json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
