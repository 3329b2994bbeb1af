"""From a table of runs to a law: fit each form that the runs allow, choose by leave-one-out error, resample, and test both axes."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .cost import Cost, fit_seconds
from .forms import FORMS, Axis, Form
from .law import Covered, Law
from .levenberg import HUBER, best_of, huber_weights, solve
from .runs import Runs
from .significance import f_tail, f_test

CERTAIN = 0.05  # chance of being misled by noise alone at which an axis counts as seen
KNOWN = 10_000  # degrees of freedom of a noise that is given: as good as endless
ROBUST_FROM = 5  # runs to spare before residuals can tell a stray run from the rest


class Fit(NamedTuple):
    """One form on one table.

    search: [p]. residuals: [n]. counted: [n], Huber's weights. scale: the standard deviation of a run of mean weight, known to `freedom`
    degrees. limit: where Huber's loss turns linear, in units of sqrt(weight) times residual; inf for squares.
    """

    form: Form
    search: np.ndarray
    residuals: np.ndarray
    counted: np.ndarray
    scale: float
    freedom: int
    limit: float


class Table(NamedTuple):
    """A table as forms want it: logarithms about their middle, and values of which less is better."""

    x: np.ndarray
    y: np.ndarray
    x0: float
    y0: float
    values: np.ndarray
    weights: np.ndarray
    settings: np.ndarray


def fit(runs: Runs, form: str = "auto", *, resamples: int = 200, seed: int = 0, robust: bool = True, noise: float | None = None) -> Law:
    """The law of a table of runs.

    form: a key of FORMS, or "auto": of those that the runs allow, the simplest whose leave-one-setting-out error is within one standard
    error of the least. resamples: refits of noise drawn anew around the fit, the source of every interval. robust: Huber's loss, where
    there are runs to spare. noise: the standard deviation of a run where it is known (repeats with other seeds); else the runs tell it
    themselves, for which they must be more. A law on which no optimum may be built says so in `refusal`; it can still be drawn.

    Raises ValueError, with what is missing, when no form can be fitted.
    """
    if noise is not None and not noise > 0:
        raise ValueError(f"the noise of a run is above 0, got {noise}")
    table = as_table(runs)
    fits = {name: fit_form(FORMS[name], table, robust, noise) for name in _allowed(table, form)}
    errors = {name: leave_one_out(found, table) for name, found in fits.items()}
    name = choose(errors)
    chosen = fits[name]
    natural = chosen.form.natural(chosen.search[None], table.x0, table.y0)[0]
    return Law(
        form=name,
        parameters={key: float(value) for key, value in zip(chosen.form.parameters, natural, strict=True)},
        resamples=resampled(chosen, table, resamples, np.random.default_rng(seed)),
        noise=chosen.scale,
        covered=Covered(
            _ends(runs.frames), _ends(runs.tokens), float((runs.frames * runs.tokens).max()), len(runs), int(table.settings.max()) + 1
        ),
        better=runs.better,
        metric=runs.metric,
        scores={key: {"loo": float(np.sqrt(errors[key].mean())), "aicc": aicc(found, table)} for key, found in fits.items()},
        refusal=refused(chosen, table),
        warnings=tuple(warnings_of(chosen, table, runs)),
        seconds=_seconds(runs),
    )


def as_table(runs: Runs) -> Table:
    """Logarithms about the middle of the runs, weights of mean 1."""
    x, y = np.log(runs.frames), np.log(runs.tokens)
    x0, y0 = float(x.mean()), float(y.mean())
    return Table(x - x0, y - y0, x0, y0, runs.sign * runs.values, runs.weights / runs.weights.mean(), runs.settings)


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _allowed(table: Table, form: str) -> list[str]:
    if form != "auto" and form not in FORMS:
        raise ValueError(f"unknown form {form!r} of a law: auto, {', '.join(FORMS)}")
    asked = list(FORMS) if form == "auto" else [form]
    lacking = {name: FORMS[name].lacking(table.x, table.y) for name in asked}
    found = [name for name in asked if not lacking[name]]
    if not found:
        count = int(table.settings.max()) + 1
        reasons = "; ".join(f"{name} needs {reason}" for name, reason in lacking.items())
        raise ValueError(f"no law can be fitted to {len(table.x)} runs of {count} settings: {reasons}")
    return found


# One form


def fit_form(form: Form, table: Table, robust: bool = True, noise: float | None = None) -> Fit:
    """The best fit of `form` over its starts. The scale of Huber's loss and the fit are found in turn where no noise is given."""
    bounds, spare = form.bounds(table.values), len(table.x) - len(form.parameters)
    starts = form.starts(table.x, table.y, table.values, table.weights)
    place = (table.x, table.y, table.values, table.weights, bounds)
    search = best_of(solve(form, starts, *place), 1).search
    limit = math.inf
    for _ in range(5 if robust and spare >= ROBUST_FROM else 0):
        limit = HUBER * (noise or _robust_scale(_sizes(form, search[0], table), spare))
        if limit <= 0:
            break
        search = best_of(solve(form, np.concatenate([search, starts]), *place, huber=np.array(limit)), 1).search
    residuals = table.values - form.value(search, table.x, table.y)[0]
    sizes = np.sqrt(table.weights) * residuals
    counted = huber_weights(sizes[None], np.array([limit]))[0] if limit > 0 else np.ones_like(sizes)
    if noise:
        return Fit(form, search[0], residuals, counted, noise, KNOWN, limit)
    scale = math.sqrt(float((counted * sizes**2).sum()) / max(counted.sum() - len(form.parameters), 1e-9))
    return Fit(form, search[0], residuals, counted, scale, spare, limit)


