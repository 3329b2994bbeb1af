"""Plans: the best whole split by trying all of them, counted text, few frames, limits, what is as good, what is said."""

from typing import Any

import numpy as np
import pytest

from video.budget import Limit, Refused, Runs, fit, plan, pooled, preset
from video.budget.cost import QWEN2_7B, SIGLIP_SO400M, flops, window
from video.budget.planning import Wishes
from video.budget.realisable import listed, snap
from video.budget.text import counted, flat

SIZES = [1, 4, 9, 16, 25, 36, 49, 81, 196, 729]


def test_a_grid_of_27_pools_to_the_pages_sizes() -> None:
    """k -> M: 1:729 2:196 3:81 4:49 5:36 6:25 7,8:16 9-13:9 14-26:4 27:1."""
    assert pooled(27) == SIZES
    assert pooled(1) == [1]
    assert listed([49, 4, 49]) == [4, 49]
    assert snap(60, SIZES) == 49
    assert snap(65, SIZES) == 81
    for wrong in (lambda: pooled(0), lambda: listed([]), lambda: listed([0, 3])):
        with pytest.raises(ValueError):
            wrong()


def test_the_plan_is_the_best_of_all_whole_splits(laws: Any) -> None:
    law = fit(laws.noisy(0.001), "additive", resamples=20)
    planned = plan(laws.film(), [Limit(window(), 6500)], flat(6, 30), Wishes(SIZES), law)
    every = [
        (float(law.loss(t, m)), t, m)
        for m in SIZES
        if m <= 196 * 4
        for t in range(2, 513)
        if t * (m + 6) + 30 <= 6500 and m >= 1 and t <= 900
    ]
    loss, frames, tokens = min(every)
    assert (planned.plan.n_frames, planned.plan.tokens_a_frame) == (frames, tokens)
    assert planned.value == pytest.approx(loss)
    assert planned.plan.total == frames * (tokens + 6) + 30 <= 6500
    assert planned.spent["positions"] == planned.plan.total
    near = {(t, m) for found, t, m in every if found <= loss + law.noise}
    told = {(t, one.tokens) for one in planned.near for t in range(one.least_frames, one.most_frames + 1)}
    assert near == told
    assert planned.gains["one_frame_more"] < 0 > planned.gains["one_token_a_frame_more"]


def test_without_a_law_the_rule_is_named_and_keeps_the_released_split(laws: Any) -> None:
    planned = plan(laws.film(), [Limit(window(), 5880)], flat(), Wishes(SIZES))
    assert (planned.plan.n_frames, planned.plan.tokens_a_frame) == (120, 49)
    assert planned.plan.reason.startswith("rule of thumb, no law")
    assert planned.optimum is None
    assert planned.near == []


def test_a_short_film_gets_all_its_frames_and_the_rest_goes_to_tokens(laws: Any) -> None:
    law = fit(laws.noisy(0.001), "additive", resamples=20)
    planned = plan(laws.film(12), [Limit(window(), 6000)], flat(), Wishes(SIZES), law)
    assert planned.plan.n_frames == 12
    assert planned.plan.tokens_a_frame == 196
    assert planned.plan.reason.endswith("the film has 12 frames")
    whole = plan(laws.film(2), [Limit(window(), 6000)], flat(), Wishes(SIZES))
    assert whole.plan.tokens_a_frame == 729
    assert "the budget is not used up" in whole.warnings[0]


def test_times_are_those_of_the_frames(laws: Any) -> None:
    planned = plan(laws.film(90), [Limit(window(), 200)], flat(), Wishes([49]))
    assert planned.plan.indices == (0, 29, 59, 89)
    assert planned.plan.times == pytest.approx([0, 29 / 30, 59 / 30, 89 / 30])


def test_frames_come_in_the_multiple_asked_for(laws: Any) -> None:
    planned = plan(laws.film(), [Limit(window(), 49 * 7)], flat(), Wishes([49], multiple=2))
    assert planned.plan.n_frames == 6
    assert plan(laws.film(), [Limit(window(), 49 * 7)], flat(), Wishes([49], most_frames=3)).plan.n_frames == 3


def test_all_limits_hold(laws: Any) -> None:
    cost = flops(SIGLIP_SO400M, 729, QWEN2_7B)
    planned = plan(laws.film(), [Limit(window(), 6500), Limit(cost, 5e13)], flat(6, 30), Wishes(SIZES))
    assert planned.spent["FLOPs"] <= 5e13
    assert planned.spent["positions"] < 6500


