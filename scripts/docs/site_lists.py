"""Lists as Git hosts read them, written as Python-Markdown reads them: four spaces a level, a blank line before the first item."""

from __future__ import annotations

import re

ITEM = re.compile(r"^( *)([-*+]|\d+\.) +\S")
FENCE = re.compile(r"^ *```")


def listed(text: str) -> str:
    """The Markdown `text` with its lists so written; fences keep their text, moved with their item."""
    lines: list[str] = []
    levels: list[int] = []  # where the text of each open item begins
    fence = before = False  # inside a fence; the line before belongs to a list
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        item = None if fence else ITEM.match(line)
        if line.strip() and not fence:
            while levels and indent < levels[-1]:
                if not item and lines and lines[-1].strip() and indent == 0:
                    break  # a paragraph's line that was not indented
                levels.pop()
        if item and not levels and not before and lines and lines[-1].strip():
            lines.append("")
        depth = levels[-1] if levels else 0
        lines.append(" " * 4 * len(levels) + line[min(indent, depth) :] if line.strip() else "")
        if item:
            levels.append(len(item[0]) - 1)
        if FENCE.match(line):
            fence = not fence
        before = bool(levels) and bool(line.strip())
    return "\n".join(lines) + "\n"
