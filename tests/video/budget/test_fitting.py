"""From runs to a law: the form chosen, refusals where an axis does not show, stray and failed runs, metrics of which more is better."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from video.budget import Law, Runs, fit, read_law
from video.budget.fitting import as_table as table_of
from video.budget.fitting import choose, fit_form, leave_one_out, refused
from video.budget.forms import FORMS


def test_a_noisy_grid_gives_the_law_back(laws: Any) -> None:
    law = fit(laws.noisy(0.0005), resamples=20)
    assert law.form == "additive"
    assert not law.refusal
    assert law.noise == pytest.approx(0.0005, rel=0.35)
    frames, tokens = laws.grid()
    assert law.value(frames, tokens) == pytest.approx(laws.true_loss(frames, tokens), abs=0.001)
    assert law.covered.frames == (8, 128)
    assert law.covered.budget == 128 * 196


def test_the_same_seed_gives_the_same_law(laws: Any) -> None:
    first, second = (fit(laws.noisy(0.002), resamples=10, seed=3).to_dict() for _ in range(2))
    assert first == second


def test_an_interaction_is_chosen_where_there_is_one(laws: Any) -> None:
    def joint(frames: Any, tokens: Any) -> Any:
        return laws.true_loss(frames, tokens) + 0.5 * frames**-0.3 * tokens**-0.4

    law = fit(laws.noisy(0.0005, loss=joint), resamples=5)
    additive = fit(laws.noisy(0.0005, loss=joint), "additive", resamples=5)
    assert law.form in ("interaction", "log_quadratic")
    assert law.scores[law.form]["loo"] < law.scores["additive"]["loo"]
    assert law.scores["additive"]["loo"] == pytest.approx(additive.scores["additive"]["loo"])


def test_a_hump_is_seen_by_the_parabola(laws: Any) -> None:
    """Accuracy that falls again with too many frames: no power law bends so."""

    def hump(frames: Any, tokens: Any) -> Any:
        return 0.6 - 0.02 * (np.log(frames) - np.log(32)) ** 2 - 0.01 * (np.log(tokens) - np.log(80)) ** 2

    law = fit(laws.noisy(0.002, loss=hump, better="higher"), resamples=5)
    assert law.form == "log_quadratic"
    assert law.value(32, 80) == pytest.approx(0.6, abs=0.01)


def test_leave_one_out_is_that_of_refits(laws: Any) -> None:
    """Against deleting each setting for real; repeats leave together."""
    runs = laws.noisy(0.002)
    again = np.r_[np.arange(25), 3, 3, 11]
    values = runs.values[again] + 0.001 * np.random.default_rng(5).standard_normal(28)
    runs = Runs(runs.frames[again], runs.tokens[again], values)
    for name in ("additive", "log_quadratic"):
        table = table_of(runs)
        errors = leave_one_out(fit_form(FORMS[name], table, robust=False), table)
        assert len(errors) == 25
        for setting in (0, 7, table.settings[3]):
            kept = table.settings != setting
            less = replace(runs, frames=runs.frames[kept], tokens=runs.tokens[kept], values=runs.values[kept], weights=None, seconds=None)
            refit = fit(less, name, resamples=0, robust=False)
            missed = refit.value(runs.frames[~kept], runs.tokens[~kept]) - runs.values[~kept]
            assert errors[setting] == pytest.approx((missed**2).mean(), rel=1e-3, abs=1e-10)


def test_the_simplest_within_one_standard_error_is_chosen() -> None:
    """Paired differences to the best (.01, .02, .03 less): mean .02, standard error .01 / sqrt 3 = .0058. Then the same with noise: mean
    .001, standard error far larger."""
    rich = np.array([0.1, 0.2, 0.3])
    assert choose({"additive": rich + np.array([0.01, 0.02, 0.03]), "interaction": rich}) == "interaction"
    assert choose({"additive": rich + np.array([0.051, -0.049, 0.001]), "interaction": rich}) == "additive"
    assert choose({"interaction": rich, "log_quadratic": rich, "additive": rich}) == "additive"


@pytest.mark.parametrize(
    ("axis", "said"), [("frames", "effect of frames does not show"), ("tokens", "effect of tokens a frame does not show")]
)
def test_an_axis_that_makes_no_difference_is_refused(laws: Any, axis: str, said: str) -> None:
    def flat(frames: Any, tokens: Any) -> Any:
        return 0.6 + (0.3 * tokens**-0.5 if axis == "frames" else 0.3 * frames**-0.5)

    law = fit(laws.noisy(0.002, loss=flat), "additive", resamples=5)
    assert said in law.refusal
    assert "F test" in law.refusal


def test_noise_alone_is_rarely_taken_for_an_effect(laws: Any) -> None:
    def flat(frames: Any, tokens: Any) -> Any:
        return 0.6 + 0 * frames

    tables = [table_of(laws.noisy(0.002, seed, flat)) for seed in range(20)]
    assert sum(not refused(fit_form(FORMS["additive"], table), table) for table in tables) <= 1


def test_a_stray_run_moves_little_and_is_named(laws: Any) -> None:
    runs = laws.noisy(0.0005)
    values = runs.values.copy()
    values[12] += 0.2
    stray = replace(runs, values=values, weights=None)
    robust, plain = fit(stray, "additive", resamples=5), fit(stray, "additive", resamples=5, robust=False)
    frames, tokens = laws.grid()
    errors = [np.abs(law.value(frames, tokens) - laws.true_loss(frames, tokens)).max() for law in (robust, plain)]
    assert errors[0] < 0.002 < 0.02 < errors[1]
    assert any(f"at {runs.frames[12]:g} x {runs.tokens[12]:g} lies" in line for line in robust.warnings)


def test_more_is_better_is_the_mirror(laws: Any) -> None:
    loss = fit(laws.noisy(0.001), resamples=5)
    runs = laws.noisy(0.001)
    score = fit(replace(runs, values=1 - runs.values, better="higher", metric="accuracy"), resamples=5)
    assert score.form == loss.form
    assert score.value(40, 30) == pytest.approx(1 - loss.value(40, 30), abs=1e-6)
    assert score.loss(40, 30) == pytest.approx(-score.value(40, 30))
    assert score.parameters["a"] == pytest.approx(loss.parameters["a"], rel=1e-3)


def test_a_law_that_misses_by_more_than_repeats_says_so(laws: Any) -> None:
    def joint(frames: Any, tokens: Any) -> Any:
        return laws.true_loss(frames, tokens) + 1.5 * frames**-0.6 * tokens**-0.8

    first, second = laws.noisy(0.0005, 1, joint), laws.noisy(0.0005, 3, joint)
    both = Runs(*(np.concatenate([getattr(one, name) for one in (first, second)]) for name in ("frames", "tokens", "values")))
    assert any("not right everywhere" in line for line in fit(both, "additive", resamples=5).warnings)
    noise, freedom = both.repeat_noise()
    assert freedom == 25
    assert noise == pytest.approx(0.0005, rel=0.4)


def test_the_sweeps_alone_say_that_they_are_blind_to_an_interaction(laws: Any) -> None:
    settings = [(t, 49.0) for t in laws.FRAMES] + [(32.0, m) for m in laws.TOKENS if m != 49]
    frames, tokens = np.array(settings, float).T
    law = fit(Runs(frames, tokens, laws.true_loss(frames, tokens)), resamples=5)
    assert any("3 settings off the two sweeps" in line for line in law.warnings)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_too_few_runs_are_refused_with_what_is_missing(laws: Any, count: int) -> None:
    frames, tokens = laws.grid()
    some = np.array([0, 6, 12, 18, 24])[:count]
    with pytest.raises(ValueError, match="no law can be fitted to .* additive needs at least"):
        fit(Runs(frames[some], tokens[some], laws.true_loss(frames[some], tokens[some])))


def test_an_unknown_form_is_refused(laws: Any) -> None:
    with pytest.raises(ValueError, match="unknown form 'cubic' of a law: auto, iso_parabola, additive"):
        fit(laws.noisy(0.001), "cubic")


def test_a_law_goes_through_its_file(laws: Any, tmp_path: Any) -> None:
    runs = laws.noisy(0.001)
    law = fit(replace(runs, seconds=0.1 + 0.01 * runs.frames + 1e-4 * runs.frames * runs.tokens), resamples=7)
    path = tmp_path / "law.json"
    path.write_text(json.dumps(law.to_dict()))
    again = read_law(path)
    assert again.value(50, 20) == pytest.approx(law.value(50, 20), rel=1e-12)
    assert again.losses(50, 20) == pytest.approx(law.losses(50, 20), rel=1e-7)
    assert again.to_dict() == law.to_dict()
    assert again.seconds is not None
    assert again.seconds(50, 20) == pytest.approx(0.1 + 0.5 + 0.1, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "a poem"}, "expected kind"),
        ({"form": "cubic"}, "unknown form 'cubic'"),
        ({"parameters": {"E": 1.0}}, "parameters of E \\+ A T\\^-a \\+ B M\\^-b are E, A, a, B, b"),
        ({"parameters": {"E": 0.6, "A": -1.0, "a": 0.3, "B": 1.0, "b": 0.4}}, "must be above 0"),
        ({"covered": {}}, "lacks a part"),
    ],
)
def test_a_file_that_is_no_law_is_named(laws: Any, tmp_path: Any, change: dict[str, Any], said: str) -> None:
    (tmp_path / "law.json").write_text(json.dumps(fit(laws.noisy(0.001), "additive", resamples=2).to_dict() | change))
    with pytest.raises(ValueError, match=said):
        read_law(tmp_path / "law.json")


def test_what_lies_outside_of_the_runs_is_told(laws: Any) -> None:
    law = fit(laws.noisy(0.001), "additive", resamples=2)
    assert law.beyond(32, 49) == []
    assert "256 frames are outside of what was run (8 to 128)" in law.beyond(256, 49)[0]
    assert "2 tokens a frame are outside" in law.beyond(32, 2)[0]
    corner = Law(
        **{
            **{name: getattr(law, name) for name in ("form", "parameters", "resamples", "noise")},
            "covered": replace(law.covered, budget=3000),
        }
    )
    assert "larger budget than any that was run (3000)" in corner.beyond(120, 49)[0]


def test_every_allowed_form_is_scored(laws: Any) -> None:
    law = fit(laws.noisy(0.002), resamples=2)
    assert set(law.scores) == {"additive", "log_quadratic", "interaction"}
    assert all(math.isfinite(score["loo"]) and math.isfinite(score["aicc"]) for score in law.scores.values())
    assert law.scores["additive"]["aicc"] == min(score["aicc"] for score in law.scores.values())


def test_few_runs_say_more_when_their_noise_is_known() -> None:
    """Six splits of one budget, three of them to spare: too few to tell a bend from noise that they must tell themselves."""
    frames = np.array([60, 79, 104, 138, 182, 240.0])
    values = 0.68 + 0.0067 * (np.log(frames) - np.log(120)) ** 2 + 0.001 * np.array([1, -1, 1, -1, 1, -1])
    runs = Runs(frames, 6000 / frames, values)
    assert "the bend of the curve" in fit(runs, resamples=5).refusal
    known = fit(runs, resamples=40, noise=0.0008)
    assert not known.refusal
    assert known.noise == 0.0008
    with pytest.raises(ValueError, match="noise of a run is above 0"):
        fit(runs, noise=0.0)


def test_units_of_the_metric_do_not_matter(laws: Any) -> None:
    plain = fit(laws.noisy(0.002), "additive", resamples=3)
    runs = laws.noisy(0.002)
    for unit in (1e-6, 1e6):
        other = fit(replace(runs, values=runs.values * unit), "additive", resamples=3)
        assert other.parameters["a"] == pytest.approx(plain.parameters["a"], rel=1e-3)
        assert other.value(50, 50) == pytest.approx(unit * plain.value(50, 50), rel=1e-5)
        assert other.refusal == plain.refusal
