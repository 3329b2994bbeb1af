"""The 3D properties of DPO on a toy (arXiv 2406.07327): the chosen answer falls with the rejected one, and what holds it up.

Four prompts, ten answers, an MLP that shares its weights among the prompts. Prompt i prefers answer i to answer 4 + i; both are likely
at the start, 0.42 each. Answers 8 and 9 belong to nobody. Every model of every setting is a slice of one batch of models.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch

from mm_align.losses.pair_terms import PAIR_TERMS

SEEDS, EPOCHS, BETA = 3, 500, 0.1
WARM, WARM_RATE = 400, 1e-2  # the steps are told; at 1e-3 the chosen answer peaks at 0.93 to 0.94 and falls to 0.39 to 0.67
PROMPTS = torch.arange(4)
dpo, flex = PAIR_TERMS["sigmoid"].loss, PAIR_TERMS["flex"].loss
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]  # chosen and rejected log-ratios, chosen log-probability
SETTINGS: dict[str, Loss] = {
    "dpo": lambda chosen, rejected, logp: dpo(chosen, rejected, BETA),
    "flex 0.05": lambda chosen, rejected, logp: flex(chosen, rejected, BETA, rejected_scale=0.5),
    "flex 0.02": lambda chosen, rejected, logp: flex(chosen, rejected, BETA, rejected_scale=0.2),
    "sft 0.1": lambda chosen, rejected, logp: dpo(chosen, rejected, BETA) - 0.1 * logp,
}


class Curves(NamedTuple):
    """Mean probability over prompts, [epochs, settings, seeds]."""

    chosen: torch.Tensor
    rejected: torch.Tensor


def layers() -> list[torch.nn.Parameter]:
    """Weights and biases of a 4-64-64-10 MLP for each seed, as torch.nn.Linear draws them."""
    models = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = [torch.nn.Linear(narrow, wide) for narrow, wide in ((4, 64), (64, 64), (64, 10))]
        models.append([part for layer in model for part in (layer.weight.detach().T, layer.bias.detach()[None])])
    return [torch.nn.Parameter(torch.stack(parts)) for parts in zip(*models, strict=True)]


def logps_of(parameters: list[torch.nn.Parameter]) -> torch.Tensor:
    """[models, prompts, answers]; the input is one-hot, so the first layer is its weight."""
    first, first_bias, second, second_bias, third, third_bias = parameters
    hidden = torch.relu(first + first_bias)
    return torch.baddbmm(third_bias, torch.relu(torch.baddbmm(second_bias, hidden, second)), third).log_softmax(-1)


def warm() -> list[torch.nn.Parameter]:
    wanted = torch.full((4, 10), 0.02)
    wanted[PROMPTS, PROMPTS] += 0.4
    wanted[PROMPTS, PROMPTS + 4] += 0.4
    parameters = layers()
    optimizer = torch.optim.Adam(parameters, lr=WARM_RATE)
    for _ in range(WARM):
        optimizer.zero_grad()
        (-(wanted * logps_of(parameters)).sum(-1).mean(-1).sum()).backward()
        optimizer.step()
    return parameters


def sides(logps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Chosen and rejected answers of each prompt, [models, 4]."""
    return logps[:, PROMPTS, PROMPTS], logps[:, PROMPTS, PROMPTS + 4]


@cache
def trained() -> Curves:
    started = [parameter.detach() for parameter in warm()]
    parameters = [torch.nn.Parameter(part.repeat(len(SETTINGS), 1, 1)) for part in started]
    with torch.no_grad():
        reference = sides(logps_of(parameters))
    optimizer, kept = torch.optim.Adam(parameters, lr=1e-3), []
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        chosen, rejected = sides(logps_of(parameters))
        ratios = torch.stack([chosen - reference[0], rejected - reference[1], chosen]).unflatten(1, (len(SETTINGS), SEEDS))
        losses = [loss(*ratios[:, i]) for i, loss in enumerate(SETTINGS.values())]
        torch.stack(losses).mean(-1).sum().backward()  # models share nothing: each gets the gradient of its own loss
        optimizer.step()
        kept.append(torch.stack([chosen, rejected]).detach().exp().mean(-1).unflatten(1, (len(SETTINGS), SEEDS)))
    chosen, rejected = torch.stack(kept, 1)
    return Curves(chosen, rejected)


def of(name: str, curve: torch.Tensor) -> torch.Tensor:
    return curve[:, list(SETTINGS).index(name)]


def test_the_chosen_answer_rises_then_falls_under_dpo() -> None:
    """Drastic drop of the rejected one, degradation of the chosen one, and the mass goes elsewhere."""
    chosen, rejected = of("dpo", trained().chosen), of("dpo", trained().rejected)
    assert (chosen[0] - 0.42).abs().max() < 0.02
    peak, end = chosen.max(0).values, chosen[-1]
    assert (peak > 0.95).all()
    assert ((peak - end) > 0.05).sum() >= 2
    assert (rejected[-1] < 1e-20).all()
    assert ((1 - end - rejected[-1]) > 0.05).sum() >= 2


def test_a_smaller_coefficient_and_imitation_hold_the_chosen_answer_up() -> None:
    plain = of("dpo", trained().chosen)[-1]
    for name in ("flex 0.05", "flex 0.02", "sft 0.1"):
        held = of(name, trained().chosen)[-1]
        assert (held > plain).all(), name
        assert (of(name, trained().rejected)[-1] < 1e-3).all(), name
    assert (of("sft 0.1", trained().chosen)[-1] > 0.99).all()
    assert of("flex 0.02", trained().chosen)[-1].mean() > of("flex 0.05", trained().chosen)[-1].mean()


def test_without_shared_weights_the_chosen_answer_only_rises() -> None:
    """Negative control: a table of logits. The two gradients are equal and opposite, and unseen answers get none."""
    logits = torch.full((1, 4, 10), 0.02).log()
    logits[0, PROMPTS, PROMPTS] = logits[0, PROMPTS, PROMPTS + 4] = torch.tensor(0.42).log()
    table = torch.nn.Parameter(logits)
    optimizer, kept = torch.optim.Adam([table], lr=1e-2), []
    reference = sides(table.detach().log_softmax(-1))
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        chosen, rejected = sides(table.log_softmax(-1))
        dpo(chosen - reference[0], rejected - reference[1], BETA).sum().backward()
        assert torch.allclose(table.grad[0, PROMPTS, PROMPTS], -table.grad[0, PROMPTS, PROMPTS + 4])
        assert table.grad[0, :, 8:].abs().max() < 1e-7
        optimizer.step()
        kept.append(chosen.detach().exp().mean())
    curve = torch.stack(kept)
    assert (curve.diff() > 0).all()
    assert curve[-1] > curve[0] + 0.3
