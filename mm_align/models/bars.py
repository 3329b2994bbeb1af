"""Progress bars of transformers and the hub are for terminals only."""

from __future__ import annotations

import sys

from transformers.utils import logging


def hide_bars_without_terminal() -> None:
    """Turn the bars off where stderr is a pipe or a file; called before anything is loaded, fetched or saved."""
    if sys.stderr is None or not sys.stderr.isatty():
        logging.disable_progress_bar()
