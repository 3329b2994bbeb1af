"""`mmalign scenes make` through the command line: three formats, streaming, refusals."""

import pytest

from data_tools.io import decode, list_shards, read
from mm_align.cli import main


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webdataset"])
def test_rows_read_back_with_picture_caption_and_truth(tmp_path, format):
    out = tmp_path / "scenes"
    assert main(["scenes", "make", "--n", "25", "--seed", "3", "--out", str(out), "--format", format, "--shard-size", "10"]) == 0
    shards = list_shards(str(out))
    assert len(shards) == 3
    assert main(["enhance-data", str(out), "--out", str(tmp_path / "told"), "--stages", "signals", "--signals", "text.words"]) == 0
    assert "SceneWorld" in (tmp_path / "told" / "report.html").read_text().partition("</title>")[0]
    rows = [row for shard in shards for row in read(shard)]
    assert len({row.id for row in rows}) == 25
    for row in rows:
        assert row.meta["sceneworld"]["version"] == 1
        assert decode(row.images[0]).pixels.size == (row.meta["sceneworld"]["scene"]["size"],) * 2


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        assert main(["scenes", "make", "--n", "12", "--seed", "5", "--out", str(tmp_path / name), "--format", "webdataset"]) == 0
    assert (tmp_path / "a/scenes-00000.tar").read_bytes() == (tmp_path / "b/scenes-00000.tar").read_bytes()


def test_refuses_a_folder_it_did_not_make(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep me")
    assert main(["scenes", "make", "--n", "2", "--out", str(tmp_path), "--overwrite"]) == 2
    assert "was not made by" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()


def test_the_same_command_again_is_done_and_another_one_is_refused(tmp_path, capsys):
    out = str(tmp_path / "s")
    assert main(["scenes", "make", "--n", "2", "--out", out]) == 0
    assert main(["scenes", "make", "--n", "2", "--out", out]) == 0
    assert "there already" in capsys.readouterr().out
    assert main(["scenes", "make", "--n", "3", "--out", out]) == 2
    assert "n: was 2, now 3" in capsys.readouterr().err
    assert main(["scenes", "make", "--n", "3", "--out", out, "--overwrite"]) == 0


def test_an_unfinished_folder_is_made_anew(tmp_path):
    out = tmp_path / "s"
    assert main(["scenes", "make", "--n", "2", "--out", str(out)]) == 0
    rows = (out / "scenes-00000.jsonl").read_bytes()
    (out / "sceneworld.json").write_text((out / "sceneworld.json").read_text().replace("true", "false"))
    (out / "scenes-00000.jsonl").unlink()
    assert main(["scenes", "make", "--n", "2", "--out", str(out)]) == 0
    assert (out / "scenes-00000.jsonl").read_bytes() == rows


def test_landmarks_carry_their_entity_and_differ_by_world(tmp_path, capsys):
    made = {}
    for world in ("0", "1"):
        out = tmp_path / world
        words = ["scenes", "make", "--family", "entities", "--world", world, "--n", "6", "--out", str(out)]
        assert main(words) == 0
        assert f"6 landmark pictures of world {world}" in capsys.readouterr().out
        made[world] = [row for shard in list_shards(str(out)) for row in read(shard)]
    for row in made["0"]:
        assert row.meta["entity"]["levels"][3] == row.meta["entity"]["name"]
        assert row.meta["entity"]["name"] in row.caption
        assert decode(row.images[0]).pixels.size == (96, 96)
    assert {r.meta["entity"]["name"] for r in made["0"]}.isdisjoint(r.meta["entity"]["name"] for r in made["1"])


def test_suites_for_eval_and_what_has_none(tmp_path, capsys):
    assert main(["scenes", "make", "--suite", "--n", "3", "--out", str(tmp_path / "s")]) == 0
    assert "3 scenes of split heldout in benchmarks" in capsys.readouterr().out
    assert (tmp_path / "s" / "suites.yaml").is_file()
    assert main(["scenes", "make", "--suite", "--family", "entities", "--n", "3", "--out", str(tmp_path / "e")]) == 0
    assert "3 landmark pictures of world 0 of split heldout in benchmarks" in capsys.readouterr().out
    assert main(["scenes", "make", "--suite", "--family", "films", "--out", str(tmp_path / "t")]) == 2
    assert "films have none" in capsys.readouterr().err
