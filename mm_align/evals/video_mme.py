"""Video-MME (Fu et al. 2024, arXiv 2405.21075): multiple choice on short, medium and long videos, by letter rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import HARNESS, Answer, Answers, as_answers, parse_json, read_rows, read_text
from .base import Judged
from .official import Flavor, Official, Scored, rows_of
from .video_mme_rules import DURATIONS, OVERALL, RULES, SECTIONS, Asked

VIDEOS = 300  # of each duration
NAMES = ("results.json", "predictions.json")
IDS = ("video_id", "videoID", "video")  # fields that may name a row's video, the first that is there
ORIGIN = "https://github.com/MME-Benchmarks/Video-MME (academic use, no redistribution)"
PROMPT = (
    "Select the best answer to the following multiple-choice question based on the video. Respond with only the letter (A, B, C, or D) of "
    "the correct option.\n{question}\n{options}\nThe best answer is:"
)


class VideoMmeBenchmark(Official):
    """Upstream's results file: a list of {"video_id", "duration", "domain", "sub_category", "questions": [{"question_id", "task_type",
    "question", "options", "answer", "response"}], "missing"}; or rows of one question each (lmms-eval's logs, VLMEvalKit's sheets).

    data: such a file, with or without responses, to ask a model. images: the folder of the videos, VIDEO_ID.mp4. durations: those that
    count, each with 300 videos in the official flavor; without it, those that the file has. skip_missing: leave out videos marked
    `missing`, and do without the 300.
    """

    name = "video_mme"
    needs = "the results template with its questions (data), videos (images)"
    sampling = Sampling(max_tokens=16)
    flavors = {
        "official": Flavor("thanku-all/parse_answer afd52cf eval_your_results.py"),
        "lmms-eval": Flavor("lmms-eval 75571cf tasks/videomme/utils.py, letters by extract_mcq_answer"),
        "vlmevalkit": Flavor("VLMEvalKit e8e78f0 dataset/utils/videomme.py, without a judge"),
    }

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
        self.images, self.skip_missing, self.durations = images, skip_missing, durations
        self.main, self.items_scale = OVERALL[self.flavor]
        self.items_metric = self.main

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def videos(self) -> list[dict[str, Any]]:
        if self.data is None:
            raise ValueError(
                f"{self.name} asks the questions of its results template, which may not be packaged; it comes from {ORIGIN}: give data"
            )
        return [dict(row.fields) for row in self.read(self.data).rows][: self.limit]

    def samples(self) -> list[Sample]:
        return [sample for video in self.videos for sample in self._of(video)]

    def _of(self, video: Mapping[str, Any]) -> Iterator[Sample]:
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
        return videos_of(told, f"{len(rows)} responses")

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        if not isinstance(responses, str | Path):
            return videos_of(list(responses), "rows")
        path = _file(Path(responses))
        if path.suffix != ".json":
            return videos_of(read_rows(path)[1], path.name)
        content = parse_json(re.sub(r",(\s*[\]}])", r"\1", read_text(path)), path)  # the published template has trailing commas
        return videos_of(content, path.name)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        durations = self.durations or [d for d in DURATIONS if any(row.fields["duration"] == d for row in answers.rows)]
        kept = [row for row in answers.rows if row.fields["duration"] in durations]
        if self.flavor == "official":
            self._check_number(kept, durations, flags)
        asked = [one for row in kept if not (self.skip_missing and row.fields.get("missing")) for one in _questions(row)]
        if not asked:
            flags.append(f"there are no questions about {', '.join(durations)} videos; upstream gives 0")
        found = RULES[self.flavor](asked, durations, flags)
        right = sum(hit for _, hit in found.right)
        counts = {"questions": len(asked), "answered": len(asked) - found.extracted.count("-"), "correct": right}
        raw = {**counts, **found.raw, "extracted": found.extracted}
        items = tuple(Judged(one.key, float(hit), one.names["task_type"]) for one, hit in found.right)
        return self.scored(len(asked), found.results, flags=flags, raw=raw, printed=found.printed, items=items)

    def _check_number(self, rows: Sequence[Answer], durations: Sequence[str], flags: list[str]) -> None:
        if self.skip_missing:
            return
        numbers = {duration: sum(row.fields["duration"] == duration for row in rows) for duration in durations}
        if short := {duration: number for duration, number in numbers.items() if number != VIDEOS}:
            told = ", ".join(f"{number} {duration} videos" for duration, number in short.items())
            if self.limit is None:
                cure = "score a part with the option skip_missing, or name the durations that are whole"
                raise ValueError(f"{told}, where upstream asserts {VIDEOS} of each; {cure}")
            flags.append(f"{told}, where upstream asserts {VIDEOS} of each: only some were asked")


# -- files -------------------------------------------------------------------------------------------------------------


def _file(path: Path) -> Path:
    """Upstream's results in a folder, or its only JSON file that is no expectation of somebody's."""
    if not path.is_dir():
        return path
    named = [path / name for name in NAMES if (path / name).is_file()]
    return named[0] if named else path / NAMES[0]


def videos_of(content: Any, what: str) -> Answers:
    """A row a video. ValueError that names the video and question for anything else."""
    if isinstance(content, list) and content and isinstance(content[0], dict) and {"task_type", "prediction", *HARNESS} & content[0].keys():
        content = _grouped(as_answers(content, what, texts=("prediction", "response", "pred", "output", "text")), what)
    if not isinstance(content, list) or not content:
        raise ValueError(f"{what}: expected a list of videos with their questions, found {str(content)[:60]}")
    for number, video in enumerate(content, 1):
        _check(video, f"{what}, row {number}")
    rows = tuple(Answer(n, video.get("video_id"), None, video) for n, video in enumerate(content, 1))
    return Answers(rows, f"{what}: {len(rows)} videos")


def _grouped(answers: Answers, what: str) -> list[dict[str, Any]]:
    """Rows of one question each, as videos with their questions."""
    videos: dict[tuple[Any, Any], dict[str, Any]] = {}
    for row in answers.rows:
        video = next((row.fields[name] for name in IDS if name in row.fields), None)
        if video is None or "duration" not in row.fields:
            told = "expected a video with duration, domain, sub_category and questions, or a question with these and its video"
            raise ValueError(f"{what}, row {row.row}: {told}, found {', '.join(map(str, row.fields))}")
        names = {name: row.fields.get(name) for name in ("duration", "domain", "sub_category")}
        question = {"question_id": row.key, **{name: value for name, value in row.fields.items() if name != "options"}}
        videos.setdefault((row.fields["duration"], video), {"video_id": video, **names, "questions": []})["questions"].append(
            {**question, "options": row.fields.get("options", []), "response": row.text}
        )
    return list(videos.values())


def _check(video: Any, where: str) -> None:
    if not isinstance(video, dict) or not isinstance(video.get("questions"), list) or "duration" not in video:
        raise ValueError(f"{where}: expected a video with duration, domain, sub_category and questions, found {str(video)[:60]}")
    if video["duration"] not in DURATIONS:
        return
    for section, known in list(SECTIONS.items())[:2]:
        if video.get(section) not in known:
            raise ValueError(f"{where}: the {section} {video.get(section)!r} is none of upstream's {len(known)}")
    for question in video["questions"]:
        if not isinstance(question, dict) or question.get("task_type") not in SECTIONS["task_type"] or "answer" not in question:
            told = f"expected question_id, task_type (one of upstream's {len(SECTIONS['task_type'])}), answer and response"
            raise ValueError(f"{where}: {told}, found {str(question)[:80]}")


def _questions(row: Answer) -> Iterator[Asked]:
    """ValueError for a question without a response."""
    video = row.fields
    for number, question in enumerate(video["questions"]):
        key = str(question.get("question_id", f"{video.get('video_id')}-{number + 1}"))
        if "response" not in question:
            raise ValueError(f"row {row.row}: {key!r} has no response")
        names = {name: str(video[name]) for name in ("duration", "domain", "sub_category")}
        yield Asked(row.row, key, {**names, "task_type": question["task_type"]}, str(question["answer"]), question["response"], question)
