"""The preference objective: the formula by hand, presets, what a batch must hold, metrics, options that are told."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mm_align.losses import PreferenceObjective, preference
from mm_align.losses.preference import difference_weights
from mm_align.losses.preference_presets import PRESETS

Batch = dict[str, torch.Tensor]


def objective(**options: Any) -> PreferenceObjective:
    return PreferenceObjective.from_options(options, None)  # type: ignore[arg-type] - no option looks at the run


def logsigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z))


LOGPS = [[-1.0, -2.0, 0.0], [-3.0, -1.0, -2.0], [-2.0, -2.0, -2.0], [-4.0, 0.0, 0.0]]  # two chosen answers, two rejected ones
REFERENCE = [[-1.5, -2.5, 0.0], [-2.0, -1.0, -1.0], [-1.0, -2.0, -1.0], [-3.0, 0.0, 0.0]]
LENGTHS = [2, 3, 3, 1]
BLIND = [[-2.0, -3.0, 0.0], [-3.0, -2.0, -2.0], [-2.0, -1.0, -2.0], [-4.0, 0.0, 0.0]]  # with the picture corrupted
# sums less the reference: chosen +1, -2; rejected -2, -1. blind: chosen -1, -3; rejected -1, -1
D = [1.0, -2.0, -2.0, -1.0]


@pytest.fixture
def batch() -> Batch:
    mask = torch.arange(3) < torch.tensor(LENGTHS)[:, None]
    ids = torch.tensor([[1, 2, 0], [1, 2, 3], [1, 5, 6], [9, 0, 0]])
    return {
        "answer_ids": ids,
        "answer_mask": mask,
        "reference_logps": torch.tensor(REFERENCE),
        "contrast_reference_logps": torch.tensor(REFERENCE),
        "margins": torch.tensor([math.log(2), 0.0]),
    }


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the numbers above, and keeps the gradient that they get."""
    logps = torch.tensor(LOGPS, requires_grad=True)
    blind = torch.tensor(BLIND, requires_grad=True)
    monkeypatch.setattr(preference, "answer_logps", lambda model, batch, *, contrast=False: blind if contrast else logps)
    module = torch.nn.Module()
    module.logps, module.blind = logps, blind  # type: ignore[assignment]
    return module


def test_rlaifv_by_hand(model: Any, batch: Batch) -> None:
    """beta 0.1, differences 1 + 2 = 3 and -2 + 1 = -1: L = -[ln sigma(0.3) + ln sigma(-0.1)] / 2. Each token of pair 1's chosen
    answer has the gradient -0.1 sigma(-0.3) / 2, of its rejected answer the opposite, padding none."""
    found = objective(preset="rlaifv")(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(0.3) + logsigmoid(-0.1)) / 2)
    found.loss.backward()
    push = 0.1 * torch.sigmoid(torch.tensor(-0.3)).item() / 2
    assert model.logps.grad[0].tolist() == pytest.approx([-push, -push, 0.0])
    assert model.logps.grad[2].tolist() == pytest.approx([push, push, push])
    assert objective(preset="rlaifv").units(batch) == 2


def test_metrics_by_hand(model: Any, batch: Batch) -> None:
    """Sums: chosen -3, -6, rejected -6, -4; means a token: -1.5, -2, -2, -4; drift: D; rewards 0.1 D: margins 0.3 and -0.1."""
    found = {name: value.item() for name, value in objective(preset="rlaifv")(model, batch).metrics.items()}
    assert found == pytest.approx(
        {
            "sigmoid_loss": -(logsigmoid(0.3) + logsigmoid(-0.1)) / 2,
            "chosen_logp": -4.5, "rejected_logp": -5.0,
            "chosen_logp_per_token": -1.75, "rejected_logp_per_token": -3.0,
            "chosen_drift": -0.5, "rejected_drift": -1.5,
            "chosen_length": 2.5, "rejected_length": 2.0,
            "reward_margin": 0.1, "reward_accuracy": 0.5,
        }
    )  # fmt: skip
    assert all(not value.requires_grad for value in objective(preset="mdpo")(model, batch).metrics.values())


def test_averages_by_hand(model: Any, batch: Batch) -> None:
    """D a token: 1/2 and -2/3 against -2/3 and -1."""
    found = objective(loss="sigmoid", beta=1.0, average=True)(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(1 / 2 + 2 / 3) + logsigmoid(-2 / 3 + 1)) / 2)
    assert objective(loss="ipo", beta=1.0)(model, batch).loss.item() == pytest.approx(((7 / 6 - 0.5) ** 2 + (1 / 3 - 0.5) ** 2) / 2)


