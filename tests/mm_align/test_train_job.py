"""`mmalign train` through its door: what it writes, how it continues, what it refuses, with models of a few thousand parameters."""

import json
import os
import signal
import subprocess
import sys
import time

import PIL.Image
import pytest
import torch
import yaml

from mm_align.cli import main
from mm_align.config import config_root

COLORS = ("red", "green", "blue", "white")
TOWER = {
    "model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
    "num_attention_heads": 2, "image_size": 16, "patch_size": 4, "vision_use_head": False,
}  # fmt: skip
TEXT = {
    "model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "tie_word_embeddings": True,
}  # fmt: skip


@pytest.fixture(scope="session")
def base(tmp_path_factory, make_model, make_processor):
    """A folder with a model of this toolkit."""
    folder = tmp_path_factory.mktemp("base")
    make_model().save_pretrained(folder)
    make_processor().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """Sixteen pictures of one colour each with their captions; two rows more have no picture and no answer."""
    folder = tmp_path_factory.mktemp("rows")
    lines = []
    for i in range(16):
        PIL.Image.new("RGB", (20, 20), COLORS[i % 4]).save(folder / f"{i}.png")
        asked, said = {"from": "human", "value": "<image>\ncolor?"}, {"from": "gpt", "value": f"it is {COLORS[i % 4]}"}
        lines.append({"id": f"r{i}", "image": f"{i}.png", "conversations": [asked, said], "question": "color?", "answer": COLORS[i % 4]})
    lines.append({"id": "gone", "image": "nowhere.png", "conversations": lines[0]["conversations"]})
    lines.append({"id": "mute", "image": "0.png", "conversations": lines[0]["conversations"][:1]})
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "asked").mkdir()
    asked = [{key: line[key] for key in ("id", "question", "answer")} | {"image": f"../{line['image']}"} for line in lines[:4]]
    (folder / "asked" / "qa.jsonl").write_text("".join(json.dumps(line) + "\n" for line in asked))
    return folder


@pytest.fixture
def recipe(tmp_path, base, rows):
    """Writes a config of six steps, changed as asked, and returns its path."""

    def write(**changes):
        path = tmp_path / "recipe.yaml"
        plain = {
            "model": {"from": str(base)}, "data": [{"path": str(rows / "rows.jsonl")}], "train": ["adapter", "language_model"],
            "lr": 0.01, "batch_size": 4, "steps": 6, "save_steps": 2, "log_steps": 1, "max_length": 64, "device": "cpu",
        }  # fmt: skip
        path.write_text(yaml.safe_dump(plain | changes))
        return str(path)

    return write


def train(recipe, out, *more):
    return main(["train", recipe, "--out", str(out), *more])


def logged(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out):
    from safetensors.torch import load_file

    return load_file(out / "model" / "model.safetensors")


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all((one[name] == other[name]).all() for name in one)


# What comes out


def test_a_run_writes_what_it_promises_and_says_when_it_is_done(recipe, tmp_path, capsys):
    out = tmp_path / "out"
    assert train(recipe(), out) == 0
    told = capsys.readouterr().out
    assert "16 rows trained on, 2 quarantined (" in told
    assert "step 6: loss" in told
    losses = [entry["loss"] for entry in logged(out) if "loss" in entry]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["checkpoint-4", "checkpoint-6"]
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert yaml.safe_load((out / "config.yaml").read_text())["lr"] == 0.01
    reasons = [json.loads(line)["reason"] for line in (out / "quarantine" / "data.jsonl").read_text().splitlines()]
    assert sorted(reasons) == ["image_missing", "no_answer"]

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}
    assert train(str(out / "config.yaml"), out) == 0  # the written config is the same run
    again = capsys.readouterr()
    assert "already finished" in again.err
    assert again.out == told
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file() and path.name != "lock"}


