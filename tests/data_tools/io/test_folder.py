"""A folder of pictures with sidecars: rows by name, sidecars kept byte for byte, appears whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from data_tools.io import SourceError, list_shards, read, write
from data_tools.records import Image, Sample


@pytest.fixture
def folder(tmp_path: Path, png, make_picture) -> Path:
    root = tmp_path / "pics"
    (root / "sub").mkdir(parents=True)
    for name in ("b.png", "sub/c.png", "twin.png", "alone.png"):
        (root / name).write_bytes(png)
    (root / "twin.jpg").write_bytes(make_picture(format="JPEG"))
    (root / "b.txt").write_bytes(b"\xef\xbb\xbfa dog\r\n")
    (root / "b.json").write_bytes(b'{"k":  1, "caption": "alt"}')
    (root / "sub/c.json").write_bytes(b'{"caption": "cat", "x": [1.0]}')
    (root / "twin.txt").write_bytes(b"png twin")
    (root / "twin.jpg.txt").write_bytes(b"jpg twin")
    (root / "README.txt").write_text("no picture of that name")
    return root


def rows(path: Path, **options):
    (shard,) = list_shards(path)
    return list(read(shard, **options))


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def copy(source: Path, target: Path, format: str = "folder", change=lambda s: s) -> Path:
    with write(target, format) as out:
        for sample in rows(source):
            if isinstance(sample, Sample):
                out.add(change(sample))
    return target


def test_rows_by_name(folder):
    alone, b, jpg, png, c = (rows(folder)[i] for i in (0, 1, 3, 4, 2))
    assert (alone.reason, alone.source.row) == ("missing_caption", 0)
    assert (b.caption, b.source.caption_key, b.meta["k"], b.meta["file_name"]) == ("a dog", "txt", 1, "b.png")
    assert (c.caption, c.source.caption_key) == ("cat", "caption")
    assert (jpg.caption, png.caption) == ("jpg twin", "png twin")
    assert [s.source.row for s in rows(folder, skip=3)] == [3, 4]


def test_a_copy_keeps_pictures_and_sidecars(folder, tmp_path):
    before, after = files(folder), files(copy(folder, tmp_path / "out"))
    assert {k: v for k, v in after.items() if "twin" not in k} == {
        k: v for k, v in before.items() if "twin" not in k and k[:2] in ("b.", "su")
    }
    assert [(s.caption, s.id) for s in rows(tmp_path / "out")] == [(s.caption, s.id) for s in rows(folder)[1:]]


def test_a_new_caption_and_new_fields(folder, tmp_path):
    change = lambda s: replace(s, caption="new", meta={**s.meta, "caption_raw": s.caption})  # noqa: E731
    got = files(copy(folder, tmp_path / "out", change=change))
    assert got["b.txt"] == b"new"
    assert json.loads(got["b.json"]) == {"k": 1, "caption": "alt", "caption_raw": "a dog"}
    assert json.loads(got["sub/c.json"]) == {"caption": "new", "x": [1.0], "caption_raw": "cat"}
    assert "sub/c.txt" not in got


def test_broken_sidecars_reject_their_row(folder):
    (folder / "b.json").write_bytes(b"{")
    (folder / "sub/c.json").write_bytes(b"\xff\xff")
    assert [getattr(r, "reason", "ok") for r in rows(folder)][:3] == ["missing_caption", "bad_json", "not_utf8"]


def test_from_jsonl_and_back(tmp_path, png, write_lines):
    (tmp_path / "a.png").write_bytes(png)
    path = write_lines({"id": "1", "image": "a.png", "caption": "x"}, {"image": "../a.png", "caption": "y", "k": 1})
    (tmp_path.parent / "a.png").write_bytes(png)
    out = copy(path, tmp_path / "out")
    assert sorted(files(out)) == ["000000001.json", "000000001.png", "000000001.txt", "a.json", "a.png", "a.txt"]
    assert files(out)["a.txt"] == b"x"
    back = rows(copy(out, tmp_path / "back.parquet", "parquet"))
    assert [(s.caption, s.images[0].data) for s in back] == [("y", png), ("x", png)]


def test_to_jsonl_refers_to_the_pictures(folder, tmp_path):
    row = json.loads(copy(folder, tmp_path / "o.jsonl", "jsonl").read_text().splitlines()[0])
    assert row == {"file_name": "b.png", "txt": "a dog", "k": 1, "caption": "alt"}


def test_one_picture_a_row_and_all_or_nothing(tmp_path, png):
    two = Sample("1", images=(Image(data=png), Image(data=png)), caption="x")

    def fail():
        with write(tmp_path / "out", "folder") as out:
            out.add(replace(two, images=two.images[:1]))
            out.add(two)

    with pytest.raises(SourceError, match="one picture a row"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_older_folder_is_replaced_whole(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old.png").touch()
    assert "old.png" not in files(copy(folder, tmp_path / "out"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "pics"]
