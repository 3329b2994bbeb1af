"""The judge that knows SceneWorld's truth, asked over HTTP as any endpoint: data that is exact, without the model that will learn of it."""

import json
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zoo.scene_judge import SceneJudge, digest, rows_of, server, slot

from data_tools.aitqe.construction import SCORING, scoring_question
from data_tools.io import decode
from data_tools.scenes.extract import agreement
from data_tools.scenes.world import Scene
from mm_align.cli import main
from mm_align.config import load
from mm_align.jobs.aitqe.data import AitqeDataConfig, build


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "scenes"
    assert main(["scenes", "make", "--n", "40", "--out", str(folder)]) == 0
    return folder


def test_a_question_is_known_by_its_phrasing_and_gives_its_caption_back():
    asked = scoring_question("a", 0)
    shown = asked.prompt.show('x "{caption}"\n').text
    assert [k for k, template in enumerate(SCORING) if slot(shown, template) == 'x "{caption}"\n'] == [asked.phrasing]


def test_data_made_over_http(scenes, tmp_path, capsys):
    """Good rows of the world are A, the damaged ones C; B is worse and D right; the same as asked in this process, and twice the same."""
    with server(SceneJudge(rows_of(str(scenes))), 0) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        judge = f"openai:http://127.0.0.1:{http.server_port}/v1"
        for name in ("one", "two"):
            assert main(["aitqe", "data", str(scenes), "--judge", judge, "--out", str(tmp_path / name)]) == 0
        http.shutdown()
    assert (tmp_path / "one" / "aitqe.jsonl").read_bytes() == (tmp_path / "two" / "aitqe.jsonl").read_bytes()
    rows = [json.loads(line) for line in (tmp_path / "one" / "aitqe.jsonl").read_text().splitlines()]
    kinds = Counter(row["meta"]["aitqe"]["kind"] for row in rows)
    truth = Counter(row.meta["sceneworld"]["kind"] == "good" for row in rows_of(str(scenes)))
    assert len(rows) >= 76
    assert kinds["A"] == kinds["B"] <= truth[True]
    assert kinds["C"] == kinds["D"] <= truth[False]
    for row in rows:
        kind, scene = row["meta"]["aitqe"]["kind"], Scene.from_dict(row["meta"]["sceneworld"]["scene"])
        found = agreement(row["caption"], scene)
        assert (row["meta"]["sceneworld"]["kind"] == "good") == (kind in "AB")
        assert kind != "D" or found.claimed == found.right == found.truth


def test_a_caption_of_another_origin_is_scored_by_its_objects(scenes):
    rows = rows_of(str(scenes))
    judge = SceneJudge(rows)
    scene = Scene.from_dict(rows[0].meta["sceneworld"]["scene"])
    right = ", ".join(f"a {item.color} {item.shape}" for item in scene.items)
    asked = [scoring_question("a", 0).prompt.show(text).text for text in (right, "a house")]
    scores = [json.loads(judge.answer(digest(decode(rows[0].images[0]).pixels), question))["Overall Score"] for question in asked]
    assert scores[0] >= 7 > scores[1]
    with pytest.raises(ValueError, match="this judge knows the questions"):
        judge.answer(digest(decode(rows[0].images[0]).pixels), "What is this?")


def test_pictures_inside_a_tar_are_put_beside_the_rows(tmp_path):
    """A WebDataset source: the rows that come out name files, which training finds from their folder."""
    source, out = tmp_path / "tars", tmp_path / "out"
    assert main(["scenes", "make", "--n", "6", "--format", "webdataset", "--out", str(source)]) == 0
    judge = SceneJudge(rows_of(str(source)))
    build(load(AitqeDataConfig, {"source": str(source), "judge": "scenes", "out": str(out)}), backends={"scenes": judge})
    rows = rows_of(str(out / "aitqe.jsonl"))
    assert len(rows) >= 10
    assert {Path(row.images[0].path).parent for row in rows} == {out / "images"}
    assert {digest(decode(row.images[0]).pixels) for row in rows} <= set(judge.scenes)
