"""A page of the docs as its blocks of code: language, text, line, and the marks above the fence.

Marks are HTML comments right above a fence, one a line:
  <!-- needs: hub, gpu -->   what this block needs that a test has not (see NEEDS): checked by the parsers, not run
  <!-- slow -->              runs in `make test-all` only
  <!-- runs in: PAGE -->     the same text is a block of PAGE, and runs there
  <!-- config: VERB -->      a YAML block: a config, or a part of one, of that verb; `config: none`: of somebody else's program
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NEEDS = {
    "data": "files of the reader's own, or of a published data set",
    "endpoint": "a server that answers",
    "gpu": "an accelerator, or more machines",
    "hours": "hours of CPU; its smallest form is a test of tests/scripts",
    "hub": "models or data of the Hugging Face hub",
    "network": "packages to install",
}
RUN = ("bash", "python")
FENCE = re.compile(r"^( *)```(\w*)$")
MARK = re.compile(r"^ *<!-- (needs|slow|config|runs in)(?:: (.+?))? -->$")
COMMAND = re.compile(r"^\s*(\$ )?(mmalign|python3?|make|accelerate|torchrun|pip|ray|vllm) ")


class Block(NamedTuple):
    """One fence of a page; `line` is where its text begins, counted from 1."""

    page: str
    line: int
    language: str
    text: str
    marks: dict[str, str]

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def needs(self) -> list[str]:
        return [need.strip() for need in self.marks.get("needs", "").split(",") if need.strip()]

    @property
    def runs(self) -> bool:
        return self.language in RUN and not self.needs and "runs in" not in self.marks


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page in its order. Raises ValueError for a fence that is not closed and for marks that stand above no fence."""
    lines = page.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    marks: dict[str, str] = {}
    start = None
    for number, line in enumerate(lines, 1):
        fence, mark = FENCE.match(line), MARK.match(line)
        if start is not None:
            if line.strip() == "```":
                text = "\n".join(inner.removeprefix(start[1]) for inner in lines[start[0] : number - 1]) + "\n"
                blocks.append(Block(name_of(page), start[0] + 1, start[2], text, marks))
                start, marks = None, {}
        elif fence:
            start = (number, fence[1], fence[2])
        elif mark:
            marks[mark[1]] = mark[2] or ""
        elif marks:
            raise ValueError(f"{name_of(page)}:{number}: {marks} stands above no block of code")
    if start is not None or marks:
        raise ValueError(f"{name_of(page)}: a fence is not closed, or a mark is left at the end")
    return blocks


def commands(shell: str) -> list[str]:
    """The logical lines of a shell block: continuations joined, comments and empty lines left out."""
    lines = (line.strip() for line in shell.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]
