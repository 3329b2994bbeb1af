"""`mmalign train` and what people get wrong: names of metrics, pictures of evaluations, numbers that do not fit, told in a sentence."""

import json

import PIL.Image
import pytest
import yaml

from mm_align.cli import main


@pytest.fixture
def rows(tmp_path):
    """Four rows for training and evaluation: `rows.jsonl`; the second row of `evaluated.jsonl` has half a picture."""
    lines = []
    for i in range(4):
        PIL.Image.effect_noise((20, 20), 50).convert("RGB").save(tmp_path / f"{i}.png")
        talk = [{"from": "human", "value": "<image>\ncolor?"}, {"from": "gpt", "value": "it is red"}]
        entity = {"name": f"e{i % 2}", "levels": ["thing", f"e{i % 2}"]}
        lines.append({"id": f"r{i}", "image": f"{i}.png", "conversations": talk, "question": "q?", "answer": "red", "entity": entity})
    whole = (tmp_path / "1.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    broken = [lines[0], lines[1] | {"image": "half.png"}, lines[2]]
    gone = [lines[0], lines[1] | {"image": "gone.png"}, lines[2] | {"image": "half.png"}]
    for name, content in (("rows", lines), ("evaluated", broken), ("asked", gone), ("none", [gone[1]]), ("halves", [gone[2]])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in content))
    return tmp_path


