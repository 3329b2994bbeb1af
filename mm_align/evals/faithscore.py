"""FaithScore (Jing et al. 2023, arXiv 2311.01477): atomic facts of an answer, each verified against the picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, read_rows
from .base import Judged
from .faithscore_stages import NAMES, facts, label, prompt, verify
from .judged import JudgedBenchmark
from .official import Flavor, Scored, rows_of

CATEGORIES = ("Entities", "Relations", "Colors", "Counting", "Other attributes")
NOTHING = "\n".join(f"{name}:" for name in CATEGORIES)
LAST_WORDS = frozenset(("NN", "NNS", "JJ", "NNP", "VBG", "JJR", "NNPS", "RB", "DT"))
ORIGIN = "https://github.com/bcdnlp/FAITHSCORE (annotation.jsonl, MIT); images: COCO val2014"


class Facts(NamedTuple):
    """Of one answer, by category: a list for each sub-sentence of its facts."""

    categories: tuple[list[list[str]], ...]

    @property
    def lists(self) -> list[list[str]]:
        return [facts for category in self.categories for facts in category]

    @property
    def all(self) -> list[str]:
        """In the order in which they are verified."""
        return [fact for facts in self.lists for fact in facts]


class FaithScoreBenchmark(JudgedBenchmark):
    """Answers with the replies of the three stages.

    Responses are a list of {"answer", "labelled": [sub-sentences with [D] for descriptive or [A] for analytical], "stage2": {descriptive
    text: the reply with its facts}, "verify": {fact: the reply to whether it is right}}, or a folder with input.json. A text without a
    reply in stage 2 has no facts, a fact without a reply is not right; both are flagged. To ask a model: data, a file of rows with
    `image` or `id` (COCO's twelve digits), images, the folder of pictures, and a judge that sees them, or judge_replies as above.

    As upstream, its slips included: [D] and [A] are read as the letters D and A, wherever they stand; a category that a reply repeats
    moves the facts of all sub-sentences behind it; facts are divided at ". ", so that all but the last lose their full stop; a second
    line of entities ends a reply; a fact belongs to the sub-sentences that hold the last word of an entity's fact, and to all of them
    where that word is of no listed part of speech.
    """

    name = "faithscore"
    main = "faithscore"
    needs = "pictures (data, images), replies of the three stages"
    sampling = Sampling(max_tokens=512)
    items_metric = "faithscore"
    flavors = {"official": Flavor("bcdnlp/FAITHSCORE 52179e5 src/faithscore/framework.py, the LLaMA path of its stages")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, judge_replies=judge_replies, images=images, limit=limit)

    def samples(self) -> list[Sample]:
        if self.data is None:
            raise ValueError(f"{self.name} describes the pictures of a file of rows with `image` or `id`; for one, {ORIGIN}: give data")
        rows = read_rows(Path(self.data))[1][: self.limit]
        return [self._sample(number, row) for number, row in enumerate(rows, 1)]

    def _sample(self, number: int, row: Mapping[str, Any]) -> Sample:
        name = row.get("image") or f"COCO_val2014_{row.get('id', '')}.jpg"
        asked = (Part("image"), Part("text", str(row.get("question") or "Describe this image in detail.")))
        return Sample(
            str(number), (Message("user", asked),), (Image(path=str(Path(self.images or ".") / str(name))),), meta={"image": name}
        )

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        """Responses with the stages' replies to them: the judge's, or rows of the file `judge_replies` that hold the same answer."""
        rows = self.samples()
        said = rows_of([row.id for row in rows], responses, [row.meta for row in rows])
        if self.judge_replies is None:
            return self._judged(said, [str(row.images[0].path) for row in rows])
        replies = {row.text: row.fields for row in self.read(self.judge_replies).rows}
        return Answers(tuple(self._with_replies(row, replies) for row in said.rows), said.understood)

    def _judged(self, said: Answers, pictures: Sequence[str]) -> Answers:
        if self.judge is None:
            raise ValueError("faithscore is judged by models: give the replies of its stages (judge_replies) or a judge")
        labelled = label([str(row.text) for row in said.rows], self.ask)
        texts = [["".join(_descriptive(sub)).replace("\n", " ") for sub in subs] for subs in labelled]
        replies = facts([text for subs in texts for text in subs if text], self.ask)
        found = facts_of(labelled, [replies] * len(labelled), [])
        verified = verify([list(dict.fromkeys(one.all)) for one in found], pictures, self.ask)
        self.judging["prompts_sha256"] = {name: prompt(name).sha256 for name in NAMES}
        fields = [{"labelled": subs, "stage2": replies, "verify": checked} for subs, checked in zip(labelled, verified, strict=True)]
        return Answers(tuple(Answer(r.row, r.key, r.text, one) for r, one in zip(said.rows, fields, strict=True)), said.understood)

    @staticmethod
    def _with_replies(row: Answer, replies: Mapping[Any, Mapping[str, Any]]) -> Answer:
        if row.text not in replies:
            raise ValueError(f"row {row.row}: no replies of the stages for the answer {str(row.text)[:60]!r}")
        return Answer(row.row, row.key, row.text, replies[row.text])

    def read(self, responses: Any) -> Answers:
        path = Path(responses) if isinstance(responses, str | Path) else None
        given = path / "input.json" if path is not None and path.is_dir() else path
        shape, rows = read_rows(given) if given is not None else ("rows", list(responses))
        if not rows:
            raise ValueError(f"{given or 'rows'} holds no answers")
        for number, row in enumerate(rows, 1):
            _check(number, row)
        return Answers(tuple(Answer(n, n - 1, row.get("answer"), row) for n, row in enumerate(rows, 1)), f"{shape} of answers with replies")

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        labelled = [list(row.fields["labelled"]) for row in answers.rows]
        stated = facts_of(labelled, [self._reply(row) for row in answers.rows], flags)
        verified = [
            [_is_right(row.fields["verify"], fact, flags) for fact in found.all] for row, found in zip(answers.rows, stated, strict=True)
        ]
        shares = [sum(scores) / len(scores) if scores else 0 for scores in verified]
        texts = [[text for sub in subs for text in _descriptive(sub)] for subs in labelled]
        rows = zip(answers.rows, texts, stated, verified, strict=True)
        fits = [_faithful(row, subs, found, scores) for row, subs, found, scores in rows]
        sentences = [sum(flags_) / len(flags_) if flags_ else 1 for flags_ in fits]
        n = len(answers.rows)
        results = {
            "faithscore": sum(shares) / n,
            "sentence_faithscore": sum(sentences) / n,
            "per_answer": {str(at): share for at, share in enumerate(shares)},
            "sentence_per_answer": {str(at): sum(one) / len(one) if len(one) > 1 else one for at, one in enumerate(fits)},
        }
        raw = {
            "fact_scores": verified,
            "atomic_facts": [found.lists for found in stated],
            "descriptive_sub_sentences": texts,
        }
        items = tuple(Judged(str(row.row), float(share)) for row, share in zip(answers.rows, shares, strict=True))
        printed = (f"Faithscore: {results['faithscore']}", f"Sentence-level faithscore: {results['sentence_faithscore']}")
        judged = {"judge": self.judging} if self.judging else {}
        return self.scored(n, {**results, **raw}, flags=flags, raw={**results, **raw, **judged}, printed=printed, items=items)

    @staticmethod
    def _reply(row: Answer) -> Mapping[str, str]:
        return dict(row.fields["stage2"])


# -- upstream's rules --------------------------------------------------------------------------------------------------


def _places(labelled: str) -> tuple[list[int], frozenset[int]]:
    """Where a D or an A stands, and where a D does: upstream's pattern for the marks is a set of one letter."""
    marks = [at for at, letter in enumerate(labelled) if letter in "DA"]
    return marks, frozenset(at for at in marks if labelled[at] == "D")


def _descriptive(labelled: str) -> Iterator[str]:
    """The pieces that end in a D, without the letter before it; pieces start three letters behind the mark before."""
    marks, described = _places(labelled)
    for number, at in enumerate(marks):
        if at in described:
            yield labelled[: at - 1] if number == 0 else labelled[marks[number - 1] + 3 : at - 1]


def facts_of(labelled: Sequence[Sequence[str]], replies: Sequence[Mapping[str, str]], flags: list[str]) -> list[Facts]:
    """The facts of each answer, divided among answers by the number of sub-sentences, as upstream counts them."""
    told: list[str] = []
    for subs, known in zip(labelled, replies, strict=True):
        for sub in subs:
            text = "".join(_descriptive(sub)).replace("\n", " ")
            reply = known.get(text, "")
            if text and text not in known:
                flags.append("sub-sentences without a reply of stage 2 have no facts")
            told.append(reply if text and "Entities" in reply else NOTHING)
    lists = _categories(told)
    found, at = [], 0
    for subs in labelled:
        found.append(Facts(tuple(category[at : at + len(subs)] for category in lists)))
        at += len(subs)
    return found


def _categories(replies: Sequence[str]) -> tuple[list[list[str]], ...]:
    """For each category its facts, reply by reply; a category that a reply lacks is filled up as upstream fills it: the counter of
    replies is used up by the filling, so that of two lacking categories the second may stay unfilled."""
    lists: tuple[list[list[str]], ...] = tuple([] for _ in CATEGORIES)
    for number, reply in enumerate(replies):
        _read_reply(reply, lists)
        counter = number
        for category in lists:
            lacking = counter + 1 - len(category)
            if lacking > 0:
                category.extend([] for _ in range(lacking))
                counter = lacking - 1
    return lists


def _read_reply(reply: str, lists: Sequence[list[list[str]]]) -> None:
    seen = False
    for line in reply.split("\n"):
        for name, category in zip(CATEGORIES, lists, strict=True):
            if not line.startswith(f"{name}:"):
                continue
            if name == "Entities":
                if seen:
                    return
                seen = True
            said = line.strip()
            category.append([] if said == f"{name}:" else said.replace(f"{name}: ", "").split(". "))


def _is_right(replies: Mapping[str, str], fact: str, flags: list[str]) -> int:
    if fact not in replies:
        flags.append("facts without a reply of stage 3 are not right")
    return int("yes" in str(replies.get(fact, "")).lower())


def _faithful(row: Answer, texts: Sequence[str], facts: Facts, scores: Sequence[int]) -> list[bool]:
    """Of each descriptive sub-sentence, whether no false fact belongs to it."""
    flat = [[fact for facts_ in category for fact in facts_ if facts_] for category in facts.categories]
    judged: list[list[tuple[str, int]]] = []
    at = 0
    for category in flat:
        judged.append([(fact, scores[at + k]) for k, fact in enumerate(category)])
        at += len(category)
    entities, others = judged[0], [pair for category in judged[1:] for pair in category]
    words = [_last_word(row, fact) for fact, _ in entities]
    return [_holds(text, words, entities, others) for text in texts]


def _holds(text: str, words: Sequence[str], entities: Sequence[tuple[str, int]], others: Sequence[tuple[str, int]]) -> bool:
    for word, (_, right) in zip(words, entities, strict=True):
        if word in text and (right != 1 or any(word in fact and score != 1 for fact, score in others)):
            return False
    return True


def _last_word(row: Answer, fact: str) -> str:
    """The last token of a fact's first sentence, or nothing where it is of no listed part of speech."""
    from .language import pos_tag, word_tokenize
    from .language.sentences import sentences

    first = sentences(fact)
    if not first:
        raise ValueError(f"row {row.row}: an entity's fact is empty; upstream stops here (no sentence to tag)")
    word, tag = pos_tag(word_tokenize(first[0]))[-1]
    return word if tag in LAST_WORDS else ""


def _check(number: int, row: Any) -> None:
    """ValueError, naming the row, for one that lacks a stage or holds one of another kind."""
    if not isinstance(row, Mapping):
        raise ValueError(f"row {number}: expected answer, labelled, stage2 and verify, found {str(row)[:60]}")
    if not isinstance(row.get("answer", ""), str):
        raise ValueError(f"row {number}: the answer is {row['answer']!r}; expected a text")
    for name, kind in (("labelled", list), ("stage2", dict), ("verify", dict)):
        if not isinstance(row.get(name), kind):
            raise ValueError(f"row {number}: `{name}` should be a {kind.__name__}, found {str(row.get(name))[:60]}")
    if not all(isinstance(text, str) for text in row["labelled"]):
        raise ValueError(f"row {number}: `labelled` should hold texts, found {json.dumps(row['labelled'])[:60]}")
