"""AMBER (Wang et al. 2023, arXiv 2311.07397): descriptions without a judge, and questions about existence, attributes, relations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .amber_rules import (
    ALL_QUESTIONS,
    CAPTION_COUNTS,
    GENERATIVE,
    HEADINGS,
    Words,
    add_answer,
    add_caption,
    figures_of,
    new_counters,
    nouns_of,
    prefix_of,
    printed,
    read_nouns,
)
from .answers import TEXTS, Answer, Answers, parse_json
from .base import Judged
from .extraction import vlmevalkit_yes_no
from .official import Flavor, Official, Scored, rows_of
from .similarity import similarity_of
from .sources import Published, find, published

ORIGIN = "https://github.com/junyangwang0410/AMBER (data, Apache-2.0; its README links the images)"
ANNOTATIONS = Published("annotations.json", "db22a436c4836fbb295e60b4e80d519573077579fb7032f01b193c1bd022b797", ORIGIN)
QUERIES = Published("query_all.json", "127680ae61f7d4a92d2f7f07a8deaec07f0689b194d2c7c0f41ead7bd2c5bcf5", ORIGIN)
RELATION = Published("relation.json", "c4c1491e9bbc3209abc1888c12a1bf8413bdbab8a0d8be04b990a2e7680cf23e", ORIGIN)
SAFE_WORDS = Published("safe_words.txt", "f92cf1123f4578a2630832fac3e6ac4de36212ea55859d3bed4fd233723f4043", ORIGIN)

SUFFIX = "\nAnswer the question using a single word or phrase."  # LLaVA-1.5's; upstream gives none, and counts only "Yes" and "No"
EXAMPLE = ("responses.json", "responses.jsonl", "answers.json", "answers.jsonl")
SHOWN = {
    "a": (GENERATIVE, *HEADINGS),
    "g": (GENERATIVE,),
    "d": tuple(HEADINGS),
    "de": ("Exsitence",),
    "da": ("Attribute", "State", "Number", "Action"),
    "dr": ("Relation",),
}
ASKED = {
    "a": ("g", "as", "an", "aa", "asso", "ha"),
    "g": ("g",),
    "d": ("as", "an", "aa", "asso", "ha"),
    "de": ("ha",),
    "da": ("as", "an", "aa"),
    "dr": ("asso",),
}
LESS = tuple(f"{GENERATIVE}.{name}" for name in ("CHAIR", "Hal", "Cog"))
CATEGORIES = {"as": "Attribute", "an": "Attribute", "aa": "Attribute", "ha": "Existence", "asso": "Relation"}
SPACY = {"official": ("en_core_web_lg",), "lmms-eval": ("en_core_web_md", "en_core_web_sm", "en_core_web_lg")}


class AmberBenchmark(Official):
    """15,220 items: ids 1 to 1,004 ask for a description, the others a yes or a no.

    Responses are rows of `id` and `response`. data: upstream's folder, or one of its files (annotations.json, query_all.json,
    relation.json, safe_words.txt); what is not there is packaged. evaluation_type: upstream's a, g, d, de, da or dr; without it what
    fits the responses, a where both kinds are there. similarity: a table of word pairs (see `similarity.read_table`) or "identity",
    in place of spaCy's vectors. images: the folder of the pictures. limit: the first so many items of each type.

    The AMBER score, (100 - CHAIR + F1) / 2, is the paper's and not printed by upstream: it is in `raw` and among the flags. id 0 and
    ids below read from the end of the annotations, as upstream does. A repeated id is scored each time.
    """

    name = "amber"
    items_scale = 100.0
    texts = ("response", "prediction", *TEXTS)
    keys: Sequence[str] = ("id",)  # as upstream reads it
    sampling = Sampling(max_tokens=512)
    flavors = {
        "official": Flavor("junyangwang0410/AMBER 534babf inference.py"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/amber_g/utils.py"),
        "vlmevalkit": Flavor("VLMEvalKit 3804690 AMBER_rating, answers by YOrN_Extraction"),
    }

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        evaluation_type: str | None = None,
        similarity: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        if evaluation_type is not None and evaluation_type not in SHOWN:
            raise ValueError(f"amber has no evaluation_type '{evaluation_type}'; there are {', '.join(SHOWN)}")
        self.evaluation_type, self.similarity, self.images = evaluation_type, similarity, images
        if self.flavor == "vlmevalkit":
            self.keys = ("index", *self.keys)
        self.main, self.items_metric = self._figures()
        less = {"official": LESS, "lmms-eval": ("amber_chair", "amber_hal", "amber_cog")}.get(self.flavor, ())
        self.lower = frozenset(less if GENERATIVE in SHOWN[evaluation_type or "a"] else ())

    def _figures(self) -> tuple[str, str]:
        """The names of `main` and `items_metric`, which depend on the flavor and the type."""
        if self.flavor == "lmms-eval":
            return "amber_chair", "amber_hal"
        if self.flavor == "vlmevalkit":
            return "Avg ACC", "accuracy"
        shown = SHOWN[self.evaluation_type or "a"]
        if shown == (GENERATIVE,):
            return f"{GENERATIVE}.CHAIR", f"{GENERATIVE}.Hal"
        heading = ALL_QUESTIONS if ALL_QUESTIONS in shown else shown[0]
        return "AMBER" if GENERATIVE in shown else f"{heading}.F1", f"{heading}.Accuracy"

    # -- data --------------------------------------------------------------------------------------------------------------

    def _file(self, file: Published) -> bytes:
        """`data` may be one of the files: the others are then looked for beside it."""
        data = self.data
        if data is not None and Path(data).is_file():
            names = {one.name for one in (ANNOTATIONS, QUERIES, RELATION, SAFE_WORDS)}
            if Path(data).name != file.name and (file is not ANNOTATIONS or Path(data).name in names):
                data = str(Path(data).parent)
        return published(self.name, file, data, self.flags)

    def _json(self, file: Published) -> Any:
        return parse_json(self._file(file), self.data or file.name)

    @cached_property
    def annotations(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._json(ANNOTATIONS)
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and {"type", "truth"} <= row.keys() for row in rows):
            raise ValueError(f"{self.data} holds no annotations of AMBER: expected a list of id, type, truth (and hallu)")
        return rows

    @cached_property
    def words(self) -> Words:
        """The 418 words that count as objects, with what is related to each, and those that are never hallucinated."""
        related: dict[str, list[str]] = self._json(RELATION)
        safe = self._file(SAFE_WORDS).decode().split("\n")
        near = similarity_of(self.similarity, SPACY[self.flavor])
        self.flags += near.told
        return Words(frozenset(related).union(*related.values()), related, frozenset(safe), near.between)

    def read(self, responses: Any) -> Answers:
        if isinstance(responses, str | Path) and Path(responses).is_dir():
            path = find(str(responses), EXAMPLE)
            if path is None:
                raise ValueError(f"{responses} holds no responses.json; name the file of responses")
            responses = path
        return super().read(responses)

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        kinds = ASKED[self.evaluation_type or "a"]
        queries = {row["id"]: row for row in self._json(QUERIES)}
        taken: Counter[str] = Counter()
        rows = []
        for number, annotation in enumerate(self.annotations, 1):
            kind = annotation["type"]
            if number in queries and prefix_of(annotation) in kinds and (self.limit is None or taken[kind] < self.limit):
                taken[kind] += 1
                rows.append(self._sample(annotation, queries[number]))
        return rows

    def _sample(self, annotation: Mapping[str, Any], query: Mapping[str, Any]) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / str(query["image"])))
        text = str(query["query"]) + ("" if annotation["type"] == "generative" else SUFFIX)
        message = Message("user", (Part("image"), Part("text", text)))
        return Sample(str(query["id"]), (message,), (picture,), meta={**annotation, "id": query["id"]})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        return rows_of([row.id for row in rows], responses, [{"id": row.meta["id"]} for row in rows], text="response")

    def figures(self, scored: Scored) -> dict[str, float]:
        return {**super().figures(scored), **({"AMBER": scored.raw["AMBER"]} if "AMBER" in scored.raw else {})}

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def report(self, answers: Answers) -> Scored:
        rules = {"official": self._official, "lmms-eval": self._lmms_eval, "vlmevalkit": self._vlmevalkit}
        flags: list[str] = []
        written = all(isinstance(answer.key, str) for answer in answers.rows)  # in tables ids are text
        return rules[self.flavor]([(answer, self._annotation(answer, written, flags)) for answer in answers.rows], flags)

    def _annotation(self, answer: Answer, written: bool, flags: list[str]) -> Mapping[str, Any]:
        """The annotation at id - 1; ids below 1 count from the end, as upstream's do. ValueError for any other id. A row of
        VLMEvalKit's sheet holds its own category and answer."""
        if not any(name in answer.fields for name in self.texts):
            raise ValueError(f"row {answer.row} has no `response`; it holds {', '.join(map(str, answer.fields))}")
        if self.flavor == "vlmevalkit" and {"category", "answer", "prediction"} <= answer.fields.keys():
            return {"type": answer.fields["category"], "truth": str(answer.fields["answer"]).lower()}
        total, found = len(self.annotations), answer.key
        if written and isinstance(found, str) and found.strip().isdecimal():
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int):
            raise ValueError(f"row {answer.row}: the id is {found!r}; expected a number from 1 to {total}")
        if not -total < found <= total:
            raise ValueError(f"row {answer.row}: there is no item {found}; ids go from 1 to {total}")
        if found < 1:
            flags.append(f"row {answer.row}: id {found} is read as item {found + total}, from the end as upstream does")
        return self.annotations[found - 1]

    def _caption(self, answer: Answer, annotation: Mapping[str, Any], counters: dict[str, float]) -> Judged:
        """Counts a description. The score is 1 for a hallucinated one."""
        caption = read_nouns(nouns_of(_text(answer)), annotation["truth"], annotation["hallu"], self.words)
        add_caption(counters, caption, annotation)
        return Judged(str(answer.key), float(caption.hallucinated > 0), "generative")

    def _official(self, pairs: Sequence[tuple[Answer, Mapping[str, Any]]], flags: list[str]) -> Scored:
        counters = new_counters()
        described, answered, strange = [], [], 0
        kinds = {prefix_of(annotation) == "g" for _, annotation in pairs}
        kind = self.evaluation_type or ("a" if len(kinds) == 2 else "g" if kinds == {True} else "d")
        for answer, annotation in pairs:
            if prefix_of(annotation) == "g":
                described.append(self._caption(answer, annotation, counters))
                continue
            said = {"Yes": "yes", "No": "no"}.get(answer.text) if isinstance(answer.text, str) else None
            strange += said is None
            add_answer(counters, said, annotation)
            if prefix_of(annotation) in ASKED[kind]:
                answered.append(Judged(str(answer.key), float(said == annotation["truth"]), str(annotation["type"])))
        results = {heading: figures_of(counters, heading) for heading in SHOWN[kind]}
        if strange:
            flags.append(f'{strange} answers are neither "Yes" nor "No": wrong, as upstream has it')
        told = {"flags": flags, "raw": counters, "printed": tuple(printed(results))}
        if kind == "a" and len(kinds) == 2:
            counters["AMBER"] = (100 - results[GENERATIVE]["CHAIR"] + results[ALL_QUESTIONS]["F1"]) / 2
            flags.append(f"AMBER score of the paper, (100 - CHAIR + F1) / 2: {counters['AMBER']:.2f}; upstream prints none")
        return self.scored(len(pairs), results, items=tuple(described if kind == "g" or not answered else answered), **told)

    def _lmms_eval(self, pairs: Sequence[tuple[Answer, Mapping[str, Any]]], flags: list[str]) -> Scored:
        """Its counters start anew for every row, so 0.001 is added for each; figures of descriptions alone, not rounded."""
        rows, items = [], []
        for answer, annotation in pairs:
            counters = new_counters()
            rows.append(counters)
            if prefix_of(annotation) == "g":
                items.append(self._caption(answer, annotation, counters))
            else:
                text = _text(answer).lower()
                add_answer(counters, "yes" if "yes" in text else "no" if "no" in text else None, annotation)
        totals = {name: sum(row[name] for row in rows) for name in rows[0]}
        results = {
            f"amber_{name.lower()}": totals[f"{count}_score"] / totals[f"{count}_num"] * 100 for name, count in CAPTION_COUNTS.items()
        }
        results["amber_hal"] = 100 - results["amber_hal"]
        return self.scored(len(pairs), results, flags=flags, raw=totals, items=tuple(items))

    def _vlmevalkit(self, pairs: Sequence[tuple[Answer, Mapping[str, Any]]], flags: list[str]) -> Scored:
        """Accuracies by category, then their mean. Answers are joined by id, so of a repeated id the last one counts for all."""
        asked = [(answer, annotation) for answer, annotation in pairs if prefix_of(annotation) != "g"]
        if not asked:
            raise ValueError("there is no answer to a question (ids from 1005 on); VLMEvalKit's AMBER has no descriptions")
        said = {answer.key: vlmevalkit_yes_no(str(answer.text)) for answer, _ in asked}
        items = [Judged(str(a.key), float(said[a.key].lower() == row["truth"]), CATEGORIES[prefix_of(row)]) for a, row in asked]
        groups: dict[str, list[float]] = {}
        for item in items:
            groups.setdefault(item.kind, []).append(item.score)
        results = {kind: sum(scores) / len(scores) * 100 for kind, scores in groups.items()}
        results["Avg ACC"] = sum(results.values()) / len(results)
        left = len(pairs) - len(asked)
        if left:
            flags.append(f"{left} descriptions are left out; VLMEvalKit's AMBER has only questions")
        return self.scored(len(asked), results, flags=flags, items=tuple(items))


def _text(answer: Answer) -> str:
    """ValueError for an answer that is no text: upstream stops there."""
    if not isinstance(answer.text, str):
        raise ValueError(f"row {answer.row}: the response is {answer.text!r}; expected a text")
    return answer.text
