"""EECA's losses by hand, their gradients, and two processes against one."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from safetensors.torch import load_file, save_file

from mm_align.losses import EecaObjective, LmObjective, ObjectiveSetup
from mm_align.losses.eeca import (
    AttentionPool,
    CosineHead,
    entity_contrast,
    hierarchical_accuracy,
    hierarchical_loss,
    labelled_pictures,
    name_ids,
    name_targets,
)
from mm_align.losses.entity_classes import EntityClasses

CLASSES = EntityClasses((("made", "natural"), ("cliff", "tower"), ("A", "B", "C")), ("A", "B", "C"))
TOKENS = [[1, 2], [3], [4, 5, 6]]


def objective(**options: Any) -> EecaObjective:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return EecaObjective(CLASSES, TOKENS, 32, **{"contrast_width": 8, **options})


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_pooling_by_hand():
    """LN of (1, 3) is (-1, 1), of (5, 1) is (1, -1). Query 0: their mean (0, 0); with the second masked (-1, 1).

    Query (q, 0) with q = sqrt(2)/2 ln 3 has scores -ln 3 / 2 and ln 3 / 2, so weights 1/4 and 3/4: p = (1/2, -1/2).
    """
    pool = AttentionPool(2)
    pool.norm.eps = 0.0
    tokens = torch.tensor([[[1.0, 3.0], [5.0, 1.0]]])
    both, one = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    torch.testing.assert_close(pool(tokens, both), torch.zeros(1, 2))
    torch.testing.assert_close(pool(tokens, one), torch.tensor([[-1.0, 1.0]]))
    with torch.no_grad():
        pool.query[0] = math.sqrt(2) / 2 * math.log(3)
    torch.testing.assert_close(pool(tokens, both), torch.tensor([[0.5, -0.5]]))


def test_padding_changes_nothing_and_gets_no_gradient():
    pool = AttentionPool(4)
    torch.nn.init.normal_(pool.query)
    tokens = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    pool(tokens, mask).square().sum().backward()
    torch.testing.assert_close(pool(tokens, mask)[1:], pool(tokens[1:, :3], mask[1:, :3]))
    assert not tokens.grad[1, 3:].any()
    assert tokens.grad[1, :3].any()
    assert pool.query.grad.any()


def test_hierarchical_loss_by_hand():
    """Level 0: p = (3/4, 1/4) for both rows, labels 0 and unknown: CE = ln 4/3, with smoothing 0.1 over 2 classes
    0.95 ln 4/3 + 0.05 ln 4. Level 1: three equal classes, labels 2 and 0: CE = ln 3, smoothed or not. w = 1/2 each."""
    logits = [torch.tensor([[math.log(3), 0.0]] * 2), torch.zeros(2, 3)]
    labels = torch.tensor([[0, 2], [-100, 0]])
    plain = (math.log(4 / 3) + math.log(3)) / 2
    smooth = (0.95 * math.log(4 / 3) + 0.05 * math.log(4) + math.log(3)) / 2
    assert hierarchical_loss(logits, labels, label_smoothing=0.0).item() == pytest.approx(plain)
    assert hierarchical_loss(logits, labels).item() == pytest.approx(smooth)
    assert hierarchical_loss(logits, labels, weights=[0, 2], label_smoothing=0.0).item() == pytest.approx(2 * math.log(3))


def test_a_level_that_nobody_knows_adds_nothing():
    logits = [torch.randn(2, 3, requires_grad=True), torch.zeros(2, 2)]
    loss = hierarchical_loss(logits, torch.tensor([[-100, 0], [-100, 1]]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2) / 2)
    assert not logits[0].grad.any()


def test_accuracy_by_hand():
    """Predictions: level 0 -> 0, 0, 0; level 1 -> 1, 1, 1. Row 0 right at both, row 1 right at the one it knows, row 2
    wrong at level 1: level accuracies 2/2 and 1/2, all known levels right in 2 of 3. Row 3 knows nothing."""
    logits = [torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.0, 1.0]] * 4)]
    found = hierarchical_accuracy(logits, torch.tensor([[0, 1], [0, -100], [-100, 0], [-100, -100]]))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(
        {"level_0_accuracy": 1.0, "level_1_accuracy": 0.5, "hierarchy_accuracy": 2 / 3}
    )
    assert hierarchical_accuracy(logits, torch.full((4, 2), -100)) == {}


def test_contrast_by_hand():
    """Entities 0, 0, 1. exp(scores) = [[2, 2, 1], [1, 1, 2], [1, 1, 2]].

    Pictures to targets: ln 5/2, ln 4, ln 2, mean ln 20 / 3. Targets to pictures: columns (2, 1, 1) twice, positives the
    first two rows: (ln 2 + ln 4) / 2 each; column (1, 2, 2): ln 5/2; mean (3 ln 2 + ln 5/2) / 3 = ln 20 / 3.
    The second picture's likeliest target is the third: 2 of 3 match.
    """
    pictures = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    found = entity_contrast(pictures, targets, torch.tensor([0, 0, 1]), torch.tensor(math.log(2)))
    assert found.loss.item() == pytest.approx(math.log(20) / 3)
    assert found.match.item() == pytest.approx(2 / 3)


def test_contrast_of_different_entities_is_the_ordinary_one():
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(5, 4, generator=draw), dim=-1) for _ in range(2))
    scores, own = 7 * a @ b.T, torch.arange(5)
    expected = (torch.nn.functional.cross_entropy(scores, own) + torch.nn.functional.cross_entropy(scores.T, own)) / 2
    torch.testing.assert_close(entity_contrast(a, b, torch.tensor([4, 2, 0, 9, 7]), torch.tensor(7.0)).loss, expected)


def test_gradients_are_those_of_finite_differences():
    draw = torch.Generator().manual_seed(0)
    pictures, targets, scores = (torch.randn(4, 3, generator=draw, dtype=torch.double, requires_grad=True) for _ in range(3))
    scale = torch.tensor(3.0, dtype=torch.double, requires_grad=True)
    entity, labels = torch.tensor([0, 1, 0, 2]), torch.tensor([[0], [-100], [2], [1]])
    assert torch.autograd.gradcheck(lambda p, t, s: entity_contrast(p, t, entity, s).loss, (pictures, targets, scale))
    assert torch.autograd.gradcheck(lambda s: hierarchical_loss([s], labels), (scores,), atol=1e-4)


def test_cosine_head_is_bounded():
    head = CosineHead(4, 3)
    rows = torch.cat([head.weight.detach()[:1] * 50, -head.weight.detach()[1:2]])
    assert head(rows)[0, 0].item() == pytest.approx(16)
    assert head(rows)[1, 1].item() == pytest.approx(-16)


def test_targets_of_names():
    """Rows (0, 0), (1, 1), (2, 2) ...: tokens 1, 2 have mean 1.5. A byte tokenizer's name starts with the space inside a sentence."""
    table = torch.arange(4.0).unsqueeze(1).expand(4, 2)
    assert name_targets(table, [[1, 2], [3]]).tolist() == [[1.5, 1.5], [3.0, 3.0]]
    assert name_ids(lambda text: list(text.encode()), "Ox") == list(b" Ox")
    words = {"the": [7], "the Ox": [8, 9], "Ox": [9]}  # this tokenizer writes "the" otherwise before a name
    assert name_ids(words.__getitem__, "Ox") == [9]


