"""What `mmalign train` refuses in a sentence: configs, models, machines; batches that cannot be shared."""

import json

import pytest
import torch
from train_runs import train

from mm_align.cli import main


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lerning_rate": 1}, "unknown key 'lerning_rate'"),
        ({"model": {"fro": "x"}}, "unknown key 'model.fro'; did you mean 'from'?"),
        ({"model": {}}, "give `from`, or both `vision` and `text`"),
        ({"data": [{"paht": "x"}]}, "unknown key 'data.0.paht'; did you mean 'path'?"),
        ({"data": [{"path": "/nowhere/rows.jsonl"}]}, "/nowhere/rows.jsonl"),
        ({"schedule": {"type": "cosinus"}}, "cosine, linear, constant, wsd"),
        ({"batch_size": 6, "micro_batch": 4}, "batch_size 6 is no multiple of micro_batch 4"),
        ({"max_length": 8}, "none of the 18 rows can be trained on (16 too_long"),
        ({"objective": {"type": "eecca"}}, "unknown objective type 'eecca'; did you mean 'eeca'?"),
        ({"objective": {"type": "eeca"}}, "no training sample carries an entity"),
        ({"objective": {"type": "lm", "smoothing": 1}}, "objective lm has no option 'smoothing'; known: none"),
        ({"train": ["adaptor"]}, "unknown part adaptor"),
        ({"lrs": {"adaptor": 1.0}}, "unknown part adaptor"),
        ({"lora": {"r": 2, "targets": ["query"]}}, "is called 'query'; there are"),
        ({"lora": {"r": 2, "parts": ["vision_tower"]}, "train": ["adapter"]}, "the vision_tower, which `train` does not list"),
        ({"select_by": "qa/accuracy"}, "give eval_data or eval_suites"),
        ({"eval_suites": [{"type": "qaa"}]}, "unknown benchmark 'qaa'; did you mean 'qa'?"),
        ({"report_to": ["trackio"]}, "trackio, which is not installed"),
    ],
)
def test_bad_configs_are_refused_in_a_sentence(recipe, tmp_path, capsys, changes, message):
    assert train(recipe(**changes), tmp_path / "out") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "message"), [(FloatingPointError, "the loss of step 1"), (torch.OutOfMemoryError, "memory ran out (the loss of step 1")]
)
def test_failures_of_the_machine_are_told_in_a_sentence(recipe, tmp_path, capsys, monkeypatch, error, message):
    from mm_align.train import ObjectiveTrainer

    def fail(*args, **kwargs):
        raise error("the loss of step 1")

    monkeypatch.setattr(ObjectiveTrainer, "training_step", fail)
    assert train(recipe(), tmp_path / "out") == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adapter": {"type": "mpl"}}, "unknown adapter type 'mpl'; did you mean 'mlp'?"),
        ({"adapter": {"type": "mlp", "hiden_size": 3}}, "did you mean 'hidden_size'?"),
        ({"adapter": {"type": "eeca"}}, "branches of visual tokens, the model has 1; set `branches`"),
        ({"feature_layer": -9}, "feature layer -9 does not exist"),
        ({"branches": [{}, {"layer": -1}]}, "adapter 'mlp' takes 1 branch of visual tokens, the model has 2"),
        ({"chat_template": "vicunia"}, "no chat template 'vicunia'"),
        ({"from": "somewhere/on/my/disk"}, "no folder somewhere/on/my/disk"),
        ({"from": "tiny-aitq"}, "did you mean 'tiny-aitqe'?"),
    ],
)
def test_models_that_cannot_be_made_are_refused(recipe, base, tmp_path, capsys, changes, message):
    assert train(recipe(model={"from": str(base)} | changes), tmp_path / "out") == 2
    assert message in capsys.readouterr().err


def test_a_checkpoint_of_another_architecture_is_refused(recipe, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "gemma"}')
    assert train(recipe(model={"from": str(tmp_path / "other")}), tmp_path / "out") == 2
    assert "holds a gemma" in capsys.readouterr().err


def test_list_and_schema(capsys):
    assert main(["train", "--list"]) == 0
    assert "pretrain/tiny" in capsys.readouterr().out.split()
    assert main(["train", "--schema"]) == 0
    assert "weight_decay" in json.loads(capsys.readouterr().out)["properties"]


def test_batches_are_shared_evenly():
    """128 over 8 processes is 16 each: 2 forwards of 8; over 3 processes it is nothing whole."""
    from mm_align.config import UserError
    from mm_align.jobs.train.arguments import batches

    assert batches(128, None, 8) == (8, 2)
    assert batches(12, None, 1) == (6, 2)
    assert batches(7, None, 1) == (7, 1)
    assert batches(128, 4, 2) == (4, 16)
    with pytest.raises(UserError, match="cannot be shared evenly by 3 processes; choose a multiple of 3"):
        batches(128, None, 3)
