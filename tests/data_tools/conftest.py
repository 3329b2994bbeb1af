"""What the tests of the pipeline share: `pipeline_cases` to import from, a source, and the output of an undisturbed run over it."""

import importlib.util
import sys
from pathlib import Path

import pytest

# Tests are loaded by their paths, so that a module beside them is found by its name only once it is registered.
if "pipeline_cases" not in sys.modules:
    spec = importlib.util.spec_from_file_location("pipeline_cases", Path(__file__).with_name("pipeline_cases.py"))
    sys.modules["pipeline_cases"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["pipeline_cases"])

from pipeline_cases import do, write_source


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def reference(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "out"
    do(source, out)
    return out
