"""Where the worked examples with upstream's numbers are, beside the project; tests that need them skip without."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[4] / "shared" / "benchmarks"


@pytest.fixture
def example() -> Callable[[str], Path]:
    """example("pope/dev_popular_120"): the folder of a worked example."""
    return lambda name: _there(BENCHMARKS / "dev_examples" / name)


@pytest.fixture
def published_data() -> Callable[[str], Path]:
    """published_data("pope"): the folder of a benchmark's files."""
    return lambda name: _there(BENCHMARKS / name)


@pytest.fixture(scope="session")
def cases() -> dict[str, Any]:
    """The CASES of small_cases.py."""
    spec = importlib.util.spec_from_file_location("small_cases", Path(__file__).with_name("small_cases.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CASES


@pytest.fixture
def said(capsys) -> Callable[..., dict]:
    """said("pope", responses=PATH, ...): what `mmalign score BENCH ... --json` prints."""
    from mm_align.cli import main

    def run(bench: str, **options: object) -> dict:
        words = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        assert main(["score", bench, *words, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    return run


def _there(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"no {'/'.join(path.parts[-4:])} beside the project")
    return path
