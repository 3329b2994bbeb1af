"""WebDataset tars: grouping, unknown members, hostile and cut archives, and the webdataset package as oracle where installed."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from data_tools.io import list_shards, read, write
from data_tools.records import Image, Sample


def make_tar(path: Path, members, mode: str = "w") -> Path:
    """Members as (name, bytes) or as finished TarInfo."""
    with tarfile.open(path, mode) as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
                continue
            entry = tarfile.TarInfo(member[0])
            entry.size = len(member[1])
            archive.addfile(entry, io.BytesIO(member[1]))
    return path


def contents(path: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        return [(m.name, archive.extractfile(m).read()) for m in archive]


def rows(path: Path, **options):
    (shard,) = list_shards(path)
    return list(read(shard, **options))


def copy(source: Path, target: Path, format="webdataset", change=lambda s: s) -> Path:
    with write(target, format) as out:
        for sample in rows(source):
            out.add(change(sample))
    return target


@pytest.fixture
def members(png):
    """Two rows: one with every kind of member, one with a json caption only."""
    return [
        ("d/000.jpg", png),
        ("d/000.txt", b"a dog\n"),
        ("d/000.json", b'{"url":"u",  "caption": "alt", "uid": "x1", "txt": "odd"}'),
        ("d/000.seg.npy", b"\0\1\2"),
        ("d/001.PNG", png),
        ("d/001.json", b'{"text": "a cat", "n": 1e5}'),
    ]


def test_rows_and_their_fields(tmp_path, members, png):
    first, second = rows(make_tar(tmp_path / "a.tar", members))
    assert (first.id, first.caption, first.images[0].data) == ("x1", "a dog", png)
    assert (first.source.caption_key, first.source.image_keys, first.source.id_key) == ("txt", ("jpg",), "uid")
    assert (second.id, second.caption, second.source.caption_key) == ("d/001", "a cat", "text")
    assert first.meta["url"] == "u"
    (asked,) = rows(make_tar(tmp_path / "b.tar", members[:4]), caption_key="caption")
    assert asked.caption == "alt"


def test_an_unchanged_tar_keeps_every_member(tmp_path, members):
    out = copy(make_tar(tmp_path / "a.tar", members), tmp_path / "b.tar")
    assert contents(out) == members
    again = copy(out, tmp_path / "c.tar")
    assert again.read_bytes() == out.read_bytes()


def test_changes_go_to_txt_and_json(tmp_path, members):
    change = lambda s: replace(s, caption="new é", meta={**s.meta, "caption_raw": s.caption, "aitqe": {"action": "rewrite"}})  # noqa: E731
    got = dict(contents(copy(make_tar(tmp_path / "a.tar", members), tmp_path / "b.tar", change=change)))
    added = {"caption_raw": "a dog", "aitqe": {"action": "rewrite"}}
    assert got["d/000.txt"] == "new é".encode()
    assert json.loads(got["d/000.json"]) == {"url": "u", "caption": "alt", "uid": "x1", "txt": "odd"} | added
    assert json.loads(got["d/001.json"]) == {"text": "new é", "n": 1e5} | added | {"caption_raw": "a cat"}
    assert "d/001.txt" not in got
    assert got["d/000.seg.npy"] == b"\0\1\2"


def test_a_json_member_is_made_for_new_fields(tmp_path, png):
    source = make_tar(tmp_path / "a.tar", [("0.jpg", png), ("0.txt", b"x")])
    out = copy(source, tmp_path / "b.tar", change=lambda s: replace(s, meta={**s.meta, "caption_raw": "x"}))
    assert contents(out) == [("0.jpg", png), ("0.txt", b"x"), ("0.json", b'{"caption_raw": "x"}')]


def test_headers_hold_no_time_or_owner(tmp_path, members):
    out = copy(make_tar(tmp_path / "a.tar", members), tmp_path / "b.tar")
    with tarfile.open(out) as archive:
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in archive} == {(0, 0, 0, "", "", 0o644)}


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def test_hostile_members_reject_their_row_only(tmp_path, png):
    good = [("g.jpg", png), ("g.txt", b"x")]
    bad = [
        ("../out.jpg", png),
        ("/abs.jpg", png),
        ("a/../b.jpg", png),
        ("..\\w.jpg", png),
        special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"),
        ("link.txt", b"x"),
        special("hard.jpg", tarfile.LNKTYPE, "g.jpg"),
        special("dev.jpg", tarfile.CHRTYPE),
        special("folder", tarfile.DIRTYPE),
    ]
    found = rows(make_tar(tmp_path / "a.tar", [*good, *bad, ("h.jpg", png), ("h.txt", b"y")]))
    assert [getattr(r, "reason", "ok") for r in found] == ["ok", *["unsafe_name"] * 4, *["not_a_file"] * 3, "ok"]
    assert [r.source.row for r in found] == list(range(9))


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ([("k.txt", b"\xff\xff")], "not_utf8"),
        ([("k.json", b"{")], "bad_json"),
        ([("k.json", b"[1]")], "not_an_object"),
        ([("k.json", b'{"caption": 5}')], "caption_type"),
        ([], "missing_caption"),
    ],
)
def test_bad_rows(tmp_path, png, extra, reason):
    (found, good) = rows(make_tar(tmp_path / "a.tar", [("k.jpg", png), *extra, ("z.jpg", png), ("z.txt", b"")]))
    assert found.reason == reason
    assert good.caption == ""


def test_a_row_without_picture(tmp_path):
    (found,) = rows(make_tar(tmp_path / "a.tar", [("k.txt", b"x"), ("k.json", b'{"image": "a.jpg"}')]))
    assert found.reason == "missing_image"


def test_member_larger_than_the_limit(tmp_path, png, monkeypatch):
    monkeypatch.setattr("data_tools.io.webdataset.MAX_MEMBER", 10)
    assert [r.reason for r in rows(make_tar(tmp_path / "a.tar", [("k.jpg", png)]))] == ["member_too_large"]


def test_equal_adjacent_keys_are_two_rows(tmp_path, png):
    assert [s.id for s in rows(make_tar(tmp_path / "a.tar", [("k.jpg", png), ("k.txt", b"1"), ("k.jpg", png), ("k.txt", b"2")]))] == [
        "k",
        "k",
    ]


def numbered(png: bytes, n: int = 6):
    return [m for i in range(n) for m in ((f"{i:03d}.jpg", png), (f"{i:03d}.txt", b"caption %d" % i))]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz"])
def test_cut_anywhere_never_raises_and_says_so(tmp_path, png, suffix):
    data = make_tar(tmp_path / "w.tar", numbered(png), "w:gz" if suffix != "tar" else "w").read_bytes()
    end = 12 * 1024 + 1 if suffix == "tar" else len(data)  # 12 members of one block each; then come the end mark and padding
    for at in range(0, end, 211):
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(data[:at])
        found = rows(path)
        assert found[-1].reason in ("shard_truncated", "shard_unreadable"), at
        whole = [s.id for s in found if isinstance(s, Sample)]
        assert whole == [f"{i:03d}" for i in range(len(whole))]
        assert [r.reason for r in found[len(whole) : -1]] in ([], ["missing_caption"])
        assert [r.source.row for r in found] == list(range(len(found)))


def test_whole_archives_have_no_complaint(tmp_path, png):
    assert len(rows(make_tar(tmp_path / "a.tar.gz", numbered(png), "w:gz"))) == 6
    assert len(rows(make_tar(tmp_path / "a.tar", numbered(png)))) == 6
    assert rows(make_tar(tmp_path / "e.tar", [])) == []


def test_damage_in_a_header(tmp_path, png):
    data = bytearray(make_tar(tmp_path / "a.tar", numbered(png)).read_bytes())
    data[4 * 1024 : 4 * 1024 + 512] = b"\xff" * 512
    (tmp_path / "b.tar").write_bytes(data)
    found = rows(tmp_path / "b.tar")
    assert found[-1].reason == "shard_truncated"
    (tmp_path / "c.tar").write_bytes(b"no archive" * 200)
    assert [r.reason for r in rows(tmp_path / "c.tar")] == ["shard_unreadable"]


LONG = f"{'folder/' * 20}{'x' * 120}"


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_and_contents_are_what_tarfile_reads(tmp_path, png, format):
    """Short names by the fast way, long and foreign ones by tarfile's own: 100 to 255 characters, over 255 (no ustar), Cyrillic."""
    names = ["a", "д", "n" * 96, f"{'y' * 90}/{'z' * 90}", *([] if format == tarfile.USTAR_FORMAT else [LONG])]
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=format) as archive:
        for number, name in enumerate(names):
            for ending, content in (("png", png), ("txt", f"caption {number}".encode())):
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = len(content)
                entry.uid = 1 if format == tarfile.USTAR_FORMAT else 70_000_000  # more than the field's seven octal digits hold
                archive.addfile(entry, io.BytesIO(content))
    found = rows(path)
    assert [(row.meta["__key__"], row.caption) for row in found] == [(name, f"caption {i}") for i, name in enumerate(names)]
    assert all(row.images[0].data == png for row in found)


