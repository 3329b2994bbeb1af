"""Models that `mmalign train` starts from and what of them trains: parts, loaded ones, LoRA, bfloat16, LLaVA."""

import json

import pytest
import torch
from train_runs import logged, parts, train, weights


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
