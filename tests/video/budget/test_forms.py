"""Every form of the law: slopes are those of its values, both kinds of parameters agree, and an exact table gives its parameters back."""

from typing import Any

import numpy as np
import pytest

from video.budget import Runs, fit
from video.budget.fitting import as_table, fit_form
from video.budget.forms import FORMS

NATURAL = {
    "additive": [0.6, 1.3, 0.35, 1.1, 0.45],
    "interaction": [0.6, 1.3, 0.35, 1.1, 0.45, -0.4, 0.2, 0.7],
    "log_quadratic": [0.9, -0.1, -0.08, 0.009, 0.002, 0.01],
    "iso_parabola": [0.7, -0.05, 0.03],
}


def test_the_table_is_tested_whole() -> None:
    assert set(NATURAL) == set(FORMS)


def places(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Settings [n] on which the form can be fitted, and their logarithms are asked."""
    if name == "iso_parabola":
        frames = np.array([30, 60, 90, 120, 240, 480.0])
        return frames, 6000 / frames
    frames, tokens = (axis.ravel() for axis in np.meshgrid(np.array([4.0, 8, 16, 32, 64, 128]), np.array([1.0, 4, 9, 25, 49, 196])))
    return frames, tokens


@pytest.mark.parametrize("name", FORMS)
def test_slopes_are_those_of_the_values(name: str) -> None:
    form, (frames, tokens) = FORMS[name], places(name)
    x, y = np.log(frames), np.log(tokens)
    search = form.search(np.array([NATURAL[name]]))
    slope = form.slope(search, x, y)[0]
    for i in range(len(form.parameters)):
        step = np.zeros_like(search)
        step[0, i] = 1e-6
        numeric = (form.value(search + step, x, y) - form.value(search - step, x, y))[0] / 2e-6
        assert slope[:, i] == pytest.approx(numeric, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("name", FORMS)
def test_natural_parameters_are_those_of_the_formula_wherever_the_middle_is(name: str) -> None:
    form, (frames, tokens) = FORMS[name], places(name)
    x, y = np.log(frames), np.log(tokens)
    search = form.search(np.array([NATURAL[name]]))
    assert form.natural(search, 0.0, 0.0)[0] == pytest.approx(NATURAL[name])
    moved = form.natural(search, 1.7, 0.9)
    assert form.value(form.search(moved), x, y) == pytest.approx(form.value(search, x - 1.7, y - 0.9), rel=1e-9)


@pytest.mark.parametrize("name", FORMS)
def test_values_are_those_of_the_printed_formula(name: str) -> None:
    """T = 16, M = 9, worked out with plain powers and logarithms."""
    t, m, p = 16.0, 9.0, dict(zip(FORMS[name].parameters, NATURAL[name], strict=True))
    log_t, log_m = np.log(t), np.log(m)
    by_hand = {
        "additive": lambda: p["E"] + p["A"] * t ** -p["a"] + p["B"] * m ** -p["b"],
        "interaction": lambda: p["E"] + p["A"] * t ** -p["a"] + p["B"] * m ** -p["b"] + p["C"] * t ** -p["c"] * m ** -p["d"],
        "log_quadratic": lambda: (
            p["c"] + p["t"] * log_t + p["m"] * log_m + p["tt"] * log_t**2 + p["tm"] * log_t * log_m + p["mm"] * log_m**2
        ),
        "iso_parabola": lambda: p["c"] + p["z"] * np.log(t / m) / 2 + p["zz"] * (np.log(t / m) / 2) ** 2,
    }[name]()
    search = FORMS[name].search(np.array([NATURAL[name]]))
    assert FORMS[name].value(search, np.array([log_t]), np.array([log_m]))[0, 0] == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_an_exact_table_gives_its_law_back(name: str) -> None:
    form, (frames, tokens) = FORMS[name], places(name)
    values = form.value(form.search(np.array([NATURAL[name]])), np.log(frames), np.log(tokens))[0]
    assert not form.lacking(np.log(frames), np.log(tokens))
    table = as_table(Runs(frames, tokens, values))
    found = fit_form(form, table)
    assert np.abs(found.residuals).max() < 2e-5 if name == "interaction" else 1e-8
    if name != "interaction":  # its exponents hardly show in the values: several sets of them give the same surface
        assert form.natural(found.search[None], table.x0, table.y0)[0] == pytest.approx(NATURAL[name], rel=1e-4)


@pytest.mark.parametrize("name", FORMS)
def test_without_an_axis_it_is_blind_to_that_axis_and_simpler(name: str) -> None:
    if name == "iso_parabola":
        assert FORMS[name].without("frames").parameters == ("c", "z")
        return
    x, y = np.log([4.0, 64.0]), np.log([9.0, 9.0])
    for axis, (first, second) in (("frames", (x, y)), ("tokens", (y, x))):
        simple = FORMS[name].without(axis)
        assert len(simple.parameters) < len(FORMS[name].parameters)
        values = simple.value(simple.starts(first, second, np.array([1.0, 0.9]), np.ones(2))[:1], first, second)[0]
        assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize(
    ("frames", "tokens", "told"),
    [
        ([8, 16] * 4, [1, 4, 9, 16] * 2, "3 different numbers of frames"),
        ([8, 16, 32, 64], [1, 4, 9, 49], "at least 6 different settings"),
        ([30, 60, 90, 120, 240, 480], [200, 100, 67, 50, 25, 12], "more than one budget"),
    ],
)
def test_what_the_additive_law_lacks_is_said(frames: list[int], tokens: list[int], told: str) -> None:
    assert told in FORMS["additive"].lacking(np.log(frames), np.log(tokens))
    with pytest.raises(ValueError, match=told):
        fit(Runs(np.array(frames), np.array(tokens), np.linspace(1, 0.8, len(frames))), "additive")


def test_a_cross_cannot_show_an_interaction_and_three_settings_off_it_can() -> None:
    cross = np.array([(t, 49) for t in (8, 16, 32, 64, 128)] + [(32, m) for m in (1, 4, 9, 25, 196)], float)
    assert "off the two sweeps" in FORMS["interaction"].lacking(*np.log(cross).T)
    assert FORMS["log_quadratic"].lacking(*np.log(cross).T)
    more = np.concatenate([cross, [(8, 1), (128, 196), (128, 1)]])
    assert not FORMS["interaction"].lacking(*np.log(more).T)


def test_one_budget_alone_leaves_only_the_parabola() -> None:
    frames = np.array([30, 61, 90, 122, 240, 480.0])
    law = fit(Runs(frames, np.round(6000 / frames), 0.68 + 0.01 * (np.log(frames) - np.log(120)) ** 2), resamples=5)
    assert law.form == "iso_parabola"
    assert list(law.scores) == ["iso_parabola"]


def test_any_form_takes_many_surfaces_at_once() -> None:
    def each(form: Any, search: np.ndarray) -> np.ndarray:
        return np.concatenate([form.value(search[i : i + 1], x, y) for i in range(len(search))])

    x, y = np.log([8.0, 16, 32]), np.log([1.0, 9, 49])
    for name, form in FORMS.items():
        search = form.search(np.array([NATURAL[name], np.array(NATURAL[name]) * 1.1]))
        assert form.value(search, x, y) == pytest.approx(each(form, search), rel=1e-12)
