"""The contract every adapter keeps, and the MLP by hand."""

from typing import Any

import pytest
import torch

from vision.adapters import ADAPTERS, Adapter, build_adapter
from vision.tokens import TokenFacts, VisualTokens

CASES: dict[str, dict[str, Any]] = {"mlp": {"type": "mlp", "hidden_size": 7}}
INPUTS = [TokenFacts(5, (2, 3))]


def tokens() -> VisualTokens:
    return VisualTokens.full(torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)), (2, 3))


def made(name: str) -> Adapter:
    torch.manual_seed(0)
    return build_adapter(CASES[name], INPUTS, 8)


def test_every_adapter_of_the_table_is_tried() -> None:
    assert set(CASES) == set(ADAPTERS)


@pytest.mark.parametrize("name", CASES)
class TestContract:
    def test_shapes_and_promised_count(self, name: str) -> None:
        out = made(name)(tokens())
        assert out.features.shape == (2, made(name).tokens_out(), 8)
        assert out.mask.all()

    def test_gradients_reach_every_parameter_and_the_input(self, name: str) -> None:
        adapter, given = made(name), tokens()
        given.features.requires_grad_()
        adapter(given).features.square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters())
        assert given.features.grad is not None

    def test_saved_and_loaded_gives_the_same(self, name: str) -> None:
        other = build_adapter(CASES[name], INPUTS, 8)
        other.load_state_dict(made(name).state_dict())
        assert torch.equal(other(tokens()).features, made(name)(tokens()).features)

    def test_pictures_do_not_mix(self, name: str) -> None:
        single = VisualTokens.full(tokens().features[:1], (2, 3))
        torch.testing.assert_close(made(name)(tokens()).features[:1], made(name)(single).features)


def test_mlp_by_hand() -> None:
    """One number: linear_1 2x + 1 = 3 at x = 1, relu keeps 3, linear_2 (no bias) gives 3 x 4 = 12."""
    adapter = build_adapter({"type": "mlp", "act": "relu"}, [TokenFacts(1, (1, 1))], 1)
    with torch.no_grad():
        for parameter, value in zip(adapter.parameters(), (2.0, 1.0, 4.0), strict=True):
            parameter.fill_(value)
    assert adapter(VisualTokens.full(torch.ones(1, 1, 1), (1, 1))).features.item() == 12


def test_aitqe_has_one_bias_and_exact_gelu() -> None:
    adapter = build_adapter({"type": "mlp"}, [TokenFacts(3, (2, 3))], 4)
    assert sorted(name for name, _ in adapter.named_parameters()) == ["linear_1.bias", "linear_1.weight", "linear_2.weight"]
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(adapter.act(x), torch.nn.functional.gelu(x, approximate="none"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "mpl"}, "did you mean 'mlp'"),
        ({}, "unknown adapter type 'None'"),
        ({"type": "mlp", "hiden_size": 3}, "did you mean 'hidden_size'"),
        ({"type": "mlp", "bias": [True]}, "two flags"),
        ({"type": "mlp", "act": "gelo"}, "unknown activation 'gelo'"),
    ],
)
def test_wrong_configs_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_adapter(config, [TokenFacts(3, (2, 3))], 4)


def test_another_number_of_branches_is_refused() -> None:
    with pytest.raises(ValueError, match="takes 1 branch of visual tokens, the model has 2"):
        build_adapter({"type": "mlp"}, [TokenFacts(3, (2, 3))] * 2, 4)