def test_mdpo_by_hand(model: Any, batch: Batch) -> None:
    """The pair term, -ln sigma(0.1 (1 + 1)) and -ln sigma(0.1 (-2 + 3)) against the corrupted picture, -ln sigma(0.1 D_w)."""
    found = objective(preset="mdpo")(model, batch)
    pair = -(logsigmoid(0.3) + logsigmoid(-0.1)) / 2
    contrast = -(logsigmoid(0.2) + logsigmoid(0.1)) / 2
    anchor = -(logsigmoid(0.1) + logsigmoid(-0.2)) / 2
    assert found.loss.item() == pytest.approx(pair + contrast + anchor)
    told = {name: found.metrics[name].item() for name in ("contrast_loss", "anchor_loss", "contrast_margin", "margin_without_picture")}
    assert told == pytest.approx(
        {"contrast_loss": contrast, "anchor_loss": anchor, "contrast_margin": 0.15, "margin_without_picture": -0.1}
    )
    assert found.metrics["contrast_accuracy"] == 1
    found.loss.backward()
    assert model.blind.grad[:2].any()
    assert not model.blind.grad[2:].any()


def test_anchor_and_margin_by_hand(model: Any, batch: Batch) -> None:
    """D_w - anchor: 1 - 0.5, -2 - 0.5. Target margins 1 + 2 ln 2 and 1 off the differences 3 and -1."""
    found = objective(pair_weight=0.0, anchor_weight=2.0, anchor=0.5, beta=1.0)(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(0.5) + logsigmoid(-2.5)))
    found = objective(margin=1.0, margin_scale=2.0, beta=1.0)(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(3 - 1 - 2 * math.log(2)) + logsigmoid(-1 - 1)) / 2)


def test_mm_dpo_by_hand(model: Any, batch: Batch) -> None:
    """Margins ln 2 and 0, k = 1, w = 0.5: 1 - e^-ln2 = 1/2, so beta_1 = 0.1 (1 + 1/4) and beta_2 = 0.1. A very wrong margin of
    -ln 21 with w = 1 would give 0.1 (1 - 20) < 0: clamped to 1e-3."""
    found = objective(preset="mm_dpo", beta_rate=1.0)(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(0.125 * 3) + logsigmoid(-0.1)) / 2)
    assert found.metrics["beta"].item() == pytest.approx(0.1125)
    batch["margins"] = torch.tensor([-math.log(21), 0.0])
    found = objective(preset="mm_dpo", beta_rate=1.0, beta_growth=1.0)(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(0.003) + logsigmoid(-0.1)) / 2)


def test_mpo_by_hand(model: Any, batch: Batch) -> None:
    """0.8 sigmoid + 0.2 BCO + NLL a token. The shift is the mean of the rewards 0.1, -0.2, -0.2, -0.1: -0.1. NLL: 1.5 and 2."""
    found = objective(preset="mpo")(model, batch)
    pair = -(logsigmoid(0.3) + logsigmoid(-0.1)) / 2
    bco = -(logsigmoid(0.2) + logsigmoid(-0.1 + 0.2) + logsigmoid(-0.2 + 0.1) + logsigmoid(-0.1 + 0.1)) / 2
    assert found.loss.item() == pytest.approx(0.8 * pair + 0.2 * bco + 1.75, rel=1e-6)
    told = {name: found.metrics[name].item() for name in ("sigmoid_loss", "bco_pair_loss", "sft_loss")}
    assert told == pytest.approx({"sigmoid_loss": pair, "bco_pair_loss": bco, "sft_loss": 1.75})


def test_the_running_shift_moves_in_training_and_stays_in_checkpoints(model: Any, batch: Batch) -> None:
    mpo = objective(preset="mpo")
    with torch.no_grad():
        mpo(model, batch)
    assert mpo.shift.mean == 0
    mpo(model, batch)
    assert mpo.shift.mean.item() == pytest.approx(-0.1)
    again = objective(preset="mpo")
    again.load_state_dict(mpo.state_dict())
    assert torch.equal(again.shift.mean, mpo.shift.mean)


