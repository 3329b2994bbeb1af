"""`--json`: standard output holds one JSON document and nothing else, whoever writes."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any


def json_text(value: Any) -> str:
    """JSON of a schema or a report: what JSON does not know (a path) as text, a number that is none (nan, infinity) as null."""
    value = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    try:
        return json.dumps(value, indent=2, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(json.loads(json.dumps(value, default=str), parse_constant=lambda _: None), indent=2)


@contextmanager
def people_on_stderr() -> Iterator[None]:
    """Inside the block what is printed goes to standard error, and so does what other processes and libraries write to descriptor 1."""
    sys.stdout.flush()
    with redirect_stdout(sys.stderr), _descriptor_on_stderr():
        yield


@contextmanager
def _descriptor_on_stderr() -> Iterator[None]:
    try:
        kept = os.dup(1)
    except OSError:  # closed: nobody writes there
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 1)
        os.close(kept)
