"""What a proof writes into its page stands between two marks; nothing else there changes."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts" / "proving"))

from figures_page import MARKS, write_figures


def test_only_what_stands_between_the_marks_is_replaced(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# By hand\n\n{MARKS[0]}\nold\n{MARKS[1]}\n\nmore by hand\n")
    for figures in ("| a |", "| b |\n| c |"):
        write_figures(page, figures)
        assert page.read_text() == f"# By hand\n\n{MARKS[0]}\n\n{figures}\n\n{MARKS[1]}\n\nmore by hand\n"


@pytest.mark.parametrize("text", ["no marks", f"{MARKS[0]} alone", f"{MARKS[1]} before {MARKS[0]}"])
def test_a_page_without_them_is_left_alone(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(SystemExit, match=r"page\.md has no part between"):
        write_figures(page, "| a |")
    assert page.read_text() == text
