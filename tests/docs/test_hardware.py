"""What guides say of hardware is what `mmalign memory` prints, line by line."""

import itertools
import shlex

import pytest
from doc_blocks import PAGES, commands, read_blocks

from mm_align.cli import main


def shown():
    """(command, the lines that a page shows of its output) of all pages."""
    for page in PAGES:
        blocks = read_blocks(page)
        for block, after in itertools.pairwise(blocks):
            told = commands(block.text) if block.language == "bash" else []
            if len(told) == 1 and told[0].startswith("mmalign memory ") and after.language == "":
                yield pytest.param(told[0], after.text.splitlines(), marks=[pytest.mark.slow] if "slow" in block.marks else [], id=told[0])


@pytest.mark.parametrize(("command", "lines"), list(shown()))
def test_every_line_is_printed(command, lines, capsys):
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert lines
    assert [line for line in lines if line not in printed] == []
