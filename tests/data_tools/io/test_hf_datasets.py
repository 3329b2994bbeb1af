"""Hugging Face datasets: what `datasets` writes is read, what is written here is loaded by `datasets`, pictures stay encoded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from data_tools.io import SourceError, list_shards, read, write, write_manifest
from data_tools.io.hf_datasets import parse_hub, read_dataset
from data_tools.records import Sample

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, red) -> Path:
    """A saved DatasetDict with a picture column, a class label and nested values."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "text": datasets.Value("large_string"),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "more": datasets.List({"x": datasets.Value("int8")}),
        }
    )
    rows = [{"image": {"bytes": red, "path": "p.png"}, "text": f"t{i}", "label": i % 2, "more": [{"x": i}]} for i in range(5)]
    ds = datasets.Dataset.from_list(rows, features=features)
    path = tmp_path_factory.mktemp("hf") / "ds"
    datasets.DatasetDict(train=ds, test=ds.select(range(2))).save_to_disk(path)
    return path


def copy(source, target: Path, format: str) -> Path:
    with write(target, format, schema_hint=source) as out:
        for sample in read(source):
            out.add(sample)
    return target


def test_every_split_is_a_shard(saved, red):
    shards = list_shards(saved)
    assert [(s.name, s.format) for s in shards] == [("test", "hf"), ("train", "hf")]
    found = list(read(shards[1]))
    assert [(s.caption, s.meta["label"], s.images[0].data) for s in found] == [(f"t{i}", i % 2, red) for i in range(5)]
    assert [s.source.row for s in read(shards[1], skip=3)] == [3, 4]


def test_a_copy_is_the_same_dataset(saved, tmp_path):
    shard = list_shards(saved)[1]
    copy(shard, tmp_path / "out", "hf")
    ours, theirs = datasets.load_from_disk(tmp_path / "out"), datasets.load_from_disk(shard.path)
    assert ours.features == theirs.features
    assert ours.data.table.to_pylist() == theirs.data.table.to_pylist()
    assert ours[0]["image"].size == (8, 8)
    copy(shard, tmp_path / "again", "hf")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "again").iterdir()
    }


def test_rows_of_jsonl_become_a_dataset_with_pictures(tmp_path, red, write_lines):
    (tmp_path / "a.png").write_bytes(red)
    path = write_lines(*({"id": str(i), "image": "a.png", "caption": "x", "images_n": [i], "aitqe": {"a": {"b": i}}} for i in range(3)))
    (shard,) = list_shards(path)
    ds = datasets.load_from_disk(copy(shard, tmp_path / "out", "hf"))
    assert isinstance(ds.features["image"], datasets.Image)
    assert ds[2]["image"].size == (8, 8)
    table = datasets.load_dataset(
        "parquet", data_files=str(copy(shard, tmp_path / "o.parquet", "parquet")), split="train", cache_dir=tmp_path / "c"
    )
    assert isinstance(table.features["image"], datasets.Image)
    assert json.loads(table[1]["aitqe"]) == {"a": {"b": 1}}
    assert [s.meta["aitqe"] for s in read(list_shards(tmp_path / "out")[0])] == [{"a": {"b": i}} for i in range(3)]


def test_objects_of_datasets(saved, red):
    ds = datasets.load_from_disk(saved)["train"]
    for source in (ds, ds.to_iterable_dataset()):
        found = list(read_dataset(source, skip=1))
        assert [(s.source.row, s.caption, s.images[0].data) for s in found] == [(i, f"t{i}", red) for i in range(1, 5)]