def test_ddpo_by_hand(model: Any, batch: Batch) -> None:
    """Given weights: pair 1's chosen (1, 5), rejected (1, 5, 5); pair 2's all 1. Averages: (0.5 + 2.5) / 6 = 1/2 and
    (-1 + 0 - 5) / 11; -2/3 and -1. beta 0.5."""
    batch["answer_weights"] = torch.tensor([[1.0, 5.0, 7.0], [1.0, 1.0, 1.0], [1.0, 5.0, 5.0], [1.0, 7.0, 7.0]])
    expected = -(logsigmoid(0.5 * (1 / 2 + 6 / 11)) + logsigmoid(0.5 * (-2 / 3 + 1))) / 2
    assert objective(preset="ddpo")(model, batch).loss.item() == pytest.approx(expected)


def test_without_given_weights_they_come_from_the_ids(model: Any, batch: Batch) -> None:
    """Pair 1: 1 2 against 1 5 6, so 2 and 5 6 are replaced. Pair 2: 1 2 3 against 9, all replaced."""
    expected = torch.tensor([[1.0, 5.0, 0.0], [5.0, 5.0, 5.0], [1.0, 5.0, 5.0], [5.0, 0.0, 0.0]])
    assert torch.equal(difference_weights(batch["answer_ids"], batch["answer_mask"], 5.0), expected)
    made = objective(preset="ddpo")(model, batch).loss
    assert torch.equal(made, objective(preset="ddpo")(model, batch | {"answer_weights": expected}).loss)
    assert not torch.equal(made, objective(preset="ddpo", token_weight=1.0)(model, batch).loss)


def test_simpo_and_orpo_need_no_reference(model: Any, batch: Batch) -> None:
    """SimPO: means -1.5 and -2, -2 and -4, beta 2, gamma 1. ORPO: the same means, NLL 1.75 beside."""
    for key in ("reference_logps", "contrast_reference_logps", "margins"):
        del batch[key]
    found = objective(preset="simpo")(model, batch)
    assert found.loss.item() == pytest.approx(-(logsigmoid(2 * 0.5 - 1) + logsigmoid(2 * 2 - 1)) / 2)
    assert "chosen_drift" not in found.metrics
    odds = [math.log(math.exp(m) / (1 - math.exp(m))) for m in (-1.5, -2.0, -2.0, -4.0)]
    found = objective(preset="orpo")(model, batch)
    expected = 1.75 - 0.1 * (logsigmoid(odds[0] - odds[2]) + logsigmoid(odds[1] - odds[3])) / 2
    assert found.loss.item() == pytest.approx(expected)


def test_imitation_is_a_sum_or_a_mean(model: Any, batch: Batch) -> None:
    """-log pi of the chosen answers: 3 and 6, a token 1.5 and 2. Token weights play no part."""
    alone: dict[str, Any] = {"pair_weight": 0.0, "sft_weight": 0.5, "token_weight": 3.0}
    assert objective(**alone, sft_average=False)(model, batch).loss.item() == pytest.approx(0.5 * 4.5)
    assert objective(**alone)(model, batch).loss.item() == pytest.approx(0.5 * 1.75)


def test_flex_with_equal_coefficients_is_dpo_bit_for_bit(model: Any, batch: Batch) -> None:
    flex = objective(preset="flex_dpo", loss={"type": "flex", "rejected_scale": 1.0})(model, batch)
    assert torch.equal(flex.loss, objective(preset="dpo")(model, batch).loss)


def test_a_large_imitation_weight_approaches_imitation(model: Any, batch: Batch) -> None:
    """The direction of the gradient, as lambda grows."""

    def gradient(**options: Any) -> torch.Tensor:
        model.logps.grad = None
        objective(**options)(model, batch).loss.backward()
        return torch.nn.functional.normalize(model.logps.grad.flatten(), dim=0)

    imitation = gradient(pair_weight=0.0, sft_weight=1.0)
    near = [torch.dot(gradient(sft_weight=weight), imitation).item() for weight in (0.01, 0.1, 10.0)]
    assert near == sorted(near)
    assert near[-1] > 0.9999


# -- presets and options -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_trains_and_has_its_line_in_the_docs(name: str, model: Any, batch: Batch) -> None:
    found = objective(preset=name)(model, batch)
    found.loss.backward()
    assert found.loss.isfinite()
    assert model.logps.grad[:2].any()
    docs = (Path(__file__).parents[3] / "docs" / "methods.md").read_text(encoding="utf-8")
    assert f"`{name}`" in docs


