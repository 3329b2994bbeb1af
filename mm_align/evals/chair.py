"""CHAIR (Rohrbach et al. 2018, arXiv 1809.02156): which of the objects that a caption mentions are not in the image."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, as_answers, read_answers
from .base import Judged
from .chair_words import Words, pattern_words, wordnet_mentions, wordnet_words
from .coco import (
    PHRASES,
    Mention,
    Truth,
    Vocabulary,
    annotation_files,
    build_truth,
    coco_name,
    image_files,
    read_truth,
    sample_ids,
    synonyms,
)
from .official import Flavor, Official, Scored, ratio, rows_of
from .sources import PACKAGED, Published, find, packaged

SYNONYMS = Published(
    "synonyms.txt",
    "b685537b36fe21b791c87151b96a991ceb582edff19f3da204dcc7a7905502f2",
    "https://github.com/LisaAnne/Hallucination (data/synonyms.txt, BSD-2-Clause)",
)
TRUTH = "coco2014_chair_gt_objects.json.gz"
CAPTIONS = ("captions.jsonl", "captions.json", "responses.jsonl", "responses.json", "answers.jsonl", "answers.json")
TWO_WORDS = (
    *("motor bike", "motor cycle", "air plane", "traffic light", "street light", "traffic signal", "stop light", "fire hydrant"),
    *("stop sign", "parking meter", "suit case", "sports ball", "baseball bat", "baseball glove", "tennis racket", "wine glass"),
    *("hot dog", "cell phone", "mobile phone", "teddy bear", "hair drier", "potted plant", "bow tie", "laptop computer"),
    *("stove top oven", "home plate", "train track"),
)


class Told(NamedTuple):
    """What one caption says. image: its id. words: tokens after phrases were joined. mentions: of classes, each repetition;
    wrong: of them those that the image does not have. there: the classes of the image."""

    image: Any
    words: list[str]
    mentions: list[Mention]
    wrong: list[Mention]
    there: frozenset[str]

    @property
    def recalled(self) -> set[str]:
        return {mention.name for mention in self.mentions if mention.name in self.there}

    @property
    def metrics(self) -> dict[str, float]:
        """Upstream's figures of one caption: 0 where nothing is mentioned or nothing is there."""
        return {
            "CHAIRs": int(bool(self.wrong)),
            "CHAIRi": len(self.wrong) / len(self.mentions) if self.mentions else 0.0,
            "Recall": len(self.recalled) / len(self.there) if self.there else 0.0,
        }


