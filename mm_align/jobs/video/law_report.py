"""What `mmalign video fit` shows of a law: lines for the terminal, a plot of curves, budgets and optima, and a page with all of it."""

from __future__ import annotations

import base64
import io
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from video.budget import Law, Optimum, Runs

log = logging.getLogger(__name__)


class AtBudget(NamedTuple):
    """The optimum under a window, or why there is none."""

    window: float
    optimum: Optimum | None
    reason: str


def told(law: Law, optima: Sequence[AtBudget]) -> list[str]:
    """The law in a few lines."""
    values = ", ".join(f"{name} {value:.4g}" for name, value in law.parameters.items())
    lines = [f"{law.metric} = {'-(' if law.better == 'higher' else ''}{law.shape.formula}{')' if law.better == 'higher' else ''}: {values}"]
    scores = ", ".join(f"{name} {score['loo']:.3g}" for name, score in law.scores.items())
    lines.append(f"form {law.form} of {law.covered.runs} runs, noise of a run {law.noise:.3g}; leave-one-out errors: {scores}")
    if law.refusal:
        lines.append(f"no optimum: {law.refusal}")
    lines += [f"  {described(found)}" for found in optima[:: max(1, len(optima) // 2)]]
    return [*lines, *(f"note: {warning}" for warning in law.warnings)]


def described(found: AtBudget) -> str:
    """A budget in words."""
    if found.optimum is None:
        return f"window {found.window:.0f}: no optimum, {found.reason}"
    best = found.optimum
    return (
        f"window {found.window:.0f}: {best.frames:.0f} frames [{best.frames_interval.low:.0f}, {best.frames_interval.high:.0f}] of "
        f"{best.tokens:.0f} tokens [{best.tokens_interval.low:.0f}, {best.tokens_interval.high:.0f}], {best.value:.4g}"
    )


def budgets(law: Law, text_tokens: float, count: int = 9) -> list[AtBudget]:
    """Optima at windows at equal ratios, from a sixteenth of the runs' largest up to that; none for a law that refuses, one where all
    runs had one budget."""
    import numpy as np

    from video.budget import Limit, Refused, optimum
    from video.budget.cost import window

    if law.refusal:
        return []
    most = law.covered.budget
    wanted = [most] if law.form == "iso_parabola" else np.exp(np.linspace(np.log(most / 16), np.log(most), count))
    found = []
    for size in wanted:
        try:
            found.append(AtBudget(float(size), optimum(law, [Limit(window(text_tokens), float(size))]), ""))
        except Refused as error:
            found.append(AtBudget(float(size), None, str(error)))
    return found


def page(law: Law, runs: Runs, optima: Sequence[AtBudget], text_tokens: float, picture: bytes | None) -> str:
    """The page, self-contained."""
    import numpy as np

    from data_tools.report.page import css, environment

    low, high = np.quantile(law.resamples, [0.05, 0.95], axis=0)
    expected = law.value(runs.frames, runs.tokens)
    return (
        environment(__package__)
        .get_template("law.html.j2")
        .render(
            css=css(),
            law=law,
            formula=law.shape.formula,
            parameters=[(name, law.parameters[name], low[i], high[i]) for i, name in enumerate(law.shape.parameters)],
            optima=optima,
            text_tokens=text_tokens,
            picture=base64.b64encode(picture).decode() if picture else "",
            runs=[
                {"frames": t, "tokens": m, "value": v, "law": e, "off": (v - e) / law.noise if law.noise > 0 else 0.0}
                for t, m, v, e in zip(runs.frames, runs.tokens, runs.values, expected, strict=True)
            ],
        )
        .lstrip()
    )


# The plot


def plot(law: Law, runs: Runs, optima: Sequence[AtBudget], text_tokens: float) -> bytes | None:
    """PNG of four panels: both slices, budgets with their band, optima with their interval. None, with a warning, without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no plot: matplotlib is not installed (pip install 'mm-align[plot]'); --no-plot leaves it out knowingly")
        return None
    figure = Figure(figsize=(11, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    (frames, tokens), (split, ridge) = figure.subplots(2, 2)
    _slices(frames, law, runs.frames, runs.tokens, runs.values, along_frames=True)
    _slices(tokens, law, runs.tokens, runs.frames, runs.values, along_frames=False)
    _splits(split, law, optima, text_tokens)
    _ridge(ridge, law, [one for one in optima if one.optimum])
    held = io.BytesIO()
    figure.savefig(held, format="png", dpi=110)
    return held.getvalue()


def _slices(axes: Any, law: Law, along: np.ndarray, fixed: np.ndarray, values: np.ndarray, *, along_frames: bool) -> None:
    """Runs as dots and the law as a curve over one axis, one colour for each number on the other."""
    import numpy as np

    line = np.exp(np.linspace(np.log(along.min()), np.log(along.max()), 100))
    levels = np.unique(fixed)
    for i, level in enumerate(levels[np.unique(np.linspace(0, len(levels) - 1, 6).round().astype(int))]):
        here = fixed == level
        if len(np.unique(along[here])) < 2 and law.form != "iso_parabola":
            continue
        axes.scatter(along[here], values[here], s=14, color=f"C{i}")
        if law.form != "iso_parabola":
            drawn = law.value(line, level) if along_frames else law.value(level, line)
            axes.plot(line, drawn, color=f"C{i}", label=f"{level:g} {'tokens a frame' if along_frames else 'frames'}")
    axes.set(xscale="log", xlabel="frames" if along_frames else "tokens a frame", ylabel=law.metric)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _splits(axes: Any, law: Law, optima: Sequence[AtBudget], text_tokens: float) -> None:
    """Along budgets: the metric over frames with the band of the resamples, dashed outside of the runs, the optimum marked."""
    import numpy as np

    (least_t, most_t), (least_m, most_m) = law.covered.frames, law.covered.tokens
    for i, found in enumerate(optima[:: max(1, len(optima) // 2)]):
        farthest = max(most_t, 1.6 * found.optimum.frames if found.optimum else 0.0) if law.shape.extrapolates else most_t
        frames = np.exp(np.linspace(np.log(least_t), np.log(farthest), 160))
        tokens = found.window / frames - text_tokens
        frames, tokens = (part[(tokens > least_m / 1.5) & (tokens < most_m * 1.5)] for part in (frames, tokens))
        if not len(frames):
            continue
        inside = (frames <= most_t) & (tokens >= least_m) & (tokens <= most_m)
        values = law.value(frames, tokens)
        axes.plot(frames, values, "--", color=f"C{i}", linewidth=1)
        axes.plot(frames, np.where(inside, values, np.nan), color=f"C{i}", label=f"window {found.window:.0f}")
        low, high = np.quantile(law.sign * law.losses(frames, tokens), [0.05, 0.95], axis=0)
        axes.fill_between(frames, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
        if found.optimum:
            axes.plot(found.optimum.frames, found.optimum.value, "o", color=f"C{i}")
    axes.set(xscale="log", xlabel="frames (tokens fill the window)", ylabel=law.metric, title="splits of a window, 90 % bands")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _ridge(axes: Any, law: Law, found: Sequence[AtBudget]) -> None:
    """Best frames and tokens over the window, with their intervals."""
    axes.set(xlabel="window", title="the optimum, 90 % intervals")
    if not found:
        axes.text(0.5, 0.5, "no optimum can be told", ha="center", va="center", transform=axes.transAxes)
        return
    windows = [one.window for one in found]
    for i, name in enumerate(("frames", "tokens")):
        best = [getattr(one.optimum, name) for one in found]
        bounds = [getattr(one.optimum, f"{name}_interval") for one in found]
        axes.plot(windows, best, "o-", color=f"C{i}", label="frames" if name == "frames" else "tokens a frame")
        axes.fill_between(windows, [b.low for b in bounds], [b.high for b in bounds], color=f"C{i}", alpha=0.2, linewidth=0)
    axes.set(xscale="log", yscale="log")
    _plain_ticks(axes)
    axes.legend(fontsize=8)


def _plain_ticks(axes: Any) -> None:
    """Plain numbers at 1, 2 and 5 of each decade: matplotlib's own overlap on less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
