"""DataComp's uid lists: 128 bits as two halves, sorted, each once."""

import numpy as np
import pytest

from data_tools.run.uids import UID, uid_of, write_uids


def test_halves_and_order_by_hand(tmp_path):
    """0x...01 0x...02 is (1, 2); the high half sorts first, as unsigned: 8000... comes after 0fff..."""
    texts = ["8" + "0" * 31, "0" * 15 + "1" + "0" * 15 + "2", "0F" + "f" * 30, "0" * 15 + "1" + "0" * 15 + "1", "8" + "0" * 31]
    assert uid_of(texts[1]) == (1, 2)
    parts = [np.array([uid_of(t) for t in texts[:2]], UID), np.array([uid_of(t) for t in texts[2:]], UID)]
    assert write_uids(tmp_path / "uids.npy", parts) == 4
    read = np.load(tmp_path / "uids.npy", mmap_mode="r", allow_pickle=False)
    assert read.dtype == np.dtype("u8,u8")
    assert read.tolist() == [(1, 1), (1, 2), (0x0FFFFFFFFFFFFFFF, 2**64 - 1), (2**63, 0)]


def test_an_empty_list_is_a_list(tmp_path):
    assert write_uids(tmp_path / "uids.npy", []) == 0
    assert np.load(tmp_path / "uids.npy").dtype == np.dtype("u8,u8")


@pytest.mark.parametrize("wrong", [None, "", "12", "g" * 32, "0" * 33, "0x" + "0" * 30, 12345678901234567890123456789012, "٣" * 32])
def test_what_is_no_uid(wrong):
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        uid_of(wrong)
