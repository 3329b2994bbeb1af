"""What a training step keeps, by hand and by a paper's formula; the whole against a real step."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from mm_align.models.live_bytes import LiveBytes
from mm_align.train.footprint import Sizes, Step, gathered, give_sizes, parts_of, peak_of, sizes_of, states

S, B, H, A = 64, 2, 32, 4  # tokens, rows, width, heads


def kept(module, *given, **options):
    """Bytes that one forward keeps beside its output, and the output's."""
    with LiveBytes() as live:
        out = module(*given, **options)
    made = out[0] if isinstance(out, tuple) else out
    return live.now - made.untyped_storage().nbytes()


class Paper(nn.Module):
    """The transformer layer of arXiv 2205.05198, section 4.1, as it counts it."""

    def __init__(self):
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(H), nn.LayerNorm(H)])
        self.q, self.k, self.v, self.out = (nn.Linear(H, H, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(H, 4 * H, bias=False), nn.Linear(4 * H, H, bias=False)

    def forward(self, x):
        seen = self.norms[0](x)
        q, k, v = (f(seen).view(B, S, A, H // A).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = torch.native_dropout((q @ k.transpose(2, 3)).softmax(-1), 0.1, True)[0]
        x = x + torch.native_dropout(self.out((weights @ v).transpose(1, 2).reshape(B, S, H)), 0.1, True)[0]
        return x + torch.native_dropout(self.down(F.gelu(self.up(self.norms[1](x)))), 0.1, True)[0]


def test_the_papers_layer_keeps_what_the_paper_says():
    """s b h (34 + 5 a s / h) bytes in 16 bits; the norms' means and deviations, 2 x 2 numbers a token, are what the paper leaves out."""
    with FakeTensorMode():
        layer = Paper()
        give_sizes(layer, lambda p: torch.bfloat16)
        found = kept(layer, torch.empty(B, S, H, dtype=torch.bfloat16, requires_grad=True).clone())
    told = S * B * H * (34 + 5 * A * S // H)
    own_input = 2 * S * B * H  # made before the count began
    assert 0 <= found + own_input - told <= 16 * S * B


def test_a_llama_layer_by_hand():
    """4 s b (6 h + 4 q + 4 f): both norms keep their input, its normed copy and their output (6 h); queries, repeated keys and values and
    what attention gives (4 q); gate, its activation, up, and their product (4 f). Beside: a few numbers a token."""
    width = 96
    config = LlamaConfig(hidden_size=H, intermediate_size=width, num_attention_heads=A, num_key_value_heads=A, num_hidden_layers=1)
    config._attn_implementation = "sdpa"
    with FakeTensorMode():
        layer, rotary = LlamaDecoderLayer(config, 0), LlamaRotaryEmbedding(config)
        x = torch.empty(B, S, H, requires_grad=True).clone()
        angles = rotary(x, torch.empty(1, S, dtype=torch.long))
        found = kept(layer, x, position_embeddings=angles) + 4 * S * B * H  # its input was made before the count began
    assert found == pytest.approx(4 * S * B * (6 * H + 4 * H + 4 * width), rel=0.02)


def test_live_bytes_by_hand():
    """1,000 floats, then 1,000 more, of which the first are let go."""
    with LiveBytes() as live:
        first = torch.zeros(1000)
        assert (live.now, live.peak) == (4000, 4000)
        view = first.view(10, 100)[2:]
        second = first + 1
        del first, view
    assert (live.now, live.peak) == (4000, 8000)
    del second
    assert live.now == 0


def test_states_by_hand():
    """10 that train, 100 that do not: 4 bytes and 8 of moments each; frozen ones 2 in bfloat16, by FSDP all in 4 and shared by 2."""
    plain = states(Sizes(10, 100, 10, 0), Step(1, 1, 1, bf16=True))
    assert (plain.trained_bytes, plain.frozen_bytes, plain.gradients, plain.moments, plain.buckets) == (40, 200, 40, 80, 0)
    assert states(Sizes(10, 100, 10, 0), Step(1, 1, 1, bf16=True, processes=2)).buckets == 40
    spread = states(Sizes(10, 100, 10, 0), Step(1, 1, 1, bf16=True, processes=2, fsdp=True))
    assert (spread.trained_bytes, spread.frozen_bytes, spread.gradients, spread.moments, spread.buckets) == (20, 200, 20, 40, 0)
    assert states(Sizes(10, 100, 10, 0), Step(1, 1, 1, optimizer="sgd")).moments == 0


@pytest.fixture
def sized(make_model):
    def make():
        with torch.device("meta"):
            return make_model()

    return make


def test_checkpointing_and_fewer_rows_take_less(sized):
    step = Step(4, 64, 32)
    whole = peak_of(sized(), step).bytes
    assert peak_of(sized(), step._replace(checkpointing=True)).bytes < whole
    assert peak_of(sized(), step._replace(rows=2)).bytes < whole
    assert peak_of(sized(), step._replace(pairs=True)).bytes != whole
    assert peak_of(sized(), step._replace(pictures=0)).bytes < whole


def test_gradients_wait_where_a_step_has_several_forwards(sized):
    trained = 4 * sum(p.numel() for p in sized().parameters())
    assert peak_of(sized(), Step(4, 64, 32, accumulation=2)).gradients == trained


def test_fsdp_lets_gradients_go_and_gathers_layers(sized):
    """Two tower or decoder layers whole, the largest kind; what is in no layer too."""
    model = sized()
    step = Step(2, 64, 32, fsdp=True, processes=4)
    assert peak_of(model, step).gradients == 0
    parts = {part.name: part.bytes for part in parts_of(sizes_of(model), step, peak_of(model, step))}
    assert parts["gathered layers"] == gathered(sizes_of(model), step) > 0
    assert parts["weights, trained"] == 4 * sum(p.numel() for p in model.parameters()) // 4


def test_shared_weights_stay_shared(sized):
    model = sized()
    model.lm_head.weight = model.get_input_embeddings().weight
    with FakeTensorMode():
        give_sizes(model, lambda p: torch.float32)
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_the_optimisers_own_step_may_be_the_busiest_moment(sized):
    """One row of four tokens leaves few activations; AdamW on a GPU makes one more number for each that trains."""
    step = Step(1, 8, 4, pictures=0)
    model = sized()
    names = [part.name for part in parts_of(sizes_of(model), step, peak_of(model, step))]
    assert "temporaries" in names


def test_a_frozen_tower_stays_out_of_the_backward_pass(make_model, processor, picture):
    """With checkpointing the library would make every embedding's output require a gradient; the gradients are the same without that."""
    from mm_align.train.optim import train_only

    found = []
    for checkpointing in (False, True):
        model = make_model().train()
        train_only(model, ["adapter", "language_model"])
        if checkpointing:
            model.activation_checkpointing_enable()
        pixels = torch.from_numpy(processor.image_processor.pixels([picture(0)]))
        assert not model.model.tower_features(pixels)[0].features.requires_grad
        ids = torch.tensor([[model.config.image_token_id] * 4 + [1, 2, 3]])
        model(input_ids=ids, pixel_values=pixels, labels=ids, use_cache=False).loss.backward()
        found.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], msg=name)
