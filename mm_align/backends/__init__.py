"""Where models run: scheme of a model name -> the module that loads it (`hf` is the default scheme)."""

from .load import BACKENDS, load_backend

__all__ = ["BACKENDS", "load_backend"]
