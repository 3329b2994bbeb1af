"""`mmalign video plan`: how many frames of how many tokens a window, or a budget of computing, is best spent on, and which frames."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ...choices import Keys
from ...config import JobConfig, UserError
from .film import FilmConfig, Stretch, stretch_of, told_plainly

if TYPE_CHECKING:
    from video.budget import Law, Limit, Planned
    from video.budget.cost import Cost, Sizes
    from video.budget.planning import Footage
    from video.budget.text import TextOf

UNSEEN = 100_000  # frames of a film that is not given


class SizesConfig(JobConfig):
    """Sizes of a transformer, for its FLOPs."""

    layers: int = Field(ge=1, description="layers")
    width: int = Field(ge=1, description="width")
    mlp_width: int = Field(ge=1, description="width of the MLP")
    mlp_matrices: int = Field(2, ge=2, le=3, description="matrices of the MLP, 3 where it is gated")
    kv_share: float = Field(2.0, gt=0, description="width of keys and values together over the width, 2 without grouped heads")

    def sizes(self) -> Sizes:
        """The same for video.budget."""
        from video.budget.cost import Sizes

        return Sizes(self.layers, self.width, self.mlp_width, self.mlp_matrices, self.kv_share)


class VideoPlanConfig(FilmConfig):
    """What may be spent, by which law, and what frames and tokens can be had. Without a video: the split alone, as for training."""

    window: int | None = Field(None, ge=1, description="positions of the language model for the whole prompt")
    flops: float | None = Field(None, gt=0, description="FLOPs of tower and language model until the first token")
    seconds: float | None = Field(None, gt=0, description="seconds, by the law's own timings")
    cache_gib: float | None = Field(None, gt=0, description="GiB of keys and values in the language model")
    law: str | None = Field(None, description="law file of `mmalign video fit`, or a preset's name (default: a rule of thumb)")
    text_tokens: float | None = Field(None, ge=0, description="text tokens that each frame brings (its time stamp)")
    style: str | None = Field(None, description="style of time stamps, or a pattern with <frame>: its text is counted with --tokenizer")
    tokenizer: str | None = Field(None, description="folder or hub name of the tokenizer that counts the text of --style")
    reserve: int = Field(0, ge=0, description="positions kept for question, template and answer")
    side: int = Field(27, ge=1, description="patches a side of the tower's grid: pooling it gives the tokens a frame that can be had")
    choices: list[int] = Field([], description="tokens a frame that can be had, in place of those that pooling gives")
    multiple: int = Field(1, ge=1, description="frames come in multiples of this (2 for Qwen-VL)")
    least_frames: int = Field(1, ge=1, description="at least so many frames")
    most_frames: int | None = Field(None, ge=1, description="at most so many frames")
    eps: float | None = Field(None, ge=0, description="how much worse still counts as good (default: the noise of a run)")
    trained: str | None = Field(
        None, pattern=r"^[0-9]+x[0-9]+$", description="FRAMESxTOKENS that the model was trained with, such as 120x49"
    )
    sampler: Annotated[str, Keys("video/frames/__init__.py", "SAMPLERS")] = Field("uniform", description="rule that places the frames")
    tower: SizesConfig | None = Field(None, description="sizes of the vision tower (default: SigLIP-so400m)")
    language: SizesConfig | None = Field(None, description="sizes of the language model (default: Qwen2-7B)")
    patches: int = Field(729, ge=1, description="positions of the tower for a frame")
    out: Path | None = Field(None, description="JSON file to write the plan to")
    json_output: bool = Field(False, description="one JSON object on standard output", json_schema_extra={"flag": "json"})


def run(config: VideoPlanConfig) -> int:
    """Print the plan, and write it where asked. Raises UserError."""
    from video.budget import Refused, plan

    law = law_of(config.law)
    stretch = stretch_of(config) if config.video is not None else None
    film = film_of(config, stretch)
    text = text_of(config, film, stretch)
    costs = costs_of(config)
    limits = limits_of(config, law, costs)
    try:
        with told_plainly(config.video):
            planned = plan(film, limits, text, _wishes(config), law)
    except UserError as error:
        if isinstance(error.__cause__, Refused):
            raise UserError(f"{error}; without --law the plan is the rule of thumb's") from error
        raise
    _show(config, planned, law, stretch, costs)
    return 0


def law_of(name: str | None) -> Law | None:
    """The law of a file or a preset. Raises UserError."""
    from video.budget import PRESETS, preset, read_law

    if name is None:
        return None
    try:
        return preset(name) if name in PRESETS else read_law(Path(name).expanduser())
    except (ValueError, OSError) as error:
        raise UserError(f"--law {name}: {error}") from error


def film_of(config: VideoPlanConfig, stretch: Stretch | None) -> Footage:
    """The film as planning sees it; one frame a second without end where none is given."""
    import numpy as np

    from video.budget.planning import Footage

    if stretch is None:
        return Footage(UNSEEN, np.arange, np.arange(UNSEEN, dtype=np.float64))
    return Footage(stretch.part.n_frames, lambda n: stretch.places(config.sampler, n), stretch.info.times)


def text_of(config: VideoPlanConfig, film: Footage, stretch: Stretch | None) -> TextOf:
    """Text tokens of a prompt of T frames. Raises UserError for a style without a tokenizer, and for both ways to say it at once."""
    from video.budget.text import counted, flat

    if config.style is None:
        if config.tokenizer is not None:
            raise UserError("--tokenizer counts the text of a --style; name one, such as opt_visor or 'frame {}: <frame>'")
        return flat(config.text_tokens or 0.0, config.reserve)
    if config.text_tokens is not None or config.tokenizer is None:
        raise UserError("--style is counted with --tokenizer NAME; without one give --text-tokens, a number a frame, in its place")
    duration = float(film.times[-1]) if stretch is None else stretch.info.duration
    return counted(lambda frames: _pieces(config.style or "", film, frames, duration), _counter(config.tokenizer), config.reserve)


def _pieces(style: str, film: Footage, frames: int, duration: float) -> list[str]:
    from video.timestamps import clip_text

    if not frames:
        return []
    return clip_text(film.times[film.indices_of(frames)].tolist(), duration, style).filled("\0").split("\0")


def _counter(name: str) -> Callable[[list[str]], int]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(f"--tokenizer {name}: {error}") from error
    return lambda pieces: sum(map(len, tokenizer(pieces, add_special_tokens=False)["input_ids"])) if pieces else 0


def costs_of(config: VideoPlanConfig) -> dict[str, Cost]:
    """FLOPs and bytes of a plan, at the sizes given."""
    from video.budget.cost import QWEN2_7B, SIGLIP_SO400M, cache_bytes, flops

    tower = config.tower.sizes() if config.tower else SIGLIP_SO400M
    language = config.language.sizes() if config.language else QWEN2_7B
    return {"flops": flops(tower, config.patches, language), "bytes": cache_bytes(language)}


def limits_of(config: VideoPlanConfig, law: Law | None, costs: dict[str, Cost]) -> list[Limit]:
    """What may be spent. Raises UserError for no limit at all, and for seconds without a law that was timed."""
    from video.budget import Limit
    from video.budget.cost import window

    found = []
    if config.window is not None:
        found.append(Limit(window(), config.window))
    if config.flops is not None:
        found.append(Limit(costs["flops"], config.flops))
    if config.cache_gib is not None:
        found.append(Limit(costs["bytes"], config.cache_gib * 2**30))
    if config.seconds is not None:
        if law is None or law.seconds is None:
            raise UserError("--seconds needs a --law that was fitted to timed runs (a column of seconds)")
        found.append(Limit(law.seconds, config.seconds))
    if not found:
        raise UserError("nothing limits the plan: give --window, --flops, --seconds or --cache-gib")
    return found


def _wishes(config: VideoPlanConfig) -> Any:
    from video.budget import pooled
    from video.budget.planning import Wishes
    from video.budget.realisable import listed

    frames, _, tokens = (config.trained or "").partition("x")
    return Wishes(
        listed(config.choices) if config.choices else pooled(config.side),
        config.multiple,
        config.least_frames,
        config.most_frames,
        config.eps,
        (int(frames), int(tokens)) if config.trained else None,
    )


# What is shown


def _show(config: VideoPlanConfig, planned: Planned, law: Law | None, stretch: Stretch | None, costs: dict[str, Cost]) -> None:
    from data_tools.disk.durable import write_atomic

    row = planned.to_dict() | {"video": stretch.info.path if stretch else None, "flops": _flops(planned, costs)}
    if stretch is None:
        row["plan"] |= {"times": [], "indices": None}
    if config.out is not None:
        try:
            write_atomic(config.out.expanduser(), (json.dumps(row, indent=1) + "\n").encode())
        except OSError as error:
            raise UserError(f"cannot write --out {config.out}: {error}") from error
    print(json.dumps(row) if config.json_output else "\n".join(lines(config, planned, law, stretch, costs)))


def _flops(planned: Planned, costs: dict[str, Cost]) -> float:
    return float(costs["flops"].of(planned.plan.n_frames, planned.plan.total))


def lines(config: VideoPlanConfig, planned: Planned, law: Law | None, stretch: Stretch | None, costs: dict[str, Cost]) -> list[str]:
    """The plan for a terminal."""
    plan, told = planned.plan, []
    if stretch:
        told.append(f"{stretch.info!r}")
    of = f" of {config.window}" if config.window else ""
    told += [
        f"plan: {plan.n_frames} frames of {plan.tokens_a_frame} tokens: {plan.visual_tokens} visual + {plan.text_tokens} text = "
        f"{plan.total}{of} positions",
        f"why: {plan.reason}",
    ]
    if law and planned.value is not None and planned.eps is not None:
        near = ", ".join(f"{_range(one.least_frames, one.most_frames)} of {one.tokens}" for one in planned.near)
        gains = planned.gains
        told += [
            f"{law.metric} by the law: {planned.value:.4g}; one frame more {gains['one_frame_more']:+.1e}, one token a frame more "
            f"{gains['one_token_a_frame_more']:+.1e}",
            f"as good, within {planned.eps:.2g}: {near} tokens",
        ]
    sizes = "the sizes given" if config.tower or config.language else "SigLIP-so400m and Qwen2-7B (--set tower..., language... for others)"
    tower = costs["flops"].per_frame * plan.n_frames / _flops(planned, costs)
    told.append(f"cost: {_flops(planned, costs) / 1e12:.1f} TFLOP at {sizes}, {tower:.0%} of it the tower")
    if law and law.seconds:
        told.append(f"seconds by the law's timings: {float(law.seconds.of(plan.n_frames, plan.total)):.3g}")
    if stretch:
        told.append("times: " + " ".join(f"{time:.2f}" for time in plan.times))
    if config.text_tokens is None and config.style is None:
        told.append("note: no text around frames was counted; --text-tokens N or --style with --tokenizer does")
    return told + [f"warning: {warning}" for warning in planned.warnings]


def _range(low: int, high: int) -> str:
    return f"{low}" if low == high else f"{low}-{high}"
