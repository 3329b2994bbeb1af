"""CCEval (Zhai et al. 2023, HallE-Switch and HallE-Control, arXiv 2310.01779): invented and uncovered objects, counted by a judge."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, parse_json, read_answers, read_text
from .base import Judged
from .judged import OWN_WORDS, JudgedBenchmark, Prompt
from .judges import CannedJudge, JudgeCall
from .official import Flavor, Scored, ratio, rows_of
from .sources import find

TRUTH = ("vg_info_100.json", "gt_objects_by_1_based_row.json", "vg_info.json")
REPLIES = ("judge_replies_by_caption.json", "judge_replies.json")
ORIGIN = "https://github.com/bronyayang/HallE_Control (vg_info_100.json, made of Visual Genome)"
LIST = re.compile(r"\[(.*?)\]")
MOST = 100  # captions that upstream reads
OBJECTS, INVENTED, UNCOVERED = "obj", "hall", "unc"  # what a judge is asked
PROMPTS = {OBJECTS: "objects.txt", INVENTED: "hallucinated.txt", UNCOVERED: "uncovered.txt"}
AUTHORS = {OBJECTS: "cap2obj_prompt_bracket.txt", INVENTED: "hallucination_prompt.txt", UNCOVERED: "coverage_prompt.txt"}


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


class CcevalBenchmark(JudgedBenchmark):
    """Captions with [uncertain] objects in brackets, read by a judge.

    data: the file of objects that are there, {"1": {"gt_objs": [...]}, ...}, or its folder. They belong to the caption of that ROW,
    counted from 1, whatever its image_id; only the first 100 captions are read. judge_replies: {"obj": {caption: reply}, "hall":
    {...}, "unc": {...}}, objects of the caption, hallucinated ones, uncovered ones; without `unc` coverage is left out. Both files are
    also looked for beside the responses; without replies a judge is asked. prompt: the folder of the authors' prompts
    (cap2obj_prompt_bracket.txt, hallucination_prompt.txt, coverage_prompt.txt), in place of this project's. images: pictures called by
    the row, `1.jpg`, or by the field `image` of the truth.

    A reply's list is what stands between its first [ and the next ] on one line; a reply without one, after a live judge was asked
    again, is an empty list.
    """

    name = "cceval"
    main = "CHAIRi"
    lower = frozenset(("CHAIRi", "CHAIRs", "CHAIRi_n"))
    needs = "vg_info_100.json (data), pictures of Visual Genome (images), a judge"
    sampling = Sampling(max_tokens=512)
    items_metric = "CHAIRs"
    reply_files = REPLIES
    texts = ("text", "caption", "answer", "response")
    flavors = {"official": Flavor("bronyayang/HallE_Switch cceval.py, and `converage` of HallE_Control's")}

    @cached_property
    def truth(self) -> dict[str, Any]:
        """Objects by 1-based row. ValueError where there is none."""
        path = find(self.data, TRUTH) or find(self.beside, TRUTH)
        if path is None:
            raise ValueError(f"no {TRUTH[0]} with the objects that are there; it comes from {ORIGIN}: give it as data")
        found = parse_json(read_text(path), path)
        if not isinstance(found, dict) or not all(isinstance(v, dict) and isinstance(v.get("gt_objs"), list) for v in found.values()):
            raise ValueError(f'{path} should hold {{"1": {{"gt_objs": [...]}}, ...}}')
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

    def read(self, responses: Any) -> Answers:
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
        said = self._said(rows, flags)
        hallucination = _hallucination(said, flags)
        blocks = {"compute_chair_vg": hallucination}
        if said[0].uncovered is not None:
            blocks["coverage"] = _coverage(said, flags)
        else:
            flags.append("no replies about uncovered objects: coverage is left out")
        items = tuple(Judged(str(at), float(bool(one.invented))) for at, one in enumerate(said, 1))
        line = "CHAIRs: {:.1f}\t CHAIRi: {:.1f}\t Sentence length: {:.1f}\t Avg objects: {:.1f}\t"
        told = line.format(*(hallucination[k] * s for k, s in (("CHAIRs", 100), ("CHAIRi", 100), ("sentence len", 1), ("avg objects", 1))))
        results = {**{name: value for block in blocks.values() for name, value in block.items()}, **blocks}
        return self.scored(len(rows), results, flags=flags, raw={**results, "judge": self.judging}, printed=(told,), items=items)

    def _said(self, rows: Sequence[Answer], flags: list[str]) -> list[Said]:
        """What the judge makes of each caption: first its objects, then which are not there, then what is there and was not named."""
        there = [self._there(at, row) for at, row in enumerate(rows, 1)]
        named = [_distinct(names) for names in self._lists(OBJECTS, rows, [{"cap": row.text} for row in rows])]
        bracketed = [_distinct(LIST.findall(row.text)) for row in rows]
        together = [_distinct([*a, *b]) for a, b in zip(named, bracketed, strict=True)]
        fields = [{"gt": str(names), "cap_obj": str(said)} for names, said in zip(there, named, strict=True)]
        invented = self._lists(INVENTED, rows, fields)
        uncovered: Sequence[list[str] | None] = [None] * len(rows)
        if self._asks_coverage():
            fields = [{"cap_obj": str(said), "gt": str(_distinct(names))} for names, said in zip(there, together, strict=True)]
            uncovered = [_some(names) for names in self._lists(UNCOVERED, rows, fields)]
        if "model" in self.judging:
            self.judging["prompts_sha256"] = {topic: self._prompt(topic).sha256 for topic in PROMPTS}
            flags += [OWN_WORDS] if self.prompt is None else []
        words = [len(row.text.split(" ")) for row in rows]
        parts = zip(named, bracketed, together, map(_some, invented), uncovered, map(_distinct, there), words, strict=True)
        return [Said(*part) for part in parts]

    def _there(self, at: int, row: Answer) -> list[str]:
        if not isinstance(row.text, str):
            raise ValueError(f"row {row.row}: the caption is {row.text!r}; expected a text")
        if str(at) not in self.truth:
            told = f"row {row.row}: there are no objects for row {at} (the truth has {len(self.truth)})"
            raise ValueError(f"{told}; upstream stops here without a score")
        there: list[str] = self.truth[str(at)]["gt_objs"]
        return there

    def _asks_coverage(self) -> bool:
        judge = self.chosen_judge()
        return not isinstance(judge, CannedJudge) or any(name.startswith(f"{UNCOVERED}/") for name in judge.replies)

    def _prompt(self, topic: str) -> Prompt:
        return Prompt(self.name, PROMPTS[topic], str(Path(self.prompt) / AUTHORS[topic]) if self.prompt else None)

    def _lists(self, topic: str, rows: Sequence[Answer], fields: Sequence[Mapping[str, str]]) -> list[list[str]]:
        prompt = self._prompt(topic)
        numbered = enumerate(zip(rows, fields, strict=True), 1)
        replies = self.ask(
            [JudgeCall(str(at), prompt.filled(filled), topic, row.text) for at, (row, filled) in numbered],
            lambda reply: LIST.search(reply) is not None,
        )
        return [listed(said[-1]) if said else [] for said in replies]


def listed(reply: str) -> list[str]:
    """The list of a reply, as upstream reads it: "[]" is one empty name."""
    found = LIST.search(reply)
    return [name.strip(" '") for name in found[1].split(",")] if found else []


def _distinct(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _some(names: Sequence[str]) -> list[str]:
    """Distinct names, without the empty one."""
    return [name for name in _distinct(names) if name]


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