def test_the_final_model_is_a_plain_folder(recipe, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import mm_align.models  # noqa: F401  makes the classes known

    assert train(recipe(steps=1), tmp_path / "out") == 0
    folder = tmp_path / "out" / "model"
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(text="<image>color?", images=PIL.Image.new("RGB", (20, 20), "red"), return_tensors="pt")
    assert model.generate(**inputs, max_new_tokens=2).shape[1] > inputs["input_ids"].shape[1]
    assert not list(folder.glob("*.bin")) + list(folder.glob("optimizer*")) + list(folder.glob("objective*"))


def test_another_configuration_is_refused_and_overwrite_starts_anew(recipe, tmp_path, capsys):
    assert train(recipe(steps=1), tmp_path / "out") == 0
    capsys.readouterr()
    assert train(recipe(steps=1, lr=0.02), tmp_path / "out") == 2
    assert "config.lr: was 0.01, now 0.02" in capsys.readouterr().err
    assert train(recipe(steps=1, lr=0.02), tmp_path / "out", "--overwrite") == 0
    assert yaml.safe_load((tmp_path / "out" / "config.yaml").read_text())["lr"] == 0.02


# Going on


def test_a_run_cut_short_ends_with_the_weights_of_an_undisturbed_one(recipe, tmp_path, monkeypatch):
    """The first start dies while checkpoint 4 is being written: it counts for nothing, and the second goes on from 2."""
    from mm_align.train import callbacks

    real = callbacks.mark_whole

    def die(checkpoint):
        if checkpoint.name == "checkpoint-4":
            raise SystemExit(9)
        real(checkpoint)

    assert train(recipe(), tmp_path / "whole") == 0
    monkeypatch.setattr(callbacks, "mark_whole", die)
    with pytest.raises(SystemExit):
        train(recipe(), tmp_path / "cut")
    assert len(logged(tmp_path / "cut")) == 4
    monkeypatch.setattr(callbacks, "mark_whole", real)
    assert train(recipe(), tmp_path / "cut") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    numbers = [[(e["step"], e["loss"]) for e in logged(tmp_path / out) if "loss" in e] for out in ("whole", "cut")]
    assert numbers[0] == numbers[1]


def test_a_stop_signal_leaves_a_checkpoint_and_exit_code_75(recipe, tmp_path, monkeypatch, capsys):
    from mm_align.train.callbacks import LogFile

    real = LogFile.on_log

    def stop_at_three(self, args, state, control, **kwargs):
        real(self, args, state, control, **kwargs)
        if state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LogFile, "on_log", stop_at_three)
    assert train(recipe(), tmp_path / "out") == 75
    assert "the same command continues" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model").exists()
    monkeypatch.setattr(LogFile, "on_log", real)
    assert train(recipe(), tmp_path / "out") == 0
    assert train(recipe(), tmp_path / "whole") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_run_killed_before_its_export_only_exports(recipe, tmp_path, monkeypatch):
    from mm_align.jobs.train import results as train_results

    monkeypatch.setattr(train_results, "export", lambda *a: (_ for _ in ()).throw(SystemExit(9)))
    with pytest.raises(SystemExit):
        train(recipe(), tmp_path / "out")
    monkeypatch.undo()
    steps = len(logged(tmp_path / "out"))
    assert train(recipe(), tmp_path / "out") == 0
    assert len(logged(tmp_path / "out")) == steps
    assert (tmp_path / "out" / "model" / "model.safetensors").is_file()


@pytest.mark.slow
def test_kill_9_and_the_same_command_again(recipe, tmp_path):
    """Killed at once when its log has so many lines; the weights are those of an undisturbed run."""
    path, log = recipe(steps=12), tmp_path / "out" / "log.jsonl"
    command = [sys.executable, "-m", "mm_align", "train", path, "--out", str(tmp_path / "out"), "--quiet"]
    for lines in (3, 8):
        process = subprocess.Popen(command)
        while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) >= lines):
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert subprocess.run(command, check=False).returncode == 0
    assert train(path, tmp_path / "whole") == 0
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


# Evaluations


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


# Models


def parts(base, **changes):
    return {"vision": TOWER, "text": TEXT, "tokenizer": str(base), "prompt_style": "plain"} | changes


def test_a_model_of_parts_gets_its_image_token(recipe, base, tmp_path):
    assert train(recipe(model=parts(base, image_token="<picture>", adapter={"type": "mlp"}), steps=1), tmp_path / "out") == 0
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["text_config"]["vocab_size"] == config["image_token_id"] + 1
    assert json.loads((tmp_path / "out" / "model" / "processor_config.json").read_text())["num_image_tokens"] == 16


def test_only_the_adapter_trains_in_a_loaded_model(recipe, base, tmp_path):
    from safetensors.torch import load_file

    assert train(recipe(train=["adapter"], steps=2), tmp_path / "out") == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    changed = {name for name in after if not (after[name] == before[name]).all()}
    assert changed
    assert all(".adapter." in name for name in changed)


def test_another_layer_keeps_the_adapter(recipe, base, tmp_path):
    """One step at a rate of 1e-9 moves nothing by 1e-6."""
    from safetensors.torch import load_file

    changed = recipe(model={"from": str(base), "feature_layer": -1}, train=["adapter"], steps=1, lr=1e-9)
    assert train(changed, tmp_path / "out") == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in after if ".adapter." in name)
    assert json.loads((tmp_path / "out" / "model" / "config.json").read_text())["feature_layer"] == -1


def test_low_rank_updates_are_merged_into_the_final_model(recipe, base, tmp_path):
    pytest.importorskip("peft")
    from safetensors.torch import load_file

    lora = {"r": 2, "alpha": 4, "dropout": 0.0}
    assert train(recipe(lora=lora, steps=2, gradient_checkpointing=True), tmp_path / "out") == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    assert before.keys() == after.keys()
    changed = {name for name in after if not (after[name] == before[name]).all()}
    assert any("q_proj" in name for name in changed)
    assert not any("vision_tower" in name or "embed_tokens" in name for name in changed)