class ChairBenchmark(Official):
    """Captions of COCO images, each row an image id and a caption: JSON lines, JSON lists, COCO results, LLaVA answers, LisaAnne's
    {"imgToEval": ...}; of a folder the file captions.jsonl (or .json, or responses.*, answers.*).

    data: the ground truth: a JSON file of classes by image id, gzip or not; or a folder with
    coco2014_chair_gt_objects.json(.gz) or ground_truth*.json in it; or one with COCO's instances_*.json and captions_*.json in it or
    below it, of which the classes of the captions' images are built by the flavor's own words, as upstream builds them. Without it, or
    in a folder with none of these, the packaged ground truth of all images of 2014 is used: CHAIR-metric-standalone's, built with
    pattern's singulars.

    images: folder with the pictures to describe; prompt: what to ask.

    An image id that the ground truth does not have has no classes: all mentions are wrong. Ids that are all texts are read as the
    number in them, as less-is-more does. An image with several captions is scored each time.
    """

    name = "chair"
    needs = "pictures of COCO 2014 by --images; the ground truth is packaged"
    sampling = Sampling(max_tokens=512)
    texts = ("caption", "text", "answer", "response", "prediction", "output")
    keys = ("image_id", "image", "sample_id")
    flavors = {
        "pattern_singularize": Flavor("Maxlinn/CHAIR-metric-standalone 640c507 (words of LisaAnne/Hallucination 6e4d33c); NLTK 3.8-3.9.2"),
        "wordnet_pos_lemma": Flavor("shikiw/OPERA 61426ef chair.py (HALC, PAI, less-is-more, CCA-LLaVA alike); NLTK 3.8"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/coco_cap_chair/utils.py; NLTK 3.8"),
    }

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        images: str | None = None,
        prompt: str = "Please describe this image in detail.",
        limit: int | None = None,
    ) -> None:
        if data is not None and Path(data).name.startswith(("instances_", "captions_")):
            data = str(Path(data).parent)  # one of COCO's files stands for all
        super().__init__(data, flavor="wordnet_pos_lemma" if flavor == "opera" else flavor, limit=limit)
        self.images, self.prompt = images, prompt
        harness = self.flavor == "lmms-eval"
        self.main, mentions = ("coco_cap_chair_s", "coco_cap_chair_i") if harness else ("CHAIRs", "CHAIRi")
        self.lower = frozenset((self.main, mentions))
        self.items_metric, self.items_scale = self.main, 100.0 if harness else 1.0
        self.ids = ("image_id", "question_id") if harness else self.keys

    @cached_property
    def vocabulary(self) -> Vocabulary:
        text = packaged(self.name, SYNONYMS).decode()
        return Vocabulary(synonyms(text, strip=False), {**{phrase: phrase for phrase in TWO_WORDS}, **PHRASES})

    @cached_property
    def words(self) -> Words:
        """The flavor's words of a caption."""
        return pattern_words if self.flavor == "pattern_singularize" else wordnet_words

    @cached_property
    def mentions(self) -> Words:
        """The same, as far as mentions and phrases depend on them: faster."""
        return pattern_words if self.flavor == "pattern_singularize" else wordnet_mentions(self.vocabulary.words)

    def truth(self, wanted: Iterable[Any] | None = None) -> Truth:
        """Classes by image id; with `wanted`, of these images, as far as they are known."""
        path = self._truth_file()
        images = None if wanted is None else set(wanted)
        if path is None and self._annotated:
            return build_truth(Path(str(self.data)), self.vocabulary, self.mentions, images)
        if path is None:
            path = PACKAGED / self.name / TRUTH
            if self.data is not None:
                self.flags.append(f"{self.data} holds no ground truth; the packaged one of COCO 2014 is used")
        if path.name == TRUTH and self.flavor != "pattern_singularize":
            self.flags.append(
                "ground truth built with pattern's singulars; give COCO's annotations as data to build it with this flavor's words"
            )
        return read_truth(path, images)

    def _truth_file(self) -> Path | None:
        """The ground truth in the user's folder, then below it; None where the folder itself has annotations, and for none."""
        root = Path(self.data) if self.data else None
        if root is None or not root.is_dir():
            return find(self.data, ())
        names = (TRUTH, TRUTH.removesuffix(".gz"))
        found = [root / name for name in names if (root / name).is_file()] or sorted(root.glob("ground_truth*.json*"))
        if found or any(root.glob("instances_*.json")):
            return next(iter(found), None)
        return find(self.data, names)

    @property
    def _annotated(self) -> bool:
        return self.data is not None and bool(annotation_files(Path(self.data))[0])

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        return [self._sample(image, file) for image, file in list(self._pictures().items())[: self.limit]]

    def _pictures(self) -> dict[int, str]:
        """File names by image id: those in the folder `images`, else those of the annotations, else those of the ground truth."""
        known = image_files(Path(self.data)) if self.data and self._annotated else {image: coco_name(image) for image in self.truth()}
        if self.images is None or not Path(self.images).is_dir():
            return known
        there = {number_in(path.name): path.name for path in sorted(Path(self.images).iterdir()) if path.is_file()}
        return {image: name for image, name in there.items() if image in known} or known

    def _sample(self, image: int, file: str) -> Sample:
        picture = Image(path=str(Path(self.images or ".") / file))
        asked = (Part("image"), Part("text", self.prompt))
        return Sample(str(image), (Message("user", asked),), (picture,), meta={"id": image, "image_id": image, "image": file})

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        fields = ({**row.meta, "unanswered": row.id not in responses} for row in rows)
        return rows_of([row.id for row in rows], responses, fields, text="caption")

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        if not isinstance(responses, str | Path):
            return as_answers(responses, texts=self.texts, keys=self.ids)
        path = find(str(responses), CAPTIONS)
        if path is None:
            raise ValueError(f"{responses} holds none of {', '.join(CAPTIONS)}")
        return read_answers(path, texts=self.texts, keys=self.ids)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        told = self.told(answers, flags, self.mentions)
        unanswered = [bool(answer.fields.get("unanswered")) for answer in answers.rows]
        bad = [bool(one.wrong) or silent for one, silent in zip(told, unanswered, strict=True)]
        if any(unanswered):
            flags.append(f"{sum(unanswered)} images have no caption; counted as hallucinating")
        counts = {
            "captions": len(told),
            "hallucinating_captions": sum(bad),
            "mentions": sum(len(one.mentions) for one in told),
            "hallucinated_mentions": sum(len(one.wrong) for one in told),
            "gt_objects": sum(len(one.there) for one in told),
            "recalled_objects": sum(len(one.recalled) for one in told),
            "tokens": sum(len(one.words) for one in told),
        }
        figures = {
            "CHAIRs": counts["hallucinating_captions"] / counts["captions"],
            "CHAIRi": ratio(counts["hallucinated_mentions"], counts["mentions"], "CHAIRi", flags),
            "Recall": ratio(counts["recalled_objects"], counts["gt_objects"], "Recall", flags),
        }
        results = FIGURES[self.flavor](figures, counts)
        printed = () if self.flavor == "lmms-eval" else tuple(f"{key:<10}: {value * 100:.01f}" for key, value in results.items())
        items = tuple(Judged(name, float(one)) for name, one in zip(sample_ids([one.image for one in told]), bad, strict=True))
        return self.scored(len(told), results, flags=flags, raw={**results, **counts}, printed=printed, items=items)

    def told(self, answers: Answers, flags: list[str], words: Words | None = None) -> list[Told]:
        """What each caption says, in the order of the rows: upstream's `sentences`. ValueError, naming the row, for no caption.

        words: other words of a caption than the flavor's, `mentions` where the words themselves do not matter.
        """
        read = self.words if words is None else words
        images = self._images(answers.rows, flags)
        truth = self._given_truth(images, answers.rows) or self.truth([image for image in images if isinstance(image, int)])
        if unknown := [image for image in images if image not in truth]:
            what = f"{len(unknown)} captions are of images without ground truth, {unknown[0]!r} for one"
            flags.append(f"{what}: all their mentions count as hallucinated, as upstream has it")
        return [self._told(answer, image, truth.get(image, frozenset()), read) for answer, image in zip(answers.rows, images, strict=True)]

    def _images(self, rows: Sequence[Answer], flags: list[str]) -> list[Any]:
        """Each row's image id: as it is, or the number in it where all are texts."""
        for row in rows:
            if row.key is None and "image_id" not in row.fields:
                raise ValueError(f"row {row.row} has no image id; expected a field `{self.ids[0]}` beside the caption")
            if not isinstance(row.key, int | float | str | None):
                raise ValueError(f"row {row.row}: the image id is {row.key!r}; expected a number")
        if not all(isinstance(row.key, str) for row in rows):
            return [row.key for row in rows]
        if self.flavor != "lmms-eval":  # which has texts itself
            flags.append("image ids are texts, read as the numbers in them (as less-is-more does; CHAIR-metric-standalone would know none)")
        return list(_numbers(rows))

    def _given_truth(self, images: Sequence[Any], rows: Sequence[Answer]) -> Truth | None:
        """lmms-eval's logs carry each image's classes."""
        if self.flavor != "lmms-eval" or not all(isinstance(row.fields.get("gt_object"), list) for row in rows):
            return None
        return {image: frozenset(row.fields["gt_object"]) for image, row in zip(images, rows, strict=True)}

    def _told(self, answer: Answer, image: Any, there: frozenset[str], read: Words) -> Told:
        if not isinstance(answer.text, str):
            raise ValueError(f"row {answer.row} (image {image!r}): the caption is {answer.text!r}; expected a text")
        words, mentions = self.vocabulary.scan(read(answer.text))
        return Told(image, words, mentions, [mention for mention in mentions if mention.name not in there], there)


