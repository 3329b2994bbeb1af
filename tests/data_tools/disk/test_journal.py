"""The journal: blocks come back as they went in, and a torn or corrupt tail is cut at a block boundary."""

import json
import os

import pytest

from data_tools.disk.journal import Journal, read_entries, read_lines

IDS = b"12345678"


def write_blocks(path, blocks, finish=True):
    with Journal(path) as journal:
        for block in blocks:
            journal.append(block, IDS * len(block))
        if finish:
            journal.finish()


BLOCKS = [
    [{"action": "keep"}, {"rejected": "image_empty"}],
    [{"action": "rewrite", "text": "a\ud800\n\tb"}],
    [{"action": "keep", "p": 0.1}],
]


def test_blocks_come_back(tmp_path):
    path = tmp_path / "j"
    write_blocks(path, BLOCKS)
    lines = list(read_lines(path))
    assert [(line.row, line.n) for line in lines] == [(0, 2), (2, 1), (3, 1), (4, 0)]
    assert lines[0].ids == IDS * 2
    assert list(read_entries(path)) == [entry for block in BLOCKS for entry in block]
    with Journal(path) as journal:
        assert (journal.rows, journal.complete, journal.torn) == (4, True, 0)


def test_every_cut_ends_at_a_block(tmp_path):
    """Of a file cut after any byte only whole lines stay, and going on from there gives the same file."""
    whole = tmp_path / "whole"
    write_blocks(whole, BLOCKS)
    data = whole.read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    rows = [0, 2, 3, 4, 4]
    for size in range(len(data) + 1):
        path = tmp_path / "cut"
        path.write_bytes(data[:size])
        with Journal(path) as journal:
            sound = sum(end <= size for end in ends)
            assert (journal.rows, journal.complete) == (rows[sound], sound == 4)
            assert journal.torn == size - ([0, *ends][sound])
            for block in BLOCKS[sound:]:
                journal.append(block, IDS * len(block))
            if not journal.complete:
                journal.finish()
        assert path.read_bytes() == data


@pytest.mark.parametrize("where", [3, 60, 120])
def test_a_flipped_bit_cuts_from_its_line_on(tmp_path, where):
    path = tmp_path / "j"
    write_blocks(path, BLOCKS)
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    line = bytes(data[:where]).count(b"\n")
    with Journal(path) as journal:
        assert journal.rows == [0, 2, 3][line]
        assert not journal.complete


def test_a_line_out_of_place_is_refused(tmp_path):
    """A line whose checksum holds but whose first row is not the next one cannot be trusted."""
    path = tmp_path / "j"
    write_blocks(path, BLOCKS)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])
    assert [line.row for line in read_lines(path)] == [0]


def test_a_failed_write_leaves_whole_blocks(tmp_path, monkeypatch):
    path = tmp_path / "j"
    write = os.write
    with Journal(path) as journal:
        journal.append(BLOCKS[0], IDS * 2)
        sound = path.read_bytes()

        def half(fd, data):
            write(fd, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            journal.append(BLOCKS[1], IDS)
        monkeypatch.undo()
        assert path.read_bytes() == sound
        journal.append(BLOCKS[1], IDS)
        assert journal.rows == 3


def test_commits_are_grouped_in_time(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(fd))
    with Journal(tmp_path / "lazy", every=3600) as journal:
        for _ in range(50):
            journal.append(BLOCKS[1], IDS)
        assert not synced
        journal.every = 0
        journal.append(BLOCKS[1], IDS)
        assert len(synced) == 1


def test_ids_and_entries_must_agree(tmp_path):
    with Journal(tmp_path / "j") as journal, pytest.raises(ValueError, match="8 bytes of id hash"):
        journal.append(BLOCKS[0], IDS)


def test_bodies_are_plain_json(tmp_path):
    path = tmp_path / "j"
    write_blocks(path, BLOCKS)
    checksum, head, body = path.read_text("ascii").splitlines()[0].split("\t")
    assert len(checksum) == 8
    assert json.loads(head)["n"] == 2
    assert json.loads(body)[1] == {"rejected": "image_empty"}
