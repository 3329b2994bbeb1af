"""The ledger: what is found again, what a kill may cost, what a key stands for."""

import pytest

from data_tools.disk.ledger import Ledger, key_of


def entries(*numbers):
    return [key_of(n) for n in numbers], [{"n": n} for n in numbers]


def test_what_was_added_is_found_now_and_later(tmp_path):
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.add(*entries(1, 2, 3))
        ledger.add(*entries(4))
        assert [ledger[key_of(n)]["n"] for n in (4, 1, 3)] == [4, 1, 3]
    with Ledger(path) as ledger:
        assert len(ledger) == 4
        assert key_of(5) not in ledger
        assert [ledger[key_of(n)]["n"] for n in (2, 4)] == [2, 4]
        with pytest.raises(KeyError):
            ledger[key_of(5)]


def test_the_later_entry_counts(tmp_path):
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.add([key_of(1)], [{"n": "old"}])
        ledger.add([key_of(1)], [{"n": "new"}])
        assert ledger[key_of(1)] == {"n": "new"}
    with Ledger(tmp_path / "ledger") as ledger:
        assert ledger[key_of(1)] == {"n": "new"}


@pytest.mark.parametrize("lost", [1, 30, 60])
def test_a_torn_tail_costs_its_block_alone(tmp_path, lost):
    path = tmp_path / "ledger"
    with Ledger(path) as ledger:
        ledger.add(*entries(1, 2))
        ledger.add(*entries(3, 4))
    path.write_bytes(path.read_bytes()[:-lost])
    with Ledger(path) as ledger:
        assert [key_of(n) in ledger for n in (1, 2, 3, 4)] == [True, True, False, False]
        ledger.add(*entries(3))
        assert ledger[key_of(3)] == {"n": 3}
    with Ledger(path) as ledger:
        assert len(ledger) == 3


def test_nothing_to_add_is_no_block(tmp_path):
    with Ledger(tmp_path / "ledger") as ledger:
        ledger.add([], [])
    assert (tmp_path / "ledger").stat().st_size == 0


def test_keys_stand_for_values_whatever_the_order_of_fields():
    assert key_of("a", {"x": 1, "y": [2]}) == key_of("a", {"y": [2], "x": 1})
    assert key_of("a", {"x": 1}) != key_of("a", {"x": 2})
    assert key_of("a\ud800") != key_of("a")
    assert len(key_of()) == 16