def test_text_is_counted_piece_by_piece(laws: Any) -> None:
    """'frame 9: ' is one token a letter here: 9 letters up to frame 9, 10 from frame 10 on. 12 frames: 10 * 9 + 2 * 10 = 110."""
    asked: list[int] = []

    def pieces(frames: int) -> list[str]:
        asked.append(frames)
        return [*(f"frame {i}: " for i in range(frames)), ""]

    text = counted(pieces, lambda found: sum(map(len, found)), rest=5)
    assert text(12) == 115
    assert text(12) == 115
    assert asked == [12]
    assert text(0) == 5
    planned = plan(laws.film(), [Limit(window(), 600)], text, Wishes([49]))
    assert (planned.plan.n_frames, planned.plan.text_tokens) == (10, 95)  # 10 * 49 + 95 = 585; the eleventh would make 644


@pytest.mark.parametrize(
    ("window_size", "wishes", "said"),
    [
        (3, Wishes([4, 9]), "1 frame of 4 tokens, the least there can be, take 4 positions of 3"),
        (60, Wishes([4], least_frames=20), "20 frames of 4 tokens, the least there can be, take 80 positions of 60"),
        (6000, Wishes([4], least_frames=1000), "1000 frames were asked for and there are 900"),
        (6000, Wishes([4], multiple=1000), "multiples of 1000 and there are 900"),
    ],
)
def test_what_cannot_fit_is_said(laws: Any, window_size: int, wishes: Wishes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        plan(laws.film(), [Limit(window(), window_size)], flat(), wishes)


def test_another_split_than_in_training_is_warned_of(laws: Any) -> None:
    planned = plan(laws.film(), [Limit(window(), 3000)], flat(), Wishes(SIZES, trained=(120, 49)))
    assert "trained with 120 frames of 49 tokens" in planned.warnings[0]


def test_a_law_stretched_is_warned_of_and_one_out_of_reach_refused(laws: Any) -> None:
    law = fit(laws.noisy(0.0005), "additive", resamples=20)
    planned = plan(laws.film(), [Limit(window(), 40000)], flat(), Wishes(SIZES), law)
    assert "outside of what was run" in planned.warnings[0]
    with pytest.raises(Refused):
        plan(laws.film(), [Limit(window(), 40_000_000)], flat(), Wishes(SIZES), law)


def test_a_law_of_one_budget_plans_that_budget_alone(laws: Any) -> None:
    """Few frames of few tokens have the best split too, and are another budget."""
    frames = np.array([30, 60, 90, 120, 240, 480.0])
    law = fit(Runs(frames, 6000 / frames, laws.true_loss(frames, 6000 / frames)), resamples=20)
    planned = plan(laws.film(), [Limit(window(), 6000)], flat(), Wishes(SIZES), law)
    assert (planned.plan.n_frames, planned.plan.tokens_a_frame) == (122, 49)
    with pytest.raises(Refused):
        plan(laws.film(), [Limit(window(), 3000)], flat(), Wishes(SIZES), law)


def test_a_plan_goes_to_plain_values(laws: Any) -> None:
    import json

    from video.clip import FramePlan

    law = fit(laws.noisy(0.001), "additive", resamples=20)
    planned = plan(laws.film(), [Limit(window(), 6000)], flat(), Wishes(SIZES), law)
    row = json.loads(json.dumps(planned.to_dict()))
    assert FramePlan.from_dict(row["plan"]) == planned.plan
    assert row["optimum"]["frames_interval"][0] < row["optimum"]["frames"] < row["optimum"]["frames_interval"][1]


def test_the_papers_slot_is_empty_and_says_so() -> None:
    with pytest.raises(ValueError, match="slot 'paper' is empty: the fitted constants of Opt-Visor .* were not at hand"):
        preset("paper")
    with pytest.raises(ValueError, match="no law is called 'other': paper, or a file"):
        preset("other")


def test_text_a_frame_is_not_negative() -> None:
    assert flat(2.5, 10)(3) == 18
    for wrong in ((-1.0, 0), (np.nan, 0), (0.0, -1)):
        with pytest.raises(ValueError, match="from 0 on"):
            flat(*wrong)
