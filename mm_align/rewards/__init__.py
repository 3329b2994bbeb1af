"""The table of rewards: name -> class, built as `Reward(likelihoods, options)`; an instance tells how good answers are."""

from .base import TokenReward
from .implicit import ImplicitReward
from .likelihood import LikelihoodReward

REWARDS: dict[str, type[TokenReward]] = {
    "implicit": ImplicitReward,
    "likelihood": LikelihoodReward,
}

__all__ = ["REWARDS", "ImplicitReward", "LikelihoodReward", "TokenReward"]
