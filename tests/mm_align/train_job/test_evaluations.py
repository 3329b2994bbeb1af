"""Evaluations of `mmalign train`: suites, shown answers, and the checkpoint that is chosen by them."""

import json

from train_runs import logged, train


def test_suites_answers_and_the_choice_of_a_checkpoint(recipe, rows, tmp_path, capsys):
    suite = {"type": "qa", "name": "colors", "data": str(rows / "asked"), "limit": 4}
    evaluated = {"eval_data": [{"path": str(rows / "rows.jsonl"), "limit": 4}], "eval_steps": 2, "show_answers": 2, "answer_tokens": 4}
    assert train(recipe(**evaluated, eval_suites=[suite], select_by="eval_loss"), tmp_path / "out") == 0
    entries = logged(tmp_path / "out")
    assert [e["step"] for e in entries if "colors/accuracy" in e] == [2, 4, 6]
    found = {e["step"]: e["eval_loss"] for e in entries if "eval_loss" in e}
    best = min(found, key=found.get)
    assert f"chosen by eval_loss = {found[best]:.4g}: step {best}" in capsys.readouterr().out
    answers = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert [(a["step"], a["id"]) for a in answers] == [(s, r) for s in (2, 4, 6) for r in ("r0", "r1")]
    assert answers[0]["expected"] == "it is red"
    assert answers[0]["prompt"] == "<image>color?"


def test_suites_alone_choose_too(recipe, rows, tmp_path):
    """Without evaluation rows; every accuracy is 0, and of equal ones the first checkpoint stays, or where asked the last."""
    suite = {"type": "qa", "data": str(rows / "asked"), "limit": 1}
    selected = {"steps": 5, "eval_suites": [suite], "eval_steps": 2, "select_by": "qa/accuracy", "lr": 1e-6}
    assert train(recipe(**selected), tmp_path / "out") == 0
    assert [e["step"] for e in logged(tmp_path / "out") if "qa/accuracy" in e] == [2, 4, 5]
    assert json.loads((tmp_path / "out" / ".mmalign" / "finished.json").read_text())["step"] == 2
    assert train(recipe(**selected, select_ties="last", select_limits={"qa/rows": 1}), tmp_path / "last") == 0
    assert json.loads((tmp_path / "last" / ".mmalign" / "finished.json").read_text())["step"] == 5


def test_a_limit_that_no_checkpoint_keeps_is_told(recipe, rows, tmp_path, capsys):
    suite = {"type": "qa", "data": str(rows / "asked"), "limit": 1}
    selected = {"steps": 2, "eval_suites": [suite], "eval_steps": 2, "select_by": "qa/accuracy"}
    assert train(recipe(**selected, select_limits={"qa/accuracy": 2}), tmp_path / "out") == 0
    assert "no checkpoint is within select_limits" in capsys.readouterr().out
    assert train(recipe(**selected, select_limits={"qa/acuracy": 2}), tmp_path / "other") == 2
    assert "select_limits 'qa/acuracy' is none of what evaluations log; did you mean 'qa/accuracy'" in capsys.readouterr().err
