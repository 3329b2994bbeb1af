"""Window attention (Mini-Gemini) and EECA's dual branch: equal to a plain loop, local, and starting as the baseline."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vision.adapters import Adapter, build_adapter
from vision.adapters.windows import windows
from vision.tokens import TokenFacts, VisualTokens

LOW, HIGH = TokenFacts(6, (2, 3)), TokenFacts(5, (4, 9))  # windows of 2 x 3


def tokens(facts: TokenFacts, seed: int = 0) -> VisualTokens:
    made = torch.randn(2, facts.total, facts.width, generator=torch.Generator().manual_seed(seed))
    return VisualTokens.full(made, facts.grid)


def random_weights(config: dict[str, Any]) -> Adapter:
    torch.manual_seed(0)
    adapter = build_adapter(config, [LOW, HIGH], 8)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.4)
    return adapter


def by_loop(weights: dict[str, torch.Tensor], low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """[N, d], [M, D] -> [N, out]: the equation, one token, one patch at a time."""

    def project(part: str, x: torch.Tensor) -> torch.Tensor:
        w = {name: weights[f"attention.{part}.{name}"] for name in ("0.weight", "0.bias", "1.weight", "1.bias")}
        centred = x - x.mean()
        normed = centred / (centred.pow(2).mean() + 1e-5).sqrt() * w["0.weight"] + w["0.bias"]
        return w["1.weight"] @ normed + w["1.bias"]

    rows = []
    for row in range(2):
        for column in range(3):
            v = low[row * 3 + column]
            patches = [high[y * 9 + x] for y in (2 * row, 2 * row + 1) for x in range(3 * column, 3 * column + 3)]
            scores = torch.stack([project("query", v) @ project("key", h) for h in patches]) / 6**0.5
            shares = scores.exp() / scores.exp().sum()
            e = sum(share * project("value", h) for share, h in zip(shares, patches, strict=True))
            inner = F.gelu(weights["mlp.linear_1.weight"] @ (v + e) + weights["mlp.linear_1.bias"])
            rows.append(weights["mlp.linear_2.weight"] @ inner + weights["mlp.linear_2.bias"])
    return torch.stack(rows)


def test_windows_by_hand() -> None:
    """4 x 4 patches numbered row by row under 2 x 2 cells: the second cell holds 2, 3 and, a row below, 6, 7."""
    cut = windows(torch.arange(16).view(1, 16, 1), (4, 4), (2, 2))
    assert cut[0, :, :, 0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@pytest.mark.parametrize("kind", ["window_attention", "eeca"])
class TestFusion:
    def test_equals_a_plain_loop(self, kind: str) -> None:
        adapter, low, high = random_weights({"type": kind}), tokens(LOW), tokens(HIGH, 1)
        expected = torch.stack([by_loop(adapter.state_dict(), *pair) for pair in zip(low.features, high.features, strict=True)])
        torch.testing.assert_close(adapter(low, high).features, expected, atol=1e-5, rtol=1e-5)

    @pytest.mark.parametrize("patch", [0, 3, 17, 30])
    def test_a_patch_changes_its_own_token_alone(self, kind: str, patch: int) -> None:
        """Patch p lies in row p // 9 and column p % 9, so under token (row // 2, column // 3)."""
        adapter, low, high = random_weights({"type": kind}), tokens(LOW), tokens(HIGH, 1)
        changed = high.features.clone()
        changed[:, patch, 0] += 1
        moved = (adapter(low, high).features != adapter(low, VisualTokens.full(changed, high.grid)).features).any(-1)
        own = patch // 9 // 2 * 3 + patch % 9 // 3
        assert moved.tolist() == [[token == own for token in range(6)]] * 2

    def test_masked_patches_count_for_nothing(self, kind: str) -> None:
        """Left out of one window, and a window of none adds zero: the low-resolution MLP alone."""
        adapter, low, high = random_weights({"type": kind}), tokens(LOW), tokens(HIGH, 1)
        mask = high.mask.clone()
        mask[:, 0] = False  # one patch of token 0
        mask[:, [3, 4, 5, 12, 13, 14]] = False  # every patch of token 1
        noisy = high.features.masked_fill(~mask[..., None], 7.0)
        once = adapter(low, VisualTokens(high.features, mask, high.grid)).features
        assert torch.equal(once, adapter(low, VisualTokens(noisy, mask, high.grid)).features)
        torch.testing.assert_close(once[:, 1], adapter.get_submodule("mlp")(low).features[:, 1])
        assert not torch.allclose(once[:, 0], adapter(low, high).features[:, 0])


def test_eeca_starts_as_the_low_resolution_mlp_exactly() -> None:
    torch.manual_seed(0)
    eeca = build_adapter({"type": "eeca"}, [LOW, HIGH], 8)
    baseline = build_adapter({"type": "mlp", "bias": True}, [LOW], 8)
    baseline.load_state_dict({name.removeprefix("mlp."): value for name, value in eeca.state_dict().items() if name.startswith("mlp.")})
    low, high = tokens(LOW), tokens(HIGH, 1)
    assert torch.equal(eeca(low, high).features, baseline(low).features)
    assert torch.equal(
        eeca.bfloat16()(*(VisualTokens.full(t.features.bfloat16(), t.grid) for t in (low, high))).features,
        baseline.bfloat16()(VisualTokens.full(low.features.bfloat16(), low.grid)).features,
    )


def test_eeca_and_the_baseline_of_one_seed_are_the_same_function() -> None:
    """What an experiment compares differs in nothing but the branch."""
    made = []
    for config, inputs in (({"type": "eeca"}, [LOW, HIGH]), ({"type": "mlp", "bias": True}, [LOW])):
        torch.manual_seed(3)
        made.append(build_adapter(config, inputs, 8))
    assert torch.equal(made[0](tokens(LOW), tokens(HIGH, 1)).features, made[1](tokens(LOW)).features)


def test_eeca_leaves_the_baseline_with_the_first_step() -> None:
    torch.manual_seed(0)
    eeca, low, high = build_adapter({"type": "eeca"}, [LOW, HIGH], 8), tokens(LOW), tokens(HIGH, 1)
    eeca(low, high).features.square().sum().backward()
    with torch.no_grad():
        for parameter in eeca.parameters():
            parameter -= 0.1 * parameter.grad
    assert not torch.allclose(eeca(low, high).features, eeca.get_submodule("mlp")(low).features)


def test_entity_queries_stand_behind_the_grid_and_read_real_tokens_only() -> None:
    """The first N tokens stay as they are; a masked one of them does not reach the queries."""
    adapter, low, high = random_weights({"type": "eeca", "entity_queries": 2}), tokens(LOW), tokens(HIGH, 1)
    out = adapter(low, high)
    assert out.features.shape == (2, 8, 8)
    assert out.grid is None
    plain = build_adapter({"type": "eeca"}, [LOW, HIGH], 8)
    plain.load_state_dict({name: value for name, value in adapter.state_dict().items() if not name.startswith("entity")})
    assert torch.equal(out.features[:, :6], plain(low, high).features)
    mask = low.mask.clone()
    mask[:, 4] = False
    masked = adapter(VisualTokens(low.features, mask, low.grid), high)
    noisy = adapter(VisualTokens(low.features.masked_fill(~mask[..., None], 3.0), mask, low.grid), high)
    assert torch.equal(masked.features[:, 6:], noisy.features[:, 6:])
    assert masked.mask.tolist() == [[True] * 4 + [False] + [True] * 3] * 2
