"""Loss and gradients of the same model and pairs by TRL, an oracle that is not a dependency."""

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mm_align.losses import PreferenceObjective
from mm_align.losses.answer_logps import answer_logps
from mm_align.losses.pair_terms import PAIR_TERMS

trl = pytest.importorskip("trl", reason="trl is not installed (it is an oracle only)")

ROWS = {
    "prompt": ["what is it? ", "how many are there? ", "and this? "],
    "chosen": ["a red ball", "two", "a green cone at the left"],
    "rejected": ["a blue cube", "twelve of them", "a"],
}
# our options, TRL's loss types and weights
LOSSES: dict[str, tuple[dict[str, Any], list[str], list[float]]] = {
    "sigmoid": ({"loss": "sigmoid"}, ["sigmoid"], [1.0]),
    "sigmoid, averaged": ({"loss": "sigmoid", "average": True}, ["sigmoid_norm"], [1.0]),
    "hinge": ({"loss": "hinge"}, ["hinge"], [1.0]),
    "ipo": ({"loss": "ipo"}, ["ipo"], [1.0]),
    "exo_pair": ({"loss": {"type": "exo_pair", "label_smoothing": 0.1}}, ["exo_pair"], [1.0]),
    "nca_pair": ({"loss": "nca_pair"}, ["nca_pair"], [1.0]),
    "robust": ({"loss": "robust"}, ["robust"], [1.0]),
    "bco_pair": ({"loss": "bco_pair"}, ["bco_pair"], [1.0]),
    "apo_zero": ({"loss": "apo_zero"}, ["apo_zero"], [1.0]),
    "apo_down": ({"loss": "apo_down"}, ["apo_down"], [1.0]),
    "a mixture": (
        {"loss": [{"type": "sigmoid", "weight": 0.8}, {"type": "bco_pair", "weight": 0.2}]},
        ["sigmoid", "bco_pair"],
        [0.8, 0.2],
    ),
}


def tiny_llama(tokenizer: Any, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes, **special))


@pytest.fixture(scope="module")
def trainer(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from datasets import Dataset

    folder = tmp_path_factory.mktemp("trl")
    args = trl.DPOConfig(
        output_dir=str(folder), per_device_train_batch_size=3, beta=0.3, bf16=False, gradient_checkpointing=False, report_to=[],
        label_smoothing=0.1, disable_dropout=False, use_cpu=True, loss_type=["sigmoid"],
    )  # fmt: skip
    return trl.DPOTrainer(
        tiny_llama(tokenizer, 0), ref_model=tiny_llama(tokenizer, 1), args=args, train_dataset=Dataset.from_dict(ROWS),
        processing_class=copy.deepcopy(tokenizer),
    )  # fmt: skip


def our_batch(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """TRL's rows (chosen ones, then rejected) with the places of the answers."""
    answers = [row.nonzero().squeeze(-1) for row in inputs["completion_mask"]]
    shape = (len(answers), max(map(len, answers)))
    ids, places, mask = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.bool)
    width = inputs["input_ids"].shape[1]
    for n, at in enumerate(answers):
        ids[n, : len(at)], places[n, : len(at)], mask[n, : len(at)] = inputs["input_ids"][n, at], n * width + at - 1, True
    kept = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    return kept | {"answer_ids": ids, "answer_places": places, "answer_mask": mask}


def twin(model: Any) -> Any:
    """The same weights without TRL's forward."""
    fresh = type(model)(model.config)
    fresh.load_state_dict(model.state_dict())
    return fresh


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients_are_those_of_trl(name: str, trainer: Any) -> None:
    options, trainer.loss_types, trainer.loss_weights = LOSSES[name]
    inputs = next(iter(trainer.get_train_dataloader()))
    trainer.model.zero_grad()
    theirs = trainer.compute_loss(trainer.model, inputs)
    theirs.backward()
    batch, ours = our_batch(inputs), twin(trainer.model)
    with torch.no_grad():
        batch["reference_logps"] = answer_logps(twin(trainer.ref_model), batch)
    found = PreferenceObjective.from_options({"beta": 0.3, **options}, None)(ours, batch)
    found.loss.backward()
    gradients = [(a.grad, b.grad) for a, b in zip(ours.parameters(), trainer.model.parameters(), strict=True)]
    norm = torch.stack([b.norm() for _, b in gradients]).norm()
    apart = torch.stack([(a - b).norm() for a, b in gradients]).norm() / norm
    assert found.loss.item() == pytest.approx(theirs.item(), rel=1e-6, abs=1e-6)
    assert norm > 0
    assert apart < 1e-5


@pytest.mark.parametrize("name", ["simpo", "orpo"])
def test_losses_without_reference_are_those_of_trl(name: str) -> None:
    """TRL's own functions, of mean log-probabilities."""
    scores = (-4 * torch.rand(2, 32, generator=torch.Generator().manual_seed(0))).requires_grad_()
    theirs = scores.detach().clone().requires_grad_()
    self = SimpleNamespace(beta=0.7, alpha=0.0, simpo_gamma=0.5, label_smoothing=0.0, accelerator=SimpleNamespace(device="cpu"))
    if name == "simpo":
        from trl.experimental.cpo import CPOTrainer

        found = PAIR_TERMS["simpo"].loss(*scores, 0.7, gamma=0.5)
        expected = CPOTrainer.cpo_loss(SimpleNamespace(**vars(self), loss_type="simpo"), *theirs)[0]
    else:
        from trl.experimental.orpo import ORPOTrainer

        found, expected = PAIR_TERMS["orpo"].loss(*scores, 0.7), -ORPOTrainer.odds_ratio_loss(self, *theirs)[0]
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(scores.grad, theirs.grad)
