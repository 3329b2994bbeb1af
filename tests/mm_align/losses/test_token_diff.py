"""Which tokens of two answers count more, by hand."""

from mm_align.losses.token_diff import token_diff_weights

W = 3.0


def test_a_replaced_span_counts_on_both_sides() -> None:
    """1 2 3 | 4 | 5 6 7 against 1 2 3 | 8 9 | 5 6 7."""
    found = token_diff_weights([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 8, 9, 5, 6, 7], W)
    assert found.chosen == [1, 1, 1, W, 1, 1, 1]
    assert found.rejected == [1, 1, 1, W, W, 1, 1, 1]


def test_an_insertion_keeps_weight_one() -> None:
    """The rejected answer has 8 9 more and nothing less."""
    found = token_diff_weights([1, 2, 3, 5, 6, 7], [1, 2, 3, 8, 9, 5, 6, 7], W)
    assert found.chosen == [1] * 6
    assert found.rejected == [1] * 8


def test_short_common_runs_belong_to_the_change() -> None:
    """10 11 is common but shorter than three: the span runs from 4 to 12 and from 8 to 13."""
    found = token_diff_weights([1, 2, 3, 4, 10, 11, 12, 5, 6, 7], [1, 2, 3, 8, 10, 11, 13, 5, 6, 7], W)
    assert found.chosen == [1, 1, 1, W, W, W, W, 1, 1, 1]
    assert found.rejected == found.chosen


def test_a_short_common_start_continues_the_prompt() -> None:
    """Only 1 is common at the start, as the end of what comes before; the common end-of-turn token 99 alone is a short run."""
    found = token_diff_weights([1, 4, 99], [1, 8, 9, 99], W)
    assert found.chosen == [1, W, W]
    assert found.rejected == [1, W, W, W]


def test_equal_and_empty_answers() -> None:
    assert token_diff_weights([1, 2], [1, 2], W) == ([1, 1], [1, 1])
    assert token_diff_weights([], [1, 2], W) == ([], [1, 1])


def test_weight_one_changes_nothing() -> None:
    assert token_diff_weights([1, 2, 3], [4, 5, 6], 1.0) == ([1, 1, 1], [1, 1, 1])
