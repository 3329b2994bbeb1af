"""What a pair term is: a pure function of the scores of two answers, and what those scores are."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

Beta = torch.Tensor | float  # one for all pairs, or [P]


class PairTerm(NamedTuple):
    """`loss(chosen, rejected, beta, **options)`: [P], [P] -> [P], the loss of each pair; keyword-only arguments are its options.

    The scores are D(y) = log pi(y|x) - log pi_ref(y|x), or with `reference_free` log pi(y|x) alone. They are sums over an answer's
    tokens, or with `average` means, unless the config says otherwise. `by_difference`: only chosen - rejected counts, so that a
    target margin can be subtracted from it. `beta`: the usual one. `shifted`: the option `shift` may be a running mean of rewards.
    """

    loss: Callable[..., torch.Tensor]
    reference_free: bool = False
    average: bool = False
    by_difference: bool = False
    beta: float = 0.1
    shifted: bool = False


def share(name: str, value: float, below: float, *, zero: bool = True) -> float:
    """The option where it is a share from 0 on (above 0 unless `zero`) and less than `below`. Raises ValueError."""
    if not 0 <= value < below or (value == 0 and not zero):
        raise ValueError(f"{name} should be {'from 0' if zero else 'above 0'} and less than {below:g}, but is {value!r}")
    return value
