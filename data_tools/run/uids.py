"""DataComp's lists of uids: which rows of a pool to keep, as its resharder reads them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..disk.durable import write_atomic

UID = np.dtype("u8,u8")  # the high and the low half of 128 bits
_HEX = re.compile(r"[0-9a-fA-F]{32}")


def uid_of(value: Any) -> tuple[int, int]:
    """The two halves of a uid of 32 hexadecimal digits. ValueError for anything else.

    [R: DataComp's baselines take the first and last 16 digits, its resharder divides the number by 2^64]: they agree for 32 digits alone.
    """
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        shown = "missing" if value is None else f"{str(value)[:80]!r}"
        raise ValueError(f"the uid is {shown}; DataComp's are texts of 32 hexadecimal digits")
    return int(value[:16], 16), int(value[16:], 16)


def write_uids(path: Path, parts: Iterable[np.ndarray]) -> int:
    """Write uids (arrays of `UID`) as one sorted .npy and tell how many there are.

    Each is written once: the resharder writes a row as often as its uid is in the list.
    """
    merged = np.unique(np.concatenate([np.empty(0, UID), *parts]))
    buffer = io.BytesIO()
    np.save(buffer, merged, allow_pickle=False)
    write_atomic(path, buffer.getvalue())
    return len(merged)
