"""Measuring quality models: exact figures for models that are right or indifferent, and the proof at a handful of rows."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "proving"))

from quality_measures import cases, measure, measure_scorer, measure_single, separation
from quality_runs import SUBTLE, VARIANTS, _changed, _gross
from zoo.scene_judge import SceneJudge, rows_of

from data_tools.aitqe import render
from data_tools.filters.mlm_filter import CRITERIA
from data_tools.records import Response
from data_tools.scenes.opinion import opinion
from data_tools.scenes.rows import Captioned
from data_tools.scenes.world import Scene
from mm_align import config as configs
from mm_align.cli import main
from mm_align.jobs.aitqe.data import AitqeDataConfig, build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quality") / "scenes"
    assert main(["scenes", "make", "--n", "60", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def judged(scenes):
    out = scenes.with_name("judged")
    config = configs.load(AitqeDataConfig, {"source": str(scenes), "judge": "scenes", "out": str(out)})
    build(config, backends={"scenes": SceneJudge(rows_of(str(scenes)))})
    return out / "aitqe.jsonl"


class Right:
    """Answers as a perfect quality model; its branches say so too."""

    def __init__(self, scenes):
        self.told = {}
        for row in rows_of(str(scenes)):
            truth = row.meta["sceneworld"]
            made = Captioned(Scene.from_dict(truth["scene"]), row.caption or "", truth["kind"], truth["severity"])
            self.told[row.id] = opinion(made)

    def generate(self, samples, sampling):
        return [self.response(s, sampling) for s in samples]

    def response(self, sample, sampling):
        reply = self.told[sample.id]
        rewrite, keep = sampling.branches
        p = float(reply.recaption is not None)
        return Response("r", sample.id, render(reply), branches={rewrite: p, keep: 1 - p}, tokens=9)


class Keeps(Right):
    def response(self, sample, sampling):
        return Response("r", sample.id, '{"Overall Score": "9<Overall>"}', branches=dict.fromkeys(sampling.branches, 0.5), tokens=9)


def test_a_perfect_model(scenes):
    found = measure(Right(scenes), cases(str(scenes)))
    assert found["decision"]["all"] == found["decision"]["needs_image"] == found["score"]["all"] == found["accuracy"] == 1
    assert found["spearman"] == found["scored"] == 1
    assert found["rewriting"]["after"] == {"f1": 1, "recall": 1, "precision": 1, "hallucinating": 0}
    assert found["rewriting"]["overlap"] == 1
    assert found["rewriting"]["raw"]["f1"] < 1


def test_a_model_that_keeps_everything(scenes):
    rows = cases(str(scenes))
    found = measure(Keeps(scenes), rows)
    assert found["decision"]["all"] == found["score"]["all"] == 0.5
    assert found["spearman"] == found["rewriting"]["rewritten"] == 0
    assert found["rewriting"]["after"] is found["rewriting"]["overlap"] is None
    assert found["rewriting"]["enhanced"] == found["rewriting"]["raw"]
    assert found["accuracy"] == round(sum(case.good for case in rows) / len(rows), 4)


def test_rows_of_a_judge_are_truth_too(judged):
    """Each picture once good and once bad; the truth is what the judge said."""
    rows = cases(str(judged))
    assert [case.kind for case in rows if case.good].count("A") + [case.kind for case in rows].count("D") == len(rows) / 2
    found = separation(rows, [-case.score for case in rows])
    assert found["all"] == found["B"] == found["C"] == 1
    assert all((case.reference is None) == case.good for case in rows)


def test_rows_without_truth_are_refused(tmp_path, scenes):
    image = rows_of(str(scenes))[0].images[0].path
    (tmp_path / "plain.jsonl").write_text(json.dumps({"image": image, "caption": "x"}) + "\n")
    with pytest.raises(ValueError, match="no truth; give rows of"):
        cases(str(tmp_path / "plain.jsonl"))


def test_what_each_variant_is_taught(judged):
    """contrast: kinds B and D; rewriting: a Recaption in B and C; single: four questions with one number each, 10 s - 3."""
    rows = rows_of(str(judged))[:40]
    some = {name: variant for name, variant in VARIANTS.items() if not variant.gross}
    kinds = {name: {r.meta["meta"]["aitqe"]["kind"] for row in rows for r in _changed(row, v)} for name, v in some.items()}
    assert kinds["both"] == kinds["contrast"] == {"A", "B", "C", "D"}
    assert kinds["rewriting"] == kinds["neither"] == {"A", "C"}
    answers = {name: [r.messages[-1].parts[0].text for row in rows for r in _changed(row, v)] for name, v in some.items()}
    assert {name: any("Recaption" in a for a in texts) for name, texts in answers.items()} == {
        "both": True, "contrast": False, "rewriting": True, "neither": False, "mlm": False,
    }  # fmt: skip
    assert len(answers["mlm"]) == len(CRITERIA) * len(rows)
    assert {int(a) % 10 for a in answers["mlm"]} == {7}


def test_without_subtle_errors_in_raw_captions(judged):
    """As many pictures with a good raw caption as with a grossly bad one; contrasting captions may still be subtly wrong."""
    kept = [row.meta["meta"] for row in _gross(rows_of(str(judged)))]
    assert not {told["sceneworld"]["kind"] for told in kept} & SUBTLE
    kinds = Counter(told["aitqe"]["kind"] for told in kept)
    assert kinds["A"] == kinds["B"] == kinds["C"] == kinds["D"] > 0


def test_the_tiny_recipe_trains_and_its_model_enhances(scenes, judged, tmp_path, capsys):
    """Two steps from the bundled model, whose answers it keeps."""
    words = ["--set", "model.from=tiny-aitqe", "--set", f"data=[{{path: {judged}}}]", "--steps", "2", "--lr", "1e-6", "--batch-size", "4"]
    assert main(["train", "aitqe/tiny", *words, "--micro-batch", "4", "--out", str(tmp_path / "run")]) == 0
    model, out = str(tmp_path / "run" / "model"), tmp_path / "better"
    assert main(["enhance-data", str(scenes), "--model", model, "--limit", "8", "--out", str(out)]) == 0
    assert "8 rows in = " in capsys.readouterr().out
    rows = rows_of(str(out))
    assert [row.meta["aitqe"]["parse_status"] for row in rows] == ["ok"] * 8


def test_single_scores_and_a_scorer(scenes):
    """A number that follows the truth separates perfectly; one that is no number counts as 50, so nothing is separated."""
    rows = cases(str(scenes))
    truth = {case.sample.id: case.score for case in rows}

    class Numbers:
        def generate(self, samples, sampling):
            return [
                Response("r", s.id, str(round(9 * truth[s.id])) if "piece of writing" not in s.messages[0].parts[1].text else "?")
                for s in samples
            ]

    found = measure_single(Numbers(), rows)
    assert found["mlm.image_text_matching"]["score"]["all"] == found["mlm.image_text_matching"]["spearman"] == 1
    assert (found["mlm.caption_text_quality"]["score"]["all"], found["mlm.caption_text_quality"]["spearman"]) == (0.5, 0)
    assert found["unread"] == len(rows)
    assert measure_scorer(lambda samples: [truth[s.id] for s in samples], rows)["similarity"]["score"]["all"] == 1


@pytest.mark.slow
def test_the_proof_runs_and_goes_on_where_it_was(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "proving" / "quality_model.py"), "all", "--quick", "--seeds", "0"]
    command += ["--only", "both", "gross_neither", "mlm"]
    command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "quality.json"), "--images", str(tmp_path)]
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    told = json.loads((tmp_path / "quality.json").read_text())
    assert set(told["variants"]) == {"both", "gross_neither"}
    assert set(told["single"]) == {"mean", *(f"mlm.{metric}" for metric in CRITERIA)}
    assert "SceneWorld" in told["title"]
    assert {"tiny-aitqe", "clip"} == set(told["others"])
    assert (tmp_path / "quality_ablation.png").is_file()
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert json.loads((tmp_path / "quality.json").read_text()) == told
