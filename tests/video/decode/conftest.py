"""The clip maker, and its clips written once a session."""

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("painted_clips", Path(__file__).parents[1] / "clips.py")
painted_clips = sys.modules["painted_clips"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(painted_clips)


def pytest_generate_tests(metafunc):
    """A test that asks for `kind` runs on every clip of the zoo."""
    if "kind" in metafunc.fixturenames:
        metafunc.parametrize("kind", list(painted_clips.ZOO))


@pytest.fixture(scope="session")
def clips():
    return painted_clips


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    """zoo(kind) -> the clip of that name."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = painted_clips.ZOO[kind](tmp_path_factory.mktemp("zoo"))
        return made[kind]

    return of


@pytest.fixture(scope="session")
def plain(zoo):
    """A file with nothing unusual: sixty frames, 30 a second, GOPs of 12."""
    return zoo("H.264, closed GOPs of 12")
