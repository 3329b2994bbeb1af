"""Candidates: N answers to each prompt by one model with the same decoding settings, so that they differ in what they say alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from data_tools.calls import Generate, Sampling
from data_tools.records import Response, Sample

from ..config import JobConfig
from .files import samples
from .pictures import prints, with_pictures
from .stage import Done, Gone, Stage, Unit


class Candidates(JobConfig):
    """How candidates are drawn [RLAIF-V 1.1: 10 of them, temperature 0.7, at most 512 new tokens]."""

    n: int = Field(10, ge=1, description="answers to each prompt")
    temperature: float = Field(0.7, ge=0, description="of drawing; 0 draws the likeliest token always")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the likeliest tokens that are drawn from")
    max_tokens: int = Field(512, ge=1, description="longest answer")
    seed: int = Field(0, description="each answer is drawn by (seed, prompt, number), whatever is asked beside it")

    @model_validator(mode="after")
    def _differ(self) -> Candidates:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"n {self.n} answers at temperature 0 are all the same; give a temperature above 0, or n 1")
        return self

    def sampling(self) -> Sampling:
        return Sampling(n=self.n, temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens, seed=self.seed)


def candidates_stage(folder: Path, options: Candidates, generate: Generate, model: Mapping[str, Any], block: int = 16) -> Stage:
    """samples.jsonl -> candidates.jsonl (Response, prompt by prompt)."""
    settings = {"options": options.model_dump(), "model": dict(model)}
    return answers_stage("candidates", lambda: samples(folder), options.sampling(), settings, generate, block)


def answers_stage(
    name: str,
    prompts: Callable[[], Iterable[Sample]],
    sampling: Sampling,
    settings: Mapping[str, Any],
    generate: Generate,
    block: int = 16,
    shown: Callable[[Sample], Sample] = lambda sample: sample,
) -> Stage:
    """Prompts -> Responses with the ids of their samples. A prompt whose picture cannot be had, or that leaves the model no room for an
    answer, leaves with the reason. shown: what the model sees of a prompt; it may raise BadImage."""

    def units() -> Iterator[Unit]:
        for sample in prompts():
            asked = [message.to_dict() for message in sample.messages]
            yield Unit((sample.id,), {"messages": asked, "pictures": prints(sample)}, sample)

    def work(items: Sequence[Sample]) -> Sequence[Done]:
        return with_pictures(items, shown, lambda s: [s.id], lambda _, ready: _answers(ready, generate, sampling))

    return Stage(name, settings, units, work, block)


def _answers(ready: Sequence[Sample], generate: Generate, sampling: Sampling) -> list[Done]:
    found = generate(ready, sampling)
    if len(found) != sampling.n * len(ready):
        raise ValueError(f"the model gave {len(found)} answers to {len(ready)} prompts; {sampling.n} each were asked for")
    return [_done(sample, found[i * sampling.n : (i + 1) * sampling.n]) for i, sample in enumerate(ready)]


def _done(sample: Sample, answers: Sequence[Response]) -> Done:
    if all(answer.no_room for answer in answers):
        return Done(gone=[Gone(sample.id, "prompt_too_long", "the model has no room for an answer behind this prompt")])
    named = [replace(answer, id=f"{sample.id}:{j}", sample_id=sample.id) for j, answer in enumerate(answers)]
    return Done([answer.to_dict() for answer in named])
