"""The part of a results page that a proof writes: what stands between two marks. All else on the page is written by hand."""

from __future__ import annotations

from pathlib import Path

MARKS = ("<!-- figures: begin -->", "<!-- figures: end -->")


def write_figures(page: Path, figures: str, marks: tuple[str, str] = MARKS) -> None:
    """Put `figures` between the marks, in place of what stood there. SystemExit for a page without them."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not end:
        raise SystemExit(f"{page} has no part between {marks[0]} and {marks[1]}")
    page.write_text(f"{before}{begin}\n\n{figures}\n\n{end}{after}", encoding="utf-8")