def test_options_go_over_the_preset() -> None:
    mixed = objective(preset="mdpo", beta=0.3, anchor_weight=0.0)
    assert (mixed.beta, mixed.anchor_weight, mixed.contrast_weight) == (0.3, 0.0, 1.0)
    assert objective(loss="simpo").beta == 2.0
    assert objective(loss="simpo", beta=1).beta == 1.0


def test_what_the_collator_must_supply() -> None:
    def needs(**options: Any) -> tuple[Any, ...]:
        found = objective(**options)
        return found.needs_reference, found.needs_contrast, found.token_weights

    assert objective().records == "pairs"
    assert needs() == (True, False, None)
    assert needs(preset="mdpo") == (True, True, None)
    assert needs(preset="ddpo") == (True, False, 5.0)
    assert needs(preset="simpo") == (False, False, None)
    assert needs(loss="simpo", anchor_weight=1.0)[0]
    assert needs(loss=[{"type": "simpo"}, {"type": "sigmoid", "weight": 0.5}])[0]


WRONG = {
    "unknown preset 'mddpo'; did you mean 'mdpo'?": {"preset": "mddpo"},
    "unknown loss 'sigmod'; did you mean 'sigmoid'?": {"loss": "sigmod"},
    "loss simpo has no option 'gama'; did you mean 'gamma'?": {"loss": {"type": "simpo", "gama": 1}},
    "loss sigmoid has no option 'gamma'; known: none": {"loss": {"type": "sigmoid", "gamma": 1}},
    "no option 'betta'; did you mean 'beta'?": {"betta": 1.0},
    "no option 'presset'; did you mean 'preset'?": {"presset": "dpo"},
    "options: beta should be a valid number, but is 'much'": {"beta": "much"},
    "beta should be above 0, but is -0.1": {"beta": -0.1},
    "beta should be above 0, but is nan": {"beta": math.nan},
    "sft_weight should be 0 or more, but is -1": {"sft_weight": -1.0},
    "gamma of loss simpo should be a number, but is '1'": {"loss": {"type": "simpo", "gamma": "1"}},
    "label_smoothing should be from 0 and less than 0.5, but is 0.7": {"loss": {"type": "robust", "label_smoothing": 0.7}},
    "loss nca_pair has no place for a target margin": {"loss": "nca_pair", "margin": 1.0},
    "all weights are 0, so nothing would train": {"pair_weight": 0.0},
    "running_shift is that of bco_pair, which the loss does not have": {"running_shift": True},
    "loss is an empty list": {"loss": []},
}


@pytest.mark.parametrize("sentence", WRONG)
def test_wrong_options_are_told(sentence: str) -> None:
    with pytest.raises(ValueError) as error:
        objective(**WRONG[sentence])
    assert sentence in str(error.value)


LACKING = {
    "reference_logps": {"preset": "dpo"},
    "contrast_reference_logps": {"preset": "mdpo"},
    "margins": {"preset": "mm_dpo"},
}


@pytest.mark.parametrize("key", LACKING)
def test_what_a_batch_lacks_is_named(key: str, model: Any, batch: Batch) -> None:
    del batch[key]
    with pytest.raises(ValueError, match=f"the batch lacks {key}"):
        objective(**LACKING[key])(model, batch)


# -- a whole model -----------------------------------------------------------------------------------------------------


def test_gradients_of_a_whole_model_are_those_of_the_plain_formula(make_model: Callable[..., Any], pair_batch: Batch) -> None:
    """Against log-probabilities from full logits, row by row."""
    one, two = make_model(), make_model()
    pair_batch["reference_logps"] = torch.where(pair_batch["answer_mask"], -5.0, 0.0)
    found = objective(preset="rlaifv", sft_weight=0.1)(one, pair_batch)
    inputs = {key: pair_batch[key] for key in ("input_ids", "attention_mask", "pixel_values", "picture_index") if key in pair_batch}
    logits = two(**inputs).logits.log_softmax(-1).flatten(0, 1)
    logps = logits[pair_batch["answer_places"]].gather(-1, pair_batch["answer_ids"][..., None]).squeeze(-1) * pair_batch["answer_mask"]
    chosen, rejected = (logps - pair_batch["reference_logps"]).sum(-1).chunk(2)
    imitation = -logps.sum(-1).chunk(2)[0]
    expected = -torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)).mean() + 0.1 * imitation.mean()
    torch.testing.assert_close(found.loss, expected)
    found.loss.backward()
    expected.backward()
    for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None), name
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, msg=name)
