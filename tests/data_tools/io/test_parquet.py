"""Parquet: exact types survive, types are found and widened where no schema is given, broken files are reported row by row."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.io import SourceError, list_shards, read, write
from data_tools.io.columns import IMAGE
from data_tools.records import Image, Rejected, Sample


def rows(path: Path, **options):
    (shard,) = list_shards(path)
    return list(read(shard, **options))


def copy(source: Path, target: Path, hint=True, format="parquet", change=lambda s: s) -> Path:
    (shard,) = list_shards(source)
    with write(target, format, schema_hint=shard if hint else None) as out:
        for sample in read(shard):
            assert isinstance(sample, Sample), sample
            out.add(change(sample))
    return target


def rich_table(png: bytes) -> pa.Table:
    """Column types that inference would not find."""
    features = {"info": {"features": {"image": {"_type": "Image"}, "caption": {"dtype": "large_string", "_type": "Value"}}}}
    return pa.table(
        {
            "image": pa.array([{"bytes": png, "path": "a.png"}] * 3, IMAGE),
            "caption": pa.array(["a", None, "c"], pa.large_string()),
            "f32": pa.array([0.1, 1.5, None], pa.float32()),
            "u8": pa.array([1, 255, None], pa.uint8()),
            "when": pa.array([datetime.datetime(2024, 1, 2, 3, tzinfo=datetime.UTC)] * 3, pa.timestamp("us", "UTC")),
            "day": pa.array([datetime.date(2024, 1, 2), None, None]),
            "kind": pa.array(["x", "y", "x"], pa.string()).dictionary_encode(),
            "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int16())),
            "deep": pa.array([[{"a": [1]}], [], None], pa.list_(pa.struct([("a", pa.list_(pa.int8()))]))),
            "raw": pa.array([b"\0\1", b"", None], pa.binary()),
            "nothing": pa.nulls(3),
        }
    ).replace_schema_metadata({b"huggingface": json.dumps(features).encode(), b"mine": b"kept"})


def test_types_values_and_metadata_survive(tmp_path, png):
    pq.write_table(rich_table(png), tmp_path / "in.parquet")
    out = copy(tmp_path / "in.parquet", tmp_path / "out.parquet")
    before, after = pq.read_table(tmp_path / "in.parquet"), pq.read_table(out)
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.equals(before)


def test_added_fields_and_a_new_caption(tmp_path, png):
    pq.write_table(rich_table(png), tmp_path / "in.parquet")
    audit = [{"action": "keep", "scores": {"overall": 9}}, {"action": "keep", "scores": {}}, {"action": "rewrite", "reason": "é"}]
    change = lambda s: replace(s, caption="new", meta={**s.meta, "caption_raw": s.caption, "aitqe": audit[s.source.row]})  # noqa: E731
    out = copy(tmp_path / "in.parquet", tmp_path / "out.parquet", change=change)
    table = pq.read_table(out)
    assert table["caption"].to_pylist() == ["new"] * 3
    assert table["caption_raw"].to_pylist() == ["a", "", "c"]
    assert table.schema.field("aitqe").type == pa.string()
    assert [json.loads(t) for t in table["aitqe"].to_pylist()] == audit
    assert [s.meta["aitqe"] for s in rows(out)] == audit
    assert table.drop_columns(["caption", "caption_raw", "aitqe"]).equals(pq.read_table(tmp_path / "in.parquet").drop_columns(["caption"]))


def test_the_same_samples_give_the_same_bytes(tmp_path, png):
    pq.write_table(rich_table(png), tmp_path / "in.parquet")
    first, second = (copy(tmp_path / "in.parquet", tmp_path / f"{n}.parquet").read_bytes() for n in "ab")
    assert first == second


def test_an_audit_schema_may_be_given(tmp_path):
    hint = pa.schema([("id", pa.string()), ("aitqe", pa.struct([("action", pa.string())]))])
    with write(tmp_path / "o.parquet", "parquet", schema_hint=hint) as out:
        out.add(Sample("1", images=(Image(path="no"),), caption="x", meta={"aitqe": {"action": "keep"}}))
    assert pq.read_schema(tmp_path / "o.parquet").field("aitqe").type == hint.field("aitqe").type


@pytest.mark.parametrize("column", ["bytes", "path", "list"])
def test_other_picture_columns(tmp_path, png, column):
    (tmp_path / "a.png").write_bytes(png)
    values = {
        "bytes": pa.array([png]),
        "path": pa.array(["a.png"]),
        "list": pa.array([[{"bytes": png, "path": None}] * 2], pa.list_(IMAGE)),
    }
    pq.write_table(pa.table({"image": values[column], "text": ["x"]}), tmp_path / "in.parquet")
    (sample,) = rows(tmp_path / "in.parquet")
    assert len(sample.images) == (2 if column == "list" else 1)
    assert sample.images[0].data == png or Path(sample.images[0].path).read_bytes() == png
    assert pq.read_table(copy(tmp_path / "in.parquet", tmp_path / "out.parquet")).equals(pq.read_table(tmp_path / "in.parquet"))


def test_from_jsonl_pictures_are_embedded_and_values_survive(tmp_path, png, write_lines):
    (tmp_path / "a.png").write_bytes(png)
    base = {"image": "a.png", "caption": "x"}
    sent = [
        base | {"n": 1, "s": "t", "mixed": 1, "late": None, "d": {"a": 1}, "l": [], "f": 1},
        base | {"n": 2, "s": None, "mixed": "two", "d": {"b": [1, {"c": None}]}, "l": [1, 2], "f": 0.5},
        base | {"n": 10**30, "new": True, "t": [{"from": "a", "value": "b"}], "lone": "\ud800"},
        base | {"n": 3, "new": 1, "t": [{"value": "b"}], "b": [True, 1]},
    ]
    path = write_lines(*(json.dumps(r).encode() for r in sent))
    out = copy(path, tmp_path / "o.parquet")
    got = [dict(s.meta) for s in rows(out)]
    for row, back in zip(sent, got, strict=True):
        assert back.pop("image") == {"bytes": png, "path": "a.png"}
        want = {k: v for k, v in row.items() if k not in ("image", "lone")}
        assert {k: back[k] for k in want} == want
        assert all(type(back[k]) is type(want[k]) for k in want if k != "f")
    assert got[2]["lone"] == "\\ud800"
    assert pq.read_schema(out).field("s").type == pa.string()


def test_a_late_change_of_type_rewrites_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr("data_tools.io.columns.MAX_ROWS", 2)
    values = [None, None, 1, 2, 0.5, None, "three", {"x": 4}, 5, "6"]
    with write(tmp_path / "o.parquet", "parquet") as out:
        for i, v in enumerate(values):
            meta = {"id": str(i), "image": "no", "v": v} | ({"late": [i]} if i > 7 else {})
            out.add(Sample(str(i), images=(Image(path="no"),), caption="x", meta=meta))
    assert [s.meta["v"] for s in rows(tmp_path / "o.parquet")] == values
    assert [s.meta["late"] for s in rows(tmp_path / "o.parquet")] == [None] * 8 + [[8], [9]]
    assert [p.name for p in tmp_path.iterdir()] == ["o.parquet"]


def nested(depth: int):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [20, 21, 50, 300])
def test_deep_nesting_can_be_read_back(tmp_path, depth, write_lines, png):
    """Lists in lists: columns up to 20 deep keep a type, deeper ones become JSON text, and both come back as they were."""
    (tmp_path / "a.png").write_bytes(png)
    source = write_lines({"image": "a.png", "caption": "x", "deep": nested(depth)})
    out = copy(source, tmp_path / "o.parquet", hint=False)
    (sample,) = rows(out)
    assert sample.meta["deep"] == nested(depth)
    assert (pq.read_schema(out).field("deep").type == pa.string()) == (depth > 20)


def test_a_deep_column_of_a_saved_dataset_becomes_text_in_parquet(tmp_path, png):
    kind = pa.int64()
    for _ in range(50):
        kind = pa.list_(kind)
    shallow_and_deep = pa.schema([("caption", pa.string()), ("image", pa.binary()), ("deep", kind)])
    row = Sample("i", caption="x", meta={"caption": "x", "image": png, "deep": nested(50)})
    with write(tmp_path / "hf", "hf", schema_hint=shallow_and_deep) as out:
        out.add(row)
    (sample,) = rows(copy(tmp_path / "hf", tmp_path / "o.parquet"))
    assert sample.meta["deep"] == nested(50)


def test_a_value_that_breaks_the_given_schema_is_named(tmp_path):
    hint = pa.schema([("n", pa.int64())])
    with pytest.raises(SourceError, match="'n' has type int64"), write(tmp_path / "o.parquet", "parquet", schema_hint=hint) as out:
        out.add(Sample("1", images=(Image(path="a"),), caption="x", meta={"n": "text"}))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(SourceError, match="schema_hint"):
        write(tmp_path / "o.parquet", "parquet", schema_hint=5)


def test_keys_that_a_given_struct_lacks_are_not_dropped_in_silence(tmp_path):
    hint = pa.schema([("aitqe", pa.struct([("scores", pa.struct([("overall", pa.float64())])), ("reason", pa.string())]))])
    with write(tmp_path / "o.parquet", "parquet", schema_hint=hint) as out:
        out.add(Sample("1", images=(Image(path="a"),), caption="x", meta={"k": 1, "aitqe": {"scores": {"overall": 5}}}))
    assert pq.read_schema(tmp_path / "o.parquet").names == ["id", "image", "caption", "k", "aitqe"]
    assert pq.read_table(tmp_path / "o.parquet")["aitqe"].to_pylist() == [{"scores": {"overall": 5.0}, "reason": None}]
    with pytest.raises(SourceError, match="'aitqe' has type"), write(tmp_path / "p.parquet", "parquet", schema_hint=hint) as out:
        out.add(Sample("1", images=(Image(path="a"),), caption="x", meta={"aitqe": {"scores": {"new": 1}}}))


def test_an_empty_output_is_a_readable_file(tmp_path):
    with write(tmp_path / "o.parquet", "parquet"):
        pass
    assert rows(tmp_path / "o.parquet") == []


def test_skip_passes_whole_row_groups(tmp_path):
    pq.write_table(
        pa.table({"id": [str(i) for i in range(10)], "image": ["a"] * 10, "caption": ["x"] * 10}), tmp_path / "i.parquet", row_group_size=3
    )
    for skip in range(11):
        assert [(s.id, s.source.row) for s in rows(tmp_path / "i.parquet", skip=skip)] == [(str(i), i) for i in range(skip, 10)]


def test_wrong_types_are_rejected_by_row(tmp_path):
    pq.write_table(pa.table({"image": ["a", None], "caption": [1, 2]}), tmp_path / "i.parquet")
    assert [r.reason for r in rows(tmp_path / "i.parquet")] == ["caption_type", "caption_type"]
    assert [getattr(r, "reason", "ok") for r in rows(tmp_path / "i.parquet", caption_key="image")] == ["ok", "missing_image"]
    assert [r.reason for r in rows(tmp_path / "i.parquet", caption_key="alt")] == ["missing_caption"] * 2


def test_text_that_is_not_utf8(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    pq.write_table(pa.table({"image": ["a"], "caption": bad}), tmp_path / "i.parquet")
    (found,) = rows(tmp_path / "i.parquet")
    assert isinstance(found, Rejected)


def test_cut_and_corrupt_files(tmp_path):
    table = pa.table(
        {"id": [str(i) for i in range(6)], "image": [f"a{i}" for i in range(6)], "caption": ["word " * 50 + str(i) for i in range(6)]}
    )
    pq.write_table(table, tmp_path / "i.parquet", row_group_size=2, use_dictionary=False, compression="zstd")
    data = bytearray((tmp_path / "i.parquet").read_bytes())
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    (whole,) = rows(tmp_path / "cut.parquet")
    assert (whole.reason, whole.source.row) == ("shard_unreadable", 0)
    column = pq.ParquetFile(tmp_path / "i.parquet").metadata.row_group(1).column(2)
    data[column.data_page_offset + 4 : column.data_page_offset + column.total_compressed_size] = b"\xff" * (
        column.total_compressed_size - 4
    )
    (tmp_path / "bad.parquet").write_bytes(data)
    found = rows(tmp_path / "bad.parquet")
    assert [getattr(r, "reason", r.source.row) for r in found] == [0, 1, "row_group_unreadable", "row_group_unreadable", 4, 5]
    assert [r.source.row for r in found] == list(range(6))
    assert [r.source.row for r in rows(tmp_path / "bad.parquet", skip=3)] == [3, 4, 5]


def test_paths_move_to_another_format_as_bytes(tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    pq.write_table(pa.table({"u8": pa.array([1], pa.uint8()), "image": ["a.png"], "text": ["x"]}), tmp_path / "in.parquet")
    copy(tmp_path / "in.parquet", tmp_path / "hf", format="hf")
    (sample,) = rows(tmp_path / "hf")
    assert (sample.images[0].data, sample.meta["image"]["path"]) == (png, "a.png")
    with pa.OSFile(str(tmp_path / "hf" / "data-00000-of-00001.arrow")) as file:
        schema = pa.ipc.open_stream(file).schema
    assert (schema.names, schema.field("u8").type, schema.field("image").type) == (["u8", "image", "text"], pa.uint8(), IMAGE)


def test_to_jsonl_pictures_become_base64(tmp_path, png):
    pq.write_table(rich_table(png), tmp_path / "in.parquet")
    out = copy(tmp_path / "in.parquet", tmp_path / "o.jsonl", format="jsonl")
    first = json.loads(out.read_text().splitlines()[0])
    assert first["image"]["path"] == "a.png"
    assert first["when"] == "2024-01-02T03:00:00+00:00"
    assert [(s.caption, s.images[0].data) for s in rows(out)] == [("a", png), ("", png), ("c", png)]
    back = copy(out, tmp_path / "back.parquet")
    assert [s.images[0].data for s in rows(back)] == [png] * 3
