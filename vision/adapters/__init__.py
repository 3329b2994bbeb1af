"""The table of adapters: the `type` key of an adapter config -> class."""

from .base import Adapter
from .build import build_adapter
from .eeca import EecaAdapter
from .mlp import MlpAdapter
from .start import StartsItself
from .window_attention import WindowAttentionAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    "eeca": EecaAdapter,
    "mlp": MlpAdapter,
    "window_attention": WindowAttentionAdapter,
}

__all__ = ["ADAPTERS", "Adapter", "StartsItself", "build_adapter"]
