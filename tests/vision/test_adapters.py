"""The contract every adapter keeps, the MLP by hand, and what is refused."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch

from vision.adapters import ADAPTERS, Adapter, StartsItself, build_adapter
from vision.tokens import TokenFacts, VisualTokens

ONE = [TokenFacts(6, (4, 4))]
LOW_HIGH = [TokenFacts(6, (2, 4)), TokenFacts(5, (4, 8))]
WITH_CLASS_TOKEN = [TokenFacts(6, (2, 3), prefix=1)]


class Case(NamedTuple):
    """A config and what its branches give. no_gradient: parameters that the equation itself makes ineffective."""

    config: dict[str, Any]
    inputs: Sequence[TokenFacts] = ONE
    no_gradient: str = "nothing"


# A softmax over keys does not see what is added to every key alike.
KEY_BIAS = r"attention\.key\.\d\.bias"
BERT_KEY_BIAS = r"qformer\.encoder\.layer\.\d\.(cross)?attention\.attention\.key\.bias"

CASES: dict[str, Case] = {
    "c_abstractor": Case({"num_tokens": 4, "hidden_size": 8, "depth": 1}),
    "c_abstractor, ends": Case(
        {"type": "c_abstractor", "num_tokens": 9, "hidden_size": 8, "depth": 2, "mlp_depth": 3, "prenorm": True, "end_tokens": 2}
    ),
    "channel_concat": Case({}, LOW_HIGH),
    "channel_concat, three": Case({"type": "channel_concat", "num_tokens": 9, "hidden_size": 7}, [*LOW_HIGH, *ONE]),
    "eeca": Case({"hidden_size": 7}, LOW_HIGH, KEY_BIAS),
    "eeca, queries": Case({"type": "eeca", "entity_queries": 3}, LOW_HIGH, KEY_BIAS),
    "interleaved_mof": Case({"hidden_size": 7}, [TokenFacts(6, (2, 4)), TokenFacts(5, (2, 4))]),
    "linear": Case({}, WITH_CLASS_TOKEN),
    "mlp": Case({"hidden_size": 7}),
    "mlp, three layers": Case({"type": "mlp", "depth": 3, "bias": True}, WITH_CLASS_TOKEN),
    "opt_visor": Case({"kernel": 3}),
    "opt_visor, after": Case({"type": "opt_visor", "kernel": 3, "after": True, "edges": "zeros"}),
    "pixel_shuffle": Case({}),
    "pixel_shuffle, transposed": Case({"type": "pixel_shuffle", "form": "internvl_v1"}, LOW_HIGH[1:]),
    "pixel_shuffle, one layer": Case({"type": "pixel_shuffle", "form": "smolvlm"}, LOW_HIGH[1:]),
    "pool_mlp": Case({"num_tokens": 9, "hidden_size": 7}),
    "qformer": Case({"num_tokens": 3, "width": 8, "layers": 2, "heads": 2, "dropout": 0.0}, WITH_CLASS_TOKEN, BERT_KEY_BIAS),
    "resampler": Case({"num_tokens": 3, "depth": 2, "heads": 2, "head_width": 4}, WITH_CLASS_TOKEN),
    "sva": Case({"num_tokens": 4, "width": 8, "depth": 2, "heads": 2}, [TokenFacts(6, (2, 2)), TokenFacts(5, (4, 6))]),
    "window_attention": Case({"hidden_size": 7}, LOW_HIGH, KEY_BIAS),
}


def given(name: str, seed: int = 0) -> list[VisualTokens]:
    made = torch.Generator().manual_seed(seed)
    return [VisualTokens.full(torch.randn(2, i.total, i.width, generator=made), i.grid, prefix=i.prefix) for i in CASES[name].inputs]


def build(name: str, seed: int = 0) -> Adapter:
    torch.manual_seed(seed)
    return build_adapter({"type": name} | CASES[name].config, CASES[name].inputs, 8)


def stepped(name: str) -> Adapter:
    """After one step, so that weights which begin at zero are no longer zero."""
    adapter = build(name)
    adapter(*given(name)).features.pow(2).mul(torch.linspace(-1, 1, 8)).sum().backward()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter -= 0.05 * torch.nan_to_num(parameter.grad / parameter.grad.norm())
            parameter.grad = None
    return adapter


def test_every_adapter_of_the_table_is_tried() -> None:
    assert {CASES[name].config.get("type", name) for name in CASES} == set(ADAPTERS)


@pytest.mark.parametrize("name", CASES)
class TestContract:
    def test_shapes_and_promised_count(self, name: str) -> None:
        adapter = build(name)
        out = adapter(*given(name))
        assert out.features.shape == (2, adapter.tokens_out(), 8)
        assert out.mask.all()

    def test_gradients_reach_every_parameter_and_every_input(self, name: str) -> None:
        adapter, tokens = stepped(name), given(name)
        for branch in tokens:
            branch.features.requires_grad_()
        adapter(*tokens).features.pow(2).mul(torch.linspace(-1, 1, 8)).sum().backward()
        effective = {n: p.grad for n, p in adapter.named_parameters() if not re.fullmatch(CASES[name].no_gradient, n)}
        assert not [n for n, grad in effective.items() if grad is None or not grad.abs().sum() > 0]
        assert all(branch.features.grad is not None and branch.features.grad.abs().sum() > 0 for branch in tokens)

    def test_saved_and_loaded_gives_the_same(self, name: str) -> None:
        other, adapter = build(name, seed=1), stepped(name)
        other.load_state_dict(adapter.state_dict())
        assert torch.equal(other.eval()(*given(name)).features, adapter.eval()(*given(name)).features)

    def test_the_same_seed_gives_the_same_and_another_does_not(self, name: str) -> None:
        first, again, other = (build(name, seed).eval()(*given(name)).features for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_starting_the_weights_again_starts_them_alike(self, name: str) -> None:
        """What starts at zero is zero again after a step, and learned vectors have their own spread."""
        adapter, fresh = stepped(name), build(name).state_dict()
        for path, part in adapter.named_modules():
            if isinstance(part, StartsItself):
                part.reset_parameters()
                for n, p in part.named_parameters(prefix=path, recurse=False):
                    assert torch.equal(p == 0, fresh[n] == 0), n

    def test_pictures_do_not_mix(self, name: str) -> None:
        adapter = stepped(name).eval()
        single = [VisualTokens.full(t.features[:1], t.grid, prefix=t.prefix) for t in given(name)]
        torch.testing.assert_close(adapter(*given(name)).features[:1], adapter(*single).features)

    def test_lives_without_memory(self, name: str) -> None:
        """The count of tokens is asked of an adapter on the `meta` device."""
        with torch.device("meta"):
            adapter = build(name)
        assert adapter.tokens_out() == build(name).tokens_out()
        assert all(p.is_meta for p in adapter.parameters())

    def test_takes_bfloat16(self, name: str) -> None:
        half = [VisualTokens.full(t.features.bfloat16(), t.grid, prefix=t.prefix) for t in given(name)]
        assert build(name).bfloat16()(*half).features.dtype == torch.bfloat16


def test_mlp_by_hand() -> None:
    """One number: linear_1 2x + 1 = 3 at x = 1, relu keeps 3, linear_2 (no bias) gives 3 x 4 = 12."""
    adapter = build_adapter({"type": "mlp", "act": "relu"}, [TokenFacts(1, (1, 1))], 1)
    with torch.no_grad():
        for parameter, value in zip(adapter.parameters(), (2.0, 1.0, 4.0), strict=True):
            parameter.fill_(value)
    assert adapter(VisualTokens.full(torch.ones(1, 1, 1), (1, 1))).features.item() == 12


def test_aitqe_has_one_bias_and_exact_gelu() -> None:
    adapter = build_adapter({"type": "mlp"}, ONE, 4)
    assert sorted(name for name, _ in adapter.named_parameters()) == ["linear_1.bias", "linear_1.weight", "linear_2.weight"]
    x = torch.linspace(-3, 3, 7)
    assert torch.equal(adapter.act(x), torch.nn.functional.gelu(x, approximate="none"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "mpl"}, "did you mean 'mlp'"),
        ({}, "unknown adapter type 'None'"),
        ({"type": "mlp", "hiden_size": 3}, "did you mean 'hidden_size'"),
        ({"type": "mlp", "bias": [True]}, "2 Linear layers: bias needs as many flags"),
        ({"type": "mlp", "depth": 0}, "at least one layer"),
        ({"type": "mlp", "act": "gelo"}, "unknown activation 'gelo'"),
    ],
)
def test_wrong_configs_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_adapter(config, ONE, 4)


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        ({"type": "mlp"}, ONE * 2, "takes 1 branch of visual tokens, the model has 2"),
        ({"type": "eeca"}, ONE, "takes 2 branches of visual tokens, the model has 1"),
        ({"type": "eeca"}, [TokenFacts(4, (4, 4)), TokenFacts(4, (6, 8))], "6 x 8 cannot be cut into one window for each of 4 x 4"),
        ({"type": "eeca"}, [TokenFacts(4, (4, 4)), TokenFacts(4, (2, 2))], "whole multiples"),
        ({"type": "eeca"}, [TokenFacts(4, (4, 4), 1), TokenFacts(4, (8, 8))], "set keep_cls to False"),
        ({"type": "eeca", "entity_queries": 2, "entity_heads": 3}, LOW_HIGH, "entity_heads must divide .* 8, got 3"),
        ({"type": "window_attention"}, [TokenFacts(4, (4, 4)), TokenFacts(4, (6, 6))], "change image_size or crops"),
        ({"type": "pixel_shuffle", "factor": 3}, ONE, "factor 3 does not divide a grid of 4 x 4"),
        ({"type": "pixel_shuffle", "form": "v2"}, ONE, "known: internvl_v1, internvl_v2, smolvlm"),
        ({"type": "pixel_shuffle"}, [TokenFacts(4, (4, 4), 1)], "set keep_cls to False"),
        ({"type": "pool_mlp", "num_tokens": 5}, ONE, "5 is none; the nearest are 4 and 9"),
        ({"type": "pool_mlp"}, ONE, "144 tokens are a square of 12 x 12, more than a grid of 4 x 4 .* at most 16"),
        ({"type": "c_abstractor", "num_tokens": 25}, ONE, "more than a grid of 4 x 4"),
        ({"type": "channel_concat", "num_tokens": -1}, LOW_HIGH, "form a square"),
        ({"type": "resampler", "num_tokens": 0}, ONE, "at least one learned vector, asked for 0"),
        ({"type": "qformer", "width": 10, "heads": 4}, ONE, "4 heads and width 10"),
        ({"type": "sva", "num_tokens": 9}, ONE, "4 x 4 cannot be cut into one window for each of 3 x 3"),
        ({"type": "sva", "num_tokens": 4, "width": 10, "heads": 4}, ONE, "4 heads and width 10"),
        ({"type": "interleaved_mof"}, LOW_HIGH, "they give 8 and 32 tokens"),
    ],
)
def test_inputs_that_an_adapter_cannot_serve_are_refused(config: dict[str, Any], inputs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_adapter(config, inputs, 8)


@pytest.mark.parametrize("name", ["c_abstractor", "sva"])
def test_another_grid_than_the_learned_one_is_refused(name: str) -> None:
    other = [VisualTokens.full(t.features.repeat(1, 4, 1), (t.grid[0] * 2, t.grid[1] * 2)) for t in given(name) if t.grid]
    with pytest.raises(ValueError, match="learned the places of a grid of"):
        build(name)(*other)
