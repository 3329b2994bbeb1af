"""THRONE (Kaul et al. 2024, arXiv 2405.05256): objects that language models find in free descriptions, by votes, against COCO's classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, parse_json, read_text
from .base import Judged, check_known
from .judged import OWN_WORDS, JudgedBenchmark, Prompt
from .judges import JudgeCall
from .official import Flavor, Scored
from .sources import PACKAGED, Published, find, packaged

if TYPE_CHECKING:
    import numpy as np

ORIGIN = "COCO's annotations (https://cocodataset.org, CC BY 4.0)"
FEW = Published("instances_val2014_60_images.json", "471b7f8abb069391ccb4771d53d3260ec61814bceecb870cf433543a7b55bbf7", ORIGIN)
INSTANCES = ("instances_val2017.json", "instances_val2014.json", "instances*.json")
FOLDERS = ("aqa", "combined")  # of evaluators' answers: the examples', upstream's
QUESTION = "Describe the picture in detail."
READ = 1024  # letters of a description that evaluators see


class Truth(NamedTuple):
    """names: categories in the order of their ids. present: of each image, the places of the categories that are annotated."""

    names: tuple[str, ...]
    present: Mapping[int, frozenset[int]]
    files: Mapping[int, str]
    whole: bool


class Votes(NamedTuple):
    """counts: votes for each category of each image, [N, C]. total: lists of answers of each image, [N]. truth: [N, C]."""

    counts: np.ndarray
    total: np.ndarray
    truth: np.ndarray


class ThroneBenchmark(JudgedBenchmark):
    """Scores what evaluator models answered when asked, of every description, whether it says that an object is there.

    Responses are a folder of files, one an evaluator (or the folder that holds `aqa` or `combined`), or one such file:
    {image id: answers}, categories in the order of their ids, for one prompt after the other. An answer is yes if nothing else is in
    it. data: COCO's instances file, or its folder; without it an instances file beside the responses is used, else the packaged one of
    60 pictures of val2014. Images that it does not have hold no object, as upstream has it.

    To ask a model: images, the folder of the pictures; and a judge, which is asked of every description (its first 1,024 letters) and
    category, or judge_replies, a file of {description: a list of answers an evaluator}. prompt: a file with {text} and {object}, or a
    folder of them (*.txt), in place of this project's three.

    thresholds: numbers of votes from which an object counts as said, commas between; without it every one from 1 to all votes.
    An object with fewer, but with more than all votes without them, is ignored. `class F0.5` and the like are of all votes.
    """

    name = "throne"
    main = "class F0.5"
    needs = "COCO's instances file (data), its pictures (images), answers of evaluators (judge_replies)"
    items_metric = "micro P"
    sampling = Sampling(max_tokens=512)
    flavors = {"official": Flavor("amazon-science/THRONE 45badbb throne_score_aqa.py")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        thresholds: str | int | None = None,
        judge_replies: str | None = None,
        prompt: str | None = None,
        images: str | None = None,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, judge_replies=judge_replies, prompt=prompt, images=images, limit=limit)
        words = str(thresholds or "").replace(",", " ").split()
        if not all(word.isdecimal() and int(word) for word in words):
            raise ValueError(f"throne: thresholds are numbers from 1 on, commas between; found {thresholds!r}")
        self.thresholds = [int(word) for word in words]

    # -- data --------------------------------------------------------------------------------------------------------------

    @cached_property
    def truth(self) -> Truth:
        path = find(self.data, INSTANCES) or self._beside()
        text = packaged(self.name, FEW).decode() if path is None else read_text(path)
        content = parse_json(text, path or FEW.name)
        try:
            names = {int(row["id"]): str(row["name"]) for row in content["categories"]}
            places = {category: place for place, category in enumerate(sorted(names))}
            found: dict[int, set[int]] = {}
            for row in content["annotations"]:
                found.setdefault(int(row["image_id"]), set()).add(places[row["category_id"]])
            files = {int(row["id"]): str(row.get("file_name", "")) for row in content["images"]}
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            told = f"{path} is no instances file of COCO ({error!r})"
            raise ValueError(f"{told}; expected images, annotations and categories; it comes from {ORIGIN}") from error
        present = {image: frozenset(there) for image, there in found.items()}
        return Truth(tuple(names[category] for category in sorted(names)), present, files, path is not None)

    def _beside(self) -> Path | None:
        """An instances file in the responses' folder or the one above it."""
        if self.beside is None:
            return None
        folder = Path(self.beside)
        return next((path for place in (folder, folder.parent) for path in sorted(place.glob("instances*.json"))), None)

    def read(self, responses: Any) -> Answers:
        """Rows of image_id and answers: a list an evaluator."""
        if isinstance(responses, Mapping):
            raise ValueError("rows of image_id and answers are expected, or the folder of the evaluators' files; found a mapping")
        if not isinstance(responses, str | Path):
            return _rows(responses, f"{len(responses)} rows")
        files = _files(Path(responses))
        self.beside = str(files[0].parent)
        said = [_evaluator(path) for path in files]
        rows = []
        for image in said[0]:
            lacking = next((path for path, answers in zip(files, said, strict=True) if image not in answers), None)
            if lacking is not None:
                raise ValueError(f"{lacking.name} has no answers for image {image}, which {files[0].name} has")
            rows.append({"image_id": image, "answers": [answers[image] for answers in said]})
        if more := sorted({image for answers in said for image in answers} - set(said[0])):
            self.flags.append(f"{len(more)} images that {files[0].name} does not have are left out, {more[0]} for one")
        return _rows(rows, f"{len(files)} files of answers to {len(rows)} images")

    # -- asking ------------------------------------------------------------------------------------------------------------

    def samples(self) -> list[Sample]:
        asked = (Message("user", (Part("image"), Part("text", QUESTION))),)
        shown = list(self.truth.files.items())[: self.limit]
        return [Sample(str(image), asked, (Image(path=str(Path(self.images or ".") / name)),)) for image, name in shown]

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        """The evaluators' answers about each response; nothing is in an empty one."""
        samples = self.samples()
        check_known(responses, (sample.id for sample in samples))
        texts = {sample.id: responses[sample.id].text if sample.id in responses else "" for sample in samples}
        live = self.judge_replies is None and self.judge is not None
        replies = self._judged([text for text in dict.fromkeys(texts.values()) if text]) if live else self._replies()
        rows = []
        for image, text in texts.items():
            if text and text not in replies:
                raise ValueError(f"image {image}: {self.judge_replies} has no evaluators' answers about {text[:60]!r}")
            rows.append({"image_id": int(image), "answers": replies.get(text, [])})
        return _rows(rows, f"{len(responses)} responses")

    def _replies(self) -> dict[str, list[list[str]]]:
        if self.judge_replies is None:
            raise ValueError("throne needs evaluators' answers about the descriptions: give them as judge_replies, or a judge")
        found = parse_json(read_text(Path(self.judge_replies)), self.judge_replies)
        if not isinstance(found, dict) or not all(isinstance(lists, list) for lists in found.values()):
            raise ValueError(f"{self.judge_replies} should hold {{description: [[answers of an evaluator], ...]}}")
        return found

    def _judged(self, texts: Sequence[str]) -> dict[str, list[list[str]]]:
        """One evaluator's answers about each text: yes or no, by the first word of its reply."""
        prompts = self._prompts()
        objects = [_object(name) for name in self.truth.names]
        calls = [
            JudgeCall(f"{at}/{prompt.where.stem}/{thing}", prompt.filled({"text": text[:READ], "object": thing}), subject=text)
            for at, text in enumerate(texts)
            for prompt in prompts
            for thing in objects
        ]
        replies = self.ask(calls, lambda reply: _first_word(reply) in ("yes", "no"))
        self.judging["prompts_sha256"] = [prompt.sha256 for prompt in prompts]
        if self.prompt is None:
            self.flags.append(OWN_WORDS)
        words = [_first_word(said[-1]) if said else "" for said in replies]
        size = len(prompts) * len(objects)
        return {text: [words[at * size : (at + 1) * size]] for at, text in enumerate(texts)}

    def _prompts(self) -> list[Prompt]:
        place = Path(self.prompt) if self.prompt else PACKAGED / self.name
        paths = sorted(place.glob("*.txt")) if place.is_dir() else [place]
        if not paths:
            raise ValueError(f"{place} holds no prompts: expected files (*.txt) with {{text}} and {{object}}")
        return [Prompt(self.name, path.name, str(path)) for path in paths]

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        votes = self._votes(answers, flags)
        thresholds = self.thresholds or list(range(1, max(1, int(votes.total.max())) + 1))
        by_class = {str(t): classwise(votes, t) for t in thresholds}
        by_image = {str(t): micro(votes, t) for t in thresholds}
        raw = {"class": by_class, "micro": by_image}
        results = {how: {t: _rounded(figures) for t, figures in found.items()} for how, found in raw.items()}
        flags += [
            f"{how}, threshold {t}: {', '.join(bad)} of nothing, printed as nan by upstream"
            for how, found in raw.items()
            for t, figures in found.items()
            if (bad := [name for name, value in figures.items() if value != value])
        ]
        precision, _ = per_image(votes, max(thresholds))
        items = [Judged(str(row.key), float(p)) for row, p in zip(answers.rows, precision, strict=True)]
        printed = (*_printed_class(by_class), *_printed_micro(by_image))
        more = {"judge": self.judging} if self.judging else {}
        return self.scored(len(answers.rows), results, flags=flags, raw={**raw, **more}, printed=printed, items=tuple(items))

    def figures(self, scored: Scored) -> dict[str, float]:
        """The figures of the highest threshold, by default that of all votes, as in the paper; 0 where there is nothing to divide."""
        tops = {how: list(scored.results[how].values())[-1] for how in ("class", "micro")}
        flat = [(f"{how} {name}", value) for how, found in tops.items() for name, value in found.items() if name not in ("N", "NaNs")]
        return {name: float(value) if value == value else 0.0 for name, value in flat}

    def _votes(self, answers: Answers, flags: list[str]) -> Votes:
        import numpy as np

        names, present, files, whole = self.truth
        strange = [row.key for row in answers.rows if row.key not in files]
        if strange and not whole:
            raise ValueError(
                f"image {strange[0]} is not among the {len(files)} that are packaged; give COCO's instances file as `data` ({ORIGIN})"
            )
        if strange:
            flags.append(f"{len(strange)} images without annotations hold no object, as upstream has it; {strange[0]} for one")
        shape = (len(answers.rows), len(names))
        counts, total, truth = np.zeros(shape, int), np.zeros(shape[0], int), np.zeros(shape, bool)
        for at, row in enumerate(answers.rows):
            truth[at, list(present.get(row.key, ()))] = True
            for said in row.fields["answers"]:
                prompts = len(said) // len(names)
                total[at] += prompts
                counts[at] += _yes(said[: prompts * len(names)], row).reshape(prompts, len(names)).sum(0)
        odd = [row.key for row in answers.rows if any(len(said) % len(names) for said in row.fields["answers"])]
        if odd:
            told = f"the answers to {len(odd)} images are no multiple of {len(names)} categories"
            flags.append(f"{told}: what is over is dropped, as upstream does; {odd[0]} for one")
        return Votes(counts, total, truth)


