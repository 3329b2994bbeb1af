"""mm-align: the roof over `data_tools`, `vision` and `video`. Names below are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import _neighbours

if TYPE_CHECKING:
    from .jobs.enhance.enhance import enhance

_neighbours.check()

_LAZY = {"enhance": ("mm_align.jobs.enhance.enhance", "enhance")}
__version__ = "0.1.0"
__all__ = ["__version__", "enhance"]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mm_align' has no attribute '{name}'")
    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)