# -- figures by flavor -------------------------------------------------------------------------------------------------


def standalone(figures: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
    return dict(figures)


def opera(figures: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
    return {**figures, "Len": 0.01 * counts["tokens"] / counts["captions"]}


def lmms_eval(figures: Mapping[str, float], counts: Mapping[str, int]) -> dict[str, float]:
    names = {"coco_cap_chair_i": "CHAIRi", "coco_cap_chair_s": "CHAIRs", "coco_cap_recall": "Recall"}
    return {name: figures[key] * 100 for name, key in names.items()}


FIGURES: dict[str, Callable[[Mapping[str, float], Mapping[str, int]], dict[str, float]]] = {
    "pattern_singularize": standalone,
    "wordnet_pos_lemma": opera,
    "lmms-eval": lmms_eval,
}


# -- image ids ---------------------------------------------------------------------------------------------------------


def number_in(value: Any) -> int | None:
    """The image id in a file name ("COCO_val2014_000000000139.jpg") or a text; None for a text without one."""
    found = re.search(r"(\d+)(?:\.\w+)?$", str(value))
    return int(found[1]) if found else None


def _numbers(rows: Sequence[Answer]) -> Iterator[int]:
    for row in rows:
        number = number_in(row.key)
        if number is None:
            raise ValueError(f"row {row.row}: there is no image id in {row.key!r}; expected COCO's number or file name")
        yield number
