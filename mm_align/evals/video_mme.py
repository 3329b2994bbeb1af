"""Video-MME (Fu et al. 2024, arXiv 2405.21075): multiple choice on short, medium and long videos, by the official letter rule."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, read_text
from .base import Judged
from .official import Flavor, Official, Scored, rows_of

DURATIONS = ("short", "medium", "long")
VIDEOS = 300  # of each duration
DOMAINS = ("Knowledge", "Film & Television", "Sports Competition", "Artistic Performance", "Life Record", "Multilingual")
SUB_CATEGORIES = (
    "Humanity & History", "Literature & Art", "Biology & Medicine", "Finance & Commerce", "Astronomy", "Geography", "Law", "Life Tip",
    "Technology", "Animation", "Movie & TV Show", "Documentary", "News Report", "Esports", "Basketball", "Football", "Athletics",
    "Other Sports", "Stage Play", "Magic Show", "Variety Show", "Acrobatics", "Handicraft", "Food", "Fashion", "Daily Life", "Travel",
    "Pet & Animal", "Exercise", "Multilingual",
)  # fmt: skip
TASKS = (
    "Temporal Perception", "Spatial Perception", "Attribute Perception", "Action Recognition", "Object Recognition", "OCR Problems",
    "Counting Problem", "Temporal Reasoning", "Spatial Reasoning", "Action Reasoning", "Object Reasoning", "Information Synopsis",
)  # fmt: skip
# The deleted phrases, in order. Two are two phrases in one: upstream's list lacks commas there.
PHRASES = (
    "The best answer is", "The correct answer is", "The answer is", "The answer", "The best option isThe correct option is",
    "Best answer:Best option:", "Answer:", "Option:", "The correct answer", "The correct option",
)  # fmt: skip
SECTIONS = (("domain", DOMAINS), ("sub_category", SUB_CATEGORIES), ("task_type", TASKS))
TITLES = ("Video Categories", "Video Sub Categories", "Task Categories")
ORIGIN = "https://github.com/MME-Benchmarks/Video-MME (academic use, no redistribution)"
PROMPT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) of "
    "the correct option.\n{question}\n{options}\nThe best answer is:"
)


class VideoMmeBenchmark(Official):
    """Upstream's results file: a list of {"video_id", "duration", "domain", "sub_category", "questions": [{"question_id", "task_type",
    "question", "options", "answer", "response"}], "missing"}.

    data: such a file, with or without responses, to ask a model. images: the folder of the videos, VIDEO_ID.mp4. durations: those that
    count, each with 300 videos; without it, those that the file has. skip_missing: leave out videos marked `missing`, and do
    without the 300. An answer in which no letter is found leaves the denominator, as upstream does. Percentages, one decimal.
    """

    name = "video_mme"
    main = "the entire dataset.Overall Performance.Overall"
    needs = "the results template with its questions (data), videos (images)"
    sampling = Sampling(max_tokens=16)
    items_metric = "the entire dataset.Overall Performance.Overall"
    items_scale = 100.0
    flavors = {"official": Flavor("thanku-all/parse_answer eval_your_results.py")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        images: str | None = None,
        durations: list[str] | None = None,
        skip_missing: bool = False,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, limit=limit)
        self.images, self.skip_missing = images, skip_missing
        self.durations = durations

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        if self.data is None:
            raise ValueError(
                f"{self.name} asks the questions of its results template, which may not be packaged; it comes from {ORIGIN}: give data"
            )
        return [dict(row.fields) for row in self.read(self.data).rows][: self.limit]

    def samples(self) -> list[Sample]:
        return [sample for video in self.videos for sample in self._asked(video)]

    def _asked(self, video: Mapping[str, Any]) -> Iterator[Sample]:
        path = Image(path=str(Path(self.images or ".") / f"{video['video_id']}.mp4"))
        for question in video["questions"]:
            text = PROMPT.format(question=question["question"], options="\n".join(question["options"]))
            yield Sample(str(question["question_id"]), (Message("user", (Part("video"), Part("text", text))),), (path,), meta=question)

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        said = {row.key: row.text for row in rows_of([row.id for row in rows], responses, [{} for _ in rows]).rows}
        told = [
            {**video, "questions": [{**q, "response": said[str(q["question_id"])]} for q in video["questions"]]} for video in self.videos
        ]
        if not self.skip_missing and self.limit is not None:
            self.skip_missing = True
            self.flags.append("only some videos were asked; the check for 300 a duration is left out")
        return videos_of(told, f"{len(rows)} responses")

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: str | Path | Sequence[Mapping[str, Any]]) -> Answers:
        if not isinstance(responses, str | Path):
            return videos_of(list(responses), "rows")
        path = Path(responses)
        path = path / "results.json" if path.is_dir() else path
        try:
            content = json.loads(re.sub(r",(\s*[\]}])", r"\1", read_text(path)))  # the published template has trailing commas
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is no JSON: {error}") from error
        return videos_of(content, path.name)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        durations = self.durations or [d for d in DURATIONS if any(row.fields["duration"] == d for row in answers.rows)]
        of = {duration: [row.fields for row in answers.rows if row.fields["duration"] == duration] for duration in durations}
        self._check_number(of)
        kept = {duration: [v for v in videos if not (self.skip_missing and v.get("missing"))] for duration, videos in of.items()}
        items = [item for videos in kept.values() for video in videos for item in _items(video)]
        results = {f"video Type: {duration}": _sections(videos, TITLES) for duration, videos in kept.items()}
        every = [video for videos in kept.values() for video in videos]
        results["the entire dataset"] = _sections(every, ("Video Domains", *TITLES[1:]))
        asked = sum(len(video["questions"]) for video in every)
        if asked > len(items):
            flags.append(f"{asked - len(items)} of {asked} answers hold no letter; they leave the denominator, as upstream does")
        raw = {"questions": asked, "answered": len(items), "correct": sum(item.score for item in items)}
        return self.scored(asked, results, flags=flags, raw=raw, printed=tuple(_printed(results)), items=tuple(items))

    def _check_number(self, of: Mapping[str, Sequence[Any]]) -> None:
        if self.skip_missing:
            return
        for duration, videos in of.items():
            if len(videos) != VIDEOS:
                told = f"{len(videos)} {duration} videos, where upstream asserts {VIDEOS}"
                raise ValueError(f"{told}; score a part with the option skip_missing, or name the durations that are whole")


# -- upstream's rules --------------------------------------------------------------------------------------------------


def letter_of(response: str) -> str:
    """The first capital A, B, C or D after phrases are deleted; nothing for more than ten words without one."""
    said = response.strip()
    for phrase in PHRASES:
        said = said.replace(phrase, "")
    found = re.search(r"[ABCD]", said)
    return found[0] if found else ""


def videos_of(content: Any, what: str) -> Answers:
    """A row a video. ValueError that names the video and question for anything else."""
    if not isinstance(content, list) or not content:
        raise ValueError(f"{what}: expected a list of videos with their questions, found {str(content)[:60]}")
    for number, video in enumerate(content, 1):
        if not isinstance(video, dict) or not isinstance(video.get("questions"), list) or "duration" not in video:
            raise ValueError(
                f"{what}, row {number}: expected a video with duration, domain, sub_category and questions, found {str(video)[:60]}"
            )
        for name, known in SECTIONS[:2]:
            if video.get(name) not in known:
                raise ValueError(f"{what}, row {number}: the {name} {video.get(name)!r} is none of upstream's {len(known)}")
        for question in video["questions"]:
            if question.get("task_type") not in TASKS:
                raise ValueError(f"{what}, row {number}: the task_type {question.get('task_type')!r} is none of upstream's {len(TASKS)}")
            if not isinstance(question.get("response", ""), str):
                raise ValueError(
                    f"{what}, row {number}: the response to {question.get('question_id')!r} is {question['response']!r}; expected a text"
                )
    rows = tuple(Answer(n, video.get("video_id"), None, video) for n, video in enumerate(content, 1))
    return Answers(rows, f"{what}: {len(rows)} videos")


def _answered(video: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    for question in video["questions"]:
        letter = letter_of(question.get("response", ""))
        if letter:
            yield question, letter == question["answer"]


def _items(video: Mapping[str, Any]) -> Iterator[Judged]:
    return (Judged(str(question["question_id"]), float(right), question["task_type"]) for question, right in _answered(video))


def _sections(videos: Iterable[Mapping[str, Any]], titles: Sequence[str]) -> dict[str, dict[str, float]]:
    """Percentages by section, as printed: 0 where nothing is answered."""
    answered: Counter[str] = Counter()
    correct: Counter[str] = Counter()
    for video in videos:
        for question, right in _answered(video):
            for place in (
                f"domain/{video['domain']}",
                f"sub_category/{video['sub_category']}",
                f"task_type/{question['task_type']}",
                "all",
            ):
                answered[place] += 1
                correct[place] += right
    shares = {place: float(f"{100 * correct[place] / n:.1f}") for place, n in answered.items()}
    found = {
        title: {name: shares.get(f"{field}/{name}", 0.0) for name in names} for title, (field, names) in zip(titles, SECTIONS, strict=True)
    }
    return {**found, "Overall Performance": {"Overall": shares.get("all", 0.0)}}


def _printed(results: Mapping[str, Any]) -> Iterator[str]:
    for title, sections in results.items():
        yield f"Evaluation on {title}"
        for section, figures in sections.items():
            yield section
            yield from (f"{name}: {value: .1f}%" for name, value in figures.items())