def _sizes(form: Form, search: np.ndarray, table: Table) -> np.ndarray:
    return np.sqrt(table.weights) * (table.values - form.value(search[None], table.x, table.y)[0])


def _robust_scale(sizes: np.ndarray, spare: int) -> float:
    """A standard deviation from the middle residual, leaving out as many of the smallest as parameters could press to nothing."""
    return float(np.median(np.sort(np.abs(sizes))[len(sizes) - spare :])) / 0.6745


def leave_one_out(found: Fit, table: Table) -> np.ndarray:
    """Squared weighted error at each setting [G] of the fit to all others; repeats of a setting leave together."""
    form, groups = found.form, np.unique(table.settings)
    weights = np.where(table.settings[None] == groups[:, None], 0.0, table.weights[None])  # [G, n]
    starts = np.concatenate([found.search[None], form.starts(table.x, table.y, table.values, table.weights)])
    each = len(starts)
    solved = solve(
        form,
        np.tile(starts, (len(groups), 1)),
        table.x,
        table.y,
        table.values,
        np.repeat(weights, each, axis=0),
        form.bounds(table.values),
        np.full(len(groups) * each, found.limit if found.limit > 0 else np.inf),
    )
    missed = (table.values - form.value(best_of(solved, len(groups)).search, table.x, table.y)) ** 2  # [G, n]
    left = table.weights[None] - weights
    return np.asarray((missed * left).sum(axis=1) / left.sum(axis=1))


def choose(errors: dict[str, np.ndarray]) -> str:
    """The first form, simplest first, whose mean squared error is within one standard error (of the paired difference) of the least."""
    least = errors[min(errors, key=lambda name: float(errors[name].mean()))]
    for name in sorted(errors, key=lambda name: len(FORMS[name].parameters)):
        worse = errors[name] - least
        if worse.mean() <= worse.std(ddof=1) / math.sqrt(len(worse)) + 1e-300:
            return name
    raise AssertionError("the least is within its own error")


def aicc(found: Fit, table: Table) -> float:
    """Akaike's criterion with the correction for few runs; inf where there are too few for it."""
    n, k = len(table.x), len(found.form.parameters) + 1
    squares = float((found.counted * table.weights * found.residuals**2).sum())
    return n * math.log(max(squares / n, 1e-300)) + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n - k > 1 else math.inf


