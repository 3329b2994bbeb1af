"""`mmalign video fit`: a law of frames and tokens from a table of training runs, with a page and plots; or which runs to train first."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from ...choices import Keys
from ...config import JobConfig, UserError

if TYPE_CHECKING:
    from video.budget import Law, Runs


class VideoFitConfig(JobConfig):
    """Which runs, which of their columns, and how the law is fitted; or how many runs a design may take."""

    runs: Path | None = Field(
        None, description="table of runs: .csv, .tsv, .json or .jsonl, one run a row", json_schema_extra={"positional": True}
    )
    out: Path = Field(description="law file to write (.json), its page and plot beside it; with --design the table (.csv)")
    better: Literal["lower", "higher"] = Field("lower", description="whether less or more of the metric is better")
    metric: str | None = Field(None, description="column of the metric (default: loss and other usual names)")
    frames: str | None = Field(None, description="column of the frames (default: frames, T)")
    tokens: str | None = Field(None, description="column of the tokens a frame (default: tokens, M)")
    weight: str | None = Field(None, description="column of weights: one over a run's variance")
    seconds: str | None = Field(None, description="column of timings: a model of seconds is fitted to them too")
    form: Annotated[str, Keys("video/budget/forms/__init__.py", "FORMS", besides=("auto",))] = Field(
        "auto", description="form of the law; auto: the simplest within one standard error of the least leave-one-out error"
    )
    noise: float | None = Field(None, gt=0, description="standard deviation of a run where it is known, from repeats with other seeds")
    robust: bool = Field(True, description="Huber's loss: a run that went astray counts little")
    resamples: int = Field(400, ge=20, description="refits to noise drawn anew, behind every interval")
    seed: int = Field(0, description="of the resamples")
    text_tokens: float = Field(0.0, ge=0, description="text tokens that each frame brings, for the optima shown")
    plot: bool = Field(True, description="draw the law (needs matplotlib)")
    design: int | None = Field(None, ge=1, description="write a table of so many runs to train, instead of fitting")
    shape: Literal["grid", "sweeps", "budget"] | None = Field(None, description="kind of design (default: by the number of runs)")
    least_frames: int = Field(8, ge=1, description="of a design")
    most_frames: int = Field(128, ge=2, description="of a design")
    side: int = Field(27, ge=1, description="patches a side of the tower's grid: pooling it gives the tokens a frame of a design")
    choices: list[int] = Field([], description="tokens a frame that can be had, in place of those that pooling gives")
    budget: int | None = Field(None, ge=1, description="T x M of a design of shape budget")
    overwrite: bool = Field(False, description="replace a file that this command made before")


def run(config: VideoFitConfig) -> dict[str, Any]:
    """Write the law and its page, or the table of a design; the law as its file has it, or the design. Raises UserError."""
    from video.budget import fit

    if config.design is not None:
        return _design(config)
    if config.runs is None:
        raise UserError("no table of runs: mmalign video fit runs.csv --out law.json, or --design N for one to fill in")
    out = _out(config, ".json")
    made = settings(config)
    if _holds(out, made, overwrite=config.overwrite):
        print(f"{config.out} already holds this law; --overwrite fits it anew")
        return _read(out)
    runs = read(config)
    try:
        law = fit(runs, config.form, resamples=config.resamples, seed=config.seed, robust=config.robust, noise=config.noise)
    except ValueError as error:
        raise UserError(f"{config.runs}: {error}") from error
    print("\n".join(_write(config, out, law, runs, made)))
    return _read(out)


def read(config: VideoFitConfig) -> Runs:
    """The table. Raises UserError."""
    from video.budget import read_runs

    assert config.runs is not None
    columns = {name: getattr(config, name) for name in ("frames", "tokens", "metric", "weight", "seconds")}
    try:
        return read_runs(config.runs.expanduser(), better=config.better, **columns)
    except (ValueError, OSError) as error:
        raise UserError(f"cannot use the runs {config.runs}: {error}") from error


def settings(config: VideoFitConfig) -> dict[str, Any]:
    """What the law depends on, the table by its content."""
    assert config.runs is not None
    try:
        content = config.runs.expanduser().read_bytes()
    except OSError as error:
        raise UserError(f"cannot use the runs {config.runs}: {error}") from error
    chosen = ("better", "metric", "frames", "tokens", "weight", "seconds", "form", "noise", "robust", "resamples", "seed")
    return {"runs": hashlib.sha256(content).hexdigest(), **config.model_dump(mode="json", include=set(chosen))}


def _out(config: VideoFitConfig, suffix: str) -> Path:
    out = config.out.expanduser()
    if out.is_dir() or out.suffix != suffix:
        raise UserError(f"--out {config.out} should name a {suffix} file")
    if not out.parent.is_dir():
        raise UserError(f"--out {config.out}: there is no folder {out.parent}")
    return out


def _holds(out: Path, made: dict[str, Any], *, overwrite: bool) -> bool:
    """Whether the file is this very law. Raises UserError for a file of another kind, and for another law unless `overwrite`."""
    if not out.exists():
        return False
    try:
        earlier = _read(out)["made"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"--out {out} was not made by `mmalign video fit`; name another file") from None
    if overwrite:
        return False
    if earlier != made:
        changed = [key for key in made if earlier.get(key) != made[key]]
        raise UserError(f"--out {out} holds a law of other {', '.join(changed)}; --overwrite replaces it")
    return True


def _read(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return found


def _write(config: VideoFitConfig, out: Path, law: Law, runs: Runs, made: dict[str, Any]) -> list[str]:
    """Law, plot and page; what to say of them."""
    from data_tools.disk.durable import write_atomic

    from .law_report import budgets, page, plot, told

    optima = budgets(law, config.text_tokens)
    picture = plot(law, runs, optima, config.text_tokens) if config.plot else None
    if picture is not None:
        write_atomic(out.with_suffix(".png"), picture)
    write_atomic(out.with_suffix(".html"), page(law, runs, optima, config.text_tokens, picture).encode("utf-8", "replace"))
    write_atomic(out, (json.dumps({**law.to_dict(), "made": made}, indent=1) + "\n").encode())
    return [*told(law, optima), f"written to {config.out}, page {out.with_suffix('.html').name}"]


def _design(config: VideoFitConfig) -> dict[str, Any]:
    from data_tools.disk.durable import write_atomic
    from video.budget import pooled, suggest
    from video.budget.design import NOTES
    from video.budget.realisable import listed

    if config.runs is not None:
        raise UserError("--design writes a table to fill in, so it takes no table of runs")
    out = _out(config, ".csv")
    if out.exists() and not config.overwrite:
        raise UserError(f"{config.out} is there already, perhaps with results; --overwrite replaces it")
    assert config.design is not None
    try:
        choices = listed(config.choices) if config.choices else pooled(config.side)
        kind, chosen = suggest(config.design, (config.least_frames, config.most_frames), choices, kind=config.shape, budget=config.budget)
    except ValueError as error:
        raise UserError(str(error)) from error
    write_atomic(out, ("frames,tokens,loss\n" + "".join(f"{one.frames},{one.tokens},\n" for one in chosen)).encode())
    left = config.design - len(chosen)
    print(f"{len(chosen)} settings ({kind}: {NOTES[kind]})")
    print(f"{left} runs are left: repeat settings with other seeds, at least 4, to know the noise" if left else "repeats tell the noise")
    print(f"written to {config.out}: train them, fill in the loss, then mmalign video fit {config.out} --out law.json")
    settings = [{"frames": one.frames, "tokens": one.tokens} for one in chosen]
    return {"out": str(config.out), "shape": kind, "settings": settings, "runs_left": left}
