"""The losses of a pair of answers: by hand, against the formula written out, at extreme scores."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mm_align.losses.kto import kto
from mm_align.losses.pair_terms import PAIR_TERMS
from mm_align.losses.pair_terms.bco_pair import RunningShift
from mm_align.losses.pair_terms.orpo import log_odds

LN2, LN3 = math.log(2), math.log(3)


def loss(name: str, chosen: float, rejected: float, beta: float = 1.0, **options: Any) -> float:
    one = lambda value: torch.tensor([value], dtype=torch.double)  # noqa: E731
    return PAIR_TERMS[name].loss(one(chosen), one(rejected), beta, **options).item()


# sigma(ln 3) = 3/4, sigma(0) = 1/2, sigma(ln 2) = 2/3
BY_HAND = [
    ("sigmoid", LN3, 0.0, {}, math.log(4 / 3), "-ln 3/4"),
    ("sigmoid", 0.0, LN3, {}, math.log(4), "-ln 1/4"),
    ("ipo", 2.0, 0.5, {}, 1.0, "(2 - 1/2 - 1/2)^2"),
    ("hinge", 0.75, 0.5, {}, 0.75, "1 - 1/4"),
    ("hinge", 2.0, 0.5, {}, 0.0, "1 - 3/2 is below 0"),
    ("robust", LN3, 0.0, {"label_smoothing": 0.25}, (0.75 * math.log(4 / 3) - 0.5 * LN2) / 0.5, "(3/4 ln 4/3 - 1/4 ln 4) / (1/2)"),
    ("nca_pair", LN3, 0.0, {}, math.log(4 / 3) + (math.log(4) + LN2) / 2, "ln 4/3 + ln 4 / 2 + ln 2 / 2"),
    ("bco_pair", LN3, 0.0, {}, math.log(4 / 3) + LN2, "-ln 3/4 - ln 1/2"),
    ("bco_pair", LN3, 0.0, {"shift": math.log(1.5)}, math.log(1.5) + math.log(5 / 3), "-ln sigma(ln 2) - ln sigma(ln 3/2): 2/3 and 3/5"),
    ("apo_zero", LN3, 0.0, {}, 0.75, "1 - 3/4 + 1/2"),
    ("apo_down", LN3, -LN2, {}, 0.75 + 1 / 7, "3/4 + 1 - sigma(ln 6) = 1 - 6/7"),
    ("simpo", 2 * LN3, 0.0, {"gamma": LN3}, math.log(4 / 3), "-ln sigma(2 ln 3 - ln 3)"),
    ("orpo", math.log(1 / 2), math.log(1 / 4), {}, math.log(4 / 3), "odds 1 and 1/3: -ln sigma(ln 3)"),
    ("kto_pair", LN3, 0.0, {}, 0.25, "z_l = 0, z_w = ln 3: (1 - 3/4 + 1 - 3/4) / 2"),
    ("kto_pair", LN3, -1.0, {}, (0.25 + 1 / (1 + 3 * math.e)) / 2, "z_l = max(0, -1) = 0; 1 - sigma(ln 3 + 1)"),
    ("exo_pair", LN3, 0.0, {"label_smoothing": 0.25}, 0.0, "q = (3/4, 1/4) is the label"),
    ("exo_pair", LN3, 0.0, {"label_smoothing": 0.5}, 0.75 * math.log(1.5) + 0.25 * math.log(0.5), "3/4 ln(3/4 / 1/2) + 1/4 ln(1/4 / 1/2)"),
    ("flex", LN3, 2 * LN3, {"rejected_scale": 0.5}, LN2, "-ln sigma(ln 3 - ln 3)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "chosen", "rejected", "options", "expected", "why"), BY_HAND)
def test_by_hand(name: str, chosen: float, rejected: float, options: dict[str, float], expected: float, why: str) -> None:
    """beta = 1; `why` is the sum worked out."""
    assert loss(name, chosen, rejected, **options) == pytest.approx(expected, abs=1e-12), why


def test_every_term_has_its_golden_value() -> None:
    assert {row[0] for row in BY_HAND} == set(PAIR_TERMS)


def s(z: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + torch.exp(-z))


def odds(logp: torch.Tensor) -> torch.Tensor:
    return torch.exp(logp) / (1 - torch.exp(logp))


CLOSED: dict[str, Callable[..., torch.Tensor]] = {  # as the papers print them, in probabilities
    "sigmoid": lambda w, r, b: -s(b * (w - r)).log(),
    "ipo": lambda w, r, b: (w - r - 1 / (2 * b)) ** 2,
    "hinge": lambda w, r, b: (1 - b * (w - r)).clamp(min=0),
    "robust": lambda w, r, b: (-0.9 * s(b * (w - r)).log() + 0.1 * s(b * (r - w)).log()) / 0.8,
    "nca_pair": lambda w, r, b: -s(b * w).log() - 0.5 * s(-b * w).log() - 0.5 * s(-b * r).log(),
    "bco_pair": lambda w, r, b: -s(b * w).log() - s(-b * r).log(),
    "apo_zero": lambda w, r, b: 1 - s(b * w) + s(b * r),
    "apo_down": lambda w, r, b: s(b * w) + 1 - s(b * (w - r)),
    "simpo": lambda w, r, b: -s(b * (w - r) - 1).log(),
    "orpo": lambda w, r, b: -b * s((odds(w) / odds(r)).log()).log(),
    "kto_pair": lambda w, r, b: (
        (1 - s(b * (w - r.mean().detach().clamp(min=0)))) + (1 - s(b * (w.mean().detach().clamp(min=0) - r)))
    ) / 2,
    "exo_pair": lambda w, r, b: (
        s(b * (w - r)) * (s(b * (w - r)) / 0.999).log() + s(b * (r - w)) * (s(b * (r - w)) / 0.001).log()
    ),
    "flex": lambda w, r, b: -s(b * w - 0.8 * b * r).log(),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIR_TERMS)
@pytest.mark.parametrize("per_pair", [False, True])
def test_values_and_gradients_are_those_of_the_formula(name: str, per_pair: bool) -> None:
    """With one beta, and with one a pair."""
    draw = torch.Generator().manual_seed(0)
    scores = -4 * torch.rand(2, 16, generator=draw, dtype=torch.double) + (0 if PAIR_TERMS[name].reference_free else 2)
    beta: Any = 0.1 + torch.rand(16, generator=draw, dtype=torch.double) if per_pair else 0.5
    ours, theirs = ((scores.clone()).requires_grad_() for _ in range(2))
    found, expected = PAIR_TERMS[name].loss(*ours, beta), CLOSED[name](*theirs, beta)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert ours.grad.abs().sum() > 0


def test_gradients_of_dpo_in_probabilities() -> None:
    """dl/dp+ = -beta w / p+ and dl/dp- = beta w / p-, w = sigma(-margin); their ratio is -p- / p+ (arXiv 2406.07327)."""
    p = torch.tensor([0.3, 0.001], dtype=torch.double, requires_grad=True)
    reference, beta = torch.tensor([0.2, 0.1], dtype=torch.double), 0.1
    ratios = p.log() - reference.log()
    PAIR_TERMS["sigmoid"].loss(ratios[:1], ratios[1:], beta).sum().backward()
    w = torch.sigmoid(-beta * (ratios[0] - ratios[1])).detach()
    torch.testing.assert_close(p.grad, torch.stack([-beta * w / 0.3, beta * w / 0.001]))
    assert (p.grad[0] / p.grad[1]).item() == pytest.approx(-0.001 / 0.3)


def test_equal_coefficients_are_dpo_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    for beta in (0.1, torch.rand(64, generator=draw)):
        a, b = ((5 * torch.randn(2, 64, generator=torch.Generator().manual_seed(1))).requires_grad_() for _ in range(2))
        flex, dpo = PAIR_TERMS["flex"].loss(*a, beta, rejected_scale=1.0), PAIR_TERMS["sigmoid"].loss(*b, beta)
        assert torch.equal(flex, dpo)
        flex.sum().backward()
        dpo.sum().backward()
        assert torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("name", PAIR_TERMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_extreme_scores_stay_finite(name: str, dtype: torch.dtype) -> None:
    far = torch.tensor([0.0, -1e-9, -1.0, -1e4, *(() if PAIR_TERMS[name].reference_free else (1e-9, 1e4))], dtype=dtype)
    pairs = torch.cartesian_prod(far, far).T.contiguous().requires_grad_()
    found = PAIR_TERMS[name].loss(*pairs, 0.1)
    found.sum().backward()
    assert found.isfinite().all()
    assert pairs.grad.isfinite().all()


def test_log_odds_at_both_ends() -> None:
    """p = 1/2: 0; p = 1 - 1e-4: ln 9999; p = e^-50: -50."""
    found = log_odds(torch.tensor([-LN2, math.log1p(-1e-4), -50.0], dtype=torch.double))
    torch.testing.assert_close(found, torch.tensor([0.0, math.log(9999), -50.0], dtype=torch.double))


def test_better_answers_cost_less() -> None:
    """Every term falls when the rejected answer loses probability; all but apo_down, which lowers both, when the chosen gains."""
    for name, term in PAIR_TERMS.items():
        base, lower = (term.loss(torch.tensor([-1.0]), torch.tensor([value]), 0.5) for value in (-1.0, -2.0))
        assert lower < base, name
        higher = term.loss(torch.tensor([-0.5]), torch.tensor([-1.0]), 0.5)
        assert higher < base or name == "apo_down", name


@pytest.mark.parametrize(("name", "value"), [("robust", 0.5), ("robust", -0.1), ("exo_pair", 0.0), ("exo_pair", 1.0)])
def test_shares_out_of_range_are_told(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"label_smoothing should be .* but is {value}"):
        loss(name, 0.0, 0.0, label_smoothing=value)


def test_robust_without_noise_is_dpo() -> None:
    assert loss("robust", 1.3, -0.2, 0.3, label_smoothing=0.0) == pytest.approx(loss("sigmoid", 1.3, -0.2, 0.3))


def test_running_shift_by_hand() -> None:
    """Rewards 1, 3: mean 2. Then 5, 9: mean of four 18/4. An evaluation changes nothing; a checkpoint keeps it."""
    shift = RunningShift()
    assert shift(torch.tensor([1.0, 3.0]), learn=True) == 2
    assert shift(torch.tensor([5.0, 9.0]), learn=True) == 4.5
    assert shift(torch.tensor([100.0]), learn=False) == 4.5
    again = RunningShift()
    again.load_state_dict(shift.state_dict())
    assert again(torch.tensor([4.5]), learn=True) == 4.5


def test_kto_by_hand() -> None:
    """z = ln 2. Good answer: 1 - sigma(ln 6 - ln 2) = 1/4, twice. Bad: 1 - sigma(ln 2 - 0) = 1/3. A negative divergence is 0: 1/7."""
    scores, good = torch.tensor([math.log(6), 0.0]), torch.tensor([True, False])
    found = kto(scores, good, torch.tensor(LN2), 1.0, desirable_weight=2.0)
    torch.testing.assert_close(found, torch.tensor([0.5, 1 / 3]))
    torch.testing.assert_close(kto(scores[:1], good[:1], torch.tensor(-5.0), 1.0), torch.tensor([1 / 7]))
    divergence = torch.tensor(1.0, requires_grad=True)
    assert not kto(scores, good, divergence).requires_grad
