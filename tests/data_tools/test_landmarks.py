"""Google Landmarks v2 files in their real columns -> samples with names from coarse to fine; what cannot be used leaves with a reason."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from data_tools.io import SourceError, list_shards, read, write, write_manifest
from data_tools.landmarks import CAPTIONS, Landmark, caption_of, name_of, place_of, questions_of, read_hierarchy, read_landmarks
from data_tools.records import Rejected, Sample

HIERARCHY = """landmark_id,category,supercategory,hierarchical_label,natural_or_human_made
1,http://commons.wikimedia.org/wiki/Category:Eiffel_Tower,tower,lighthouse / tower,human-made
2,http://commons.wikimedia.org/wiki/Category:Ch%C3%A2teau_d%27If,castle,fortification,human-made
3,http://commons.wikimedia.org/wiki/Category:Niagara_Falls,waterfall,waterfall,natural
4,http://commons.wikimedia.org/wiki/Category:Some_Place,,,
5,"http://commons.wikimedia.org/wiki/Category:Church_of_St._John,_Hagley",church,church,human-made
6,http://commons.wikimedia.org/wiki/Category:Old_Fort,fort,fortification,human-made
"""
CLEAN = """landmark_id,images
1,aaa0000000000001 aab0000000000002 aac0000000000003
2,bbb0000000000001
3,ccc0000000000001 ccd0000000000002
4,ddd0000000000001
5,eee0000000000001
"""
ATTRIBUTION = """id,url,author,license,title
aaa0000000000001,https://upload.example/a.jpg,"Doe, Jane",https://creativecommons.org/licenses/by/2.0/,File:A.jpg
zzz0000000000009,https://upload.example/z.jpg,Nobody,cc0,File:Z.jpg
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "hierarchy.csv").write_text(HIERARCHY, encoding="utf-8")
    (tmp_path / "clean.csv").write_text(CLEAN)
    (tmp_path / "attribution.csv").write_text(ATTRIBUTION)
    for line in CLEAN.splitlines()[1:]:
        for image_id in line.partition(",")[2].split():
            picture = tmp_path / "train" / place_of(image_id)
            picture.parent.mkdir(parents=True)
            picture.write_bytes(b"a picture")
    return tmp_path


def items(files: Path, csv: str = "clean.csv", **options: object) -> list[Sample | Rejected]:
    return list(read_landmarks(files / csv, read_hierarchy(files / "hierarchy.csv"), files / "train", **options))  # type: ignore[arg-type]


def test_names_come_from_the_category() -> None:
    assert name_of("http://commons.wikimedia.org/wiki/Category:Ch%C3%A2teau_d%27If") == "Château d'If"
    assert name_of("https://commons.wikimedia.org/wiki/Category:Church_of_St._John,_Hagley ") == "Church of St. John, Hagley"
    assert name_of("Category:Ratio_2:1") == "Ratio 2:1"
    assert name_of("http://commons.wikimedia.org/wiki/Eiffel_Tower") == "Eiffel Tower"
    assert name_of("http://commons.wikimedia.org/wiki/Category:") == name_of("") == ""


def test_levels_stand_by_their_class_counts(files: Path) -> None:
    """2 classes of origin; 4 hierarchical labels (tower, fortification, waterfall, church); 5 supercategories."""
    found = read_hierarchy(files / "hierarchy.csv")
    assert found.order == ("natural_or_human_made", "hierarchical_label", "supercategory")
    assert found.classes == {"natural_or_human_made": 2, "hierarchical_label": 4, "supercategory": 5}
    assert found.levels(found.landmarks["1"]) == ["human-made", "lighthouse / tower", "tower", "Eiffel Tower"]
    assert found.levels(found.landmarks["4"]) == [None, None, None, "Some Place"]


def test_a_finer_hierarchical_label_goes_below(files: Path) -> None:
    text = HIERARCHY.replace("waterfall,waterfall", "water,waterfall").replace("castle,", "water,").replace("church,church", "water,church")
    (files / "hierarchy.csv").write_text(text)
    assert read_hierarchy(files / "hierarchy.csv").order == ("natural_or_human_made", "supercategory", "hierarchical_label")


def test_every_picture_is_a_sample_with_its_names(files: Path) -> None:
    found = items(files, credits_csv=files / "attribution.csv")
    assert [item.id for item in found if isinstance(item, Sample)] == [
        i for line in CLEAN.splitlines()[1:] for i in line.split(",")[1].split()
    ]
    first = found[0]
    assert isinstance(first, Sample)
    assert first.meta["entity"] == {"name": "Eiffel Tower", "levels": ["human-made", "lighthouse / tower", "tower", "Eiffel Tower"]}
    assert first.meta["image"] == "a/a/a/aaa0000000000001.jpg"
    assert Path(first.images[0].path or "").read_bytes() == b"a picture"
    assert first.caption in {c.format(name="Eiffel Tower", kind=", a tower") for c in CAPTIONS}
    assert first.meta["author"] == "Doe, Jane"
    assert "author" not in found[1].meta  # type: ignore[union-attr]
    assert [m.role for m in first.messages] == ["user", "assistant"] * 4
    assert [m.parts[-1].text for m in first.messages[1::2]] == ["Eiffel Tower", "tower", "lighthouse / tower", "human-made"]
    assert first.messages[0].parts[0].kind == "image"


