"""What trains, at which rate: parts, name patterns, groups, the table, low-rank updates and their merge."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mm_align.losses import LmObjective
from mm_align.train import lora
from mm_align.train.lora import apply_lora, merge_lora
from mm_align.train.optim import parameter_groups, part_of, summary, train_only


def training(model: nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def run_once(model: nn.Module) -> torch.Tensor:
    ids = torch.arange(8)[None]
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


class Scale(LmObjective):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.vision_tower.encoder.layers.0.mlp.fc1.weight", "vision_tower"),
        ("model.more_towers.fine.blocks.0.attn.qkv.weight", "vision_tower"),
        ("model.more_towers.adapter.blocks.0.weight", "vision_tower"),  # the outermost piece decides
        ("model.adapter.linear_1.bias", "adapter"),
        ("model.language_model.layers.0.adapter.weight", "language_model"),
        ("model.language_model.layers.0.self_attn.q_proj.lora_A.default.weight", "language_model"),
        ("lm_head.weight", "language_model"),
        ("something.else", "other"),
    ],
)
def test_parts(name: str, part: str) -> None:
    assert part_of(name) == part


def test_patterns_name_parameters_or_the_modules_they_lie_in(make_model: Callable[..., Any]) -> None:
    model = make_model()
    train_only(model, ["adapter", "language_model.layers.1.*"])
    chosen = training(model)
    train_only(model, ["adapter", "language_model.layers.1"])
    assert training(model) == chosen
    assert {name.split(".")[1] for name in chosen} == {"adapter", "language_model"}
    assert all("layers.1." in name or "adapter" in name for name in chosen)
    train_only(model, ["language_model.*.bias"])
    assert training(model)
    assert all(name.endswith(".bias") and "language_model" in name for name in training(model))


def test_a_tied_head_trains_under_either_name(make_model: Callable[..., Any]) -> None:
    for pattern in ("lm_head.weight", "embed_tokens"):
        model = make_model()
        train_only(model, [pattern])
        assert training(model) == {"model.language_model.embed_tokens.weight"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("language_modle", r"near it: language_model"),
        ("language_model.layers.7.*", r"near it: model.language_model.layers"),
        ("zzz", r"fit \(model.vision_tower.embeddings"),
    ],
)
def test_a_pattern_without_a_parameter_is_refused(entry: str, message: str, make_model: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=f"unknown part {entry.replace('*', '.')}; a model has vision_tower.*{message}"):
        train_only(make_model(), [entry])


def test_rates_are_given_or_scaled(make_model: Callable[..., Any]) -> None:
    groups = parameter_groups(make_model(), Scale(), lr=0.1, weight_decay=0.0, lrs={"adapter": 0.02}, lr_scale={"vision_tower": 0.1})
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates == pytest.approx({"vision_tower": 0.01, "adapter": 0.02, "language_model": 0.1, "objective": 0.1})


def test_a_rate_and_a_scale_are_refused(make_model: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="adapter has a learning rate and a scale"):
        parameter_groups(make_model(), LmObjective(), lr=0.1, weight_decay=0.0, lrs={"adapter": 1}, lr_scale={"adapter": 1})
    with pytest.raises(ValueError, match="unknown part projector; a model has vision_tower"):
        parameter_groups(make_model(), LmObjective(), lr=0.1, weight_decay=0.0, lrs={"projector": 1})


def test_the_table(make_model: Callable[..., Any]) -> None:
    """The adapter of 4 x 32 -> 24 -> 32 with one bias; the tied head counts once, with the embeddings."""
    model, objective = make_model(), Scale()
    train_only(model, ["adapter"])
    table = summary(model, objective, parameter_groups(model, objective, lr=1e-3, weight_decay=0.1)).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in table}
    size = sum(p.numel() for p in model.parameters())
    adapter = sum(p.numel() for p in model.model.adapter.parameters())
    assert rows["part"] == ["parameters", "trainable", "lr", "weight", "decay"]
    assert rows["adapter"] == [f"{adapter:,}", f"{adapter:,}", "0.001", "0.1"]
    assert rows["language_model"] == [f"{sum(p.numel() for p in model.model.language_model.parameters()):,}", "0", "-", "-"]
    assert rows["objective"] == ["1", "1", "0.001", "0"]
    assert rows["total"] == [f"{size + 1:,}", f"{adapter + 1:,}"]
    assert len({len(line) for line in table[:-1]}) == 1  # columns stand under each other


def test_lora_trains_low_rank_updates_in_place_of_the_part(make_model: Callable[..., Any]) -> None:
    model = make_model()
    before = run_once(model)
    assert apply_lora(model, {"r": 2, "alpha": 4}) is model
    assert torch.equal(run_once(model), before)  # B starts at 0
    train_only(model, ["adapter", "language_model"])
    names = training(model)
    assert all("lora_" in name or "adapter" in name for name in names)
    assert sum("lora_A" in name for name in names) == 2 * 7  # seven linear layers of two blocks, not the head
    assert not any("vision_tower" in name for name in names)


def test_lora_merges_into_plain_layers(make_model: Callable[..., Any]) -> None:
    model = make_model()
    names = list(model.state_dict())
    apply_lora(model, {"r": 2, "alpha": 4, "targets": ["q_proj", "v_proj"]}, ["language_model", "vision_tower"])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    expected = run_once(model)
    merge_lora(model)
    assert list(model.state_dict()) == names
    assert torch.allclose(run_once(model), expected, atol=1e-5)
    assert not torch.allclose(run_once(make_model()), expected, atol=1e-2)


def test_lora_of_a_part_that_does_not_train_is_refused(make_model: Callable[..., Any]) -> None:
    model = apply_lora(make_model(), {"r": 2})
    with pytest.raises(ValueError, match="low-rank updates sit in language_model, which is not chosen"):
        train_only(model, ["adapter"])


@pytest.mark.parametrize(
    ("options", "parts", "message"),
    [
        ({"rank": 2}, ["language_model"], "LoRA has no option 'rank'; known: r, alpha, dropout, targets"),
        ({"targets": ["qkv"]}, ["language_model"], "no linear layer of language_model is called 'qkv'; there are down_proj, gate_proj"),
        ({}, ["tower"], "unknown part tower; a model has vision_tower"),
    ],
)
def test_wrong_lora_is_refused(options: dict[str, Any], parts: list[str], message: str, make_model: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=message):
        apply_lora(make_model(), options, parts)


def test_layers_that_read_past_an_update_get_none() -> None:
    """nn.MultiheadAttention multiplies by `out_proj.weight` itself: an update of that layer would do nothing."""
    tower = nn.ModuleDict({"vision_tower": nn.TransformerEncoderLayer(8, 2, 16)})
    assert set(lora._layers(tower, ["vision_tower"], None)) == {"vision_tower.linear1", "vision_tower.linear2"}


def test_without_peft_it_says_what_to_install(make_model: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"LoRA needs peft: pip install 'mm-align\[lora\]'"):
        apply_lora(make_model(), {"r": 2})