def test_a_picture_counts_once_with_the_labels_of_its_first_sample():
    """Blocks 0..4 show pictures 0, 1, 0, 2, 1. Sample 1 shares picture 0 with sample 0, sample 2 has no label at all,
    sample 3 knows a level only, sample 4 has no picture."""
    batch = {
        "entity": torch.tensor([2, 1, -100, -100, 0]),
        "entity_levels": torch.tensor([[0], [0], [-100], [1], [1]]),
        "entity_block": torch.tensor([0, 2, 3, 4, -1]),
        "picture_index": torch.tensor([0, 1, 0, 2, 1]),
    }
    samples, pictures = labelled_pictures(batch)
    assert (samples.tolist(), pictures.tolist()) == ([0, 3], [0, 1])
    del batch["picture_index"]
    assert labelled_pictures(batch)[1].tolist() == [0, 2, 4]


# -- the objective -----------------------------------------------------------------------------------------------------

ROWS = [[0, 1, 0], [1, 0, 2], [-100, -100, 1], [-100, -100, -100]]  # classes of samples 0 .. 3


@pytest.fixture
def batch(tiny_model: Any) -> dict[str, torch.Tensor]:
    """Four rows: a picture with all labels, a shared and a second picture, one without a label."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 250, (4, 12), generator=draw)
    ids[:, :4] = tiny_model.config.image_token_id
    labels = ids.clone()
    labels[:, :6] = -100
    pixels = torch.randn(4, 3, 16, 16, generator=draw)
    entity = torch.tensor([0, 2, 1, -100])
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "pixel_values": pixels,
        "entity": entity, "entity_levels": torch.tensor(ROWS), "entity_block": torch.arange(4),
    }  # fmt: skip


def test_total_is_the_weighted_sum_of_its_parts(tiny_model: Any, batch: dict[str, torch.Tensor]) -> None:
    model, eeca = tiny_model, objective(hierarchy_weight=0.3, contrast_weight=0.7)
    out = eeca(model, batch)
    lm = LmObjective()(model, {k: v for k, v in batch.items() if not k.startswith("entity")})
    tokens = model.visual_tokens(batch["pixel_values"][:3])
    pooled = eeca.pool(tokens.features, tokens.mask)
    hierarchy = hierarchical_loss([head(pooled) for head in eeca.heads], torch.tensor(ROWS[:3]))
    means = name_targets(model.get_input_embeddings().weight.detach(), TOKENS)
    own, theirs = eeca.picture_head(pooled), eeca.target_head((means - means.mean(0))[[0, 2, 1]])
    unit = torch.nn.functional.normalize
    contrast = entity_contrast(unit(own, dim=-1), unit(theirs, dim=-1), torch.arange(3), torch.tensor(1 / 0.07))
    torch.testing.assert_close(out.loss, lm.loss + 0.3 * hierarchy + 0.7 * contrast.loss)
    torch.testing.assert_close(out.metrics["hierarchy_loss"], hierarchy.detach())
    torch.testing.assert_close(out.metrics["contrast_loss"], contrast.loss.detach())
    assert set(out.metrics) == {
        "lm_loss", "token_accuracy", "hierarchy_loss", "level_0_accuracy", "level_1_accuracy", "level_2_accuracy",
        "hierarchy_accuracy", "contrast_loss", "entity_match",
    }  # fmt: skip
    assert eeca.units(batch) == 24


def test_gradients_reach_adapter_and_heads_but_not_the_words(make_model: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    """The two losses alone: labels of the language model are taken away."""
    model, eeca = make_model(), objective()
    batch["labels"] = torch.full_like(batch["labels"], -100)
    eeca(model, batch).loss.backward()
    assert model.model.adapter.linear_1.weight.grad.any()
    assert all(p.grad is not None and p.grad.any() for p in eeca.parameters())
    grads = [p.grad for p in model.model.language_model.parameters()]
    assert not any(g is not None and g.any() for g in grads)


@pytest.mark.parametrize("without", ["pictures", "entities", "heads"])
def test_rows_without_entity_carry_language_modelling_only(
    make_model: Callable[..., Any], batch: dict[str, torch.Tensor], without: str
) -> None:
    model, eeca = make_model(), objective(contrast_width=None if without == "heads" else 8)
    batch |= {"entity": torch.full((4,), -100), "entity_levels": torch.full((4, 3), -100)}
    if without == "pictures":
        batch |= {"input_ids": batch["input_ids"].clamp(max=255), "entity_block": torch.full((4,), -1)}
        del batch["pixel_values"]
    out = eeca(model, batch)
    lm = LmObjective()(model, {k: v for k, v in batch.items() if not k.startswith("entity")})
    assert torch.equal(out.loss, lm.loss)
    assert set(out.metrics) == {"lm_loss", "token_accuracy"}
    out.loss.backward()  # every parameter gets a gradient of 0: data parallelism waits for each
    assert all(p.grad is not None and not p.grad.any() for p in eeca.parameters())


def test_without_heads_tokens_meet_the_words_themselves(make_model: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    """No heads equals two heads that are the identity."""
    model, plain, fixed = make_model(), objective(contrast_width=None), objective(contrast_width=32)
    assert not [name for name, _ in plain.named_parameters() if "_head." in name]
    for head in (fixed.picture_head, fixed.target_head):
        torch.nn.init.eye_(head.weight)
    fixed.load_state_dict(plain.state_dict(), strict=False)
    torch.testing.assert_close(plain(model, batch).loss, fixed(model, batch).loss)
    with pytest.raises(ValueError, match="compares targets of width 5 with tokens of width 32"):
        objective(contrast_width=None, targets=torch.zeros(3, 5))


def test_weights_of_zero_leave_a_part_and_its_heads_out(tiny_model: Any, batch: dict[str, torch.Tensor]) -> None:
    assert not list(objective(hierarchy_weight=0, contrast_weight=0).parameters())
    assert not hasattr(objective(hierarchy_weight=0), "heads")
    metrics = objective(contrast_weight=0)(tiny_model, batch).metrics
    assert "hierarchy_loss" in metrics
    assert "contrast_loss" not in metrics
    plain = {k: v for k, v in batch.items() if not k.startswith("entity")}
    assert torch.equal(objective(hierarchy_weight=0, contrast_weight=0)(tiny_model, batch).loss, LmObjective()(tiny_model, plain).loss)


def test_many_classes_get_cosine_heads(tiny_model: Any, batch: dict[str, torch.Tensor]) -> None:
    eeca = objective(cosine_above=2)
    assert [type(head).__name__ for head in eeca.heads] == ["Linear", "Linear", "CosineHead"]
    eeca(tiny_model, batch).loss.backward()
    assert eeca.heads[2].weight.grad.any()
    tiny_model.zero_grad(set_to_none=True)


def test_the_scale_is_held_at_100(tiny_model: Any, batch: dict[str, torch.Tensor]) -> None:
    """At the clamp the learnable temperature has no gradient any more."""
    eeca = objective(temperature=0.001)
    eeca(tiny_model, batch).loss.backward()
    assert eeca.log_scale.grad == 0
    tiny_model.zero_grad(set_to_none=True)
    softer = objective(temperature=0.01)
    torch.testing.assert_close(eeca(tiny_model, batch).loss, softer(tiny_model, batch).loss)


def test_targets_are_taken_once_and_travel_with_the_state(make_model: Callable[..., Any], batch: dict[str, torch.Tensor]) -> None:
    model, eeca, again = make_model(), objective(), objective()
    first = eeca(model, batch).loss
    with torch.no_grad():
        model.get_input_embeddings().weight[1:7] += torch.randn(6, 32)
    again.load_state_dict(eeca.state_dict())
    assert torch.equal(again(model, batch).metrics["contrast_loss"], eeca(model, batch).metrics["contrast_loss"])
    assert torch.allclose(again.targets.mean(0), torch.zeros(32), atol=1e-6)
    assert again.targets_taken
    assert first.isfinite()


def test_what_does_not_fit_is_named(tiny_model: Any, batch: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="level_weights has 2 numbers for 3 levels"):
        objective(level_weights=[1, 1])
    with pytest.raises(ValueError, match=r"targets is \[3, width\]"):
        objective(targets=torch.zeros(2, 5))
    with pytest.raises(ValueError, match="3 entity names need their token ids"):
        EecaObjective(CLASSES, [[1], [2], []], 32)
    del batch["entity"]
    with pytest.raises(ValueError, match="the batch lacks entity: the collator must add"):
        objective()(tiny_model, batch)


class Foreign(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inner = model

    def forward(self, **inputs: Any) -> Any:
        out = self.inner(**inputs)
        out.visual_tokens = None
        return out


def test_a_model_that_shows_no_visual_tokens_is_named(tiny_model: Any, batch: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="its output has no `visual_tokens`"):
        objective()(Foreign(tiny_model), batch)


# -- options -----------------------------------------------------------------------------------------------------------


def setup() -> ObjectiveSetup:
    from data_tools.records import Sample

    samples = [Sample(name, meta={"entity": {"name": name, "levels": ["made", name]}}) for name in ("Velm", "Arro")]
    return ObjectiveSetup(lambda text: list(text.encode()), 32, lambda: samples)


def test_options_and_survey():
    eeca = EecaObjective.from_options({"hierarchy_weight": 0.5, "contrast_width": 6}, setup())
    assert eeca.classes == EntityClasses((("made",), ("Arro", "Velm")), ("Arro", "Velm"))
    assert eeca.token_ids == [list(b" Arro"), list(b" Velm")]
    assert eeca.hierarchy_weight == 0.5
    assert eeca.picture_head.weight.shape == (6, 32)
    with pytest.raises(TypeError, match="hierachy"):
        EecaObjective.from_options({"hierachy": 1}, setup())


def test_text_encoder_targets(tmp_path: Path):
    file = tmp_path / "targets.safetensors"
    save_file({"Velm": torch.tensor([3.0, 0.0]), "Arro": torch.tensor([1.0, 2.0]), "more": torch.zeros(2)}, file)
    eeca = EecaObjective.from_options({"text_targets": str(file)}, setup())
    assert eeca.targets.tolist() == [[-1.0, 1.0], [1.0, -1.0]]
    assert eeca.target_head.weight.shape == (512, 2)
    assert eeca.targets_taken
    save_file({"Velm": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match="lacks 1 of 2 entity names, 'Arro' for one"):
        EecaObjective.from_options({"text_targets": str(file)}, setup())


# -- two processes -----------------------------------------------------------------------------------------------------

SHARES = {"uneven": [slice(0, 3), slice(3, 4)], "even": [slice(0, 2), slice(2, 4)]}  # "uneven": the second has no label


def gradients(model: Any, eeca: EecaObjective) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(), *((f"objective.{name}", p) for name, p in eeca.named_parameters())]
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def work(rank: int, folder: str, model: Any, batch: dict[str, torch.Tensor]) -> None:
    """One process: its rows, its loss weighted by its units as the trainer does, gradients averaged as DDP does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name, shares in SHARES.items():
        eeca, rows = objective(), shares[rank]
        model.zero_grad(set_to_none=True)
        mine = {key: value[rows] for key, value in batch.items()} | {"entity_block": torch.arange(4)[: len(batch["entity"][rows])]}
        out = eeca(model, mine)
        (out.loss * eeca.units(mine) / eeca.units(batch) * 2).backward()
        found = gradients(model, eeca)
        for gradient in found.values():
            dist.all_reduce(gradient)
            gradient /= 2
        if rank == 0:
            metrics = {f"metric.{key}": out.metrics[key] for key in ("hierarchy_loss", "contrast_loss", "hierarchy_accuracy")}
            save_file(found | metrics, f"{folder}/{name}.safetensors")
    dist.destroy_process_group()


def test_two_processes_equal_one_with_the_whole_batch(
    make_model: Callable[..., Any], batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model, eeca = make_model(tie_word_embeddings=False), objective()
    batch["labels"][0, :9] = -100  # target tokens differ between processes
    multiprocessing.start_processes(work, (str(tmp_path), model, batch), nprocs=2, start_method="fork")
    model.zero_grad(set_to_none=True)
    out = eeca(model, batch)
    out.loss.backward()
    expected = gradients(model, eeca)
    for name in SHARES:
        found = load_file(tmp_path / f"{name}.safetensors")
        for key in ("hierarchy_loss", "contrast_loss", "hierarchy_accuracy"):
            torch.testing.assert_close(found.pop(f"metric.{key}"), out.metrics[key])
        assert set(found) == set(expected)
        for key, gradient in expected.items():
            torch.testing.assert_close(found[key], gradient, rtol=1e-5, atol=1e-7, msg=lambda text, key=key: f"{key}: {text}")
