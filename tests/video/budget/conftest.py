"""The law and the runs of laws.py."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def laws() -> Any:
    spec = importlib.util.spec_from_file_location("laws", Path(__file__).with_name("laws.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
