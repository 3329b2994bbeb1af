"""Each adapter against an independent reference: a library's module or plain loops over tokens, to 1e-5."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vision.adapters import Adapter, build_adapter
from vision.tokens import TokenFacts, VisualTokens

Weights = dict[str, Tensor]


def tokens(facts: TokenFacts, seed: int = 0, pictures: int = 2) -> VisualTokens:
    made = torch.randn(pictures, facts.total, facts.width, generator=torch.Generator().manual_seed(seed))
    return VisualTokens.full(made, facts.grid, prefix=facts.prefix)


def random_weights(config: dict[str, Any], *inputs: TokenFacts, out: int = 8) -> Adapter:
    torch.manual_seed(0)
    adapter = build_adapter(config, inputs, out).eval()
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(std=0.4)
    return adapter


def equal(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def part(weights: Weights, prefix: str) -> Weights:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """[..., in] -> [..., out], with the bias if there is one."""
    y = (weights[f"{name}.weight"] * x[..., None, :]).sum(-1)
    return y + weights.get(f"{name}.bias", torch.zeros(()))


def norm(weights: Weights, name: str, x: Tensor, eps: float = 1e-5) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def attend(query: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """[w] reads [K, w]: one head after the other."""
    size, out = len(query) // heads, []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        shares = ((keys[:, own] @ query[own]) / size**0.5).softmax(0)
        out.append(shares @ values[:, own])
    return torch.cat(out)


class TestEveryTokenByItself:
    def test_linear(self) -> None:
        adapter, given = random_weights({"type": "linear"}, TokenFacts(6, (2, 3), 1)), tokens(TokenFacts(6, (2, 3), 1))
        equal(adapter(given).features, linear(adapter.state_dict(), "linear", given.features))
        assert adapter(given).prefix == 1

    @pytest.mark.parametrize("depth", [1, 2, 4])
    def test_mlp_is_llavas_sequence(self, depth: int) -> None:
        """mlpNx_gelu: Linear, then (GELU, Linear) N - 1 times, all with bias."""
        facts = TokenFacts(6, (2, 3))
        adapter, given = random_weights({"type": "mlp", "depth": depth, "bias": True}, facts), tokens(facts)
        layers: list[torch.nn.Module] = [torch.nn.Linear(6, 8)]
        for _ in range(1, depth):
            layers += [torch.nn.GELU(), torch.nn.Linear(8, 8)]
        llava = torch.nn.Sequential(*layers)
        llava.load_state_dict(dict(zip(llava.state_dict(), adapter.state_dict().values(), strict=True)))
        assert torch.equal(adapter(given).features, llava(given.features))


class TestPixelShuffle:
    def test_order_by_loop(self) -> None:
        """Token (y, x) of the merged grid: patches (2y, 2x), (2y, 2x + 1), (2y + 1, 2x), (2y + 1, 2x + 1), channels in that order."""
        facts = TokenFacts(2, (4, 6))
        adapter, given = random_weights({"type": "pixel_shuffle", "form": "smolvlm"}, facts), tokens(facts)
        rows = []
        for y, x in itertools.product(range(2), range(3)):
            patches = [given.features[:, (2 * y + i) * 6 + 2 * x + j] for i in (0, 1) for j in (0, 1)]
            rows.append(linear(adapter.state_dict(), "projection", torch.cat(patches, -1)))
        equal(adapter(given).features, torch.stack(rows, 1))

    def test_smolvlm_is_idefics3s_connector(self) -> None:
        from transformers.models.idefics3.modeling_idefics3 import Idefics3Config, Idefics3Connector

        config = Idefics3Config(
            vision_config={"hidden_size": 6},
            text_config={"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2},
            scale_factor=3,
        )
        theirs, facts = Idefics3Connector(config), TokenFacts(6, (6, 6))
        adapter = random_weights({"type": "pixel_shuffle", "form": "smolvlm", "factor": 3}, facts)
        theirs.modality_projection.proj.weight = adapter.get_parameter("projection.weight")
        equal(adapter(tokens(facts)).features, theirs(tokens(facts).features))

    def test_internvl_v2_is_the_librarys_and_v1_its_transpose(self) -> None:
        """The library's model has v2 alone; v1 is the merged grid read column by column."""
        from transformers.models.internvl import modeling_internvl as theirs

        text = {"model_type": "qwen2", "hidden_size": 8, "num_attention_heads": 2}
        config = theirs.InternVLConfig(vision_config={"hidden_size": 6}, text_config=text, downsample_ratio=0.5)
        projector, facts = theirs.InternVLMultiModalProjector(config), TokenFacts(6, (4, 8))
        adapter = random_weights({"type": "pixel_shuffle", "form": "internvl_v2"}, facts)
        projector.load_state_dict(dict(zip(projector.state_dict(), adapter.state_dict().values(), strict=True)))
        given = tokens(facts)
        shuffled = theirs.InternVLModel.pixel_shuffle(None, given.features.view(2, 4, 8, 6), scale_factor=0.5)
        expected = projector(shuffled)  # [2, 2, 4, 8]
        equal(adapter(given).features, expected.flatten(1, 2))
        first = build_adapter({"type": "pixel_shuffle", "form": "internvl_v1"}, [facts], 8)
        first.load_state_dict(adapter.state_dict())
        equal(first(given).features, expected.transpose(1, 2).flatten(1, 2))
        assert (adapter(given).grid, first(given).grid) == ((2, 4), (4, 2))

    def test_a_merged_token_is_real_where_a_patch_is(self) -> None:
        facts = TokenFacts(6, (2, 4))
        mask = torch.tensor([[False, True, False, False, False, False, False, False]])
        given = VisualTokens(tokens(facts, pictures=1).features, mask, facts.grid)
        assert random_weights({"type": "pixel_shuffle"}, facts)(given).mask.tolist() == [[True, False]]