def test_a_header_with_a_size_below_nothing_is_a_broken_archive(tmp_path, png):
    """Its checksum is right, so that the size alone can tell."""
    entry = tarfile.TarInfo("000.png")
    entry.size = len(png)
    header = bytearray(entry.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"-0000000012\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + png + b"\0" * 4096)
    assert [row.reason for row in rows(path)][-1] == "shard_truncated"


def test_skip_and_limit(tmp_path, png):
    path = make_tar(tmp_path / "a.tar", numbered(png))
    assert [(s.id, s.source.row, s.caption) for s in rows(path, skip=2, limit=2)] == [("002", 2, "caption 2"), ("003", 3, "caption 3")]


def test_from_and_to_jsonl(tmp_path, png, write_lines):
    (tmp_path / "a.png").write_bytes(png)
    path = write_lines({"id": "i", "image": "a.png", "caption": "x", "k": [1]}, {"id": "j", "image": "a.png", "caption": "y"})
    out = copy(path, tmp_path / "o.tar")
    assert contents(out) == [
        ("000000000.png", png),
        ("000000000.txt", b"x"),
        ("000000000.json", b'{"id": "i", "k": [1]}'),
        ("000000001.png", png),
        ("000000001.txt", b"y"),
        ("000000001.json", b'{"id": "j"}'),
    ]
    back = rows(copy(out, tmp_path / "back.jsonl", "jsonl"))
    assert [(s.id, s.caption, s.images[0].data) for s in back] == [("i", "x", png), ("j", "y", png)]
    assert "__members__" not in back[0].meta
    both = rows(copy(out, tmp_path / "back.parquet", "parquet"))
    assert [(s.id, s.caption, s.images[0].data) for s in both] == [("i", "x", png), ("j", "y", png)]


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_another_format_holds_the_picture_once(tmp_path, members, png, format):
    """What the row shows already is gone from the members, and the unknown member stays, as does the json's hidden "txt"."""
    change = lambda s: replace(s, caption="new")  # noqa: E731
    first, second = rows(copy(make_tar(tmp_path / "a.tar", members), tmp_path / f"o.{format}", format, change))
    fields = ["__key__", "txt", "url", "caption", "uid", "image", "json.txt", "seg.npy"]
    assert sorted(first.meta) == sorted([*fields, *(["text", "n"] if format == "parquet" else [])])
    assert (first.meta["txt"], first.meta["caption"], first.meta["json.txt"]) == ("new", "alt", "odd")
    kept = first.meta["seg.npy"]
    assert (kept if isinstance(kept, bytes) else base64.b64decode(kept)) == b"\0\1\2"
    assert [s.images[0].data for s in (first, second)] == [png, png]
    assert first.images[0].path == "d/000.jpg"
    assert {k for k in second.meta if second.meta[k] is not None} == {"__key__", "text", "n", "image"}


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_a_path_in_the_json_member_does_not_hide_the_picture(tmp_path, png, format):
    source = make_tar(tmp_path / "a.tar", [("k.jpg", png), ("k.json", b'{"caption": "x", "image": "gone/a.jpg"}')])
    (sample,) = rows(copy(source, tmp_path / f"o.{format}", format))
    assert (sample.images[0].data, sample.meta["image"]["path"]) == (png, "gone/a.jpg")
    assert "jpg" not in sample.meta


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
def test_several_pictures_move_to_one_field(tmp_path, png, make_picture, format):
    jpg = make_picture(format="JPEG")
    source = make_tar(tmp_path / "a.tar", [("k.0.png", png), ("k.1.jpg", jpg), ("k.txt", b"x")])
    (sample,) = rows(copy(source, tmp_path / f"o.{format}", format))
    assert [i.data for i in sample.images] == [png, jpg]
    assert list(sample.meta) == ["__key__", "txt", "images"]


def test_several_pictures_a_row(tmp_path, png, make_picture):
    jpg = make_picture(format="JPEG")
    with write(tmp_path / "o.tar", "webdataset") as out:
        out.add(Sample("1", images=(Image(data=png), Image(data=jpg)), caption="x"))
    (sample,) = rows(tmp_path / "o.tar")
    assert [i.data for i in sample.images] == [png, jpg]
    assert sample.id == "1"


@pytest.mark.skipif(find_spec("webdataset") is None, reason="the webdataset package is not installed (it is an oracle only)")
def test_the_webdataset_package_reads_ours(tmp_path, members):
    import webdataset

    out = copy(make_tar(tmp_path / "a.tar", members), tmp_path / "b.tar")
    found = list(webdataset.WebDataset(str(out), shardshuffle=False))
    assert [(f["__key__"], sorted(k for k in f if not k.startswith("__"))) for f in found] == [
        ("d/000", ["jpg", "json", "seg.npy", "txt"]),
        ("d/001", ["json", "png"]),
    ]
