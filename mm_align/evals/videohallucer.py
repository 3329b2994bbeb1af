"""VideoHallucer (Wang et al. 2024, arXiv 2406.16338): pairs of a basic and a hallucinated question, right only together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, parse_json, read_rows
from .base import Judged
from .official import Flavor, Official, Scored, ratio, rows_of
from .sources import Published, published

ORIGIN = "https://github.com/patrick-tssn/VideoHallucer (MIT; its README links the videos)"
FILES = {  # upstream's name of a type -> its questions
    "obj_rel": Published("object_relation.json", "a60dfe2290e1f6d35bfc6e2c7ff8794a2591b6eca2b043575ab0762037eec7fd", ORIGIN),
    "temporal": Published("temporal.json", "97acacdfd510b1cfb73ae69df1007f1489d5542fb9f7c18ba2601fe0f253129e", ORIGIN),
    "semantic": Published("semantic_detail.json", "5e6c8b874faab604d7a6f8bd59012a1aae253c1b6ffc0dab316d2f301dfb3ad9", ORIGIN),
    "interaction": Published("interaction.json", "88c1c83d2bb303ada52c3563253fe26041d8463d97b953c33da4bacac9c5ab7f", ORIGIN),
    "fact": Published("external_factual.json", "dbba8cf7bed776de2e7548899174f98e24432f7472c42b1516d83d98def795e2", ORIGIN),
    "nonfact": Published("external_nonfactual.json", "72cb44b19c97d55670608ec6d2b39bfcc1de5a9155c2fb80bcee0284dff2ee36", ORIGIN),
    "factdet": Published("fact_detect.json", "b65ce0d9729d057d92c2937c7888839691d087a1afc7a821ae8569dfe3278f0d", ORIGIN),
}
SIX = tuple(name for name in FILES if name != "factdet")
BIASED = tuple(name for name in SIX if name != "interaction")  # the types of upstream's bias script
SIDES = {"basic": "basic_predict", "hallucination": "halluc_predict"}
ANSWERS = "answers"  # of a row that was read from upstream's saved pairs
SUFFIX = "\nAnswer the question using 'yes' or 'no'."


class Pair(NamedTuple):
    """What was answered to a basic and a hallucinated question, and what is right."""

    at: int
    basic: str
    hallucinated: str
    answers: tuple[str, str]

    @property
    def basic_right(self) -> bool:
        return says(self.answers[0], self.basic)

    @property
    def hallucinated_right(self) -> bool:
        return says(self.answers[1], self.hallucinated)


class VideoHallucerBenchmark(Official):
    """Responses are a folder with a file a type, TYPE*.json or TYPE*.jsonl (obj_rel, temporal, semantic, interaction, fact, nonfact,
    factdet), or one such file: rows of {"i": 0-based pair, "basic_predict", "halluc_predict"}, or upstream's saved pairs with
    `predict`, which bring their answers along. data: the folder of question files; packaged. images: the folder of the videos, in
    upstream's folders or flat.

    A prediction is right if it holds the answer as a whole word, in any case ("yes and no" is right twice).
    """

    name = "videohallucer"
    main = "all_of_six_types_unweighted_mean.accuracy"
    needs = "videos (images)"
    sampling = Sampling(max_tokens=16)
    items_metric = "pairs.accuracy"
    flavors = {"official": Flavor("patrick-tssn/VideoHallucer ae4c2f2 evaluations/ (evaluation_utils, _bias, _halluc)")}

    def __init__(self, data: str | None = None, *, flavor: str | None = None, images: str | None = None, limit: int | None = None) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.images = images

    @cached_property
    def questions(self) -> dict[str, list[dict[str, Any]]]:
        """The pairs of each type."""
        return {name: _pairs(file, published(self.name, file, self.data, self.flags))[: self.limit] for name, file in FILES.items()}

    def samples(self) -> list[Sample]:
        return [sample for kind, pairs in self.questions.items() for at, pair in enumerate(pairs) for sample in self._asked(kind, at, pair)]

    def _asked(self, kind: str, at: int, pair: Mapping[str, Any]) -> Iterator[Sample]:
        root = Path(self.images or ".")
        for side in SIDES:
            name = pair[side]["video"]
            folder = FILES[kind].name.removesuffix(".json")
            path = next((p for p in (root / name, root / folder / "videos" / name, root / folder / name) if p.exists()), root / name)
            asked = (Part("video"), Part("text", pair[side]["question"] + SUFFIX))
            meta = {"kind": kind, "i": at, "side": side, "answer": pair[side]["answer"]}
            yield Sample(f"{kind}/{at}/{side}", (Message("user", asked),), (Image(path=str(path)),), meta=meta)

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        said = rows_of([row.id for row in rows], responses, [row.meta for row in rows]).rows
        told = [
            {"kind": basic.fields["kind"], "i": basic.fields["i"], "basic_predict": basic.text, "halluc_predict": other.text}
            for basic, other in zip(said[::2], said[1::2], strict=True)
        ]
        return Answers(tuple(Answer(n, row["i"], None, row) for n, row in enumerate(told, 1)), f"{len(rows)} responses")

    def read(self, responses: Any) -> Answers:
        if not isinstance(responses, str | Path):
            told = [dict(row) for row in responses]
            return Answers(tuple(Answer(n, row.get("i"), None, row) for n, row in enumerate(told, 1)), f"{len(told)} rows")
        path = Path(responses)
        paths = sorted(path.glob("*.json*")) if path.is_dir() else [path]
        of = {kind: file for file in paths if (kind := _kind(file)) is not None}
        if not of:
            raise ValueError(f"{path}: no predictions; expected files called {', '.join(FILES)}")
        told = [{**row, "kind": kind} for kind in FILES if kind in of for row in _predictions(of[kind])]
        return Answers(tuple(Answer(n, row["i"], None, row) for n, row in enumerate(told, 1)), f"predictions of {', '.join(of)}")

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        pairs = self._paired(answers, flags)
        if not pairs:
            raise ValueError("there are no predictions of any type")
        six = {kind: pairs[kind] for kind in SIX if kind in pairs}
        per_type = {kind: _accuracies(of) for kind, of in pairs.items()}
        mean = {name: sum(per_type[kind][name] for kind in six) / len(six) for name in per_type[next(iter(six))]} if six else {}
        if six and len(six) < len(SIX):
            flags.append(f"the mean is over {len(six)} of the six types: {', '.join(six)}")
        items = [item for kind, of in six.items() for item in _items(kind, of)]
        results: dict[str, Any] = {"per_type": per_type, "all_of_six_types_unweighted_mean": mean}
        if "factdet" in pairs:
            results["fact_score_of_factdet"] = (per_type["factdet"]["basic_accuracy"] + per_type["factdet"]["halluc_accuracy"]) / 2
        if biased := [pair for kind in BIASED for pair in pairs.get(kind, ())]:
            results["evaluation_bias_over_five_types_without_interaction"] = _bias(biased, flags)
        if "interaction" in pairs:
            results["evaluation_halluc_interaction"] = _hallucinated(pairs["interaction"], flags)
        raw = {**results, "pairs": {"n": len(items), "accuracy": sum(item.score for item in items) / max(1, len(items))}}
        printed = _printed(mean) if six else ()
        return self.scored(len(answers.rows), results, flags=flags, raw=raw, printed=printed, items=tuple(items))

    def figures(self, scored: Scored) -> dict[str, float]:
        """With the accuracy over all pairs of the six types; upstream means over types, however many pairs they have."""
        return {**super().figures(scored), "pairs.accuracy": scored.raw["pairs"]["accuracy"]}

    def _paired(self, answers: Answers, flags: list[str]) -> dict[str, list[Pair]]:
        found: dict[str, dict[int, Pair]] = {}
        for row in answers.rows:
            kind, at = row.fields.get("kind"), row.fields.get("i")
            own = ANSWERS in row.fields
            if kind not in FILES or not isinstance(at, int) or not (own or 0 <= at < len(self.questions[kind])):
                raise ValueError(f"row {row.row}: pair {at!r} of {kind!r} is none of the questions ({', '.join(FILES)}; pairs from 0)")
            if at in found.setdefault(kind, {}):
                raise ValueError(f"row {row.row}: pair {at} of {kind} comes twice")
            found[kind][at] = self._pair(row, kind, at)
        for kind, of in found.items():
            if len(of) < len(self.questions[kind]):
                flags.append(f"{kind}: {len(of)} of {len(self.questions[kind])} pairs")
        return {kind: list(found[kind].values()) for kind in FILES if kind in found}

    def _pair(self, row: Answer, kind: str, at: int) -> Pair:
        said = [row.fields.get(name) for name in SIDES.values()]
        if not all(isinstance(text, str) for text in said):
            raise ValueError(f"row {row.row}: pair {at} of {kind} has the predictions {said!r}; expected two texts")
        answers = row.fields[ANSWERS] if ANSWERS in row.fields else [self.questions[kind][at][side]["answer"] for side in SIDES]
        return Pair(at, str(said[0]), str(said[1]), (str(answers[0]), str(answers[1])))


# -- upstream's rules --------------------------------------------------------------------------------------------------


def says(answer: str, prediction: str) -> bool:
    """Whether a prediction holds the answer as a whole word, in any case."""
    return re.search(rf"\b({answer})\b", prediction, re.IGNORECASE) is not None


def _accuracies(pairs: Sequence[Pair]) -> dict[str, float]:
    n = len(pairs)
    return {
        "basic_accuracy": sum(pair.basic_right for pair in pairs) / n,
        "halluc_accuracy": sum(pair.hallucinated_right for pair in pairs) / n,
        "accuracy": sum(pair.basic_right and pair.hallucinated_right for pair in pairs) / n,
    }


def _bias(pairs: Sequence[Pair], flags: list[str]) -> dict[str, float]:
    """Upstream's bias script: a yes to the basic question counts again where the hallucinated one is not answered no, and a no to the
    hallucinated one again where the basic one is not answered yes."""
    n = len(pairs)
    yes = sum(pair.basic_right * (1 + (not pair.hallucinated_right)) for pair in pairs)
    no = sum(pair.hallucinated_right * (1 + (not pair.basic_right)) for pair in pairs)
    both_yes = sum(pair.basic_right and not pair.hallucinated_right for pair in pairs)
    wrong = sum((not pair.basic_right) + (not pair.hallucinated_right) for pair in pairs)
    basic = sum(pair.basic_right for pair in pairs)
    return {
        "yes difference percentage": (yes - n) / (2 * n),
        "no difference percentage": (no - n) / (2 * n),
        "false positive ratio": both_yes / wrong if wrong else 0,
        "hallucination score": ratio(both_yes, basic, "hallucination score", flags),
        "overall basic score": basic / n,
        "overall hallucination score": sum(pair.hallucinated_right for pair in pairs) / n,
        "overall score": sum(pair.basic_right and pair.hallucinated_right for pair in pairs) / n,
    }


def _hallucinated(pairs: Sequence[Pair], flags: list[str]) -> float:
    """Of the pairs whose basic question is answered yes, the share whose hallucinated one is, too."""
    basic = [pair for pair in pairs if pair.basic_right]
    return ratio(sum(says("yes", pair.hallucinated) for pair in basic), len(basic), "hallucination score of interaction", flags)


def _printed(mean: Mapping[str, float]) -> tuple[str, ...]:
    titles = {"basic_accuracy": "Basic Accuracy: ", "halluc_accuracy": "Hallucination Accuracy: ", "accuracy": "Final Accuracy: "}
    return tuple(f"{title} {mean[name]}" for name, title in titles.items())


def _items(kind: str, pairs: Sequence[Pair]) -> Iterator[Judged]:
    for pair in pairs:
        yield Judged(f"{kind}/{pair.at}/hallucination", float(pair.basic_right and pair.hallucinated_right), kind)


# -- files -------------------------------------------------------------------------------------------------------------


def _kind(path: Path) -> str | None:
    """The type that a file's name begins with; `factdet` before `fact`."""
    return next((kind for kind in sorted(FILES, key=len, reverse=True) if path.stem == kind or path.stem.startswith(f"{kind}_")), None)


def _pairs(file: Published, content: bytes) -> list[dict[str, Any]]:
    found = parse_json(content, file.name)
    if not isinstance(found, list) or not all(isinstance(pair, dict) and set(SIDES) <= set(pair) for pair in found):
        raise ValueError(f"{file.name} should hold pairs of a basic and a hallucination question")
    return found


def _predictions(path: Path) -> Iterator[dict[str, Any]]:
    for at, row in enumerate(read_rows(path)[1]):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {at + 1}: expected basic_predict and halluc_predict, found {str(row)[:60]}")
        if all(isinstance(row.get(side), dict) for side in SIDES):  # upstream saves its pairs with `predict` in them
            answers = [row[side].get("answer") for side in SIDES]
            own = {ANSWERS: answers} if all(isinstance(answer, str) for answer in answers) else {}
            yield {"i": at, **own, **{to: row[side].get("predict") for side, to in SIDES.items()}}
        else:
            yield {"i": at, **row}
