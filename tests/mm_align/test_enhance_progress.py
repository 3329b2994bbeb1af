"""The live line of `mmalign enhance-data`: its counts are whole on a narrow terminal."""

import io

import pytest
from rich.console import Console

from data_tools.run.plan import Progress
from mm_align.jobs.progress import live


@pytest.mark.parametrize(("width", "shard_shown"), [(80, False), (140, True)])
def test_counts_are_whole_at_any_width(width, shard_shown):
    """1,234,567 of 2,345,678 rows: 15 characters of progress and 50 of counts leave no room for the shard at 80 columns."""
    screen = io.StringIO()
    name = "a-very-long-name-of-a-shard-000123-of-004567"
    with live(Console(file=screen, width=width, force_terminal=True, color_system=None), 2_345_678) as show:
        show(Progress(name, 1_234_567, 1_100_000, 123_456, 11_111, 5.0))
    last = screen.getvalue()
    assert "1234567/2345678" in last
    assert "1100000 kept, 123456 rewritten, 11111 quarantined" in last
    assert (name[:24] in last) == shard_shown
    assert "\u2026" not in last
