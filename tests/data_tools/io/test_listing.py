"""What a source consists of: stable order, unique safe names, and clear sentences where nothing can be read."""

from __future__ import annotations

import fsspec
import pytest

from data_tools.io import FORMATS, SourceError, extension, list_shards, read, write, write_manifest
from data_tools.io.listing import named
from data_tools.io.shard import Shard

ROW = '{"id": "1", "image": "a.png", "caption": "x"}\n'


def touch(root, *names, text=ROW):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_files_and_nested_folders(tmp_path):
    touch(tmp_path, "b/part.jsonl", "b/part.ndjson", "a.jsonl", ".hidden/x.jsonl", "report.json")
    assert [(s.name, s.format) for s in list_shards(tmp_path / "a.jsonl")] == [("a", "jsonl")]
    names = [s.name for s in list_shards(tmp_path)]
    assert names[:2] == ["a", "b__part"]
    assert names[2].startswith("b__part-")
    assert [s.name for s in list_shards(str(tmp_path / "b" / "*.jsonl"))] == ["part"]


def test_the_quarantine_of_our_own_output_is_no_shard(tmp_path):
    touch(tmp_path, "a.jsonl", "quarantine/a.jsonl")
    assert [s.name for s in list_shards(tmp_path)] == ["a", "quarantine__a"]
    write_manifest(tmp_path, "", "jsonl")
    assert [s.name for s in list_shards(tmp_path)] == ["a"]
    assert [s.name for s in list_shards(tmp_path / "quarantine")] == ["a"]


def test_names_are_safe_and_unique():
    shards = named(
        [("p", "jsonl", "a b/ü.jsonl"), ("q", "jsonl", "A b/ü.jsonl"), ("r", "jsonl", "x" * 300 + ".jsonl"), ("s", "jsonl", "v1.2.jsonl")]
    )
    assert [s.name for s in shards][0::3] == ["a_b___", "v1.2"]
    assert len({s.name.lower() for s in shards}) == 4
    assert all(len(s.name) <= 150 for s in shards)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "Nothing to read"),
        (("notes.md", "report.json"), "Nothing to read"),
        (("a.jsonl", "b.parquet"), r"several kinds of shards \(1 jsonl, 1 parquet\), and a source is of one kind\. Give each kind"),
        (("a.tar", "b.parquet"), "several kinds"),
    ],
)
def test_folders_that_cannot_be_read(tmp_path, names, message):
    touch(tmp_path, *names)
    with pytest.raises(SourceError, match=message):
        list_shards(tmp_path)


def test_paths_that_cannot_be_read(tmp_path):
    with pytest.raises(SourceError, match="No such file or folder"):
        list_shards(tmp_path / "no")
    with pytest.raises(SourceError, match="No such file"):
        list_shards(str(tmp_path / "*.tar"))
    touch(tmp_path, "a.csv")
    with pytest.raises(SourceError, match="known suffixes"):
        list_shards(tmp_path / "a.csv")
    with pytest.raises(SourceError, match="Unknown format"):
        list(read(Shard("x", "csv", "x")))
    with pytest.raises(SourceError, match="Unknown format"):
        write(tmp_path / "x", "csv")


@pytest.mark.parametrize(("format", "suffix"), [(format, suffix) for format, (_, ends) in FORMATS.items() for suffix in ends])
def test_a_file_is_known_by_every_suffix_of_its_format(tmp_path, format, suffix):
    touch(tmp_path, f"rows{suffix}")
    assert [(s.name, s.format) for s in list_shards(tmp_path)] == [("rows", format)]
    assert [(s.name, s.format) for s in list_shards(tmp_path / f"rows{suffix}")] == [("rows", format)]


def test_a_format_may_be_asked(tmp_path):
    touch(tmp_path, "a.jsonl", "b.parquet", "c.png", "rows.data")
    assert [s.name for s in list_shards(tmp_path, "jsonl")] == ["a"]
    assert [s.format for s in list_shards(tmp_path, "folder")] == ["folder"]
    assert [s.format for s in list_shards(tmp_path / "rows.data", "jsonl")] == ["jsonl"]
    with pytest.raises(SourceError, match="Nothing to read"):
        list_shards(tmp_path, "webdataset")


def test_img2dataset_tables_beside_tars_are_no_shards(tmp_path):
    touch(tmp_path, "000.tar", "000.parquet", "000_stats.json", "001.tar", "001.parquet")
    assert [(s.name, s.format) for s in list_shards(tmp_path)] == [("000", "webdataset"), ("001", "webdataset")]


def test_our_own_output_of_folders_is_listed_by_its_manifest(tmp_path, png):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(png)
        (tmp_path / name / "x.txt").write_text("cap")
    assert [s.name for s in list_shards(tmp_path)] == [tmp_path.name]
    write_manifest(tmp_path, "", "folder")
    shards = list_shards(tmp_path)
    assert [s.name for s in shards] == ["a", "b"]
    assert [s.caption for shard in shards for s in read(shard)] == ["cap", "cap"]


def test_extensions():
    assert [extension(f) for f in ("jsonl", "parquet", "webdataset", "folder", "hf")] == [".jsonl", ".parquet", ".tar", "", ""]


def test_stores_of_fsspec_are_read(png):
    fs = fsspec.filesystem("memory")
    fs.pipe("/io-test/d/a.jsonl", ROW.encode())
    fs.pipe("/io-test/d/a.png", png)
    fs.pipe("/io-test/d/mmalign.txt", b"")
    (shard,) = list_shards("memory://io-test/d")
    (sample,) = read(shard)
    assert sample.images[0].path == "memory://io-test/d/a.png"
    from data_tools.io import decode

    assert decode(sample.images[0]).pixels.size == (8, 8)
    fs.pipe("/io-test/f/a.png", png)
    fs.pipe("/io-test/f/a.txt", b"cap")
    (folder,) = list_shards("memory://io-test/f")
    assert [s.caption for s in read(folder)] == ["cap"]
    assert [s.path for s in list_shards("memory://io-test/d/*.jsonl")] == ["memory://io-test/d/a.jsonl"]
    fs.rm("/io-test", recursive=True)


def test_a_store_without_its_package():
    with pytest.raises(SourceError, match="Cannot open nosuchstore"):
        list_shards("nosuchstore://bucket/x.jsonl")