# -- reading -----------------------------------------------------------------------------------------------------------


def _files(path: Path) -> list[Path]:
    """The evaluators' files. ValueError for none, OSError for no such path."""
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if path.is_file():
        return [path]
    folder = next((path / name for name in FOLDERS if (path / name).is_dir()), path)
    files = [file for file in sorted(folder.glob("*.json")) if file.name != "expected.json" and not file.name.startswith("instances")]
    if not files:
        raise ValueError(f"{path} holds no evaluators' answers: expected files such as aqa/evaluator0.json")
    return files


def _evaluator(path: Path) -> dict[int, list[Any]]:
    content = parse_json(read_text(path), path)
    try:
        said = {int(image): answers for image, answers in content.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} is no file of answers by image id ({error}); expected {{'139': ['no', 'yes', ...]}}") from error
    if bad := next((image for image, answers in said.items() if not isinstance(answers, list)), None):
        raise ValueError(f"{path}: image {bad} has no list of answers, one a category and prompt")
    return said


def _rows(rows: Sequence[Mapping[str, Any]], what: str) -> Answers:
    if not rows:
        raise ValueError(f"{what}: there are no answers")
    for number, row in enumerate(rows, 1):
        if not {"image_id", "answers"} <= row.keys():
            raise ValueError(f"row {number}: expected image_id and answers (a list an evaluator), found {', '.join(map(str, row))}")
    return Answers(tuple(Answer(number, row["image_id"], row["answers"], row) for number, row in enumerate(rows, 1)), what)


