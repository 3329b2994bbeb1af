"""The law l(T, M): what was fitted, how well it is known, and what it says of any number of frames and tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .cost import Cost
from .forms import FORMS, Form
from .forms.base import ONE_BUDGET
from .runs import Better

KIND = "mm-align video law"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Covered:
    """What the runs covered: least and most frames and tokens a frame, the largest T x M, runs and different settings."""

    frames: tuple[float, float]
    tokens: tuple[float, float]
    budget: float
    runs: int
    settings: int

    def told(self) -> str:
        """The ranges in words."""
        return f"{self.frames[0]:g} to {self.frames[1]:g} frames, {self.tokens[0]:g} to {self.tokens[1]:g} tokens a frame"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "frames": list(self.frames),
            "tokens": list(self.tokens),
            "budget": self.budget,
            "runs": self.runs,
            "settings": self.settings,
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Covered:
        """The inverse of `to_dict`."""
        (least_t, most_t), (least_m, most_m) = row["frames"], row["tokens"]
        return cls((float(least_t), float(most_t)), (float(least_m), float(most_m)), row["budget"], row["runs"], row["settings"])


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """A fitted law.

    form: a key of FORMS. parameters: those of its formula, of the loss (of minus the metric where more is better). resamples: float64
    [R, p], the same fitted to R resampled tables. noise: the standard deviation of a run about the law. scores: what each form that the
    runs allow was worth. refusal: why no optimum may be read off it, "" when one may. seconds: how long a step or an answer took, where
    the table told.

    Raises ValueError for a form or parameters that do not exist.
    """

    form: str
    parameters: dict[str, float]
    resamples: np.ndarray
    noise: float
    covered: Covered
    better: Better = "lower"
    metric: str = "loss"
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    refusal: str = ""
    warnings: tuple[str, ...] = ()
    seconds: Cost | None = None

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"unknown form {self.form!r} of a law: {', '.join(FORMS)}")
        names = self.shape.parameters
        if set(self.parameters) != set(names):
            raise ValueError(f"the parameters of {self.shape.formula} are {', '.join(names)}, got {', '.join(self.parameters)}")
        resamples = np.asarray(self.resamples, dtype=np.float64).reshape(-1, len(names))
        object.__setattr__(self, "resamples", resamples)
        natural = np.concatenate([np.array([[self.parameters[name] for name in names]], dtype=np.float64), resamples])
        with np.errstate(invalid="ignore", divide="ignore"):
            if not np.isfinite(self.shape.search(natural)).all():
                raise ValueError(f"parameters of {self.shape.formula} that must be above 0 are not: {self.parameters}")

    @property
    def shape(self) -> Form:
        """The form itself."""
        return FORMS[self.form]

    @property
    def sign(self) -> int:
        """What the metric is multiplied with so that less is better."""
        return 1 if self.better == "lower" else -1

    def loss(self, frames: Any, tokens: Any) -> np.ndarray:
        """l(T, M), less is better, for arrays that fit together."""
        natural = np.array([[self.parameters[name] for name in self.shape.parameters]])
        return _values(self.shape, natural, frames, tokens)[0]

    def losses(self, frames: Any, tokens: Any) -> np.ndarray:
        """l(T, M) of every resample: [R, ...]."""
        return _values(self.shape, self.resamples, frames, tokens)

    def own_losses(self, frames: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """l of resample r at frames[r], tokens[r]: [R]."""
        return self.shape.value(self.shape.search(self.resamples), np.log(frames)[:, None], np.log(tokens)[:, None])[:, 0]

    def value(self, frames: Any, tokens: Any) -> np.ndarray:
        """The metric as it is measured."""
        return self.sign * self.loss(frames, tokens)

    def holds_at(self, frames: Any, tokens: Any) -> np.ndarray:
        """Whether T x M is a budget that the form speaks of: any, or that of the runs."""
        budget = np.asarray(frames, dtype=np.float64) * tokens
        return np.abs(np.log(budget / self.covered.budget)) <= ONE_BUDGET if self.shape.one_budget else np.ones_like(budget, dtype=bool)

    def beyond(self, frames: float, tokens: float) -> list[str]:
        """What of a setting lies outside of what was run, a sentence each."""
        told = []
        for what, asked, (least, most) in (("frames", frames, self.covered.frames), ("tokens a frame", tokens, self.covered.tokens)):
            if not least * 0.999 <= asked <= most * 1.001:
                told.append(f"{asked:g} {what} are outside of what was run ({least:g} to {most:g}): the law is stretched there")
        if not told and frames * tokens > self.covered.budget * 1.05:
            told.append(f"{frames:g} x {tokens:g} is a larger budget than any that was run ({self.covered.budget:g})")
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "kind": KIND,
            "version": VERSION,
            "form": self.form,
            "formula": self.shape.formula,
            "parameters": self.parameters,
            "metric": self.metric,
            "better": self.better,
            "noise": self.noise,
            "covered": self.covered.to_dict(),
            "scores": self.scores,
            "refusal": self.refusal,
            "warnings": list(self.warnings),
            "seconds": self.seconds.to_dict() if self.seconds else None,
            "resamples": [[float(f"{value:.10g}") for value in row] for row in self.resamples],
        }

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Law:
        """The inverse of `to_dict`. Raises ValueError for what is no law of ours."""
        if row.get("kind") != KIND or row.get("version") != VERSION:
            raise ValueError(f"expected kind {KIND!r}, version {VERSION}; found {row.get('kind')!r}, {row.get('version')!r}")
        try:
            return cls(
                form=row["form"],
                parameters=dict(row["parameters"]),
                resamples=np.array(row["resamples"], dtype=np.float64),
                noise=float(row["noise"]),
                covered=Covered.from_dict(row["covered"]),
                better=row["better"],
                metric=row["metric"],
                scores={name: dict(found) for name, found in row["scores"].items()},
                refusal=row["refusal"],
                warnings=tuple(row["warnings"]),
                seconds=Cost.from_dict(row["seconds"]) if row["seconds"] else None,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the law lacks a part or has it wrong: {error}") from error


def _values(form: Form, natural: np.ndarray, frames: Any, tokens: Any) -> np.ndarray:
    t, m = np.broadcast_arrays(np.asarray(frames, dtype=np.float64), np.asarray(tokens, dtype=np.float64))
    if t.size and (t.min() <= 0 or m.min() <= 0):
        raise ValueError("the law is of more than 0 frames and more than 0 tokens")
    found = form.value(form.search(natural), np.log(t).ravel(), np.log(m).ravel())
    return found.reshape(len(natural), *t.shape)


def read_law(path: str | Path) -> Law:
    """The law of a file that `mmalign video fit` wrote. Raises ValueError, OSError."""
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no law: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path} is no law: it holds a {type(row).__name__}")
    try:
        return Law.from_dict(row)
    except ValueError as error:
        raise ValueError(f"{path} is no law: {error}") from error
