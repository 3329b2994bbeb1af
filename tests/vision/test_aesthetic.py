"""LAION's heads in their two released layouts, random and small; pickles are refused with the way to convert them."""

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vision.aesthetic import AestheticScorer, load_head
from vision.safe_weights import digest, read_safetensors


class Released(nn.Module):
    """The layout of the improved predictor, narrower; dropout is off in use."""

    def __init__(self, width, widths=(12, 8, 6, 4)):
        super().__init__()
        a, b, c, d = widths
        first = [nn.Linear(width, a), nn.Dropout(0.2), nn.Linear(a, b), nn.Dropout(0.2), nn.Linear(b, c), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*first, nn.Linear(c, d), nn.Linear(d, 1))

    def forward(self, x):
        return self.layers(x)


def pictures(n):
    rng = np.random.default_rng(0)
    return [PIL.Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("kind", [lambda: nn.Linear(16, 1), lambda: Released(16)])
def test_both_layouts_score_as_the_module_that_saved_them(tmp_path, kind):
    torch.manual_seed(0)
    module = kind().eval()
    save_file(module.state_dict(), tmp_path / "head.safetensors")
    x = torch.nn.functional.normalize(torch.randn(5, 16), dim=-1)
    head = load_head(tmp_path / "head.safetensors")
    assert head.width == 16
    torch.testing.assert_close(head(x), module(x).squeeze(-1))
    assert not any(p.requires_grad for p in head.parameters())


def test_the_released_key_names_and_widths_load(tmp_path):
    """768, 1024, 128, 64, 16, 1 under layers.0, 2, 4, 6, 7."""
    module = Released(768, (1024, 128, 64, 16))
    assert [k for k in module.state_dict() if k.endswith("weight")] == [f"layers.{i}.weight" for i in (0, 2, 4, 6, 7)]
    save_file(module.state_dict(), tmp_path / "head.safetensors")
    assert load_head(tmp_path / "head.safetensors").width == 768


class FakePair:
    """Unit embeddings of width 16 from the mean colour; counts pictures a forward."""

    def __init__(self):
        self.model, self.sizes = nn.Linear(3, 16), []

    def image_embeddings(self, shown):
        self.sizes.append(len(shown))
        means = torch.tensor(np.array([np.asarray(p).mean((0, 1)) for p in shown]), dtype=torch.float32)
        return torch.nn.functional.normalize(self.model(means), dim=-1).detach()


def test_pictures_are_scored_in_bounded_batches_each_as_if_alone(tmp_path):
    save_file(nn.Linear(16, 1).state_dict(), tmp_path / "head.safetensors")
    pair = FakePair()
    scorer = AestheticScorer(pair, load_head(tmp_path / "head.safetensors"), "fake")
    shown = pictures(70)
    scores = scorer(shown)
    assert pair.sizes[1:] == [32, 32, 6]
    assert scores == pytest.approx([scorer([p])[0] for p in shown], abs=1e-6)
    assert scorer([]) == []


def test_a_head_of_another_encoder_is_refused(tmp_path):
    save_file(nn.Linear(24, 1).state_dict(), tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match="width 24, 'fake' makes them 16 wide"):
        AestheticScorer(FakePair(), load_head(tmp_path / "head.safetensors"), "fake")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"conv.weight": torch.zeros(1, 4)}, "no aesthetic head"),
        ({"weight": torch.zeros(1, 4)}, "'bias' is missing"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, "no way from an embedding to one number"),
        ({f"layers.{i}.{k}": torch.zeros(*s) for i, n in ((0, 3), (2, 5)) for k, s in (("weight", (3, n)), ("bias", (3,)))}, "no way"),
    ],
)
def test_another_layout_is_refused(tmp_path, state, said):
    save_file(state, tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match=said):
        load_head(tmp_path / "head.safetensors")


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was read",))


@pytest.mark.parametrize("old", [True, False])
def test_a_pickle_is_never_read(tmp_path, old):
    path = tmp_path / "head.pth"
    torch.save({"weight": Evil()}, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ValueError, match="is a pickle") as error:
        load_head(path)
    assert "weights_only=True" in str(error.value)


def test_the_conversion_that_the_refusal_names_works(tmp_path, monkeypatch):
    import re
    import subprocess
    import sys

    monkeypatch.chdir(tmp_path)
    module = nn.Linear(16, 1)
    torch.save(module.state_dict(), "head.pth")
    with pytest.raises(ValueError, match="Convert it once") as error:
        load_head("head.pth")
    code = re.search(r'python -c "(.*)"', str(error.value))[1]
    subprocess.run([sys.executable, "-c", code], check=True)
    assert torch.equal(load_head("head.safetensors").layers[0].weight, module.weight)


def test_what_is_no_file_or_no_tensors(tmp_path):
    (tmp_path / "x.safetensors").write_text("hello, this is text")
    for path, said in ((tmp_path / "absent", "no file"), (tmp_path / "x.safetensors", "no safetensors file")):
        with pytest.raises(ValueError, match=said):
            read_safetensors(path)


def test_digests_follow_the_content(tmp_path):
    for name, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        save_file({"x": torch.full((3,), value)}, tmp_path / f"{name}.safetensors")
    a, b, c = (digest(tmp_path / f"{name}.safetensors") for name in "abc")
    assert a == b != c
    assert digest(tmp_path) not in (a, c)
