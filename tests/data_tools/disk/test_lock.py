"""An open file is locked by one holder at a time, and free again when that one is gone."""

from data_tools.disk.lock import take_lock


def test_a_lock_has_one_holder(tmp_path):
    with (tmp_path / "lock").open("w") as first:
        assert take_lock(first)
        assert take_lock(first), "its holder has it already"
        with (tmp_path / "lock").open("w") as second:
            assert not take_lock(second)
    with (tmp_path / "lock").open("w") as second:
        assert take_lock(second.fileno(), wait=True)
