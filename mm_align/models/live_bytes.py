"""How many bytes of tensors live at once while code runs, also of tensors that have sizes only (torch's fake tensors)."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Counts storages from the operator that makes them until nothing holds them; views and in-place operators add nothing.

    now, peak: bytes of what was made within the context; what was there before is not counted. gradients: those of `now` that
    became a parameter's gradient; gradients_at_peak: when `peak` was reached.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.gradients = self.gradients_at_peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and (storage := leaf.untyped_storage())._cdata not in self._sizes:
                self._see(storage, (args, kwargs))
        return out

    def _see(self, storage: torch.UntypedStorage, given: Any) -> None:
        """A storage that is not counted yet: new, unless an argument has it, which was there before the context."""
        key = storage._cdata
        if any(leaf.untyped_storage()._cdata == key for leaf in tree_leaves(given) if isinstance(leaf, torch.Tensor)):
            return
        self._sizes[key] = storage.nbytes()
        weakref.finalize(storage, self._forget, key)
        self.now += self._sizes[key]
        if self.now > self.peak:
            self.peak, self.gradients_at_peak = self.now, self.gradients

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)

    def start_anew(self) -> int:
        """The peak so far; from here on another is sought."""
        peak, self.peak, self.gradients_at_peak = self.peak, self.now, self.gradients
        return peak

    @contextmanager
    def watching(self, model: nn.Module, *, keep: bool) -> Iterator[None]:
        """Tells gradients from the rest; keep=False lets each go as soon as it is whole, as sharding does."""
        hooks = [p.register_post_accumulate_grad_hook(lambda p: self._made(p, keep)) for p in model.parameters() if p.requires_grad]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _made(self, parameter: torch.Tensor, keep: bool) -> None:
        if not keep:
            parameter.grad = None
        elif parameter.grad is not None and parameter.grad.untyped_storage()._cdata in self._sizes:
            self.gradients += parameter.grad.untyped_storage().nbytes()
