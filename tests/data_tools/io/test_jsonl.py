"""JSON Lines: every line becomes a Sample or a Rejected with its reason, and untouched lines come back byte for byte."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.io import BadImage, SourceError, decode, list_shards, read, write, write_manifest
from data_tools.io.jsonl import MAX_LINE
from data_tools.records import Image, Rejected, Sample


def rows(path: Path, **options):
    (shard,) = list_shards(path)
    return list(read(shard, **options))


def one(path: Path, **options):
    (found,) = rows(path, **options)
    return found


def test_a_plain_row(write_lines, tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    sample = one(write_lines({"id": 7, "image": "a.png", "caption": "ein Häuschen", "other": [1, {"x": None}]}))
    assert (sample.id, sample.caption) == ("7", "ein Häuschen")
    assert (sample.source.shard, sample.source.row, sample.source.caption_key, sample.source.image_keys) == (
        "rows",
        0,
        "caption",
        ("image",),
    )
    assert sample.source.id_key == "id"
    assert decode(sample.images[0]).pixels.size == (8, 8)
    assert list(sample.meta) == ["id", "image", "caption", "other"]


def test_ids_are_given_or_the_hash_of_picture_and_caption(write_lines, tmp_path, png):
    (tmp_path / "a.png").write_bytes(png)
    path = write_lines(
        {"image": "a.png", "caption": "é"},
        {"key": "k1", "image": "a.png", "caption": ""},
        {"id": None, "uid": "u", "png": "a.png", "text": "x"},
    )
    assert [s.id for s in rows(path)] == [hashlib.sha256(png + "é".encode()).hexdigest(), "k1", "u"]


def test_a_row_may_do_without_a_caption_where_the_caller_can(write_lines, png):
    path = write_lines({"id": "a", "image": "a.png", "question": "What?"}, {"id": "b", "image": "b.png", "caption": "not asked for"})
    first, second = rows(path, caption_key="question", caption_optional=True)
    assert (first.caption, second.caption) == ("What?", None)
    assert (second.id, second.source.caption_key, second.meta["caption"]) == ("b", None, "not asked for")
    assert rows(path, caption_key="question")[1].reason == "missing_caption"


def test_a_missing_file_still_has_an_id_and_fails_when_decoded(write_lines):
    first, second = rows(write_lines({"image": "no.png", "caption": "a"}, {"image": "no.png", "caption": "b"}))
    assert first.id != second.id
    with pytest.raises(BadImage, match="image_missing"):
        decode(first.images[0])


@pytest.mark.parametrize(
    "field",
    [
        lambda b: {"image": base64.b64encode(b).decode()},
        lambda b: {"jpg": "data:image/png;base64," + base64.b64encode(b).decode()},
        lambda b: {"image": {"bytes": base64.b64encode(b).decode(), "path": "x.png"}},
        lambda b: {"images": [{"bytes": "data:image/png;base64," + base64.b64encode(b).decode()}]},
    ],
)
def test_embedded_pictures(write_lines, png, field):
    sample = one(write_lines({"caption": "x", **field(png)}))
    assert [i.data for i in sample.images] == [png]


def test_a_path_that_looks_like_base64_is_a_path(write_lines):
    """/9j/ starts the base64 of every JPEG and may start an absolute path."""
    assert one(write_lines({"caption": "x", "image": "/9j/" + "a" * 60 + ".jpg"})).images[0].data is None


def test_image_keys_in_order_and_asked(write_lines):
    row = {"caption": "x", "image": None, "image_path": "b.png", "thumb": "c.png"}
    assert one(write_lines(row), image_root="/r").images == (Image(path="/r/b.png"),)
    assert one(write_lines(row), image_root="/r", image_key="thumb").images == (Image(path="/r/c.png"),)
    assert one(write_lines(row), image_key="nothing").reason == "missing_image"


def test_a_url_is_no_picture(write_lines):
    sample = one(write_lines({"caption": "x", "url": "https://example.org/a.jpg"}))
    with pytest.raises(BadImage, match="never fetched"):
        decode(sample.images[0])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"image": "a.png", "caption": ', "bad_json"),
        (b'{"image": "a.png", "caption": "\xff\xfe"}', "not_utf8"),
        (b'["a.png", "x"]', "not_an_object"),
        (b"12", "not_an_object"),
        (b"[" * 200_000, "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"image": "a.png"}', "missing_caption"),
        (b'{"image": "a.png", "caption": 5}', "caption_type"),
        (b'{"image": "a.png", "caption": ["x", "y"]}', "caption_type"),
        (b'{"image": "a.png", "caption": "\\ud800"}', "bad_unicode"),
        (b'{"image": 5, "caption": "x"}', "image_type"),
        (b'{"image": {"bytes": 5}, "caption": "x"}', "image_type"),
        (b'{"image": {"path": 5}, "caption": "x"}', "image_type"),
        (b'{"image": {"bytes": "no base64!"}, "caption": "x"}', "bad_base64"),
        (b'{"image": "data:image/png;base64,!", "caption": "x"}', "bad_base64"),
        (b'{"images": ["a.png", 3], "caption": "x"}', "image_type"),
        (b'{"images": [], "image": "", "caption": "x"}', "missing_image"),
        (b'{"caption": "x"}', "missing_image"),
        (b"{}", "missing_caption"),
        (b'{"image": "a", "conversations": "x"}', "ok"),
        (b'{"image": "a", "conversations": [5]}', "conversation_type"),
        (b'{"image": "a", "conversations": [{"from": "bot", "value": "x"}]}', "conversation_type"),
        (b'{"image": "a", "conversations": [{"from": "human", "value": "x"}]}', "no_answer"),
        (b'{"image": "a", "messages": [{"role": "assistant", "content": 5}]}', "caption_type"),
        (
            b'{"images": ["a", "b"], "messages": [{"role": "user", "content": "<image>"}, {"role": "assistant", "content": "x"}]}',
            "image_count",
        ),
    ],
)
def test_bad_lines_do_not_stop_the_others(write_lines, line, reason):
    good = {"image": "a.png", "caption": "x"}
    before, found, after = rows(write_lines(good, line, good))
    assert (before.source.row, found.source.row, after.source.row) == (0, 1, 2)
    assert isinstance(found, Sample) if reason == "ok" else found.reason == reason
    if isinstance(found, Rejected):
        assert found.detail
        assert len(found.raw) <= 2000


def test_odd_but_good_lines(write_lines):
    long = "word " * 200_000
    path = write_lines(
        b"\xef\xbb\xbf" + b'{"image": "a", "caption": "bom"}',
        b"",
        b"   ",
        {"image": "a", "caption": long},
        b'{"image": "a", "caption": "\\u0000\\u001b[31m tab\\t"}',
        b'{"image": "a", "caption": null}',
        b'{"image": "a", "caption": "first", "caption": "last"}',
    )
    assert [s.caption for s in rows(path)] == ["bom", long, "\0\x1b[31m tab\t", "", "last"]
    assert [s.source.row for s in rows(path)] == [0, 1, 2, 3, 4]


def test_an_overlong_line_is_rejected_whole(write_lines, monkeypatch):
    monkeypatch.setattr("data_tools.io.jsonl.MAX_LINE", 100)
    assert MAX_LINE > 1 << 20
    short = {"image": "a", "caption": "x"}
    found = rows(write_lines(short, {"image": "a", "caption": "y" * 500}, short))
    assert [getattr(f, "reason", "") for f in found] == ["", "line_too_long", ""]


def test_skip_and_limit(write_lines):
    path = write_lines(*({"id": str(i), "image": "a", "caption": "x"} for i in range(6)))
    assert [(s.id, s.source.row) for s in rows(path, skip=2, limit=3)] == [("2", 2), ("3", 3), ("4", 4)]
    assert rows(path, skip=9) == []


def test_untouched_lines_come_back_byte_for_byte(write_lines, tmp_path):
    path = write_lines(
        b'{"image": "a", "caption": "\xc3\xa9 \xe4\xb8\xad", "n": 12345678901234567890123, "f": 0.1, "e": 1e-07, "nan": NaN, "z": -0.0}',
        b'{"image": "a", "text": null, "nested": {"b": [], "a": {}}, "t": true, "half": "x"}',
        b'{"image": "a", "caption": "x", "lone": "\\ud800"}',
    )
    with write(tmp_path / "out.jsonl", "jsonl") as out:
        for sample in rows(path):
            out.add(sample)
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()


def test_a_changed_caption_changes_its_field_only(write_lines, tmp_path):
    sample = one(write_lines({"a": 1, "text": "old", "b": {"c": 2}, "image": "a"}))
    with write(tmp_path / "out.jsonl", "jsonl") as out:
        out.add(replace(sample, caption="new", meta={**sample.meta, "caption_raw": "old", "aitqe": {"action": "rewrite"}}))
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert list(row.items()) == [
        ("a", 1),
        ("text", "new"),
        ("b", {"c": 2}),
        ("image", "a"),
        ("caption_raw", "old"),
        ("aitqe", {"action": "rewrite"}),
    ]


def test_conversations(write_lines, tmp_path):
    turns = [
        {"from": "human", "value": "<image>\nWhat is it?"},
        {"from": "gpt", "value": "A cat."},
        {"from": "human", "value": "Sure?"},
        {"from": "gpt", "value": "Yes."},
    ]
    sample = one(write_lines({"image": "a", "conversations": turns}))
    assert sample.caption == "A cat."
    assert [(m.role, m.trains, [(p.kind, p.text) for p in m.parts]) for m in sample.messages][:2] == [
        ("user", False, [("image", ""), ("text", "What is it?")]),
        ("assistant", True, [("text", "A cat.")]),
    ]
    with write(tmp_path / "o.jsonl", "jsonl") as out:
        out.add(replace(sample, caption="A dog."))
    written = json.loads((tmp_path / "o.jsonl").read_text())["conversations"]
    assert written == [turns[0], {"from": "gpt", "value": "A dog."}, *turns[2:]]


def test_chat_messages_with_parts(write_lines, tmp_path):
    content = [{"type": "image"}, {"type": "text", "text": "Describe."}]
    answer = [{"type": "text", "text": "A "}, {"type": "text", "text": "cat."}]
    sample = one(
        write_lines({"images": ["a"], "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]})
    )
    assert sample.caption == "A cat."
    assert [p.kind for p in sample.messages[0].parts] == ["image", "text"]
    with write(tmp_path / "o.jsonl", "jsonl") as out:
        out.add(replace(sample, caption="new"))
    assert json.loads((tmp_path / "o.jsonl").read_text())["messages"][1]["content"] == [{"type": "text", "text": "new"}]


def test_a_conversation_without_a_picture_is_a_sample(write_lines):
    talk = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    sample = one(write_lines({"messages": talk}))
    assert (sample.images, sample.caption, len(sample.messages)) == ((), "Hello", 2)


def test_compressed_whole_and_cut(write_lines, tmp_path):
    data = gzip.compress(b"".join(b'{"id": "%d", "image": "a", "caption": "x"}\n' % i for i in range(5000)))
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    assert len(rows(tmp_path / "a.jsonl.gz")) == 5000
    (tmp_path / "b.jsonl.gz").write_bytes(data[: len(data) // 2])
    *good, last = rows(tmp_path / "b.jsonl.gz")
    assert last.reason == "shard_truncated"
    assert last.source.row == len(good)


def test_a_json_array_is_read_as_rows(tmp_path):
    path = tmp_path / "llava.json"
    path.write_text(json.dumps([{"id": str(i), "image": "a", "caption": "x, ]}" * i} for i in range(3)] + [5], indent=1))
    *found, bad = rows(path)
    assert [s.id for s in found] == ["0", "1", "2"]
    assert bad.reason == "not_an_object"


def test_the_manifest_says_where_pictures_are(tmp_path, png):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png)
    (tmp_path / "in" / "s.jsonl").write_text('{"image": "a.png", "caption": "x"}\n')
    (shard,) = list_shards(tmp_path / "in")
    out = tmp_path / "deep" / "out"
    with write(out / "s.jsonl", "jsonl") as writer:
        for sample in read(shard):
            writer.add(sample)
    write_manifest(out, str(tmp_path / "in"), "jsonl")
    assert json.loads((out / "mmalign.json").read_text()) == {"format": "jsonl", "image_root": "../../in"}
    (again,) = list_shards(out)
    (sample,) = read(again)
    assert decode(sample.images[0]).pixels.size == (8, 8)
    write_manifest(out, {"s": str(tmp_path / "in"), "t": "/elsewhere"}, "jsonl")
    assert Path(next(read(again)).images[0].path).exists()
    (out / "mmalign.json").write_text("{")
    with pytest.raises(SourceError, match="is not JSON"):
        list_shards(out)


def test_nothing_is_left_after_an_exception(tmp_path):
    def fail():
        with write(tmp_path / "o.jsonl", "jsonl") as out:
            out.add(Sample("1", images=(Image(path="a"),), caption="x"))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_sample_from_memory_gets_the_fields_it_lacks(tmp_path, png):
    with write(tmp_path / "o.jsonl", "jsonl") as out:
        out.add(Sample("1", images=(Image(data=png),), caption="x", meta={"k": 1}))
    sample = one(tmp_path / "o.jsonl")
    assert (sample.id, sample.caption, sample.images[0].data, sample.meta["k"]) == ("1", "x", png, 1)


def test_remote_targets_are_refused():
    with pytest.raises(SourceError, match="atomic rename"):
        write("s3://bucket/o.jsonl", "jsonl")


def test_a_json_array_across_windows_and_its_breaks(tmp_path, monkeypatch):
    """Windows of 5 characters cut every element somewhere."""
    monkeypatch.setattr("data_tools.io.json_array.CHUNK", 5)
    path = tmp_path / "a.json"
    body = '\ufeff [ {"id": "é", "image": "a", "caption": "x"} ,\n\n 12345678, {"id": "2", "image": "a", "caption": "' + "y" * 300 + '"}'
    path.write_text(body + "]", encoding="utf-8")
    first, number, second = rows(path)
    assert (first.id, number.reason, second.id) == ("é", "not_an_object", "2")
    path.write_text(body + ", {", encoding="utf-8")
    assert [getattr(r, "reason", "") for r in rows(path)] == ["", "not_an_object", "", "bad_json"]
    path.write_bytes(body.encode()[:20] + b"\xff")
    assert rows(path)[-1].reason == "not_utf8"
    assert [r.source.row for r in rows(path)] == list(range(len(rows(path))))
