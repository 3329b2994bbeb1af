"""EventHallusion (Zhang et al. 2024, arXiv 2409.16597): does a video model see events that habit expects, or those that happen?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Response, Sample

from .answers import Answer, Answers, parse_json, read_text
from .base import Judged
from .judged import OWN_WORDS, JudgedBenchmark, Prompt
from .judges import JudgeCall
from .official import Flavor, Scored, ratio, rows_of

SPLITS = ("entire", "interleave", "misleading")
ORIGIN = "https://github.com/Stevetich/EventHallusion (no licence stated), with its videos"
SUFFIX = "\nPlease answer yes or no:"
DESCRIBE = "Please describe this video in detail."
TRUTHS = {"interleave": "unexpected"}  # what of `event_info` a description is compared with; else the caption


class Tally(NamedTuple):
    """How many of how many."""

    n: int
    correct: int

    def figures(self, what: str, flags: list[str]) -> dict[str, float]:
        return {"n": self.n, "correct": self.correct, "acc": ratio(self.correct, self.n, what, flags)}


class EventHallusionBenchmark(JudgedBenchmark):
    """Yes/no questions about events, and descriptions that a judge compares with what happens.

    data: the folder of {entire,interleave,misleading}_questions.json, which may not be packaged; needed to ask, not to score. images:
    the folder of the videos, `SPLIT/ID.mp4` or `ID.mp4`. descriptions: ask for them too. Responses are upstream's predictions.json, or
    its folder: {split: {video: {"qa": [{"answer": "Yes.", "prediction": ...}], "desc", "event_info", "judgement"}}}. A prediction has to
    start with yes or no in small letters or capitals; None and anything else is wrong.

    A description without a `judgement` is judged if there is a judge (prompt, prompt_interleave: fields description, event; replies may
    be filed under SPLIT/VIDEO). A file of which no description is judged is scored for its questions alone, and flagged.
    """

    name = "eventhallusion"
    main = "overall_qs.acc"
    needs = "question files (data) and videos (images); for descriptions a judge"
    sampling = Sampling(max_tokens=16)
    items_metric = "overall_qs.acc"
    flavors = {"official": Flavor("Stevetich/EventHallusion 7396e04 eval.py")}

    def __init__(
        self,
        data: str | None = None,
        *,
        flavor: str | None = None,
        judge_replies: str | None = None,
        prompt: str | None = None,
        prompt_interleave: str | None = None,
        images: str | None = None,
        descriptions: bool = False,
        limit: int | None = None,
    ) -> None:
        super().__init__(data, flavor=flavor, judge_replies=judge_replies, prompt=prompt, images=images, limit=limit)
        self.prompt_interleave, self.descriptions = prompt_interleave, descriptions
        if descriptions:
            self.sampling = Sampling(max_tokens=1024)

    # -- asking ------------------------------------------------------------------------------------------------------------

    @cached_property
    def videos(self) -> dict[str, list[dict[str, Any]]]:
        """The question files by split. ValueError for none, or for files of something else."""
        root = Path(self.data or ".")
        if self.data is None:
            raise ValueError(
                f"{self.name} asks the questions of {', '.join(f'{s}_questions.json' for s in SPLITS)}, from {ORIGIN}: give data"
            )
        paths = {split: root / f"{split}_questions.json" for split in SPLITS}
        found = {split: parse_json(read_text(path), path) for split, path in paths.items() if path.is_file()}
        if not found:
            raise ValueError(f"{root} holds no {SPLITS[0]}_questions.json; it comes from {ORIGIN}")
        for split, videos in found.items():
            bad = next((v for v in videos if not isinstance(v, dict) or "questions" not in v), None) if isinstance(videos, list) else videos
            if bad is not None:
                raise ValueError(
                    f"{paths[split]} is no question file: expected a list of videos with id and questions, found {str(bad)[:60]}"
                )
        return {split: videos[: self.limit] for split, videos in found.items()}

    def samples(self) -> list[Sample]:
        return [sample for split, videos in self.videos.items() for video in videos for sample in self._asked(split, video)]

    def _asked(self, split: str, video: Mapping[str, Any]) -> Iterator[Sample]:
        where = Path(self.images or ".")
        path = next(
            (p for p in (where / split / f"{video['id']}.mp4", where / f"{video['id']}.mp4") if p.exists()), where / f"{video['id']}.mp4"
        )
        known = {"split": split, "video": video["id"]}
        if self.descriptions:
            asked = (Part("video"), Part("text", DESCRIBE))
            meta = {**known, "event_info": video.get("event_info", {}), "answer": "", "question": DESCRIBE}
            yield Sample(f"{split}/{video['id']}/desc", (Message("user", asked),), (Image(path=str(path)),), meta=meta)
        for number, question in enumerate(video["questions"]):
            asked = (Part("video"), Part("text", f"{question['question']}{SUFFIX}"))
            meta = {**known, "answer": question["answer"], "question": question["question"]}
            yield Sample(f"{split}/{video['id']}/{number}", (Message("user", asked),), (Image(path=str(path)),), meta=meta)

    def answers(self, responses: Mapping[str, Response]) -> Answers:
        rows = self.samples()
        said = rows_of([row.id for row in rows], responses, [row.meta for row in rows], text="prediction")
        told: dict[str, dict[str, dict[str, Any]]] = {}
        for row in said.rows:
            videos = told.setdefault(row.fields["split"], {})
            video = videos.setdefault(row.fields["video"], {"qa": []})
            if "event_info" in row.fields:
                video |= {"desc": row.text, "event_info": row.fields["event_info"]}
            else:
                video["qa"].append(dict(row.fields))
        return predictions(told, said.understood)

    # -- scoring -----------------------------------------------------------------------------------------------------------

    def read(self, responses: Any) -> Answers:
        """Upstream's predictions.json, or what it holds."""
        if not isinstance(responses, str | Path):
            return predictions(responses, "predictions")
        path = Path(responses)
        path = path / "predictions.json" if path.is_dir() else path
        self.beside = str(path.parent)
        return predictions(parse_json(read_text(path), path), path.name)

    def report(self, answers: Answers) -> Scored:
        flags: list[str] = []
        splits: dict[str, list[Mapping[str, Any]]] = {}
        for row in answers.rows:
            splits.setdefault(row.fields["split"], []).extend([row.fields] if "video" in row.fields else [])
        splits = self._judged(splits, flags)
        judged = any("judgement" in video for videos in splits.values() for video in videos)
        if not judged:
            flags.append("no judgement of descriptions in the responses: only questions are scored")
        items = [item for videos in splits.values() for video in videos for item in _items(video)]
        questions = {split: _questions(videos) for split, videos in splits.items()}
        described = {split: _descriptions(videos) for split, videos in splits.items()} if judged else {}
        results: dict[str, Any] = {}
        for split in splits:
            results[f"{split}_qs"] = questions[split].figures(f"{split} questions", flags)
            if judged:
                results[f"{split}_desc"] = described[split].figures(f"{split} descriptions", flags)
        results["overall_qs"] = _all(questions).figures("overall questions", flags)
        if judged:
            results["overall_desc"] = _all(described).figures("overall descriptions", flags)
        results["not_matching"] = self._unmatched(splits, results, judged, flags)
        return self.scored(
            len(items), results, flags=flags, raw=results, printed=tuple(_printed(results, list(splits))), items=tuple(items)
        )

    def _judged(self, splits: Mapping[str, Sequence[Mapping[str, Any]]], flags: list[str]) -> dict[str, list[Mapping[str, Any]]]:
        """The videos with a judgement of each description that has none, where there is a judge."""
        open_ones = [video for videos in splits.values() for video in videos if "judgement" not in video and "desc" in video]
        if not open_ones or self.chosen_judge() is None:
            return {split: list(videos) for split, videos in splits.items()}
        prompts = {
            True: Prompt(self.name, "prompt_interleave.txt", self.prompt_interleave),
            False: Prompt(self.name, "prompt.txt", self.prompt),
        }
        told = [video for video in open_ones if video["desc"]]  # upstream asks nothing about an empty one
        replies = self.ask([_call(video, prompts) for video in told], lambda reply: _verdict(reply) is not None)
        self.judging["prompt_sha256"] = prompts[False].sha256
        if "model" in self.judging and not (self.prompt and self.prompt_interleave):
            flags.append(OWN_WORDS)
        said = {_key(video): of[-1] if of else "" for video, of in zip(told, replies, strict=True)}
        return {
            split: [video if "judgement" in video else {**video, "judgement": said.get(_key(video), "")} for video in videos]
            for split, videos in splits.items()
        }

    @staticmethod
    def _unmatched(
        splits: Mapping[str, Sequence[Mapping[str, Any]]], results: Mapping[str, Any], judged: bool, flags: list[str]
    ) -> dict[str, float]:
        videos = [video for of in splits.values() for video in of]
        silent = sum(yes_no_of(qa["prediction"]) is None for video in videos for qa in video["qa"])
        found = {"ques": ratio(silent, results["overall_qs"]["n"], "not matching questions", flags)}
        if judged:
            unclear = sum(verdict_of(video) is None for video in videos)
            found["desc"] = ratio(unclear, results["overall_desc"]["n"], "not matching descriptions", flags)
        return found