@pytest.fixture
def train(tmp_path, base, rows, capsys):
    """Runs a config of two steps, changed as asked: (exit code, what it said)."""

    def run(*more, **changes):
        plain = {
            "model": {"from": str(base)}, "data": [{"path": str(rows / "rows.jsonl")}], "train": ["adapter"], "lr": 0.01,
            "batch_size": 2, "steps": 2, "save_steps": 2, "log_steps": 1, "max_length": 64, "device": "cpu", "answer_tokens": 2,
        }  # fmt: skip
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(plain | changes))
        code = main(["train", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out"), *more])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def suite(rows, name="rows", **more):
    return {"type": "qa", "data": str(rows / f"{name}.jsonl")} | more


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


# The choice of a checkpoint


@pytest.mark.parametrize(
    ("select_by", "message"),
    [
        ("qa/acuracy", "did you mean 'qa/accuracy'?"),
        ("loss", "select_by 'loss' is none of what evaluations log; did you mean 'eval_loss'?"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_misspelt_metric_is_refused_before_the_first_step(train, rows, tmp_path, select_by, message, more):
    evaluated = {"eval_data": [{"path": str(rows / "rows.jsonl")}], "eval_suites": [suite(rows)], "eval_steps": 1}
    code, said = train(*more, **evaluated, select_by=select_by)
    assert code == 2
    assert message in said
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_a_name_that_the_evaluation_loss_does_not_log_is_refused_at_the_first_evaluation(train, rows, tmp_path):
    code, said = train(eval_data=[{"path": str(rows / "rows.jsonl")}], eval_steps=1, select_by="eval_lm_los")
    assert code == 2
    assert "select_by 'eval_lm_los' is none of what evaluations log; did you mean 'eval_loss'?" in said
    assert {entry["step"] for entry in lines_of(tmp_path / "out" / "log.jsonl")} == {1}


def test_a_run_that_ends_before_its_first_evaluation_cannot_select(train, rows):
    code, said = train("--dry-run", eval_data=[{"path": str(rows / "rows.jsonl")}], select_by="eval_loss")
    assert code == 2
    assert "eval_steps is 500 and the run has 2 steps" in said


def test_without_a_noted_checkpoint_nothing_is_exported(train, rows, tmp_path, monkeypatch):
    from mm_align.train import callbacks

    monkeypatch.setattr(callbacks, "note", lambda *a, **k: None)
    code, said = train(eval_suites=[suite(rows)], eval_steps=1, select_by="qa/accuracy")
    assert code == 2
    assert "no checkpoint has a 'qa/accuracy' to be chosen by" in said
    assert not (tmp_path / "out" / "model").exists()


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("eval_loss", True),
        ("eval_lm_loss", True),
        ("eval_contrast_loss", True),
        ("qa/accuracy", False),
        ("seen/hallucinating", True),
        ("seen/coverage", False),
    ],
)
def test_of_every_loss_the_lowest_is_the_best_and_benchmarks_know_their_own(name, lower):
    from mm_align.evals import ObjectsBenchmark, QaBenchmark
    from mm_align.jobs.train.suites import lower_is_better

    assert lower_is_better(name, {"qa": QaBenchmark("any"), "seen": ObjectsBenchmark("any")}) is lower


# Pictures of evaluations


def test_broken_pictures_of_evaluations_are_counted_and_training_goes_on(train, rows, tmp_path):
    """eval_data: half a picture of three rows; the suite: a missing one and half a one of three rows."""
    code, said = train(eval_data=[{"path": str(rows / "evaluated.jsonl")}], eval_suites=[suite(rows, "asked")], eval_steps=1)
    assert code == 0
    out = tmp_path / "out"
    entries = lines_of(out / "log.jsonl")
    assert [(e["step"], e["qa/unanswered"], e["qa/rows"]) for e in entries if "qa/rows" in e] == [(1, 2, 3), (2, 2, 3)]
    assert [a["id"] for a in lines_of(out / "samples.jsonl")] == ["r0", "r2"] * 2
    assert [row["reason"] for row in lines_of(out / "quarantine" / "eval_data.jsonl")] == ["image_truncated"]
    refused = lines_of(out / "quarantine" / "eval_suites.jsonl")
    assert [(row["suite"], row["id"], row["reason"]) for row in refused] == [("qa", "r1", "image_missing"), ("qa", "r2", "image_truncated")]
    assert "4 rows trained on, 0 quarantined\n" in said
    assert "3 rows of evaluations quarantined (2 image_truncated, 1 image_missing)" in said


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_suite_without_any_picture_is_refused(train, rows, more):
    code, said = train(*more, eval_suites=[suite(rows, "none")])
    assert code == 2
    assert "eval suite qa: no row has its picture; the first: no file" in said


def test_a_row_whose_picture_breaks_counts_once(train, rows):
    code, said = train(data=[{"path": str(rows / "evaluated.jsonl")}])
    assert code == 0
    assert "2 rows trained on, 1 quarantined (1 image_truncated)" in said


@pytest.mark.parametrize("where", ["data", "eval_data"])
def test_where_every_picture_breaks_the_run_ends_with_a_sentence(train, rows, where):
    code, said = train(**{where: [{"path": str(rows / "halves.jsonl")}]}, eval_steps=1)
    assert code == 1
    assert "no picture of these rows can be decoded any more" in said
    assert f"{where}.jsonl says why of each" in said


# Starts of one run


def test_fsdp_may_not_change_between_starts(train):
    assert train(steps=1)[0] == 0
    code, said = train("--fsdp", steps=1)
    assert code == 2
    assert "config.fsdp: was False, now True" in said


# What cannot work


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": []}, "nothing trains: `train` is []"),
        ({"schedule": {"type": "wsd", "warmup": 3, "decay": 5}}, "a warm-up of 3 steps is longer than the run of 2"),
        ({"schedule": {"type": "wsd", "warmup": 1, "decay": 5}}, "a warm-up of 1 and a decay of 5 steps are longer than the run of 2"),
        ({"optimizer": "adamww"}, "unknown optimizer 'adamww'; known: adamw_torch, "),
        ({"schedule": {"type": "wds"}}, "its type should be one of cosine, linear, constant, wsd; did you mean 'wsd'?"),
        ({"eval_suites": [{"type": "qa"}]}, "eval suite qa: benchmark 'qa' needs `data`"),
        ({"eval_suites": [{"type": "qa", "data": 3}]}, "benchmark 'qa': data should be a valid string, but is 3"),
        ({"lrs": {"adaptr": 1.0}}, "lrs: unknown part adaptr; did you mean 'adapter'?"),
        ({"objective": {"type": "eeca", "hierarchy_weight": "big"}}, "hierarchy_weight should be a number from 0 on, but is 'big'"),
        ({"objective": {"type": "eeca", "contrast_weight": -1}}, "contrast_weight should be a number from 0 on, but is -1"),
        ({"objective": {"type": "eeca", "temperature": 0}}, "temperature should be a number above 0, but is 0"),
        ({"objective": {"type": "eeca", "label_smoothing": 2}}, "label_smoothing should be a number from 0 to 1, but is 2"),
        ({"objective": {"type": "eeca", "contrast_width": 0}}, "a whole number above 0, or null for no heads, but is 0"),
        ({"objective": {"type": "eeca", "cosine_above": 1.5}}, "cosine_above should be a whole number from 0 on, but is 1.5"),
        ({"objective": {"type": "eeca", "level_weights": "ab"}}, "level_weights should be a list of numbers, one a level, but is 'ab'"),
        ({"objective": {"type": "eeca", "text_targets": "/nope.safetensors"}}, "cannot read text_targets /nope.safetensors"),
        ({"objective": {"type": "eeca", "text_targets": __file__}}, "it is a safetensors file with a vector for each entity name"),
    ],
)
def test_a_dry_run_refuses_what_cannot_work(train, changes, message):
    code, said = train("--dry-run", **changes)
    assert code == 2
    assert message in said


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_where_no_row_can_train_the_first_reason_is_told(train, tmp_path, more):
    code, said = train(*more, max_length=8)
    assert code == 2
    assert "none of the 4 rows can be trained on (4 too_long); the first, row 0 of rows, is too_long: " in said
    assert ("says why of each" in said) == (not more)
    assert (tmp_path / "out" / "quarantine" / "data.jsonl").is_file() == (not more)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ({"type": "pool_mlp", "num_tokens": "many"}, "adapter 'pool_mlp': num_tokens should be a valid integer, but is 'many'"),
        ({"type": "mlp", "bias": 3}, "adapter 'mlp': bias should be a valid boolean or "),
    ],
)
def test_an_adapter_option_of_another_type_is_named(train, base, adapter, message):
    code, said = train("--dry-run", model={"from": str(base), "adapter": adapter})
    assert code == 2
    assert message in said
