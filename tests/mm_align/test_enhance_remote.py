"""`mmalign enhance-data --out STORE://... --scratch DIR`: objects appear whole, the marker last; fsspec's memory stands in for a store."""

import json

import engine_faults as faults
import fsspec
import pytest

from data_tools.io import list_shards, read, upload
from mm_align.cli import main

OUT = "memory://bucket/better"


@pytest.fixture
def store():
    fs = fsspec.filesystem("memory")
    yield fs
    if fs.exists("/bucket"):
        fs.rm("/bucket", recursive=True)


@pytest.fixture
def source(tmp_path):
    return faults.write_source(tmp_path / "src", shards=2)


def command(source, out, scratch, *more):
    return main(["enhance-data", str(source), "--out", out, "--model", "null:", *(["--scratch", str(scratch)] if scratch else []), *more])


def marker(store):
    return json.loads(store.cat_file("/bucket/better/mmalign-upload.json"))


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webdataset"])
def test_what_is_brought_is_what_a_local_run_makes(store, source, tmp_path, format):
    assert command(source, OUT, tmp_path / "scratch", "--format", format, "--workers", "2") == 0
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "one"), "--model", "null:", "--format", format]) == 0
    there = {name.removeprefix("/bucket/better/") for name in store.find("/bucket/better")}
    here = {p.relative_to(tmp_path / "one").as_posix() for p in (tmp_path / "one").rglob("*") if p.is_file() and ".mmalign" not in p.parts}
    assert there == here | {"mmalign-upload.json"}
    for name in here - {"report.html", "report.json", "config.yaml", "mmalign.json"}:
        assert store.cat_file(f"/bucket/better/{name}") == (tmp_path / "one" / name).read_bytes()
    assert marker(store)["complete"]
    rows = [row for shard in list_shards(OUT) for row in read(shard)]
    assert len(rows) == 76
    assert all(row.images for row in rows)


def test_the_same_command_brings_what_is_lacking(store, source, tmp_path, monkeypatch, capsys):
    """The second object cannot be put; then the marker says unfinished, and the third start has nothing to do."""
    put, calls = upload._put, []

    def failing(fs, folder, name, target):
        calls.append(name)
        if len(calls) == 2:
            raise OSError("the network is gone")
        put(fs, folder, name, target)

    monkeypatch.setattr(upload, "_put", failing)
    with pytest.raises(OSError, match="the network is gone"):
        command(source, OUT, tmp_path / "scratch")
    assert not marker(store)["complete"]
    calls[:] = ["", "", ""]
    assert command(source, OUT, tmp_path / "scratch") == 0
    assert marker(store)["complete"]
    assert f"{len(marker(store)['files']) - 1} files brought" in capsys.readouterr().err
    assert command(source, OUT, tmp_path / "scratch") == 0
    assert "0 files brought" in capsys.readouterr().err


def test_nobody_elses_objects_are_touched(store, source, tmp_path, capsys):
    store.pipe_file("/bucket/better/precious", b"1")
    assert command(source, OUT, tmp_path / "scratch") == 2
    assert "already holds 1 objects that no mmalign run put there" in capsys.readouterr().err
    assert command(source, OUT, tmp_path / "scratch", "--overwrite") == 2
    assert store.cat_file("/bucket/better/precious") == b"1"


def test_another_run_in_the_same_place(store, source, tmp_path, capsys):
    """--overwrite removes what the other had put, and nothing else is left of it."""
    more = faults.write_source(tmp_path / "more", shards=3)
    assert command(more, OUT, tmp_path / "a") == 0
    assert command(source, OUT, tmp_path / "b") == 2
    assert "holds the output of another run" in capsys.readouterr().err
    assert command(source, OUT, tmp_path / "b", "--overwrite") == 0
    assert not store.exists("/bucket/better/part-2.jsonl")
    assert store.exists("/bucket/better/part-1.jsonl")


@pytest.mark.parametrize(
    ("out", "scratch", "more", "said"),
    [
        ("s3://bucket/x", False, (), "name one by --scratch"),
        ("file:///tmp/x", True, (), "is no local folder"),
        ("sftp://host/x", True, (), "does not promise that a file appears whole"),
        ("memory://bucket/x", True, ("--shard", "0/2"), "mmalign merge"),
        ("local", True, (), "--scratch has no effect"),
    ],
)
def test_places_that_cannot_be_written(source, tmp_path, monkeypatch, capsys, out, scratch, more, said):
    monkeypatch.chdir(tmp_path)
    assert command(source, out, "scratch" if scratch else None, *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "scratch").exists()
