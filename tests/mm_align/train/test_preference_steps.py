"""Preference training step by step: a plain loop of sixty lines and the trainer move the weights alike; resume; LoRA."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from data_tools.records import PreferencePair
from mm_align.train.lora import apply_lora
from mm_align.train.optim import train_only

BETA, LR = 0.1, 0.02


# -- the plain loop ----------------------------------------------------------------------------------------------------


def answer_logp(model: Any, processor: Any, pair: PreferencePair, text: str) -> torch.Tensor:
    """Sum of the log-probabilities of an answer's tokens, from all logits of its own conversation."""
    from mm_align.models.pairs import answered

    encoded = processor.encode_for_training(answered(pair.sample, text))
    ids, trains = torch.tensor([encoded.ids]), torch.tensor(encoded.trains)
    inputs = {"input_ids": ids}
    if pair.sample.images:
        from data_tools.io.images import decode

        pixels = processor.image_processor.pixels([decode(image).pixels for image in pair.sample.images])
        inputs["pixel_values"] = torch.from_numpy(pixels).to(model.dtype)
    scores = model(**inputs, use_cache=False).logits[0, :-1].log_softmax(-1)
    return scores.gather(-1, ids[0, 1:, None])[:, 0][trains[1:]].sum()


def dpo_loss(model: Any, reference: Any, processor: Any, pairs: Sequence[PreferencePair]) -> torch.Tensor:
    """The mean over pairs of -log s(beta [(s_w - s_w_ref) - (s_l - s_l_ref)])."""
    losses = []
    for pair in pairs:
        ratios = []
        for text in (pair.chosen, pair.rejected):
            with torch.no_grad():
                expected = answer_logp(reference, processor, pair, text)
            ratios.append(answer_logp(model, processor, pair, text) - expected)
        losses.append(-F.logsigmoid(BETA * (ratios[0] - ratios[1])))
    return torch.stack(losses).mean()


def plain_loop(model: Any, processor: Any, batches: Sequence[Sequence[PreferencePair]]) -> list[float]:
    """One step of SGD a batch, gradients clipped to a norm of 1; the losses."""
    reference = copy.deepcopy(model).eval()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, LR)
    losses = []
    for pairs in batches:
        loss = dpo_loss(model, reference, processor, pairs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


# -- the trainer -------------------------------------------------------------------------------------------------------


@pytest.fixture
def trained(tiny: Any, tmp_path: Path) -> Any:
    """(model, trainer after its steps) of the tiny pairs, plain DPO; `layout` of the rows; `resume` from a checkpoint."""
    from mm_align.losses.preference import PreferenceObjective

    data, collator, _ = tiny.preference(tmp_path / "data")
    collator.corruption = None
    data.references = {"reference": data.references["reference"]}

    def run(name: str, layout: str = "shared", resume: str | None = None, model: Any = None, **options: Any) -> Any:
        collator.layout = layout
        settings = {"max_steps": 4, "learning_rate": LR, "max_grad_norm": 1.0, "per_device_train_batch_size": 4}
        settings |= {"train_sampling_strategy": "sequential"} | options
        objective = PreferenceObjective(beta=BETA)
        trainer = tiny.make(tmp_path / name, objective=objective, data=data, collator=collator, model=model, **settings)
        trainer.train(str(tmp_path / name / resume) if resume else None)
        return trainer

    run.data, run.processor = data, collator.processor
    return run


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def records(data: Any) -> list[PreferencePair]:
    from data_tools.preference import read_pairs

    return list(read_pairs(data.sources[0].path))


@pytest.mark.parametrize("layout", ["shared", "duplicated"])
def test_the_trainer_takes_the_plain_loops_steps(layout: str, trained: Any, tiny: Any) -> None:
    """To 1e-6 of the weights and 2e-5 of the losses: rows are arranged otherwise, so float32 sums run in another order."""
    trainer = trained("run", layout)
    model, pairs = tiny.make_model(), records(trained.data)
    expected = plain_loop(model, trained.processor, [pairs[i : i + 4] for i in range(0, 16, 4)])
    assert losses(trainer) == pytest.approx(expected, abs=2e-5)
    assert expected[0] == pytest.approx(0.693147, abs=1e-6)
    assert abs(expected[-1] - expected[0]) > 0.01
    for (name, got), wanted in zip(trainer.model.named_parameters(), model.parameters(), strict=True):
        assert torch.allclose(got, wanted, atol=1e-6), name


def test_accumulated_micro_batches_are_one_batch(trained: Any) -> None:
    whole = trained("whole")
    parts = trained("parts", per_device_train_batch_size=1, gradient_accumulation_steps=4)
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)


def test_a_resumed_run_is_the_undisturbed_one(trained: Any) -> None:
    options = {"optim": "adamw_torch", "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 2}
    whole = trained("run", **options)
    again = trained("run", resume="checkpoint-2", **options)
    assert losses(again) == losses(whole)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_low_rank_updates_start_at_the_reference_and_alone_move(trained: Any, tiny: Any) -> None:
    model = tiny.make_model()
    apply_lora(model, {"r": 2, "alpha": 4, "dropout": 0.0})
    train_only(model, ["language_model"])
    before = {name: p.clone() for name, p in model.named_parameters()}
    trainer = trained("lora", model=model)
    assert losses(trainer)[0] == pytest.approx(0.693147, abs=1e-5)
    assert losses(trainer)[-1] != losses(trainer)[0]
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)


def test_gradient_checkpointing_changes_nothing(trained: Any, tiny: Any) -> None:
    plain = trained("plain")
    saving = trained("saving", gradient_checkpointing=True)
    assert losses(saving) == pytest.approx(losses(plain), abs=1e-6)
