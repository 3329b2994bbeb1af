"""The optimum: by hand, closed form against root against search, along FLOPs and seconds, its interval, and when it is refused."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from video.budget import Law, Limit, Refused, Runs, fit, optimum
from video.budget.cost import QWEN2_7B, SIGLIP_SO400M, Cost, cache_bytes, fit_seconds, flops, window
from video.budget.law import Covered
from video.budget.optimum import closed_form, frontier


def exact(laws: Any, **changes: Any) -> Law:
    """The true law, as if its runs had been endless."""
    return Law("additive", laws.TRUE, np.zeros((0, 5)), 0.001, Covered((8, 128), (4, 196), 25088, 25, 25), **changes)


def root_with_text(parameters: dict[str, float], budget: float, text_a_frame: float) -> tuple[float, float]:
    """T*, M* of the same law at T (M + o) = budget, o text tokens a frame.

    The root of a A T^-a M = b B M^-b (M + o) with T = budget / (M + o), found by halving ln M: the difference of both sides' logarithms
    rises with M throughout.
    """
    big_a, a, big_b, b = (parameters[name] for name in ("A", "a", "B", "b"))

    def balance(log_m: float) -> float:
        m = math.exp(log_m)
        return (
            math.log(a * big_a) - a * math.log(budget / (m + text_a_frame)) - math.log(b * big_b) + b * log_m - math.log1p(text_a_frame / m)
        )

    low, high = -50.0, math.log(budget) + 50.0
    while high - low > 1e-13 * (1 + abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if balance(middle) < 0 else (low, middle)
    tokens = math.exp((low + high) / 2)
    return budget / (tokens + text_a_frame), tokens


def test_the_closed_form_by_hand() -> None:
    """a = b = 1/2, A = 4, B = 1: T* = (a A / b B)^(1 / (a + b)) L^(1/2) = 4 * 10 at L = 100, M* = 2.5; both sides of the balance are then
    a A / sqrt 40 = 2 / 6.32 = .316 and b B / sqrt 2.5 = .5 / 1.58 = .316."""
    assert closed_form({"E": 0, "A": 4, "a": 0.5, "B": 1, "b": 0.5}, 100) == pytest.approx((40, 2.5))


def test_the_optimum_is_where_it_was_put(laws: Any) -> None:
    assert closed_form(laws.TRUE, 6000) == pytest.approx((120, 50))
    assert root_with_text(laws.TRUE, 6000, 0.0) == pytest.approx((120, 50), rel=1e-9)
    found = optimum(exact(laws), [Limit(window(), 6000)])
    assert (found.frames, found.tokens) == pytest.approx((120, 50), rel=1e-6)
    assert found.value == pytest.approx(0.6832)
    assert found.frames_interval == pytest.approx((120, 120), rel=1e-6)


@pytest.mark.parametrize(("budget", "text"), [(1000, 1.0), (6000, 6.0), (6600, 6.0), (20000, 30.0)])
def test_text_around_frames_moves_it_to_fewer_and_richer_ones(laws: Any, budget: float, text: float) -> None:
    frames, tokens = root_with_text(laws.TRUE, budget, text)
    assert frames * (tokens + text) == pytest.approx(budget)
    plain = closed_form(laws.TRUE, budget)
    assert frames < plain[0]
    steps = np.exp(np.linspace(-0.5, 0.5, 20001))
    losses = laws.true_loss(budget / (tokens * steps + text), tokens * steps)
    assert abs(steps[losses.argmin()] - 1) < 1e-3
    found = optimum(exact(laws), [Limit(window(text), budget)])
    assert (found.frames, found.tokens) == pytest.approx((frames, tokens), rel=1e-6)


def test_the_released_models_text_is_part_of_its_window() -> None:
    """49 tokens and 6 of text: 120 frames take 6,600 positions; "5,880" leaves 720 of them out."""
    assert window(6).positions(120, 49) == 6600
    assert window(0).positions(120, 49) == 5880
    assert frontier([Limit(window(6), 6600)], 49) == pytest.approx(120)


def test_flops_by_hand() -> None:
    """SigLIP-so400m: 27 (4 * 1152^2 + 2 * 1152 * 4304) = 411.1 M weights a position; 729 positions: 2 * 411.1 M * 729 = .5994 T, attention
    4 * 27 * 1152 * 729^2 = .0661 T: .6655 TFLOP a frame. Qwen2-7B without embeddings: 6.525 G weights."""
    cost = flops(SIGLIP_SO400M, 729, QWEN2_7B)
    assert SIGLIP_SO400M.weights == pytest.approx(411.07e6, rel=1e-4)
    assert QWEN2_7B.weights == pytest.approx(6.525e9, rel=1e-3)
    assert cost.per_frame == pytest.approx(0.6655e12, rel=1e-3)
    assert cost(120, 49) == pytest.approx(120 * cost.per_frame + 2 * 6.525288e9 * 5880 + 2 * 28 * 3584 * 5880**2, rel=1e-6)
    assert cache_bytes(QWEN2_7B)(1, 1) == 28 * 2 * 512 * 2


def test_a_tower_that_costs_moves_it_to_fewer_frames(laws: Any) -> None:
    """The balance under any cost: (dl/dT) / (dl/dM) = (dc/dT) / (dc/dM)."""
    cost = flops(SIGLIP_SO400M, 729, QWEN2_7B)
    found = optimum(exact(laws), [Limit(cost, float(cost(120, 49)))])
    assert found.frames < 100
    t, m = found.frames, found.tokens
    by_t = laws.TRUE["a"] * laws.TRUE["A"] * t ** (-laws.TRUE["a"] - 1)
    by_m = laws.TRUE["b"] * laws.TRUE["B"] * m ** (-laws.TRUE["b"] - 1)
    cost_t = (float(cost(t * 1.0001, m)) - float(cost(t, m))) / (t * 1e-4)
    cost_m = (float(cost(t, m * 1.0001)) - float(cost(t, m))) / (m * 1e-4)
    assert by_t / by_m == pytest.approx(cost_t / cost_m, rel=2e-3)
    free = optimum(exact(laws), [Limit(replace(cost, per_frame=0.0), float(cost(120, 49)))])
    assert free.frames > found.frames


def test_two_limits_hold_both(laws: Any) -> None:
    limits = [Limit(window(6), 6000), Limit(flops(SIGLIP_SO400M, 729, QWEN2_7B, 6), 1.2e14)]
    found = optimum(exact(laws), limits)
    spent = [float(limit.cost(found.frames, found.tokens)) / limit.most for limit in limits]
    assert max(spent) == pytest.approx(1)


@pytest.mark.parametrize(
    "cost", [window(6, 30), Cost("x", 2, 300, 0.01, 50, 6, 30), Cost("x", per_frame=2), Cost("x", per_pair=0.5, text=4)]
)
def test_the_most_frames_cost_just_the_limit(cost: Cost) -> None:
    tokens = np.array([1.0, 7, 49, 400])
    limit = 1.5 * float(cost(5, 400))
    assert cost(cost.most_frames(tokens, limit), tokens) == pytest.approx(np.full(4, limit), rel=1e-9)
    assert (cost.most_frames(tokens, float(cost.of(0, cost.text)) - 1) < 0).all()


def test_seconds_are_fitted_without_negative_parts() -> None:
    frames, tokens = (axis.ravel() for axis in np.meshgrid([8.0, 32, 128], [4.0, 49, 196]))
    true = Cost("seconds", 1e-4, 0.02, 1e-9, 0.3)
    took = np.asarray(true(frames, tokens))
    found = fit_seconds(frames, tokens, took)
    for part in ("per_position", "per_frame", "per_pair", "fixed"):
        assert getattr(found, part) == pytest.approx(getattr(true, part), rel=1e-6)
    noisy = fit_seconds(frames, tokens, took * (1 + 0.05 * np.random.default_rng(0).standard_normal(9)))
    assert min(noisy.per_frame, noisy.per_position, noisy.per_pair, noisy.fixed) >= 0
    assert noisy(64, 100) == pytest.approx(float(true(64, 100)), rel=0.1)
    with pytest.raises(ValueError, match="at least 4 timings, got 3"):
        fit_seconds([1, 2, 3], [1, 2, 3], [1, 2, 3])


@pytest.mark.parametrize("parts", [{}, {"per_frame": -1.0}, {"per_position": math.nan}, {"fixed": 3.0}])
def test_a_cost_that_makes_no_sense_is_refused(parts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cost"):
        Cost("x", **parts)


def test_the_interval_holds_the_truth_and_grows_with_the_noise(laws: Any) -> None:
    widths = []
    for noise in (0.0005, 0.002, 0.005):
        found = optimum(fit(laws.noisy(noise, 4), "additive", resamples=60), [Limit(window(), 6000)])
        low, high = found.frames_interval
        assert low <= 120 <= high
        assert found.share > 0.9
        widths.append(high - low)
    assert widths[0] < widths[1] < widths[2]


def test_a_refused_law_gives_no_optimum(laws: Any) -> None:
    with pytest.raises(Refused, match="because"):
        optimum(exact(laws, refusal="because"), [Limit(window(), 6000)])


def test_a_window_out_of_reach_of_the_runs_is_refused(laws: Any) -> None:
    with pytest.raises(Refused, match="out of reach of the runs, which had 8 to 128 frames, 4 to 196 tokens"):
        optimum(exact(laws), [Limit(window(), 10_000_000)])
    with pytest.raises(Refused, match="still gets better at the end"):
        optimum(exact(laws), [Limit(window(), 3.0)])


def test_an_optimum_that_the_runs_do_not_place_is_refused(laws: Any) -> None:
    """Half of the resamples say that frames hardly matter."""
    steep, flat = [laws.TRUE[name] for name in ("E", "A", "a", "B", "b")], [0.67, 1e-9, 1.0, 0.2, 0.45]
    law = replace(exact(laws), resamples=np.array([steep, flat] * 20))
    with pytest.raises(Refused, match="50% of the resamples have none"):
        optimum(law, [Limit(window(), 6000)])


def test_a_parabola_is_not_asked_outside_of_its_runs() -> None:
    frames = np.array([30, 60, 90, 120, 240, 480.0])
    values = 0.68 + 0.005 * (np.log(frames) - np.log(120)) ** 2 + 1e-5 * np.array([1, -1, 1, -1, 1, -1])
    law = fit(Runs(frames, 6000 / frames, values), resamples=20)
    assert optimum(law, [Limit(window(), 6000)]).frames == pytest.approx(120, rel=0.01)
    for other in (3000, 9000, 6_000_000):
        with pytest.raises(Refused, match="out of reach of the runs, which had .* all of T x M = 6000"):
            optimum(law, [Limit(window(), other)])


def test_a_metric_of_which_more_is_better_has_the_same_optimum(laws: Any) -> None:
    mirrored = exact(laws, better="higher")
    found = optimum(mirrored, [Limit(window(), 6000)])
    assert found.frames == pytest.approx(120, rel=1e-6)
    assert found.value == pytest.approx(-0.6832)