# -- upstream's rules --------------------------------------------------------------------------------------------------


def yes_no_of(prediction: str | None) -> str | None:
    """ "Yes." or "No.", as the answers are written, for a prediction that starts so; None for any other."""
    said = (prediction or "").lower()
    return "Yes." if said.startswith("yes") else "No." if said.startswith("no") else None


def verdict_of(video: Mapping[str, Any]) -> str | None:
    """yes or no of a judgement that starts so, stars deleted. ValueError for a video without one."""
    judgement = video.get("judgement")
    if not isinstance(judgement, str):
        raise ValueError(
            f"video '{video['video']}' of {video['split']} has the judgement {judgement!r}; expected a text that starts with yes or no"
        )
    return _verdict(judgement)


def _verdict(judgement: str) -> str | None:
    said = judgement.replace("*", "").lower()
    return "yes" if said.startswith("yes") else "no" if said.startswith("no") else None


def _key(video: Mapping[str, Any]) -> str:
    return f"{video['split']}/{video['video']}"


def _call(video: Mapping[str, Any], prompts: Mapping[bool, Prompt]) -> JudgeCall:
    """ValueError for a video whose event is not told."""
    split, field = video["split"], TRUTHS.get(video["split"], "caption")
    event = video.get("event_info", {}).get(field)
    if not isinstance(event, str) or not isinstance(video["desc"], str):
        raise ValueError(f"video '{video['video']}' of {split}: to judge its description, `desc` and event_info.{field} have to be texts")
    prompt = prompts[split in TRUTHS].filled({"description": video["desc"], "event": event})
    return JudgeCall(_key(video), prompt, subject=video["desc"])


