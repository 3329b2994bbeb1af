"""Small pictures and rows for the tests of reading and writing."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest


def encode(color: Any = "red", size: tuple[int, int] = (8, 8), mode: str = "RGB", format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new(mode, size, color).save(buffer, format, **options)
    return buffer.getvalue()


@pytest.fixture
def make_picture() -> Callable[..., bytes]:
    return encode


@pytest.fixture
def png() -> bytes:
    return encode()


@pytest.fixture(scope="session")
def red() -> bytes:
    return encode()


@pytest.fixture
def write_lines(tmp_path: Path) -> Callable[..., Path]:
    """Objects or raw bytes as lines of a JSONL file."""

    def lines(*rows: Any, name: str = "rows.jsonl") -> Path:
        path = tmp_path / name
        raw = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode("utf-8") for r in rows]
        path.write_bytes(b"".join(r + b"\n" for r in raw))
        return path

    return lines
