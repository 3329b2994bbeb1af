"""`mmalign vision knowledge` through the command line on a tiny random CLIP: split, selections, rows, plot, refusals."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from data_tools.io import decode, list_shards, read
from data_tools.records import Sample
from mm_align.cli import main

ENTITIES = ["Eiffel Tower", "Big Ben", "Golden Gate Bridge", "Old Mill"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """32 pictures of 4 entities, and five rows that cannot be used."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    lines = []
    for i in range(32):
        noise = np.random.default_rng(i).integers(0, 255, (20, 24, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).save(folder / "images" / f"{i}.png")
        name = ENTITIES[i % 4] if i != 5 else "big_ben"
        lines.append({"id": f"p{i}", "image": f"images/{i}.png", "caption": "a picture", "entity": {"name": name, "levels": [None, name]}})
    (folder / "images" / "broken.png").write_bytes(b"no picture")
    good = lines[0]
    lines.insert(3, good | {"id": "absent", "image": "images/absent.png"})
    lines += [good | {"id": "broken", "image": "images/broken.png"}, {k: v for k, v in good.items() if k != "entity"} | {"id": "nameless"}]
    lines += [good | {"id": "signs", "entity": {"name": "--"}}, good]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "rows.jsonl"


def run(data: Path, encoder: str, out: Path, *more: str) -> int:
    return main(["vision", "knowledge", str(data), "--encoder", encoder, "--out", str(out), "--device", "cpu", "--no-plot", *more])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_measured_or_in_quarantine(data: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(data, encoder, out, "--batch-size", "5", "--json") == 0
    told = capsys.readouterr()
    split, gone = lines_of(out / "split.jsonl"), lines_of(out / "quarantine.jsonl")
    assert [row["id"] for row in split] == [f"p{i}" for i in range(32)]
    assert Counter(row["reason"] for row in gone) == {
        "image_missing": 1,
        "image_unreadable": 1,
        "missing_entity": 1,
        "bad_entity": 1,
        "duplicate_id": 1,
    }
    summary = json.loads((out / "knowledge.json").read_text())
    assert json.loads(told.out) == summary
    assert summary["rows"] == 37
    assert summary["measured"] == 32
    assert sum(summary["quarantined"].values()) == 5
    assert summary["candidates"] == summary["entities"] == 4
    assert summary["spellings_joined"] == 1
    assert {row["entity"] for row in split} == set(ENTITIES)
    assert Counter(row["split"] for row in split) == {k: v for k, v in summary["split"].items() if v}
    assert "5 of 37 rows left out" in told.err


def test_the_files_agree_with_the_library(data: Path, encoder: str, tmp_path: Path) -> None:
    """The measures of split.jsonl are those of `vision.knowledge` on the pair's own embeddings."""
    from vision.knowledge import PROMPTS, candidates, measure, name_embeddings
    from vision.pairs import load_pair

    assert run(data, encoder, tmp_path / "out") == 0
    rows = lines_of(tmp_path / "out" / "split.jsonl")
    pair = load_pair(encoder)
    pictures = [PIL.Image.open(data.parent / "images" / f"{i}.png") for i in range(32)]
    found = candidates([row["entity"] for row in rows])
    names = name_embeddings(pair.text_embeddings, found.names, PROMPTS)
    wanted = measure(pair.image_embeddings(pictures), names, found.truth([row["entity"] for row in rows]))
    assert [row["rank"] for row in rows] == wanted.rank.tolist()
    for key in ("similarity", "discrimination", "ambiguity"):
        assert [row[key] for row in rows] == pytest.approx(getattr(wanted, key).tolist(), abs=1e-5)


def test_selections_hold_every_entity_equally_often_and_their_rows_train(data: Path, encoder: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(data, encoder, out, "--per-entity", "3", "--rows") == 0
    split = lines_of(out / "split.jsonl")
    for how in ("hds", "hss", "lds", "random"):
        chosen = [row for row in split if how in row["selections"]]
        assert Counter(row["entity"] for row in chosen) == dict.fromkeys(ENTITIES, 3)
        rows = [row for shard in list_shards(out / "rows" / f"{how}.jsonl") for row in read(shard)]
        assert [row.id for row in rows if isinstance(row, Sample)] == [row["id"] for row in chosen]
        assert decode(rows[0].images[0]).pixels.size == (24, 20)
    margins = {how: np.mean([r["discrimination"] for r in split if how in r["selections"]]) for how in ("hds", "lds", "random")}
    assert margins["lds"] < margins["random"] < margins["hds"]


def test_twice_the_same_bytes_and_the_same_command_again_is_done(
    data: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        assert run(data, encoder, tmp_path / name, "--batch-size", "32") == 0
    for file in ("split.jsonl", "knowledge.json", "quarantine.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    capsys.readouterr()
    assert run(data, encoder, tmp_path / "a", "--json") == 0
    told = capsys.readouterr()
    assert "already holds this split" in told.err
    assert json.loads(told.out) == json.loads((tmp_path / "a" / "knowledge.json").read_text())
    assert run(data, encoder, tmp_path / "a", "--rank-limit", "2") == 2
    assert "rank_limit: was 10, now 2" in capsys.readouterr().err
    assert run(data, encoder, tmp_path / "a", "--rank-limit", "2", "--overwrite") == 0


def test_more_names_aliases_and_prompts(data: Path, encoder: str, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Taj Mahal\n\nEIFFEL TOWER\n")
    (tmp_path / "aliases.json").write_text(json.dumps({"Windmill": ["Old Mill"]}))
    more = ["--names", str(tmp_path / "names.txt"), "--aliases", str(tmp_path / "aliases.json"), "--prompt", "this is {}"]
    assert run(data, encoder, tmp_path / "out", *more) == 0
    summary = json.loads((tmp_path / "out" / "knowledge.json").read_text())
    assert summary["candidates"] == 5
    assert "Windmill" in {row["entity"] for row in lines_of(tmp_path / "out" / "split.jsonl")}


def test_a_plot_is_drawn(data: Path, encoder: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the extra 'plot' is not installed")
    assert run(data, encoder, tmp_path / "out", "--plot") == 0
    with PIL.Image.open(tmp_path / "out" / "knowledge.png") as picture:
        assert picture.size[0] > 800


def test_without_matplotlib_there_is_a_warning_and_no_plot(
    data: Path, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(data, encoder, tmp_path / "out", "--plot") == 0
    assert "mm-align[plot]" in capsys.readouterr().err
    assert not (tmp_path / "out" / "knowledge.png").exists()


class TestRefusals:
    def test_an_encoder_that_is_not_there(self, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(data, str(tmp_path / "nowhere"), tmp_path / "out") == 2
        assert "no folder" in capsys.readouterr().err
        assert [p.name for p in tmp_path.iterdir()] == ["data"]

    def test_data_that_is_not_there(self, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(tmp_path / "none.jsonl", encoder, tmp_path / "out") == 2
        assert "No such file" in capsys.readouterr().err

    def test_no_row_with_an_entity(self, data: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(data, encoder, tmp_path / "out", "--entity-key", "landmark") == 2
        assert "37 x missing_entity" in capsys.readouterr().err

    def test_one_entity_only(self, data: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(data, encoder, tmp_path / "out", "--limit", "1") == 2
        assert "all pictures show 'Eiffel Tower'" in capsys.readouterr().err

    @pytest.mark.parametrize(("flag", "text"), [("--aliases", '["a"]'), ("--aliases", "{"), ("--prompt", "no place")])
    def test_bad_names(self, flag: str, text: str, data: Path, encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "file").write_text(text)
        assert run(data, encoder, tmp_path / "out", flag, text if flag == "--prompt" else str(tmp_path / "file")) == 2
        assert ("prompt" if flag == "--prompt" else "--aliases") in capsys.readouterr().err

    def test_a_foreign_folder_is_never_replaced(self, data: Path, encoder: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(data, encoder, data.parent, "--overwrite") == 2
        assert "was not made by" in capsys.readouterr().err
        assert data.exists()