def predictions(content: Any, what: str) -> Answers:
    """A row a video, and one without a video for a split that has none. ValueError that names the video for another shape."""
    if not isinstance(content, dict) or not all(isinstance(videos, dict) for videos in content.values()):
        raise ValueError(f"{what}: expected {{split: {{video: {{qa: [...], judgement: ...}}}}}}, found {str(content)[:60]}")
    rows: list[Answer] = []
    for split, videos in content.items():
        if not videos:
            rows.append(Answer(len(rows) + 1, split, None, {"split": split}))
        for video, told in videos.items():
            _check(split, video, told)
            rows.append(Answer(len(rows) + 1, video, None, {**told, "split": split, "video": video}))
    if not rows:
        raise ValueError(f"{what} holds no predictions")
    return Answers(tuple(rows), f"{what}: predictions of {', '.join(content)}")


def _check(split: str, video: str, told: Any) -> None:
    where = f"video '{video}' of {split}"
    if not isinstance(told, dict) or not isinstance(told.get("qa"), list):
        raise ValueError(f"{where} has no list `qa` of questions")
    for number, qa in enumerate(told["qa"], 1):
        if not isinstance(qa, dict) or "answer" not in qa or not isinstance(qa.get("prediction", 0), str | None):
            raise ValueError(f"{where}, question {number}: expected answer and prediction (a text or null), found {str(qa)[:60]}")


def _questions(videos: Sequence[Mapping[str, Any]]) -> Tally:
    asked = [qa for video in videos for qa in video["qa"]]
    return Tally(len(asked), sum(qa["answer"] == yes_no_of(qa["prediction"]) for qa in asked))


def _descriptions(videos: Sequence[Mapping[str, Any]]) -> Tally:
    return Tally(len(videos), sum(verdict_of(video) == "yes" for video in videos))


def _all(tallies: Mapping[str, Tally]) -> Tally:
    return Tally(sum(one.n for one in tallies.values()), sum(one.correct for one in tallies.values()))


def _items(video: Mapping[str, Any]) -> Iterator[Judged]:
    for number, qa in enumerate(video["qa"]):
        right = qa["answer"] == yes_no_of(qa["prediction"])
        yield Judged(f"{video['split']}/{video['video']}/{number}", float(right), video["split"])


def _printed(results: Mapping[str, Any], splits: Sequence[str]) -> Iterator[str]:
    for split in (*splits, "overall"):
        questions, described = results[f"{split}_qs"], results.get(f"{split}_desc")
        asked, seen = ("overall: ques", "overall: desc") if split == "overall" else (f"{split} ques", f"{split} videos")
        yield f"{asked}: {questions['n']}, qs correct: {questions['correct']}, qs acc: {questions['acc']}"
        if described:
            yield f"{seen}: {described['n']}, desc correct: {described['correct']}, desc acc: {described['acc']}"
    silent = results["not_matching"]
    yield f"Not matching rate: ques: {silent['ques']}" + (f", desc: {silent['desc']}" if "desc" in silent else "")
