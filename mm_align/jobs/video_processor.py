"""The processor by which a loaded model is shown videos, where it is shown any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config import UserError

if TYPE_CHECKING:
    from ..models import LvlmProcessor


def video_processor(backend: Any, flag: str) -> LvlmProcessor:
    """Its `video` settings say which frames a model sees, with which times. UserError, about `flag`, for a model that is shown none."""
    processor: Any = getattr(getattr(backend, "prompts", None), "processor", None)
    if not hasattr(processor, "video_settings"):
        raise UserError(f"{flag}: this model is not shown videos; use one of this toolkit, LLaVA or Opt-Visor")
    found: LvlmProcessor = processor
    return found
