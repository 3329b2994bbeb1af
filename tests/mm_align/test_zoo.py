"""The bundled model from its files, through the command line: what its card says holds on fresh held-out scenes."""

import json
from pathlib import Path

import PIL.Image
import pytest

import mm_align
from data_tools.scenes.extract import agreement, f1
from data_tools.scenes.world import Scene
from mm_align.cli import main

ZOO = Path(mm_align.__file__).parent / "zoo"


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def enhanced(tmp_path_factory):
    """96 held-out scenes that no other script draws, enhanced with the default model."""
    work = tmp_path_factory.mktemp("zoo")
    assert main(["scenes", "make", "--n", "96", "--seed", "4711", "--split", "heldout", "--out", str(work / "raw")]) == 0
    assert main(["enhance-data", str(work / "raw"), "--out", str(work / "better")]) == 0
    return work / "better"


def test_the_zoo_is_small_and_safe():
    files = [f for f in ZOO.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in ZOO.glob("tiny-aitqe/*.safetensors")) <= 6 * 2**20
    assert sum(f.stat().st_size for f in files) <= 20 * 2**20
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".pkl", ".pth")]


def test_the_card_shows_what_was_measured():
    figures = json.loads((ZOO / "tiny-aitqe/figures.json").read_text())
    card = (ZOO / "tiny-aitqe/README.md").read_text()
    assert "SceneWorld" in figures["title"]
    for value in (figures["decision"]["auroc"]["needs_image"], figures["answer"]["rewrite_f1"], figures["answer"]["severity_spearman"]):
        assert f"{value:.3f}" in card


def test_answers_are_json_and_poor_captions_get_better(enhanced):
    """The card's figures come from 1,000 rows; on 96 the bounds are wide, but a broken model fails each of them."""
    rows = rows_of(enhanced / "scenes-00000.jsonl")
    assert sum(r["aitqe"]["parse_status"] == "ok" for r in rows) / len(rows) >= 0.95
    poor = [r for r in rows if r["sceneworld"]["kind"] != "good"]
    good = [r for r in rows if r["sceneworld"]["kind"] == "good"]
    rewritten = [r for r in poor if r["aitqe"]["action"] == "rewrite"]
    assert len(rewritten) / len(poor) >= 0.7
    assert sum(r["aitqe"]["action"] == "rewrite" for r in good) / len(good) <= 0.3
    scenes = [Scene.from_dict(r["sceneworld"]["scene"]) for r in rewritten]
    before = f1(agreement(r["caption_raw"], s) for r, s in zip(rewritten, scenes, strict=True))
    after = f1(agreement(r["caption"], s) for r, s in zip(rewritten, scenes, strict=True))
    assert after >= 0.8
    assert after >= before + 0.2


def test_the_report_says_whose_figures_these_are(enhanced):
    page = (enhanced / "report.html").read_text(encoding="utf-8")
    assert "SceneWorld" in page.split("</title>")[0]
    assert "mean nothing" not in page


def test_the_cheap_modes_decide_the_same(enhanced, tmp_path):
    full = {r["id"]: r["aitqe"] for r in rows_of(enhanced / "scenes-00000.jsonl")}
    assert main(["scenes", "make", "--n", "32", "--seed", "4711", "--split", "heldout", "--out", str(tmp_path / "raw")]) == 0
    for mode in ("scores", "decide"):
        assert main(["enhance-data", str(tmp_path / "raw"), "--out", str(tmp_path / mode), "--mode", mode]) == 0
        for row in rows_of(tmp_path / mode / "scenes-00000.jsonl"):
            assert row["aitqe"]["p_rewrite"] == pytest.approx(full[row["id"]]["p_rewrite"], abs=2e-4)


def test_other_data_is_told_that_the_scores_mean_nothing(tmp_path, capsys):
    source = tmp_path / "src"
    source.mkdir()
    PIL.Image.new("RGB", (80, 60), (90, 140, 200)).save(source / "sky.png")
    (source / "rows.jsonl").write_text(json.dumps({"image": "sky.png", "caption": "A blue sky."}) + "\n")
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "--model" in told
    assert "mean nothing" in told
    assert "mean nothing" in (tmp_path / "out/report.html").read_text(encoding="utf-8")