def test_hub_names_stream(tmp_path, write_lines):
    path = write_lines(*({"image": {"bytes": "aGVsbG8=", "path": None}, "caption": f"c{i}"} for i in range(4)), b'{"broken": ')
    shards = list_shards(f"datasets:json?data_files={path}")
    assert [(s.name, s.path.split("?")[0]) for s in shards] == [("json-train", "datasets:json:train")]
    found = list(read(shards[0]))
    assert all(isinstance(s, Sample) for s in found[:-1])
    assert found[-1].reason == "shard_unreadable"
    good = write_lines({"image": {"bytes": "aGVsbG8=", "path": None}, "caption": "c"}, name="good.jsonl")
    (one,) = read(list_shards(f"datasets:json:train?data_files={good}")[0])
    assert (one.caption, one.images[0].data) == ("c", b"hello")


def test_shards_of_a_local_repository_are_named_by_its_last_folder(tmp_path):
    assert [s.name for s in list_shards(f"datasets:{tmp_path}/repo:train")] == ["repo-train"]
    assert [s.name for s in list_shards("datasets:org/name:train")] == ["name-train"]
    (tmp_path / "repo").mkdir()
    (tmp_path / "repo" / "train.jsonl").write_text('{"caption": "x"}\n')
    assert [s.name for s in list_shards(f"datasets:{tmp_path}/repo/")] == ["repo-train"]


def test_a_dataset_dict_comes_back_as_one(saved, tmp_path):
    out, shards = tmp_path / "out", list_shards(saved)
    for shard in shards:
        copy(shard, out / shard.name, "hf")
    write_manifest(out, {s.name: "" for s in (*shards, replace(shards[0], name="unfinished"))}, "hf")
    loaded = datasets.load_from_disk(out)
    assert isinstance(loaded, datasets.DatasetDict)
    assert {name: len(split) for name, split in loaded.items()} == {"train": 5, "test": 2}
    assert [s.name for s in list_shards(out)] == ["test", "train"]
    write_manifest(tmp_path, {"test": ""}, "jsonl")
    assert not (tmp_path / "dataset_dict.json").exists()


def test_hub_paths_taken_apart():
    assert parse_hub("datasets:org/name@conf:train[:5%]?revision=v1") == ("org/name", "conf", "train[:5%]", {"revision": "v1"})
    with pytest.raises(SourceError, match="expected datasets:NAME"):
        parse_hub("datasets:x?trust_remote_code=1")
    with pytest.raises(SourceError, match="datasets cannot open"):
        list_shards("datasets:json?data_files=/no/such/file.jsonl")


def test_broken_folders(saved, tmp_path):
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "dataset_info.json").write_text("{}")
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "x.arrow"}]}))
    (missing,) = read(list_shards(folder)[0])
    assert missing.reason == "shard_unreadable"
    data = (Path(list_shards(saved)[1].path) / "data-00000-of-00001.arrow").read_bytes()
    (folder / "x.arrow").write_bytes(data[: len(data) // 2])
    assert list(read(list_shards(folder)[0]))[-1].reason == "shard_unreadable"
    (folder / "state.json").write_text("[]")
    (state,) = read(list_shards(folder)[0])
    assert "save_to_disk" in state.detail


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(SourceError, match="type int64"), write(tmp_path / "o", "hf", schema_hint=pa.schema([("n", pa.int64())])) as out:
        out.add(Sample("1", caption="x", meta={"n": "text"}))
    assert list(tmp_path.iterdir()) == []


def test_added_columns_do_not_disturb_the_features_of_datasets(saved, tmp_path):
    shard = list_shards(saved)[1]
    for format, name in (("hf", "o"), ("parquet", "o.parquet")):
        with write(tmp_path / name, format, schema_hint=shard) as out:
            for s in read(shard):
                out.add(replace(s, meta={**s.meta, "caption_raw": s.caption, "aitqe": {"action": "keep"}}))
    theirs = datasets.load_from_disk(shard.path).features
    table = datasets.load_dataset("parquet", data_files=str(tmp_path / "o.parquet"), split="train", cache_dir=tmp_path / "c")
    for ds in (datasets.load_from_disk(tmp_path / "o"), table):
        assert {k: ds.features[k] for k in theirs} == dict(theirs)
        assert ds[4]["caption_raw"] == "t4"
