"""Every message that the troubleshooting page quotes is one that the code can say."""

import ast
import re

import pytest
from doc_blocks import ROOT

QUOTED = re.findall(r"^\*\*`(.+)`\*\*$", (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)


def _text(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return "…"


@pytest.fixture(scope="module")
def said():
    """All texts of the four packages, what is filled in shown as `…`."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for room in ("mm_align", "data_tools", "vision", "video")
        for path in (ROOT / room).rglob("*.py")
    ]
    kinds = (ast.Constant, ast.JoinedStr, ast.BinOp)
    return {_text(node) for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}


def test_the_page_quotes_many():
    assert len(QUOTED) > 30


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_is_said(message, said):
    parts = [part for part in message.split("…") if part]
    pattern = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    assert max(map(len, parts)) >= 12, "too little is quoted to be found"
    assert any(pattern.search(text) for text in said), message