def test_pool_mlp_averages_the_bins() -> None:
    """5 x 4 patches to 3 x 3: bin k of n patches reaches from floor(k n / 3) to ceil((k + 1) n / 3), so bins overlap."""
    facts = TokenFacts(6, (5, 4))
    adapter, given = random_weights({"type": "pool_mlp", "num_tokens": 9}, facts), tokens(facts)
    weights, rows = adapter.state_dict(), []
    for y, x in itertools.product(range(3), range(3)):
        covered = [r * 4 + c for r in range(y * 5 // 3, -(-(y + 1) * 5 // 3)) for c in range(x * 4 // 3, -(-(x + 1) * 4 // 3))]
        mean = given.features[:, covered].mean(1)
        rows.append(linear(weights, "mlp.linear_2", F.gelu(linear(weights, "mlp.linear_1", mean))))
    equal(adapter(given).features, torch.stack(rows, 1))
    mask = given.mask.clone()
    mask[:, [0, 1, 4, 5]] = False  # what the first bin covers
    assert adapter(VisualTokens(given.features, mask, facts.grid)).mask.tolist() == [[False] + [True] * 8] * 2


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("edges", ["zeros", "real"])
def test_opt_visor_averages_windows(edges: str, after: bool) -> None:
    """5 x 4 patches in windows of 3 x 3: 2 x 2 of them. By "zeros" a window over the edge has nine patches, the missing ones zero, to which
    an MLP that comes first is applied too; by "real" it has those it covers."""
    facts = TokenFacts(6, (5, 4))
    adapter, given = random_weights({"type": "opt_visor", "kernel": 3, "edges": edges, "after": after}, facts), tokens(facts)
    weights, rows = adapter.state_dict(), []

    def mlp(x: Tensor) -> Tensor:
        return linear(weights, "mlp.linear_2", F.silu(linear(weights, "mlp.linear_1", x)))

    for y, x in itertools.product(range(2), range(2)):
        covered = [r * 4 + c for r in range(3 * y, min(3 * y + 3, 5)) for c in range(3 * x, min(3 * x + 3, 4))]
        missing = given.features.new_zeros(2, 9 - len(covered), 6) if edges == "zeros" else given.features[:, :0]
        window = torch.cat([given.features[:, covered], missing], 1)
        rows.append(mlp(window).mean(1) if after else mlp(window.mean(1)))
    equal(adapter(given).features, torch.stack(rows, 1))
    mask = given.mask.clone()
    mask[:, [3, 7, 11]] = False  # what the second window covers
    assert adapter(VisualTokens(given.features, mask, facts.grid)).mask.tolist() == [[True, False, True, True]] * 2


def resampled(weights: Weights, x: Tensor, depth: int, heads: int) -> Tensor:
    """[N, d] -> [L, out], one latent at a time."""
    latents = weights["latents.weight"]
    for layer in range(depth):
        own = part(weights, f"attentions.{layer}.")
        normed = norm(own, "norm_latents", latents)
        keys, values = linear(own, "key_value", torch.cat([norm(own, "norm_tokens", x), normed])).chunk(2, -1)
        read = torch.stack([attend(query, keys, values, heads) for query in linear(own, "query", normed)])
        latents = latents + linear(own, "out", read)
        own = part(weights, f"feed_forwards.{layer}.")
        latents = latents + linear(own, "3", F.gelu(linear(own, "1", norm(own, "0", latents))))
    return linear(weights, "out", norm(weights, "norm", latents))


class TestReadersOfAnyNumber:
    """The resampler and the Q-Former: equal to loops, and blind to padding."""

    CONFIGS = {
        "resampler": {"type": "resampler", "num_tokens": 3, "depth": 2, "heads": 2, "head_width": 5},
        "qformer": {"type": "qformer", "num_tokens": 3, "width": 8, "layers": 3, "heads": 2},
    }

    def test_resampler_by_loop(self) -> None:
        facts = TokenFacts(6, (2, 3), 1)
        adapter, given = random_weights(self.CONFIGS["resampler"], facts), tokens(facts)
        equal(adapter(given).features, torch.stack([resampled(adapter.state_dict(), x, 2, 2) for x in given.features]))

    def test_qformer_by_loop(self) -> None:
        facts = TokenFacts(6, (2, 3), 1)
        adapter, given = random_weights(self.CONFIGS["qformer"], facts), tokens(facts)
        equal(adapter(given).features, torch.stack([queried(adapter.state_dict(), x, layers=3, heads=2) for x in given.features]))

    @pytest.mark.parametrize("kind", CONFIGS)
    @pytest.mark.parametrize("noise", [0.0, 50.0])
    def test_padding_changes_nothing(self, kind: str, noise: float) -> None:
        """The first picture is padded by 5 tokens, the second is none shorter."""
        facts = TokenFacts(6, (2, 6))
        adapter, given = random_weights(self.CONFIGS[kind], facts), tokens(facts)
        mask = given.mask.clone()
        mask[0, 7:] = False
        padded = VisualTokens(given.features.masked_fill(~mask[..., None], noise), mask, facts.grid)
        short = VisualTokens.full(given.features[:1, :7], None)
        equal(adapter(padded).features[:1], adapter(short).features)
        equal(adapter(padded).features[1:], adapter(given).features[1:])


def queried(weights: Weights, x: Tensor, layers: int, heads: int) -> Tensor:
    """[N, d] -> [Q, out]: BERT layers with the norm behind (eps 1e-12), every second one with cross-attention."""
    x = norm(weights, "norm", x)
    state = norm(weights, "qformer.layernorm", weights["queries.weight"], 1e-12)
    for layer in range(layers):
        own = part(weights, f"qformer.encoder.layer.{layer}.")
        for kind, source in [("attention", None), ("crossattention", x)][: 1 + (layer % 2 == 0)]:
            seen = state if source is None else source
            keys, values = (linear(own, f"{kind}.attention.{name}", seen) for name in ("key", "value"))
            read = torch.stack([attend(q, keys, values, heads) for q in linear(own, f"{kind}.attention.query", state)])
            state = norm(own, f"{kind}.output.LayerNorm", state + linear(own, f"{kind}.output.dense", read), 1e-12)
        inner = linear(own, "output_query.dense", F.gelu(linear(own, "intermediate_query.dense", state)))
        state = norm(own, "output_query.LayerNorm", state + inner, 1e-12)
    return linear(weights, "out", state)


def reg_block(weights: Weights, x: Tensor) -> Tensor:
    """[d, rows, columns]: 1 x 1, depthwise 3 x 3, squeeze-and-excitation, 1 x 1, each with LayerNorm over channels, plus the shortcut."""

    def normed(name: str, y: Tensor) -> Tensor:
        return norm(weights, f"{name}.bn", y.movedim(0, -1)).movedim(-1, 0)

    def conv(name: str, y: Tensor, groups: int = 1) -> Tensor:
        kernel = weights[f"{name}.weight"]
        return F.conv2d(y[None], kernel, weights.get(f"{name}.bias"), padding=kernel.shape[-1] // 2, groups=groups)[0]

    y = F.silu(normed("conv1", conv("conv1.conv", x)))
    y = F.silu(normed("conv2", conv("conv2.conv", y, groups=len(y))))
    y = y * conv("se.fc2", F.silu(conv("se.fc1", y.mean((1, 2), keepdim=True)))).sigmoid()
    y = normed("conv3", conv("conv3.conv", y))
    shortcut = normed("downsample", conv("downsample.conv", x)) if "downsample.conv.weight" in weights else x
    return F.silu(y + shortcut)


def test_c_abstractor_block_by_block() -> None:
    """4 x 6 patches pooled to 2 x 2: each bin covers 2 x 3 of them."""
    facts = TokenFacts(6, (4, 6))
    config = {"type": "c_abstractor", "num_tokens": 4, "hidden_size": 8, "depth": 2, "prenorm": True, "end_tokens": 1}
    adapter, given = random_weights(config, facts), tokens(facts)
    weights, expected = adapter.state_dict(), []
    for x in given.features:
        seen = (norm(weights, "prenorm", x, 1e-6) + weights["places.weight"]).T.reshape(6, 4, 6)
        for block in ("b1", "b2"):
            seen = reg_block(part(weights, f"before.{block}."), seen)
        seen = seen.reshape(8, 2, 2, 2, 3).mean((2, 4))
        for block in ("b1", "b2"):
            seen = reg_block(part(weights, f"after.{block}."), seen)
        read = linear(weights, "readout.2", F.silu(linear(weights, "readout.0", seen.reshape(8, 4).T)))
        expected.append(torch.cat([read, weights["end_tokens.weight"]]))
    equal(adapter(given).features, torch.stack(expected))


def bilinear(values: Tensor, facts: TokenFacts, side: tuple[int, int]) -> Tensor:
    """[N, d] -> [rows columns, d], corners on corners, point by point."""
    rows = []
    for y, x in itertools.product(range(side[0]), range(side[1])):
        v, u = y * (facts.grid[0] - 1) / (side[0] - 1), x * (facts.grid[1] - 1) / (side[1] - 1)
        top, left = int(v), int(u)
        point = torch.zeros(facts.width)
        for r, c in itertools.product({top, min(top + 1, facts.grid[0] - 1)}, {left, min(left + 1, facts.grid[1] - 1)}):
            point = point + (1 - abs(v - r)) * (1 - abs(u - c)) * values[r * facts.grid[1] + c]
        rows.append(point)
    return torch.stack(rows)


def test_channel_concat_resizes_and_joins_channels() -> None:
    """A 2 x 3 and a 4 x 5 map on 3 x 3, the channels of the first before those of the second."""
    first, second = TokenFacts(6, (2, 3)), TokenFacts(5, (4, 5))
    adapter = random_weights({"type": "channel_concat", "num_tokens": 9}, first, second)
    weights, given, rows = adapter.state_dict(), (tokens(first), tokens(second, 1)), []
    for a, b in zip(*(branch.features for branch in given), strict=True):
        joined = torch.cat([bilinear(a, first, (3, 3)), bilinear(b, second, (3, 3))], -1)
        rows.append(linear(weights, "mlp.linear_2", F.gelu(linear(weights, "mlp.linear_1", joined))))
    equal(adapter(*given).features, torch.stack(rows))


def test_interleaved_mof_takes_turns() -> None:
    """Even places the first tower's MLP, odd places the second's."""
    first, second = TokenFacts(6, (2, 3)), TokenFacts(5, (2, 3))
    adapter, given = random_weights({"type": "interleaved_mof"}, first, second), (tokens(first), tokens(second, 1))
    weights, out = adapter.state_dict(), adapter(*given)
    for place in range(12):
        own, x = part(weights, ("first.", "second.")[place % 2]), given[place % 2].features[:, place // 2]
        equal(out.features[:, place], linear(own, "linear_2", F.gelu(linear(own, "linear_1", x))))
    odd = VisualTokens(given[1].features, given[1].mask & torch.tensor([True] * 5 + [False]), (2, 3))
    assert adapter(given[0], odd).mask[0].tolist() == [True] * 11 + [False]


class TestSpatialVisionAggregator:
    """2 x 2 cells over a 2 x 2 map (windows of one patch) and a 4 x 6 map (windows of 2 x 3)."""

    INPUTS = (TokenFacts(6, (2, 2)), TokenFacts(5, (4, 6)))
    CONFIG = {"type": "sva", "num_tokens": 4, "width": 8, "depth": 2, "heads": 2}

    def test_by_loop(self) -> None:
        adapter, given = random_weights(self.CONFIG, *self.INPUTS), (tokens(self.INPUTS[0]), tokens(self.INPUTS[1], 1))
        pictures = zip(*(branch.features for branch in given), strict=True)
        equal(adapter(*given).features, torch.stack([aggregated(adapter.state_dict(), a, b) for a, b in pictures]))

    @pytest.mark.parametrize("patch", [0, 5, 14, 23])
    def test_a_patch_changes_its_own_cell_alone(self, patch: int) -> None:
        """Patch p of the second map lies in row p // 6 and column p % 6, so in cell (row // 2, column // 3)."""
        adapter, given = random_weights(self.CONFIG, *self.INPUTS), (tokens(self.INPUTS[0]), tokens(self.INPUTS[1], 1))
        changed = given[1].features.clone()
        changed[:, patch, 0] += 1
        moved = (adapter(*given).features != adapter(given[0], VisualTokens.full(changed, (4, 6))).features).any(-1)
        own = patch // 6 // 2 * 2 + patch % 6 // 3
        assert moved.tolist() == [[cell == own for cell in range(4)]] * 2

    def test_masked_patches_are_not_read(self) -> None:
        adapter, given = random_weights(self.CONFIG, *self.INPUTS), (tokens(self.INPUTS[0]), tokens(self.INPUTS[1], 1))
        mask = given[1].mask.clone()
        mask[:, 1] = False
        noisy = given[1].features.masked_fill(~mask[..., None], 9.0)
        once = adapter(given[0], VisualTokens(given[1].features, mask, (4, 6))).features
        assert torch.equal(once, adapter(given[0], VisualTokens(noisy, mask, (4, 6))).features)
        assert not torch.allclose(once[:, 0], adapter(*given).features[:, 0])


def aggregated(weights: Weights, low: Tensor, high: Tensor) -> Tensor:
    """[4, 6] and [24, 5] -> [4, 8], one cell at a time."""

    def mlp(prefix: str, x: Tensor) -> Tensor:
        return linear(weights, f"{prefix}2", F.gelu(linear(weights, f"{prefix}0", x)))

    maps = [norm(weights, f"towers.{i}.3", mlp(f"towers.{i}.", x)) for i, x in enumerate((low, high))]
    cells = []
    for row, column in itertools.product(range(2), range(2)):
        under = [r * 6 + c for r in (2 * row, 2 * row + 1) for c in range(3 * column, 3 * column + 3)]
        query = weights["query.weight"][0]
        for layer in range(2):
            own = part(weights, f"layers.{layer}.")
            seen = [maps[0][row * 2 + column][None], maps[1][under] + own["places.1.weight"]]
            mixed = linear(own, "mix", torch.cat([query, linear(own, "context", maps[0].mean(0))]))
            keys, values = (
                torch.cat([linear(own, f"{kind}.{i}.1", norm(own, f"{kind}.{i}.0", seen[i])) for i in (0, 1)])
                for kind in ("keys", "values")
            )
            read = attend(linear(own, "query.1", norm(own, "query.0", mixed)), keys, values, heads=2)
            normed = norm(own, "norm", mixed + linear(own, "out", read))
            query = query + linear(own, "mlp.2", F.gelu(linear(own, "mlp.0", normed)))
        cells.append(mlp("out.", query))
    return torch.stack(cells)
