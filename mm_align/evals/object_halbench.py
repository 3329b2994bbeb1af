"""Object HalBench (Rohrbach et al. 2018 as in RLHF-V, arXiv 2312.00849): a judge lists an answer's objects, COCO says which are there."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .analysis import Analyser, Token, analyser_of
from .answers import Answer, Answers, as_answers, read_answers, read_rows
from .base import Judged
from .coco import Mention, Vocabulary, sample_ids
from .judged import OWN_WORDS, JudgedBenchmark, Prompt
from .judges import JudgeCall
from .language import lemma, reader
from .object_halbench_data import ORIGIN, Files, image_ids
from .official import Flavor, Scored, ratio, rows_of
from .sources import find

ANSWERS = ("answers.jsonl", "answers.json", "obj_halbench_answer.jsonl", "responses.jsonl", "responses.json")
NOUNS = frozenset({"NN", "NNS", "NNP", "NNPS"})
SPACY = "en_core_web_trf"
SHORT = 3  # words: upstream asks no judge about such an answer
PRINTED = "CHAIRs\tCHAIRsr\tCHAIRi\tsent_num\tcoco_num\tavg_len"
SUMMARY = {
    "Response Hall   ": ("CHAIRs_refine", 100, "\n"),
    "Object Hall     ": ("CHAIRi", 100, "\n\n"),
    "Response Correct": ("correct_rate", 100, "\n"),
    "Object Correct  ": ("object_correct_rate", 100, "\n"),
    "Object Recall   ": ("obj_rec", 100, "\n"),
    "Average Length  ": ("avg_word_len", 1, "\n"),
}


class Said(NamedTuple):
    """An answer as it is scored: its row and image, and the text without "Assistant:"."""

    row: Answer
    image: int
    text: str


class Told(NamedTuple):
    """What an answer says. words: its tokens, or the judge's objects after analysis. mentions: of classes; wrong: of them those that
    the image does not have; there: the classes of the image."""

    said: Said
    words: list[str]
    mentions: list[Mention]
    wrong: list[Mention]
    there: frozenset[str]

    @property
    def right(self) -> set[str]:
        return {mention.name for mention in self.mentions if mention.name in self.there}


class ObjectHalbenchBenchmark(JudgedBenchmark):
    """Answers of `image_id`, `prompt` or `question`, and `text` or `answer`; of a folder the file answers.jsonl (answers.json,
    obj_halbench_answer.jsonl, responses.*). Rows without `image_id` are those of upstream's question file, line by line.

    The path through a judge (upstream's --use_gpt) is taken where its replies are given or a judge is set, else the path without,
    which reads the answers' own words; use_gpt decides otherwise. judge_replies: a file of {"answer", "replies_in_order"} rows, the
    last reply repeats, or the ledger of a live judge. prompt: a file with question and answer, for a live judge; an answer of which it
    gives no list in the end has no objects, flagged. analyses: a table of [token, lemma, tag] lists by text (`analysis.read_table`),
    else spaCy's en_core_web_trf, else our own tagger, flagged.

    data: the folder of synonyms_refine.txt, which may not be packaged, and of upstream's question file with pictures; or a file: a
    ground truth (classes by image id) or the question file. Synonyms are looked for in `data`, in the folder of the responses and in
    nc_only/object_halbench or object_halbench up to three folders above. The ground truth is, in this order, `data` itself,
    ground_truth*.json in `data` or beside the responses, COCO's instances_*.json and captions_*.json in `data` or below it, or in a
    folder `chair` up to three folders above (flagged); else CHAIR's own, flagged. Replies and analyses are also found in `data` and
    beside the responses, by the names judge_replies.jsonl and analyses.json. synonyms, truth: paths that are used instead.
    """

    name = "object_halbench"
    main = "CHAIRs_refine"
    lower = frozenset({"CHAIRs", "CHAIRs_refine", "CHAIRi"})
    needs = "synonyms_refine.txt and obj_halbench_300_with_image.jsonl of RLHF-V/RLAIF-V by --data, and COCO's annotations there"
    sampling = Sampling(max_tokens=1024)
    items_metric = "CHAIRs_refine"
    texts = ("text", "answer", "caption", "response", "prediction")
    keys = ("image_id", "sample_id")
    flavors = {"official": Flavor("RLHF-V/RLAIF-V 83d917b eval/eval_gpt_obj_halbench.py (RLHF-V's alike); NLTK 3.8")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        prompt: str | None = None,
        analyses: str | None = None,
        use_gpt: bool | None = None,
        synonyms: str | None = None,
        truth: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, judge_replies=judge_replies, prompt=prompt, limit=limit)
        self.analyses, self.use_gpt = analyses, use_gpt
        self.synonyms, self.truth = synonyms, truth
        self.files = Files(data)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        return self.files.vocabulary(self.synonyms, self.flags)

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        path = self.files.questions()
        if path is None:
            raise ValueError(f"object_halbench has no questions; obj_halbench_300_with_image.jsonl comes from {ORIGIN}: give it as `data`")
        rows = [row for row in read_rows(path)[1] if "image" in row or "image_path" in row][: self.limit]
        if not rows:
            raise ValueError(f"{path} holds no questions with pictures: expected rows of image_id, question and image")
        return [_sample(row) for row in rows]

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        fields = ({**row.meta, "id": row.meta["image_id"], "unanswered": row.id not in responses} for row in rows)
        return rows_of([row.id for row in rows], responses, fields)

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        if not isinstance(responses, str | Path):
            return as_answers(responses, texts=self.texts, keys=self.keys)
        path = find(str(responses), ANSWERS)
        if path is None:
            raise ValueError(f"{responses} holds none of {', '.join(ANSWERS)}")
        self.files.responses = path.parent
        return read_answers(path, texts=self.texts, keys=self.keys)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        told = self.told(answers, flags)
        silent = [bool(one.said.row.fields.get("unanswered")) for one in told]
        counts = _counts(told, silent)
        if any(silent):
            flags.append(f"{sum(silent)} questions have no answer; counted as hallucinating")
        images = len({one.said.image for one in told})
        if images != 300:
            flags.append(f"{images} different images; upstream's command line stops unless there are 300")
        results = _figures(counts, flags)
        line = "{:.1f}\t{:.1f}\t{:.1f}\t{:d}\t{:d}\t{:.1f}".format(
            *(results[name] * 100 for name in ("CHAIRs", "CHAIRs_refine", "CHAIRi")),
            len(told),
            counts["coco_answers"],
            results["avg_word_len"],
        )
        items = tuple(
            Judged(name, float(bool(one.wrong) or mute))
            for name, one, mute in zip(sample_ids([one.said.image for one in told]), told, silent, strict=True)
            if one.mentions or mute
        )
        raw = {**results, **counts, "summary_script_output": _summary(results), **({"judge": self.judging} if self.judging else {})}
        return self.scored(len(told), results, flags=flags, raw=raw, printed=(PRINTED, line), items=items)

    def told(self, answers: Answers, flags: list[str]) -> list[Told]:
        """What each answer says, in the order of the rows: upstream's `sentences`. ValueError, naming the row, for what stops upstream."""
        said = [Said(row, image, _text(row)) for row, image in zip(answers.rows, self._images(answers.rows), strict=True)]
        vocabulary, wanted = self.vocabulary, {one.image for one in said}
        truth = self.files.truth(self.truth, vocabulary, plain_words, wanted, flags)
        if unknown := sorted(wanted - truth.keys()):
            flags.append(f"{len(unknown)} images are not in the ground truth, {unknown[0]} for one: whatever is mentioned of them is wrong")
        objects = self._objects(said, flags) if self._asks_a_judge() else None
        found = []
        for at, one in enumerate(said):
            if objects is None:
                words, mentions = vocabulary.scan(plain_words(one.text))
            else:
                words, mentions = objects[at], vocabulary.mentions(objects[at], range(len(objects[at])))
            there = truth.get(one.image, frozenset())
            found.append(Told(one, words, mentions, [mention for mention in mentions if mention.name not in there], there))
        return found

    def _images(self, rows: Sequence[Answer]) -> list[int]:
        """Each row's image: its own, or, where the first row has none, that of the question file's line."""
        if "image_id" not in rows[0].fields and rows[0].key is None:
            path = self.files.questions()
            if path is None:
                raise ValueError("row 1 has no image_id, and there is no question file in `data` to take it from by line")
            listed = image_ids(path)
            if len(listed) < len(rows):
                raise ValueError(f"row {len(listed) + 1} has no image_id, and {path.name} has {len(listed)} lines")
            return [_image(row, row.fields.get("image_id", image)) for row, image in zip(rows, listed, strict=False)]
        return [_image(row, row.key) for row in rows]

    def _asks_a_judge(self) -> bool:
        return self.judge is not None or self._replies_file() is not None if self.use_gpt is None else self.use_gpt

    def _replies_file(self) -> Path | None:
        return Path(self.judge_replies) if self.judge_replies else self.files.beside("judge_replies.jsonl", "judge_replies.json")

    def _objects(self, said: Sequence[Said], flags: list[str]) -> list[list[str]]:
        """The judge's objects of each answer, analysed, each name once."""
        table = self.analyses or self.files.beside("analyses.json")
        analyser = analyser_of(None if table is None else str(table), SPACY)
        flags += analyser.told
        path = self._replies_file()
        if (self.judge is not None and self.judge_replies is None) or (path is not None and is_ledger(path)):
            replies = self._asked([one for one in said if len(one.text.split()) > SHORT], flags)
        elif path is None:
            raise ValueError("there are no replies of a judge; give them as judge_replies, or use_gpt=false")
        else:
            replies = read_replies(path)
        return [self._names(one, replies, analyser) for one in said]

    def _asked(self, said: Sequence[Said], flags: list[str]) -> dict[str, list[str]]:
        """A live judge's replies by answer, an empty list in place of those that are none."""
        prompt = Prompt(self.name, "prompt.txt", self.prompt)
        questions = [str(one.row.fields.get("question", one.row.fields.get("prompt", ""))) for one in said]
        asked = [prompt.filled({"question": question, "answer": one.text}) for question, one in zip(questions, said, strict=True)]
        calls = [JudgeCall(str(one.row.row), text, subject=one.text) for one, text in zip(said, asked, strict=True)]
        replies = self.ask(calls, is_list)
        self.judging["prompt_sha256"] = prompt.sha256
        flags += [OWN_WORDS] if self.prompt is None and "model" in self.judging else []
        return {one.text: [told[-1] if told and is_list(told[-1]) else "[]"] for one, told in zip(said, replies, strict=True)}

    def _names(self, said: Said, replies: Mapping[str, Sequence[str]], analyser: Analyser) -> list[str]:
        if len(said.text.split()) <= SHORT:
            return []
        given = replies.get(said.text, replies.get(str(said.row.text)))
        if not given:
            raise ValueError(f"row {said.row.row}: there is no reply of a judge for the answer {said.text[:60]!r}")
        found = next((objects for objects in map(read_objects, given) if objects is not None), None)
        if found is None:
            told = f"none of the judge's {len(given)} replies can be read, the last is {given[-1][:60]!r}"
            raise ValueError(f"row {said.row.row}: {told}; expected a JSON list, upstream stops at such an answer")
        return names_of(found, self.vocabulary, analyser)


# -- the path through a judge ------------------------------------------------------------------------------------------


def read_replies(path: Path) -> dict[str, list[str]]:
    """Replies in their order by answer. ValueError for a file of something else."""
    found = {}
    for number, row in enumerate(read_rows(path)[1], 1):
        replies = row.get("replies_in_order", row.get("reply")) if isinstance(row, Mapping) else None
        if replies is None or "answer" not in row:
            raise ValueError(f"{path}, row {number}: expected a judge's replies as {{'answer': ..., 'replies_in_order': [...]}}")
        found[row["answer"]] = [replies] if isinstance(replies, str) else list(map(str, replies))
    return found


def is_ledger(path: Path) -> bool:
    """Whether a file of replies is one that a live judge wrote."""
    first = read_rows(path)[1][:1]
    return bool(first) and isinstance(first[0], Mapping) and "prompt_sha256" in first[0]


def read_objects(reply: str) -> list[Any] | None:
    """The objects of a reply: its JSON, or, of one that has [" in it, that of its last line; None for a reply that upstream asks for again.

    Upstream takes whatever JSON there is; of an object it goes through the keys, of a text through the letters. A number stops it.
    """
    for text in (reply, reply.strip().split("\n")[-1]):
        try:
            return list(json.loads(text))
        except json.JSONDecodeError:
            if '["' not in reply:
                return None
        except TypeError as error:
            raise ValueError(f"a judge's reply is {reply[:60]!r}; expected a JSON list, upstream stops at it") from error
    return None


def is_list(reply: str) -> bool:
    """Whether a reply is JSON that can be gone through, as upstream reads it."""
    try:
        return read_objects(reply) is not None
    except ValueError:
        return False


def names_of(objects: Sequence[Any], vocabulary: Vocabulary, analyser: Analyser) -> list[str]:
    """Names in the judge's objects, each once: two-word phrases where an object has some, else its runs of nouns."""
    names: dict[str, None] = {}
    for one in objects:
        tokens = analyser.of(f"a {one}")
        names.update(dict.fromkeys(vocabulary.phrases_only([token.lemma for token in tokens]) or _runs(tokens)))
    return list(names)


def _runs(tokens: Sequence[Token]) -> list[str]:
    """Consecutive nouns as one name, of lemmas: "kitchen table" is a name that no synonym has."""
    runs: list[list[str]] = []
    open_run = False
    for token in tokens:
        if token.tag in NOUNS:
            runs.append([token.lemma] if not open_run else [*runs.pop(), token.lemma])
        open_run = token.tag in NOUNS
    return [" ".join(run) for run in runs]


# -- the path without, and what both share -----------------------------------------------------------------------------


noun_words = reader(lemma)


def plain_words(text: str) -> list[str]:
    """Lower-cased tokens, each the lemma that it would have as a noun."""
    return noun_words(text.lower())


def _sample(row: Mapping[str, Any]) -> Sample:
    picture = Image(data=base64.b64decode(row["image"])) if "image" in row else Image(path=row["image_path"])
    asked = (Part("image"), Part("text", row["question"]))
    meta = {"image_id": int(row["image_id"]), "question": row["question"]}
    return Sample(str(meta["image_id"]), (Message("user", asked),), (picture,), meta=meta)


def _image(row: Answer, value: Any) -> int:
    try:
        number = int(value)
        whole = isinstance(value, str) or number == value
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(f"row {row.row}: the image_id is {value!r}; expected a whole number")
    return number


def _text(row: Answer) -> str:
    """The answer as upstream reads it; a caption of a caption evaluation stays as it is."""
    name = next((name for name in ObjectHalbenchBenchmark.texts if name in row.fields), None)
    text = row.fields[name] if name else None
    if not isinstance(text, str):
        raise ValueError(f"row {row.row}: the answer is {text!r}; expected a text in `text` or `answer`")
    if name == "caption":
        return text
    if "prompt" not in row.fields and "question" not in row.fields:
        raise ValueError(f"row {row.row} has neither `prompt` nor `question`; upstream stops at such a row")
    return text.replace("Assistant:", "").strip()


def _counts(told: Sequence[Told], silent: Sequence[bool]) -> dict[str, int]:
    both = list(zip(told, silent, strict=True))
    return {
        "answers": len(told),
        "coco_answers": sum(bool(one.mentions) or mute for one, mute in both),
        "bad_answers": sum(bool(one.wrong) or mute for one, mute in both),
        "names": sum(len(one.mentions) for one in told),
        "bad_names": sum(len(one.wrong) for one in told),
        "right_classes": sum(len(one.right) for one in told),
        "gt_classes": sum(len(one.there) for one in told),
        "words": sum(len(one.said.text.strip().split(" ")) for one in told),
    }


def _figures(counts: Mapping[str, int], flags: list[str]) -> dict[str, float]:
    refined = ratio(counts["bad_answers"], counts["coco_answers"], "CHAIRs_refine", flags)
    names = ratio(counts["bad_names"], counts["names"], "CHAIRi", flags)
    return {
        "CHAIRs": counts["bad_answers"] / counts["answers"],
        "CHAIRs_refine": refined,
        "CHAIRi": names,
        "obj_rec": ratio(counts["right_classes"], counts["gt_classes"], "obj_rec", flags),
        "sentence_num": float(counts["answers"]),
        "coco_sentence_num": float(counts["coco_answers"]),
        "coco_word_count": float(counts["right_classes"]),
        "gt_word_count": float(counts["gt_classes"]),
        "avg_word_len": counts["words"] / counts["answers"],
        "correct_rate": 1 - refined,
        "object_correct_rate": 1 - names,
    }


def _summary(results: Mapping[str, float]) -> str:
    """The lines of upstream's summary script."""
    shares = "".join(f"{title}: {results[name] * scale:.2f}{end}" for title, (name, scale, end) in SUMMARY.items())
    counts = {"COCO Sent Number": "coco_sentence_num", "COCO Word Number": "coco_word_count", "GT Word Number  ": "gt_word_count"}
    return shares + "\n".join(f"{title}: {results[name]}" for title, name in counts.items())
