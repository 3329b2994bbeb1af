"""Preference files: what goes out comes back in every format, each toolkit's own rows are read, broken rows say why."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_tools.io import BadImage, SourceError
from data_tools.io.refusals import RowError
from data_tools.preference import FORMATS, read_pairs, write_pairs
from data_tools.records import Image, Message, Part, PreferencePair, Rejected, Sample

TARGETS = [(name, suffix) for name in FORMATS for suffix in FORMATS[name]]


def png(color: str = "red") -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for color in ("red", "blue"):
        (folder / f"{color}.png").write_bytes(png(color))
    return folder


def pair(image: Image, name: str = "a", **meta: Any) -> PreferencePair:
    asked = Message("user", (Part("image"), Part("text", "What is it?")))
    return PreferencePair(Sample(name, (asked,), (image,), meta=meta), "A dog.", "Two cats.", 2.5, {"start": (-3.5, -4.25)})


def read(path: Path, **options: Any) -> list[Any]:
    return list(read_pairs(path, **options))


def good(path: Path, **options: Any) -> list[PreferencePair]:
    found = read(path, **options)
    assert not [item for item in found if isinstance(item, Rejected)]
    return found


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def plain(found: PreferencePair) -> PreferencePair:
    """Without its place and the names of its pictures."""
    return replace(found, sample=replace(found.sample, source=None, images=tuple(replace(i, path=None) for i in found.sample.images)))


# -- round trips -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "suffix"), TARGETS)
def test_pairs_with_pictures_in_memory_come_back(format: str, suffix: str, tmp_path: Path) -> None:
    pairs = [pair(Image(data=png("red")), "a", topic="dogs", level=3), pair(Image(data=png("blue")), "b", topic="cats", level=4)]
    path = tmp_path / f"pairs{suffix}"
    assert write_pairs(path, iter(pairs), format) == 2
    assert list(map(plain, good(path))) == pairs
    assert list(map(plain, good(path, format=format))) == pairs
    assert [f.sample.source.row for f in good(path)] == [0, 1]
    assert good(path)[0].sample.source.format == format
    assert [path.name] == [p.name for p in tmp_path.iterdir()]  # nothing temporary stays


@pytest.mark.parametrize(("format", "suffix"), TARGETS)
def test_pictures_by_path_are_found_again_from_another_folder(
    format: str, suffix: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path is relative to the working folder, as a reader of `pictures/rows.jsonl` would leave it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / f"pairs{suffix}"
    write_pairs(path, [pair(Image("pictures/red.png"))], format)
    (found,) = good(path)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert plain(found).sample.messages == pair(Image()).sample.messages
    if suffix == ".parquet":
        assert found.sample.images == (Image("pictures/red.png", png("red")),)
    else:
        assert Path(found.sample.images[0].path).read_bytes() == png("red")
        assert png("red") not in path.read_bytes()


@pytest.mark.parametrize(("format", "suffix"), TARGETS)
def test_the_same_pairs_give_the_same_bytes(format: str, suffix: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pairs(tmp_path / f"{name}{suffix}", [pair(Image(data=png()), topic={"deep": [1, "x"]})], format)
    assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    assert good(tmp_path / f"one{suffix}")[0].sample.meta == {"topic": {"deep": [1, "x"]}}


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "rlaifv"])
def test_conversations_and_several_pictures_survive(format: str, tmp_path: Path) -> None:
    messages = (
        Message("system", (Part("text", "Be brief."),)),
        Message("user", (Part("image"), Part("image"), Part("text", "Which is red?"))),
        Message("assistant", (Part("text", "The first."),)),
        Message("user", (Part("text", "And the other?"),)),
    )
    one = replace(pair(Image()), sample=Sample("talk", messages, (Image(data=png("red")), Image(data=png("blue")))))
    path = tmp_path / f"pairs{FORMATS[format][0]}"
    write_pairs(path, [one], format)
    assert list(map(plain, good(path))) == [one]


@pytest.mark.parametrize("format", ["mm_align", "trl", "llama_factory", "ms_swift"])
def test_pairs_without_pictures_survive(format: str, tmp_path: Path) -> None:
    one = replace(pair(Image()), sample=Sample("text", (Message("user", (Part("text", "2 + 2?"),)),)))
    path = tmp_path / f"pairs{FORMATS[format][0]}"
    write_pairs(path, [one], format)
    assert list(map(plain, good(path))) == [one]


def test_what_a_format_cannot_hold_is_refused_or_told(tmp_path: Path) -> None:
    asked = Message("user", (Part("image"), Part("image"), Part("text", "Which?")))
    two = replace(pair(Image()), sample=Sample("two", (asked,), (Image(data=png()), Image(data=png()))))
    lost = pair(Image(str(tmp_path / "gone.png")), "lost")
    with pytest.raises(RowError, match="one question about one picture"):
        write_pairs(tmp_path / "pairs.parquet", [two], "rlaifv")
    with pytest.raises(BadImage, match=r"gone\.png"):
        write_pairs(tmp_path / "pairs.parquet", [lost], "rlaifv")
    assert not list(tmp_path.iterdir())
    told: list[tuple[str, str]] = []
    pairs = [two, lost, pair(Image(data=png()))]
    assert write_pairs(tmp_path / "pairs.parquet", pairs, "rlaifv", refused=lambda p, e: told.append((p.sample.id, e.reason))) == 1
    assert told == [("two", "too_much"), ("lost", "image_missing")]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def breaking() -> Any:
        yield pair(Image(data=png()))
        raise RuntimeError("the model broke")

    path = tmp_path / "pairs.jsonl"
    path.write_text("before\n")
    with pytest.raises(RuntimeError, match="the model broke"):
        write_pairs(path, breaking())
    assert path.read_text() == "before\n"
    assert [path.name] == [p.name for p in tmp_path.iterdir()]


def test_no_pairs_are_a_file_too(tmp_path: Path) -> None:
    for format, suffix in TARGETS:
        assert write_pairs(tmp_path / f"{format}{suffix}", [], format) == 0
        assert good(tmp_path / f"{format}{suffix}") == []


def test_wrong_suffix_and_wrong_format_are_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'rlaifv' is written to \.parquet files, found 'pairs\.jsonl'"):
        write_pairs(tmp_path / "pairs.jsonl", [], "rlaifv")
    with pytest.raises(SourceError, match="Unknown preference format 'tlr'; known: mm_align, rlaifv, trl"):
        write_pairs(tmp_path / "pairs.jsonl", [], "tlr")
    with pytest.raises(SourceError, match="Unknown preference format"):
        list(read_pairs(tmp_path, format="tlr"))


# -- the toolkits' own rows --------------------------------------------------------------------------------------------


def rlaifv_row(**changes: Any) -> dict[str, Any]:
    """As published: types and fields of the RLAIF-V-Dataset."""
    return {
        "ds_name": "RLAIF-V",
        "image": {"bytes": png(), "path": "llava1.5_7b/12.jpg"},
        "question": "Describe the picture.",
        "chosen": "A red square.",
        "rejected": "A red circle.",
        "origin_dataset": "coco",
        "origin_split": '{"model": "llava15base", "type": "detailed_description"}',
        "idx": "12",
        "image_path": "llava1.5_7b/12.jpg",
    } | changes


@pytest.mark.parametrize("logps", [None, "object", "list"])
def test_rlaifv_rows_keep_every_field(logps: str | None, tmp_path: Path) -> None:
    """`logps` is [sum, mean, per token] of the chosen, then of the rejected answer, bare or in an object, as JSON."""
    six = [-6.0, -3.0, [-2.0, -4.0], -9.0, -3.0, [-3.0, -3.0, -3.0]]
    row = rlaifv_row() if logps is None else rlaifv_row(logps=json.dumps({"logps": six} if logps == "object" else six))
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "0.parquet")
    (found,) = good(tmp_path / "0.parquet")
    assert (found.sample.id, found.chosen, found.rejected) == ("12", "A red square.", "A red circle.")
    assert found.sample.messages == (Message("user", (Part("image"), Part("text", "Describe the picture."))),)
    assert found.sample.images == (Image("llava1.5_7b/12.jpg", png()),)
    assert found.sample.meta["origin_split"] == row["origin_split"]
    assert found.reference == ({"logps": (-6.0, -9.0)} if logps else {})
    write_pairs(tmp_path / "1.parquet", [found], "rlaifv")
    assert pq.read_table(tmp_path / "1.parquet").to_pylist() == [row | {"margin": 0.0}]


def test_rlaifv_folder_is_read_in_order_and_its_split_is_written_as_json(tmp_path: Path) -> None:
    for i in range(2):
        pq.write_table(pa.Table.from_pylist([rlaifv_row(idx=str(i))]), tmp_path / f"part-{i}.parquet")
    assert [found.sample.id for found in good(tmp_path)] == ["0", "1"]
    assert [found.sample.id for found in good(tmp_path, limit=1)] == ["0"]
    (tmp_path / "out").mkdir()
    write_pairs(tmp_path / "out" / "a.parquet", [pair(Image(data=png()), origin_split={"model": "tiny"})], "rlaifv")
    assert pq.read_table(tmp_path / "out" / "a.parquet").to_pylist()[0]["origin_split"] == '{"model": "tiny"}'


def test_rlaifv_opens_in_datasets_with_pictures(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    write_pairs(tmp_path / "rlaifv.parquet", [pair(Image(data=png()))], "rlaifv")
    write_pairs(tmp_path / "trl.parquet", [pair(Image(data=png()))], "trl")
    load = lambda name: datasets.load_dataset("parquet", data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "c"))[0]  # noqa: E731
    assert load("rlaifv.parquet")["image"].size == (4, 4)
    row = load("trl.parquet")
    assert row["images"][0].size == (4, 4)
    assert [part["type"] for part in row["prompt"][0]["content"]] == ["image", "text"]


TRL = [
    {"prompt": [{"role": "user", "content": "What is it?"}], "chosen": [{"role": "assistant", "content": "A dog."}],
     "rejected": [{"role": "assistant", "content": "Two cats."}]},
    {"prompt": [{"role": "user", "content": [{"type": "image", "text": None}, {"type": "text", "text": "What is it?"}]}],
     "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "A dog."}]}],
     "rejected": [{"role": "assistant", "content": [{"type": "text", "text": "Two cats."}]}]},
    {"prompt": "What is it?", "chosen": "A dog.", "rejected": "Two cats."},
    {"chosen": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A dog."}],
     "rejected": [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "Two cats."}]},
]  # fmt: skip
LLAMA_FACTORY = [
    {"conversations": [{"from": "human", "value": "<image>What is it?"}], "chosen": {"from": "gpt", "value": "A dog."},
     "rejected": {"from": "gpt", "value": "Two cats."}},
    {"messages": [{"role": "user", "content": "<image>What is it?"}], "chosen": {"role": "assistant", "content": "A dog."},
     "rejected": {"role": "assistant", "content": "Two cats."}},
]  # fmt: skip
MS_SWIFT_TURNS = [{"role": "user", "content": "<image>What is it?"}, {"role": "assistant", "content": "A dog."}]
MS_SWIFT = [
    {"messages": MS_SWIFT_TURNS, "rejected_response": "Two cats."},
    {"messages": MS_SWIFT_TURNS, "rejected_messages": [MS_SWIFT_TURNS[0], {"role": "assistant", "content": "Two cats."}],
     "rejected_images": ["pictures/red.png"]},
]  # fmt: skip
OWN_ROWS = [*[("trl", row) for row in TRL], *[("llama_factory", row) for row in LLAMA_FACTORY], *[("ms_swift", row) for row in MS_SWIFT]]


@pytest.mark.parametrize(("format", "row"), OWN_ROWS)
def test_rows_as_the_toolkits_document_them(format: str, row: dict[str, Any], pictures: Path, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", row | {"images": ["pictures/red.png"], "topic": "dogs", "id": "a", "margin": 2.5})
    (found,) = good(path)
    assert plain(found) == replace(plain(pair(Image(), topic="dogs")), reference={})
    assert Path(found.sample.images[0].path) == pictures / "red.png"
    assert found.sample.source.format == format


def test_llama_factory_reads_its_system_field(pictures: Path, tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", LLAMA_FACTORY[0] | {"images": ["pictures/red.png"], "system": "Be brief."})
    assert [m.role for m in good(path)[0].sample.messages] == ["system", "user"]


def test_image_root_and_base64(pictures: Path, tmp_path: Path) -> None:
    import base64

    rows = [LLAMA_FACTORY[0] | {"images": [value]} for value in ("red.png", base64.b64encode(png()).decode())]
    (tmp_path / "other").mkdir()
    path = lines(tmp_path / "other" / "rows.jsonl", *rows)
    by_path, embedded = good(path, image_root=str(pictures))
    assert Path(by_path.sample.images[0].path).read_bytes() == embedded.sample.images[0].data == png()
    assert read(path)[0].reason == "image_missing"


# -- broken rows and files ---------------------------------------------------------------------------------------------

BAD = {
    "equal_answers": {"rejected_response": " A dog.\n"},
    "empty_answer": {"rejected_response": "  "},
    "bad_margin": {"margin": float("nan")},
    "caption_type": {"rejected_response": 7},
    "image_missing": {"images": ["gone.png"]},
    "image_count": {"images": ["pictures/red.png", "pictures/blue.png"]},
    "prompt_turns": {"messages": [*MS_SWIFT_TURNS, *MS_SWIFT_TURNS[1:]]},
    "conversation_type": {"messages": [{"role": "wizard", "content": "Hm"}, *MS_SWIFT_TURNS]},
    "different_prompts": {"rejected_images": ["pictures/blue.png"]},
    "no_prompt": {"messages": []},
    "prompt_type": {"messages": MS_SWIFT_TURNS[1:]},
    "answer_turns": {"messages": MS_SWIFT_TURNS[:1] * 2},
    "bad_reference": {"reference": {"start": [float("nan"), 0.0]}},
}


@pytest.mark.parametrize("reason", BAD)
def test_a_broken_row_says_why_and_the_others_are_read(reason: str, pictures: Path, tmp_path: Path) -> None:
    row = MS_SWIFT[0] | {"images": ["pictures/red.png"]}
    first, broken, last = read(lines(tmp_path / "rows.jsonl", row, row | BAD[reason], row))
    assert isinstance(first, PreferencePair)
    assert isinstance(last, PreferencePair)
    assert (broken.reason, broken.source.row, broken.source.format) == (reason, 1, "ms_swift")
    assert broken.detail
    assert "A dog." in broken.raw or reason in ("no_prompt", "answer_turns")


def test_urls_are_never_fetched(tmp_path: Path) -> None:
    (found,) = read(lines(tmp_path / "rows.jsonl", MS_SWIFT[0] | {"images": ["https://example.org/dog.png"]}))
    assert found.reason == "image_missing"
    assert "never fetched" in found.detail


def test_broken_rows_of_each_format_name_their_reason(tmp_path: Path) -> None:
    trl = lines(
        tmp_path / "trl.jsonl",
        TRL[2],
        TRL[3] | {"rejected": TRL[3]["chosen"]},
        TRL[2] | {"chosen": TRL[3]["chosen"]},
        {"chosen": "a", "rejected": "b"},
    )
    assert [item.reason for item in read(trl)[1:]] == ["equal_answers", "answer_turns", "no_prompt"]
    pq.write_table(pa.Table.from_pylist([rlaifv_row(logps="[1, 2]"), rlaifv_row(image=None, image_path="")]), tmp_path / "a.parquet")
    assert [item.reason for item in read(tmp_path / "a.parquet")] == ["bad_logps", "missing_image"]
    row = pair(Image(data=png())).to_dict()
    ours = [row | {"sample": row["sample"] | change} for change in ({"messages": []}, {"images": []}, {"messages": [{"role": "user"}]})]
    assert [item.reason for item in read(lines(tmp_path / "ours.jsonl", *ours))] == ["image_count", "image_count", "bad_record"]


def test_unknown_columns_are_named(tmp_path: Path) -> None:
    path = lines(tmp_path / "rows.jsonl", {"instruction": "Say", "better": "a", "worse": "b"})
    with pytest.raises(SourceError, match=r"rows\.jsonl .* its rows have 'instruction', 'better', 'worse'.*mm_align: sample, chosen"):
        read(path)


def test_a_first_row_that_is_broken_hides_no_format(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"cut\n' + json.dumps(MS_SWIFT[0] | {"images": ["pictures/red.png"]}) + "\n")
    broken, found = read(path)
    assert broken.reason == "bad_json"
    assert found.chosen == "A dog."
    path.write_text('{"cut\n')
    assert [item.reason for item in read(path)] == ["bad_json"]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.tar").write_bytes(b"")
    with pytest.raises(SourceError, match=r"webdataset; preference pairs are read from \.jsonl"):
        read(tmp_path / "rows.tar")
    with pytest.raises(SourceError, match="No such file"):
        read(tmp_path / "gone.jsonl")