def test_unknown_levels_are_not_asked_and_repeated_ones_only_once() -> None:
    order = ("natural_or_human_made", "hierarchical_label", "supercategory")
    assert [t["value"] for t in questions_of(Landmark("Some Place"), order, 0)[1::2]] == ["Some Place"]
    falls = Landmark("Niagara Falls", {"supercategory": "waterfall", "hierarchical_label": "waterfall", "natural_or_human_made": "natural"})
    assert [t["value"] for t in questions_of(falls, order, 7)[1::2]] == ["Niagara Falls", "waterfall", "natural"]


def test_captions_by_hand() -> None:
    assert caption_of(Landmark("X", {"hierarchical_label": "island"}), 0) == "This is X, an island."
    assert caption_of(Landmark("X"), 1) == "The picture shows X."


def test_what_cannot_be_used_leaves_with_a_reason(files: Path) -> None:
    (files / "train" / place_of("ccd0000000000002")).unlink()
    with (files / "clean.csv").open("a") as file:
        file.write("77,aaa0000000000001\n1,aaa0000000000001 ../../etc/passwd\n")
    found = items(files)
    gone = [item for item in found if isinstance(item, Rejected)]
    assert Counter(item.reason for item in gone) == {"image_missing": 1, "unknown_landmark": 1, "duplicate_id": 1, "bad_id": 1}
    assert gone[0].source.row == 5
    assert "ccd0000000000002.jpg" in gone[0].detail
    assert len(found) == 11


def test_one_row_a_picture_is_read_too(files: Path) -> None:
    (files / "train.csv").write_text("id,url,landmark_id\naaa0000000000001,http://x/a.jpg,1\nccc0000000000001,http://x/c.jpg,3\n")
    assert [(i.id, i.meta["entity"]["name"]) for i in items(files, "train.csv") if isinstance(i, Sample)] == [
        ("aaa0000000000001", "Eiffel Tower"),
        ("ccc0000000000001", "Niagara Falls"),
    ]


def test_a_cap_takes_pictures_that_are_there_and_follows_its_seed(files: Path) -> None:
    (files / "train" / place_of("aaa0000000000001")).unlink()
    shutil.rmtree(files / "train" / "b")
    picks = {tuple(i.id for i in items(files, per_landmark=1, seed=s) if isinstance(i, Sample)) for s in range(8)}
    assert {pick[0] for pick in picks} == {"aab0000000000002", "aac0000000000003"}
    assert all(len(pick) == 4 for pick in picks)
    assert items(files, per_landmark=1, seed=3) == items(files, per_landmark=1, seed=3)


def test_rows_written_are_read_again_as_caption_or_as_conversation(files: Path) -> None:
    out = files / "out"
    with write(out / "landmarks.jsonl", "jsonl") as writer:
        for item in items(files):
            assert isinstance(item, Sample)
            writer.add(item)
    write_manifest(out, str(files / "train"), "jsonl")
    shard = list_shards(out)[0]
    plain, talk = next(read(shard)), next(read(shard, caption_key="conversations"))
    assert isinstance(plain, Sample)
    assert isinstance(talk, Sample)
    assert plain.caption == plain.meta["caption"]
    assert not plain.messages
    assert talk.messages == items(files)[0].messages  # type: ignore[union-attr]
    assert Path(talk.images[0].path or "").read_bytes() == b"a picture"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("landmark_id,name\n1,x\n", "columns landmark_id, category; its first line has landmark_id, name"),
        ("", "its first line has nothing"),
        ("landmark_id,category\n", "a header and no landmark"),
        ("landmark_id,category\n1,Category:A\n1,Category:B\n", "landmark_id 1 a second time"),
    ],
)
def test_a_hierarchy_of_another_form_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text(text)
    with pytest.raises(SourceError, match=message):
        read_hierarchy(tmp_path / "h.csv")


def test_files_that_are_not_there_or_of_another_form(files: Path) -> None:
    with pytest.raises(SourceError, match="cannot read"):
        read_hierarchy(files / "none.csv")
    (files / "odd.csv").write_text("landmark_id,pictures\n1,a\n")
    with pytest.raises(SourceError, match="images or id"):
        items(files, "odd.csv")


def test_a_category_file_without_levels_gives_the_entity_alone(files: Path) -> None:
    (files / "hierarchy.csv").write_text("landmark_id,category\n1,http://commons.wikimedia.org/wiki/Category:Eiffel_Tower\n")
    first = items(files)[0]
    assert isinstance(first, Sample)
    assert first.meta["entity"]["levels"] == ["Eiffel Tower"]
