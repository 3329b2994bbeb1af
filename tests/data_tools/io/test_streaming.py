"""Memory does not grow with the input, for reading and for writing of every streaming format."""

from __future__ import annotations

import base64
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from data_tools.io import FORMATS, Shard, extension, list_shards, read, write
from data_tools.records import Image, Sample, Source

PICTURE = bytes(range(256)) * 16  # 4 KiB that stand for a picture; nothing here decodes


def samples(n: int) -> Iterator[Sample]:
    for i in range(n):
        data = i.to_bytes(8, "big") + PICTURE
        text = base64.b64encode(data).decode()
        meta = {"id": str(i), "image": {"bytes": text, "path": None}, "caption": f"caption {i}", "extra": [i]}
        yield Sample(str(i), (), (Image(data=data),), meta["caption"], Source("s", i, "jsonl", "caption", ("image",), "id"), meta)


def write_n(path: Path, format: str, n: int) -> Path:
    with write(path, format) as out:
        for sample in samples(n):
            out.add(sample)
    return path


def peak(work) -> int:
    """Most bytes held at once, Python's and Arrow's."""
    pool = pa.default_memory_pool()
    tracemalloc.start()
    most = 0
    for _ in work():
        most = max(most, pool.bytes_allocated())
    python = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return python + most


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webdataset", "hf"])
def test_memory_is_bounded(tmp_path, monkeypatch, format):
    """Ten times the rows need the same memory (within 1.2; 10 would be linear). Pieces are made small so that few rows show it."""
    monkeypatch.setattr("data_tools.io.columns.MAX_BYTES", 1 << 16)
    monkeypatch.setattr("data_tools.io.columns.MAX_ROWS", 16)
    paths = {n: tmp_path / f"{n}{extension(format)}" for n in (60, 600)}

    def written(n: int):
        write_n(paths[n], format, n)
        yield

    write_n(tmp_path / "warm", format, 10)
    wrote = {n: peak(lambda n=n: written(n)) for n in paths}
    (small,), (large,) = (list_shards(p) for p in paths.values())
    assert sum(1 for _ in read(small)) == 60
    took = {s.path: peak(lambda s=s: read(s)) for s in (small, large)}
    assert wrote[600] < 1.2 * wrote[60] + (1 << 17), wrote
    assert took[large.path] < 1.2 * took[small.path] + (1 << 17), took


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_gives_back_what_it_was_given(tmp_path, format, png):
    given = [Sample(str(i), (), (Image(data=png),), f"c{i}", None, {"id": str(i), "n": i, "o": {"k": [None, "é"]}}) for i in range(3)]
    with write(tmp_path / f"o{extension(format)}", format) as out:
        for sample in given:
            out.add(sample)
    (shard,) = list_shards(tmp_path / f"o{extension(format)}")
    found = list(read(Shard(shard.path, format, "s")))
    assert [(s.id, s.caption, s.meta["n"], s.meta["o"]) for s in found] == [(s.id, s.caption, s.meta["n"], s.meta["o"]) for s in given]
    assert [s.images[0].data or Path(s.images[0].path).read_bytes() for s in found] == [png] * 3
    assert [(s.source.shard, s.source.row, s.source.format) for s in found] == [("s", i, format) for i in range(3)]


def test_a_large_row_group_is_read_in_pieces(tmp_path):
    """40 MB in one row group; far less is held at a time."""
    import pyarrow.parquet as pq

    picture = bytes(40_000)
    table = pa.table({"id": [str(i) for i in range(1000)], "image": [picture] * 1000, "caption": ["x"] * 1000})
    pq.write_table(table, tmp_path / "i.parquet", use_dictionary=False, compression="none", write_batch_size=10)
    del table
    (shard,) = list_shards(tmp_path / "i.parquet")
    assert peak(lambda: read(shard)) < 30 << 20


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
@pytest.mark.parametrize("format", FORMATS)
def test_a_full_disk_is_an_oserror_and_leaves_nothing(tmp_path, format):
    """A limit of 2 KiB a file stands for the full disk: EFBIG takes the same way as ENOSPC."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with pytest.raises(OSError, match=r"(?i)file too large"):
            write_n(tmp_path / "o", format, 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
