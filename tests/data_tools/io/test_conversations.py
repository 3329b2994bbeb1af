"""Rows that are conversations: our own records, pictures inside messages, and what is read where a caption stands beside."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from data_tools.io import list_shards, read
from data_tools.records import Image, Message, Part, Rejected, Sample

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)
MESSAGES = (Message("user", (Part("image"), Part("text", "q"))), Message("assistant", (Part("text", "a"),), trains=True))


def reads(path: Path, *rows: Any, **options: Any) -> list[Sample | Rejected]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return list(read(list_shards(path)[0], **options))


def test_our_own_records(tmp_path: Path) -> None:
    """Turns, what trains, embedded pictures and paths (from the file's folder) come back; the row is kept whole in `meta`."""
    kept = Sample("s", MESSAGES, (Image(data=PNG),), meta={"entity": {"name": "x"}})
    placed = Sample("t", MESSAGES, (Image(path="a.png"),), caption="c")
    silent = Sample("u", (MESSAGES[0], Message("assistant", (Part("text", "a"),))), (Image(path="/b.png"),))
    found = reads(tmp_path / "r.jsonl", *(s.to_dict() for s in (kept, placed, silent)))
    assert [s.messages for s in found] == [kept.messages, placed.messages, silent.messages]
    assert [s.images[0].data for s in found] == [PNG, None, None]
    assert [s.images[0].path for s in found] == [None, str(tmp_path / "a.png"), "/b.png"]
    assert [s.caption for s in found] == ["", "c", ""]
    assert found[0].meta["meta"] == {"entity": {"name": "x"}}


def test_a_broken_record_is_rejected(tmp_path: Path) -> None:
    row = Sample("s", MESSAGES).to_dict()
    found = reads(tmp_path / "r.jsonl", row | {"messages": [{"role": "user"}]}, row | {"id": "fine"})
    assert isinstance(found[0], Rejected)
    assert (found[0].reason, found[1].id) == ("bad_record", "fine")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "image": "a.png"},
        {"type": "image", "path": "a.png"},
        {"type": "image", "url": "a.png"},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image", "image": {"path": "a.png", "bytes": None}},
    ],
)
def test_pictures_inside_messages(part: dict[str, Any], tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "q"}]}, {"role": "assistant", "content": "a"}]}
    (sample,) = reads(tmp_path / "r.jsonl", row)
    assert sample.images[0].path == str(tmp_path / "a.png")
    assert sample.messages == MESSAGES


def test_a_data_uri_inside_messages(tmp_path: Path) -> None:
    uri = "data:image/png;base64," + base64.b64encode(PNG).decode()
    parts = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": "q"}]
    (sample,) = reads(tmp_path / "r.jsonl", {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]})
    assert sample.images[0].data == PNG


def test_one_of_two_parts_without_a_picture_is_rejected(tmp_path: Path) -> None:
    parts = [{"type": "image", "path": "a.png"}, {"type": "image"}]
    (out,) = reads(tmp_path / "r.jsonl", {"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "a"}]})
    assert (out.reason, out.detail) == ("image_count", "the conversation places 2 pictures, the row has 1")


def test_caption_beside_conversation(tmp_path: Path) -> None:
    """A caption is read where enhancing asks, the conversation where training does."""
    row = {"image": "a.png", "caption": "c", "conversations": [{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}]}
    assert reads(tmp_path / "r.jsonl", row)[0].messages == ()
    (sample,) = reads(tmp_path / "r.jsonl", row, conversations_first=True)
    assert (sample.messages, sample.caption) == (MESSAGES, "a")
