"""Rows that hold several sequences: each token once, at its own position, seen by its own sequence only."""

import numpy as np

from mm_align.models.shared_prompt import duplicated_rows, shared_rows


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int64)


def test_a_prompt_with_two_answers_and_a_shorter_row():
    """Prompt 1 2, answers 3 4 and 5; the second row is 1 with answers 6 and 7 7.

    Row 0: 1 2 | 3 4 | 5: the prompt is seen to the end (5), the first answer up to 4, the second up to 5.
    Row 1: 1 | 6 | 7 7 and one place of padding, which only sees itself.
    """
    rows = shared_rows([ids(1, 2, 3, 4), ids(1, 2, 5), ids(1, 6), ids(1, 7, 7)], [(0, 1), (2, 3)])
    assert rows.sequence.tolist() == [[0, 0, 0, 0, 1], [2, 2, 3, 3, -1]]
    assert rows.token.tolist() == [[0, 1, 2, 3, 2], [0, 1, 1, 2, -1]]
    assert rows.until.tolist() == [[5, 5, 4, 4, 5], [4, 2, 4, 4, 5]]
    assert [places.tolist() for places in rows.places] == [[0, 1, 2, 3], [0, 1, 4], [5, 6], [5, 7, 8]]


def test_four_sequences_that_part_twice():
    """1 2, then (3, then 4 or 5) or (6, then 7, or nothing more): runs are written depth first."""
    rows = shared_rows([ids(1, 2, 3, 4), ids(1, 2, 3, 5), ids(1, 2, 6, 7), ids(1, 2, 6)], [(0, 1, 2, 3)])
    assert rows.take([ids(1, 2, 3, 4), ids(1, 2, 3, 5), ids(1, 2, 6, 7), ids(1, 2, 6)], 0).tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert rows.until.tolist() == [[7, 7, 5, 4, 5, 7, 7]]
    assert rows.places[3].tolist() == [0, 1, 5]


def test_sequences_with_nothing_in_common_stand_side_by_side():
    rows = shared_rows([ids(1, 2), ids(3)], [(0, 1)])
    assert rows.until.tolist() == [[2, 2, 3]]
    assert rows.token.tolist() == [[0, 1, 0]]


def test_duplicated_rows_are_the_sequences():
    rows = duplicated_rows([ids(1, 2, 3), ids(1)])
    assert rows.take([ids(1, 2, 3), ids(1)], 0).tolist() == [[1, 2, 3], [1, 0, 0]]
    assert rows.until.tolist() == [[3, 3, 3], [1, 2, 3]]
    assert rows.places[1].tolist() == [3]


def test_each_sequence_sees_its_own_beginning_and_nothing_else():
    """For random trees, the places that a sequence's token sees are those of the sequence's tokens up to it."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        sequences = [rng.integers(0, 2, rng.integers(1, 9)).astype(np.int64) for _ in range(rng.integers(2, 7))]
        rows = shared_rows(sequences, [range(len(sequences))])
        until = rows.until[0]
        for sequence, places in zip(sequences, rows.places, strict=True):
            assert rows.take(sequences, -1)[0][places].tolist() == sequence.tolist()
            for i, place in enumerate(places):
                assert [j for j in range(place + 1) if place < until[j]] == places[: i + 1].tolist()
                assert rows.token[0][place] == i
