"""What `mmalign eval` is told: which models, which benchmarks, where their data and pictures are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from ...config import UserError
from ..feedback.config import ModelFields


class EvaluateConfig(ModelFields):
    """Models beside each other on benchmarks."""

    model: list[str] = Field(
        [],
        description="folders, hub ids, bundled models or endpoints, spaces or commas between; the first is what others are compared with",
        json_schema_extra={"positional": True},
    )
    bench: list[str | dict[str, Any]] = Field(
        [], description="benchmarks, commas between them: names, `scenes`, or a file of suites; `list` shows them"
    )
    out: str = Field("eval-out", description="folder for responses, results.json and report.html; the same command continues a run")
    data: list[str] = Field([], description="BENCH=PATH: its files; or one folder with a folder for each benchmark")
    images: list[str] = Field(
        [], description="BENCH=DIR: its pictures, in a folder, datasets:NAME, Parquet or tar files; or one place for all"
    )
    judge: str | None = Field(None, description="model that judges answers, for benchmarks that need one")
    judge_replies: list[str] = Field([], description="BENCH=FILE: a judge's replies that are there already")
    frames: Annotated[int, Field(ge=1)] | Literal["own"] = Field(
        8, description="pictures that stand for a video, evenly spaced; own: each model is shown it as its config's `video` says"
    )
    limit: int | None = Field(None, ge=1, description="only the first samples of each benchmark (of each part of one)")
    protocol: Literal["own", "paper"] = Field(
        "own", description="paper: decode and ask as the papers do (beams, longest answer, prompt); own: greedy, what each benchmark needs"
    )
    options: dict[str, dict[str, Any]] = Field({}, description="further options of benchmarks by name: `--set options.pope.flavor=opera`")
    sampling: dict[str, Any] = Field({}, description="what differs from each benchmark's own decoding: `--set sampling.max_tokens=32`")
    shown: int = Field(12, ge=0, description="failures shown of each benchmark, with their pictures")
    title: str = Field("Evaluation", description="heading of the report")
    update: bool = Field(False, description="other settings than before: keep the responses that do not depend on them")
    overwrite: bool = Field(False, description="start anew: delete what an earlier run wrote to --out")

    @field_validator("model")
    @classmethod
    def _several(cls, given: list[str]) -> list[str]:
        """`a,b` is `a b`; a comma in the name of a folder that is there, in an endpoint or in a reply of `null:` is its own."""
        from ...backends.load import split_name

        def divided(name: str) -> list[str]:
            whole = split_name(name)[0] != "hf" or Path(name).exists()
            return [name] if whole else [part.strip() for part in name.split(",")]

        return [part for name in given for part in divided(name) if part]

    @field_validator("bench")
    @classmethod
    def _divided(cls, given: list[str | dict[str, Any]]) -> list[str | dict[str, Any]]:
        words = ([word.strip() for word in one.split(",")] if isinstance(one, str) else [one] for one in given)
        return [word for some in words for word in some if word]


def by_bench(flag: str, given: list[str]) -> dict[str, str]:
    """`["pope=a", "b"]` -> {"pope": "a", "": "b"}; "" stands for all benchmarks. UserError for two of one name."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        key, value = (name, value) if sign and "/" not in name else ("", text)
        if key in found:
            raise UserError(f"--{flag} is given twice for {key or 'all benchmarks'}: {found[key]} and {value}")
        found[key] = value
    return found
