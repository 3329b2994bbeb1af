"""CONTRIBUTING's walks lead somewhere: every file they name is there, and holds the names that are to be looked for in it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## Three walks\n")[2].partition("\n## ")[0]
ROWS = [line for line in SECTION.splitlines() if line.startswith("| `")]


def test_there_are_walks():
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[3:40])
def test_files_hold_what_is_to_be_looked_for(row):
    marked = re.findall(r"`([^`]+)`", row)
    paths = [ROOT / name for name in marked if "/" in name]
    assert all(path.exists() for path in paths), [str(path) for path in paths if not path.exists()]
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
    names = [name for name in marked if re.fullmatch(r"\w+", name)]
    assert not [name for name in names if not re.search(rf"\b{name}\b", text)]