def _yes(said: Sequence[Any], row: Answer) -> np.ndarray:
    import numpy as np

    try:
        return np.array([answer.lower().strip() == "yes" for answer in said], bool)
    except AttributeError as error:
        strange = next(answer for answer in said if not isinstance(answer, str))
        raise ValueError(f"image {row.key}: an evaluator's answer is {strange!r}; expected a text") from error


def _object(name: str) -> str:
    """A category as it is asked for."""
    if name in ("skis", "scissors"):
        return name
    word = "necktie" if name == "tie" else name
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def _first_word(reply: str) -> str:
    return next(iter(re.findall(r"[a-z]+", reply.lower())), "")


# -- rules -------------------------------------------------------------------------------------------------------------


def said_and_ignored(votes: Votes, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    """[N, C] twice. What nobody voted for is absent, never ignored."""
    some = votes.counts > 0
    against = votes.total[:, None] - threshold
    return some & (votes.counts >= threshold), some & (against < votes.counts) & (votes.counts < threshold)


def classwise(votes: Votes, threshold: int) -> dict[str, float]:
    """Means over classes. A class that is never right is 0/0 in F and leaves its mean, so F can exceed P and R."""
    import numpy as np

    said, ignored = said_and_ignored(votes, threshold)
    right, all_said, there = ((part & ~ignored).sum(0).astype(np.float32) for part in (said & votes.truth, said, votes.truth))
    with np.errstate(invalid="ignore"):
        return _means(right / all_said, right / there)


def micro(votes: Votes, threshold: int) -> dict[str, float]:
    """Means over images, with the number of images, and of those whose F1 is 0/0."""
    precision, recall = per_image(votes, threshold)
    undefined = int(((precision == 0) & (recall == 0)).sum())
    return {**_means(precision, recall), "N": len(precision), "NaNs": undefined}


def per_image(votes: Votes, threshold: int) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of each image; both are 0 where nothing is said or nothing is there."""
    import numpy as np

    said, ignored = said_and_ignored(votes, threshold)
    right, all_said, there = ((part & ~ignored).sum(1) for part in (said & votes.truth, said, votes.truth))
    some = (all_said > 0) & (there > 0)
    return tuple(np.where(some, right / np.maximum(all, 1), 0.0).astype(np.float32) for all in (all_said, there))  # type: ignore[return-value]


def _means(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """In single precision, as upstream's tensors have it: third decimals depend on it."""
    import numpy as np

    from .single_precision import torch_nanmean

    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
        f_half = np.float32(1.25) * precision * recall / (np.float32(0.25) * precision + recall)
    return {name: torch_nanmean(values) for name, values in (("F1", f1), ("F0.5", f_half), ("P", precision), ("R", recall))}


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: value if isinstance(value, int) else float(f"{value:.3f}") for name, value in figures.items()}


def _printed_class(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = []
    for threshold, figures in found.items():
        lines.append(f"voting threshold: {threshold}")
        lines += [f"{name} (classwise):{'' if name == 'R' else ' '}{value:.3f}" for name, value in figures.items()]
    return lines


def _printed_micro(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    lines = []
    for threshold, figures in found.items():
        lines += [f"voting threshold: {threshold}", "micro-averaging (at image level)"]
        lines += [f"{name}: {figures[name]:.3f}" for name in ("F1", "F0.5", "P")]
        lines += [f"R:{figures['R']:.3f}", f"N:{figures['N']}", f"NaNs: {figures['NaNs']}"]
    return lines
