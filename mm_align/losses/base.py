"""What every objective is: a module that turns (model, batch) into a loss and its metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import torch
from torch import nn

if TYPE_CHECKING:
    from data_tools.records import Sample

Batch = Mapping[str, torch.Tensor]
IGNORE = -100  # the label that no loss falls on


@dataclass(frozen=True, slots=True)
class LossOutput:
    """loss: scalar with gradient, a mean over the objective's units. metrics: scalars to log, means over the same units."""

    loss: torch.Tensor
    metrics: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {"loss": self.loss, **self.metrics}.items():
            if value.numel() != 1:
                raise ValueError(f"{name} must be one number, got shape {tuple(value.shape)}")


class ObjectiveSetup(NamedTuple):
    """What an objective may know of the run before it is built.

    text_ids: text -> token ids. width: the language model's hidden size. survey: all training samples once through, their
    pictures not decoded.
    """

    text_ids: Callable[[str], list[int]]
    width: int
    survey: Callable[[], Iterable[Sample]]


class Objective(nn.Module, ABC):
    """A training objective. It may own parameters: they train, live in training checkpoints, and are absent from exports.

    It calls the model (so that wrappers such as DDP see the call) and uses its named faces, never its internals.
    `records`: what its batches are made of, samples or preference pairs. `films`: whether rows may show films.
    """

    records: ClassVar[Literal["samples", "pairs"]] = "samples"
    films: ClassVar[bool] = True

    @classmethod
    def from_options(cls, options: Mapping[str, Any], setup: ObjectiveSetup) -> Objective:
        """The objective of a config's options. ValueError or TypeError for options that it does not have."""
        return cls(**options)

    def annotate(self, samples: Sequence[Sample]) -> Mapping[str, torch.Tensor]:
        """Further tensors that the batch of these samples needs; the collator adds them."""
        return {}

    @abstractmethod
    def forward(self, model: nn.Module, batch: Batch) -> LossOutput: ...

    @abstractmethod
    def units(self, batch: Batch) -> torch.Tensor:
        """How many units (target tokens, pairs ...) the mean of this batch is over: what micro-batches are weighted by."""