def resampled(found: Fit, table: Table, count: int, rng: np.random.Generator) -> np.ndarray:
    """Natural parameters [count, p] of refits to the fitted values plus noise.

    The noise of a resample is normal, its standard deviation drawn as the runs leave it uncertain (chi squared): with few runs to spare
    that widens the intervals as Student's t does.
    """
    form = found.form
    if not count:
        return np.zeros((0, len(form.parameters)))
    scale = found.scale * np.sqrt(found.freedom / rng.chisquare(found.freedom, size=(count, 1)))
    values = form.value(found.search[None], table.x, table.y) + scale * rng.standard_normal((count, len(table.x))) / np.sqrt(table.weights)
    starts = np.concatenate([found.search[None], form.starts(table.x, table.y, table.values, table.weights)[::4]])
    each = len(starts)
    solved = solve(
        form, np.tile(starts, (count, 1)), table.x, table.y, np.repeat(values, each, axis=0), table.weights, form.bounds(table.values)
    )
    return form.natural(best_of(solved, count).search, table.x0, table.y0)


# What may be built on it


def refused(found: Fit, table: Table) -> str:
    """Why no optimum may be read off this fit: an axis whose effect does not show above the noise. "" when both show."""
    axes: dict[Axis, str] = {"frames": "frames", "tokens": "tokens a frame"}
    for axis, name in axes.items():
        chance = chance_without(found, table, axis)
        if chance > CERTAIN and found.form.name == "iso_parabola":
            return (
                f"the bend of the curve along the budget does not show above the noise (F test, p = {chance:.2g}): either end may be best"
            )
        if chance > CERTAIN:
            return f"the effect of {name} does not show above the noise (F test, p = {chance:.2g}): nothing holds the split on that side"
    return ""


def chance_without(found: Fit, table: Table, axis: Axis) -> float:
    """The chance that the gain over the same form without `axis` is luck."""
    simple, weights = found.form.without(axis), table.weights * found.counted
    starts = simple.starts(table.x, table.y, table.values, weights)
    solved = solve(simple, starts, table.x, table.y, table.values, weights, simple.bounds(table.values))
    full, dropped = float((weights * found.residuals**2).sum()), len(found.form.parameters) - len(simple.parameters)
    return f_test(2 * float(solved.loss.min()) - full, found.scale**2, dropped, found.freedom)


def warnings_of(found: Fit, table: Table, runs: Runs) -> list[str]:
    """What a reader of the law should know."""
    told = [f"left out: {reason}" for reason in runs.left_out]
    for i in np.flatnonzero(found.counted < 0.5):
        told.append(
            f"{runs.metric} {runs.values[i]:g} at {runs.frames[i]:g} x {runs.tokens[i]:g} lies "
            f"{abs(found.residuals[i]) * math.sqrt(table.weights[i]) / found.scale:.1f} standard deviations from the law and counts little"
        )
    low, high = found.form.bounds(table.values)
    for name, value, least, most in zip(found.form.parameters, found.search, low, high, strict=True):
        if value <= least or value >= most:
            told.append(f"{name} ran into the limit of its search: the runs do not tell its size")
    if found.form.name == "additive" and FORMS["interaction"].lacking(table.x, table.y):
        told.append("the runs cannot show whether frames and tokens help each other; that takes at least 3 settings off the two sweeps")
    return told + _lack_of_fit(found, table, runs)


def _lack_of_fit(found: Fit, table: Table, runs: Runs) -> list[str]:
    """Whether the law misses the settings by more than their repeats differ, where there are repeats."""
    repeats, freedom = runs.repeat_noise()
    spare = int(table.settings.max()) + 1 - len(found.form.parameters)
    if not freedom or spare < 1 or not repeats:
        return []
    pure = repeats**2 * freedom / runs.weights.mean()
    missed = float((table.weights * found.residuals**2).sum()) - pure
    chance = f_tail(missed / spare / (pure / freedom), spare, freedom)
    if chance > CERTAIN:
        return []
    return [
        f"the law misses the runs by more ({found.scale:.3g}) than repeats of a setting differ ({repeats:.3g}; F test, p = {chance:.2g}): "
        "it is not right everywhere"
    ]


def _seconds(runs: Runs) -> Cost | None:
    """A model of seconds, where at least four runs were timed."""
    timed = np.isfinite(runs.seconds)
    if timed.sum() < 4:
        return None
    return fit_seconds(runs.frames[timed], runs.tokens[timed], runs.seconds[timed])