def test_low_rank_updates_of_the_tower(recipe, base, tmp_path):
    pytest.importorskip("peft")
    from safetensors.torch import load_file

    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "parts": ["vision_tower"]}
    assert train(recipe(lora=lora, train=["vision_tower"], steps=2), tmp_path / "out") == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    changed = {name for name in after if not (after[name] == before[name]).all()}
    assert any("q_proj" in name for name in changed)
    assert all("vision_tower" in name for name in changed)


def test_bfloat16_halves_what_is_frozen_and_the_export(recipe, tmp_path):
    assert train(recipe(precision="bf16", train=["adapter"], steps=2), tmp_path / "out") == 0
    from safetensors.torch import load_file

    saved = load_file(tmp_path / "out" / "checkpoints" / "checkpoint-2" / "model.safetensors")
    assert {value.dtype for name, value in saved.items() if ".adapter." in name} == {torch.float32}
    assert {value.dtype for name, value in saved.items() if ".adapter." not in name} == {torch.bfloat16}
    assert {value.dtype for value in weights(tmp_path / "out").values()} == {torch.bfloat16}


def test_packs_and_entities_go_through_the_same_door(recipe, base, rows, tmp_path, capsys):
    """EECA with packed rows: two branches, heads that stay out of the model and are written beside it when asked."""
    lines = [json.loads(line) for line in (rows / "rows.jsonl").read_text().splitlines()[:8]]
    named = [
        line | {"image": str(rows / line["image"]), "entity": {"name": line["answer"], "levels": ["hue", line["answer"]]}} for line in lines
    ]
    (tmp_path / "named.jsonl").write_text("".join(json.dumps(line) + "\n" for line in named))
    eyes = {"from": str(base), "adapter": {"type": "eeca"}, "branches": [{}, {"crops": 2}]}
    changes = {"model": eyes, "data": [{"path": str(tmp_path / "named.jsonl")}], "objective": {"type": "eeca"}, "save_objective": True}
    assert train(recipe(**changes, packing=True, batch_size=2, steps=3), tmp_path / "out") == 0
    assert {"hierarchy_loss", "contrast_loss", "lm_loss"} <= logged(tmp_path / "out")[0].keys()
    assert (tmp_path / "out" / "objective.safetensors").is_file()
    assert not any("heads" in name for name in weights(tmp_path / "out"))


def test_training_starts_from_llava(recipe, tmp_path, processor, tokenizer):
    """A tiny LLaVA as transformers writes it; only the adapter trains, and the result is a model of this toolkit."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    vision = CLIPVisionConfig(**sizes, num_hidden_layers=3, image_size=16, patch_size=8)
    text = LlamaConfig(**sizes, num_hidden_layers=2, vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    image = tokenizer.convert_tokens_to_ids("<image>")
    torch.manual_seed(0)
    LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=image)).save_pretrained(
        tmp_path / "llava"
    )
    tokenizer.save_pretrained(tmp_path / "llava")
    pictures = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    (tmp_path / "llava" / "preprocessor_config.json").write_text(json.dumps(pictures))
    assert train(recipe(model={"from": str(tmp_path / "llava")}, train=["adapter"], steps=2, max_length=512), tmp_path / "out") == 0
    config = json.loads((tmp_path / "out" / "model" / "config.json").read_text())
    assert config["model_type"] == "mm_align_lvlm"
    assert config["vision_config"]["model_type"] == "clip_vision_model"


@pytest.mark.slow
def test_two_processes_train_and_answer_the_same(recipe, rows, tmp_path):
    """Over gloo: one process, two of data parallelism, two of FSDP2; gradients are sums over the same rows."""
    evaluated = {"eval_data": [{"path": str(rows / "rows.jsonl"), "limit": 4}], "eval_steps": 3, "show_answers": 1, "answer_tokens": 4}
    path = recipe(steps=3, optimizer="sgd", lr=0.1, **evaluated)
    assert train(path, tmp_path / "one") == 0
    for name, more in (("two", []), ("fsdp", ["--fsdp"])):
        command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "scripts/train.py", path, "--out", str(tmp_path / name), *more]
        assert subprocess.run([sys.executable, *command], check=False, cwd=config_root().parent).returncode == 0
        one, other = weights(tmp_path / "one"), weights(tmp_path / name)
        assert all((one[key] - other[key]).abs().max() < 1e-5 for key in one)
        assert (tmp_path / "one" / "samples.jsonl").read_text() == (tmp_path / name / "samples.jsonl").read_text()


def test_a_dry_run_shows_and_writes_nothing(recipe, tmp_path, capsys):
    assert train(recipe(), tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "+ 'it is " in told
    assert "<image> x 4" in told
    assert "6 steps of 4 rows (4 a forward x 1, one process): 1.50 epochs" in told
    assert not (tmp_path / "out").exists()


# Bad input


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
