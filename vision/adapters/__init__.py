"""The table of adapters: the `type` key of an adapter config -> class."""

from .base import Adapter
from .build import build_adapter
from .mlp import MlpAdapter

ADAPTERS: dict[str, type[Adapter]] = {"mlp": MlpAdapter}

__all__ = ["ADAPTERS", "Adapter", "MlpAdapter", "build_adapter"]
