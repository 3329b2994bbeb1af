"""The models of a feedback run: loaded when their stage comes, one at a time, and counted while they are asked."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import UserError

if TYPE_CHECKING:
    from data_tools.calls import Backend

    from .feedback_config import RunFields

log = logging.getLogger(__name__)
NEEDS = {"generate": "answers", "decide": "probabilities of yes and no"}


class Models:
    """Backends by the name they were asked for. `given`: such as are loaded already; they stay, others make room for the next."""

    def __init__(self, config: RunFields, given: Mapping[str, Backend] | None = None) -> None:
        self.config = config
        self.given = dict(given or {})
        self.held: tuple[str, Backend] | None = None

    def get(self, name: str, face: str) -> Backend:
        """The backend of that name. Raises UserError where it does not offer `face`."""
        backend = self.given.get(name) or self._loaded(name)
        if face not in backend.faces:
            offered = ", ".join(sorted(backend.faces)) or "nothing"
            raise UserError(f"{name} gives no {NEEDS[face]} (`{face}`); it offers: {offered}. Choose a model that does.")
        return backend

    def _loaded(self, name: str) -> Backend:
        from ..backends import load_backend

        if self.held is None or self.held[0] != name:
            self.release()
            log.info("loading %s", name)
            config = self.config
            self.held = (name, load_backend(name, device=config.device, dtype=config.dtype, batch_size=config.batch_size))
        return self.held[1]

    def release(self) -> None:
        """Make room on the device for the next model."""
        if self.held is None:
            return
        self.held = None
        gc.collect()
        torch: Any = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def known_by(name: str) -> dict[str, str]:
    """What tells one model from another before it is loaded: its name, and of a folder the names and sizes of its files."""
    from data_tools.shards import fingerprint

    from ..backends.load import split_name

    folder = split_name(name)[1]
    return {"model": name, "files": fingerprint(folder)} if Path(folder).is_dir() else {"model": name}
