"""Released Opt-Visor checkpoints: a tiny random one in exactly their layout, film in, text out; the real sizes on the meta device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Sample
from mm_align.backends import load_backend
from mm_align.cli import main
from mm_align.config import UserError
from mm_align.jobs.convert import ConvertConfig, run
from mm_align.models import LvlmForConditionalGeneration, aitqe_layout, opt_visor_layout
from mm_align.models.films import filmed
from mm_align.models.inspect import inspect_model, parameters_of

SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
REAL = {  # config.json of Opt-Visor-120frame-49token-Qwen2-7B; sizes of the decoder are Qwen2-7B's
    "model_type": "mm",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "vision_model_name_or_path": "google/siglip-so400m-patch14-384",
    "mm_projector_type": "mean",
    "pooling_kernel": 4,
    "frame_after_pooling": 120,
    "image_aspect_ratio": "anyres_wo_global_tile",
    "image_tile_tokens": 729,
    "pesudo_img_size": 384,
    "pesudo_patch_size": 14,
    "visual_hidden_dim": 1152,
    "image_token_index": 151662,
    "pad_token_index": 151672,
    "pad_token_id": 0,
    "eos_token_index": 151643,
    "IGNORE_INDEX": -100,
    "frame_pattern": "frame {}: <reserved_114><frame><reserved_115>",
    "image_pattern": "image {}: <reserved_114><image><reserved_115>",
}
RESERVED = ("<reserved_113>", "<reserved_114>", "<reserved_115>")


class Upstream(torch.nn.Module):
    """The released model from stock parts: hidden_states[-2] of the tower, zero-padded means of 4 x 4, an MLP with SiLU, Qwen2
    [R: modeling_mm.py, projector.py]."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        sizes = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 2}
        self.tower = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=70, patch_size=14))  # 5 x 5 patches
        rope = {"rope_type": "default", "rope_theta": 1e6}
        self.model = Qwen2ForCausalLM(
            Qwen2Config(vocab_size=rows, max_position_embeddings=4096, tie_word_embeddings=False, rope_parameters=rope, **SIZES)
        )
        self.linear = torch.nn.Sequential(torch.nn.Linear(24, 16), torch.nn.SiLU(), torch.nn.Linear(16, 16))
        self.newline = torch.nn.Parameter(torch.randn(16))

    def released(self) -> dict[str, torch.Tensor]:
        """The weights under their released names."""
        named = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        named |= {f"vision_model.vision_model.{k.removeprefix('vision_model.')}": v for k, v in self.tower.state_dict().items()}
        named |= {f"mm_projector.linear.{k}": v for k, v in self.linear.state_dict().items()}
        return {k: v.detach().clone() for k, v in named.items()} | {"image_newline": self.newline.detach()}

    def frames(self, pixels: torch.Tensor) -> torch.Tensor:
        """[T, 3, 70, 70] -> [T, 4, 16]: windows of 4 x 4 over 5 x 5 patches, what is missing counted as zero."""
        states = self.tower(pixels, output_hidden_states=True).hidden_states[-2].unflatten(1, (5, 5))
        whole = torch.zeros(len(pixels), 8, 8, 24)
        whole[:, :5, :5] = states
        means = [whole[:, y : y + 4, x : x + 4].flatten(1, 2).sum(1) / 16 for y in (0, 4) for x in (0, 4)]
        return self.linear(torch.stack(means, 1))

    def logits(self, pixels: torch.Tensor, ids: list[int], placeholder: int) -> torch.Tensor:
        """Of one row [L, V]."""
        here = torch.tensor([token == placeholder for token in ids])
        embeds = self.model.get_input_embeddings()(torch.tensor(ids)[None])
        embeds[0, here] = self.frames(pixels).flatten(0, 1)
        return self.model(inputs_embeds=embeds).logits[0]


@pytest.fixture(scope="module")
def words(tokenizer: Any) -> Any:
    """A token a byte, and the reserved ones that the patterns use."""
    import copy

    made = copy.deepcopy(tokenizer)
    made.add_special_tokens({"additional_special_tokens": ["<image>", *RESERVED]})
    return made


@pytest.fixture(scope="module")
def upstream(words: Any) -> Upstream:
    torch.manual_seed(0)
    model = Upstream(len(words) + 5).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def released(upstream: Upstream, words: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published, its tower's config beside it."""
    folder = tmp_path_factory.mktemp("released") / "tiny"
    folder.mkdir()
    weights = sorted(upstream.released().items())
    for part, rows in enumerate((weights[:40], weights[40:]), 1):
        save_file(dict(rows), folder / f"model-0000{part}-of-00002.safetensors")
    config = REAL | SIZES | {"vocab_size": len(words) + 5, "max_position_embeddings": 4096, "visual_hidden_dim": 24}
    config |= {"pesudo_img_size": 70, "image_tile_tokens": 25, "frame_after_pooling": 6, "vision_model_name_or_path": "tower"}
    config |= {"image_token_index": words.convert_tokens_to_ids("<reserved_113>"), "eos_token_index": words.eos_token_id}
    config |= {"pad_token_index": words.pad_token_id}
    (folder / "config.json").write_text(json.dumps(config))
    upstream.tower.config.save_pretrained(folder / "tower")
    words.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def backend(released: Path) -> Any:
    return load_backend(str(released), device="cpu", batch_size=4)


@pytest.fixture(scope="module")
def long_film(tmp_path_factory: pytest.TempPathFactory, painted: Any) -> Path:
    """Nine and a half seconds, so that ten whole seconds are thinned to six."""
    path: Path = painted.write(tmp_path_factory.mktemp("film") / "long.mp4", range(95), rate=10)
    return path


def asked(path: Path, text: str = "Why?") -> Sample:
    return Sample(text, (Message("user", (Part("video"), Part("text", text))),), (Image(path=str(path)),))


# -- film in -----------------------------------------------------------------------------------------------------------


def test_the_prompt_is_the_released_one(backend: Any, words: Any, film: Path) -> None:
    """Seconds 0 and 1 of two; each frame between reserved tokens, nothing between frames; then the question as its inference.py asks it."""
    ids = backend.prompts.ids(asked(film, "Why <reserved_114>?"))
    placeholder, start, end = words.convert_tokens_to_ids(["<reserved_113>", "<reserved_114>", "<reserved_115>"])
    expected: list[int] = []
    for number in range(2):
        expected += [*words(f"frame {number}: ")["input_ids"], start, *[placeholder] * 4, end]
    question = words("\nQuestion: Why <reserved_114>?\nAnswer:", split_special_tokens=True)["input_ids"]
    assert ids == expected + question
    assert ids.count(start) == 2  # the question's is plain letters


def test_frames_are_whole_seconds_thinned_to_what_the_model_was_made_for(backend: Any, long_film: Path, painted: Any) -> None:
    """Of seconds 0 .. 9, int(linspace(0, 9, 6)) = 0, 1, 3, 5, 7, 9 at ten frames a second."""
    shown = filmed(asked(long_film), backend.prompts.processor)
    assert [painted.read(np.asarray(image.pixels).transpose(2, 0, 1)) for image in shown.images] == [0, 10, 30, 50, 70, 90]


def test_a_picture_has_its_pattern(backend: Any, words: Any, picture: Any) -> None:
    parts = (Part("image"), Part("image"), Part("text", "Which?"))
    ids = backend.prompts.ids(Sample("s", (Message("user", parts),), (Image(pixels=picture(0)), Image(pixels=picture(1)))))
    text = words.decode([i for i in ids if i != words.convert_tokens_to_ids("<reserved_113>")])
    assert text == "image 0: <reserved_114><reserved_115>image 1: <reserved_114><reserved_115>\nQuestion: Which?\nAnswer:"


# -- text out ----------------------------------------------------------------------------------------------------------


def upstream_logits(upstream: Upstream, backend: Any, sample: Sample) -> torch.Tensor:
    shown = filmed(sample, backend.prompts.processor)
    pictures = [image.pixels.resize((70, 70), 3) for image in shown.images]
    pixels = torch.stack([torch.tensor(np.asarray(p), dtype=torch.float32).permute(2, 0, 1) / 127.5 - 1 for p in pictures])
    with torch.no_grad():
        return upstream.logits(pixels, backend.prompts.ids(sample), backend.prompts.processor.image_token_id)


def test_logits_equal_those_of_the_stock_parts(upstream: Upstream, backend: Any, film: Path) -> None:
    sample = asked(film)
    with torch.no_grad():
        ours = backend.model(**backend.prompts.encode([sample])).logits[0]
    expected = upstream_logits(upstream, backend, sample)
    assert (ours - expected).abs().max() < 1e-4
    assert expected.std() > 0.1


def test_a_batch_of_films_equals_single_ones(upstream: Upstream, backend: Any, film: Path, long_film: Path) -> None:
    """The released code pads on the right and is wrong here. First tokens are those of the stock parts."""
    samples = [asked(film, "What colour is the ball in the end?"), asked(long_film, "Who?")]
    together = backend.generate(samples, Sampling(max_tokens=5))
    for sample, answer in zip(samples, together, strict=True):
        single = backend.generate([sample], Sampling(max_tokens=5))[0]
        assert single.text == answer.text
        assert single.logprob == pytest.approx(answer.logprob, abs=1e-4)
        best = upstream_logits(upstream, backend, sample)[-1].log_softmax(-1).max()
        first = backend.generate([sample], Sampling(max_tokens=1))[0]
        assert first.logprob == pytest.approx(best.item(), abs=1e-4)


def test_chat_answers_about_a_film(released: Path, film: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", str(released), str(film), "Why?", "--max-tokens", "4", "--device", "cpu"]) == 0
    whole = capsys.readouterr().out
    assert whole.strip()
    assert main(["chat", str(released), str(film), "Why?", "--max-tokens", "4", "--device", "cpu", "--frames", "1"]) == 0
    assert capsys.readouterr().out.strip()
    assert main(["chat", str(released), "absent.mp4", "Why?", "--device", "cpu"]) == 2


def test_a_reducer_can_be_put_behind_it(released: Path, film: Path, tmp_path: Path) -> None:
    """The converted model's config takes `video.reducer` like any other's: two tokens a frame are left of four."""
    assert run(ConvertConfig(source=str(released), out=tmp_path / "ours"))["out"] == str(tmp_path / "ours")
    for name in ("config.json", "processor_config.json"):
        written = json.loads((tmp_path / "ours" / name).read_text())
        written["video"] |= {"reducer": {"type": "tome", "keep": 2}} | ({"grid": [2, 2]} if name.startswith("processor") else {})
        (tmp_path / "ours" / name).write_text(json.dumps(written))
    reduced = load_backend(str(tmp_path / "ours"), device="cpu")
    assert reduced.prompts.ids(asked(film)).count(reduced.prompts.processor.image_token_id) == 4
    assert reduced.generate([asked(film)], Sampling(max_tokens=2))[0].tokens >= 1


def test_converted_it_is_the_same(released: Path, backend: Any, film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ConvertConfig(source=str(released), out=tmp_path / "ours"))["out"] == str(tmp_path / "ours")
    told = capsys.readouterr().out
    assert "weights mapped" in told
    assert "1 in the file and never used: image_newline" in told
    converted, sample = load_backend(str(tmp_path / "ours"), device="cpu"), asked(film)
    assert converted.prompts.ids(sample) == backend.prompts.ids(sample)
    with torch.no_grad():
        ours, theirs = (b.model(**b.prompts.encode([sample])).logits for b in (converted, backend))
    assert torch.equal(ours, theirs)


# -- full size ---------------------------------------------------------------------------------------------------------


def test_names_and_parameters_of_the_published_checkpoint() -> None:
    """16.12 GB in bfloat16: Qwen2-7B 7,615,616,512 + SigLIP 428,225,600 + the projector's 16,980,992 + a newline of 3,584."""
    with torch.device("meta"):
        model = LvlmForConditionalGeneration(opt_visor_layout.to_lvlm_config(REAL))
    assert model.config.num_image_tokens == 49
    assert VIDEO.items() <= model.config.video.items()
    assert parameters_of(model) == {"language model": 7_615_616_512, "vision": 428_225_600, "adapter": 16_980_992}
    shapes = opt_visor_layout.released_shapes(model)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 8_060_826_688
    assert round(2 * 8_060_826_688 / 1e9, 2) == 16.12
    assert shapes["mm_projector.linear.0.weight"] == (3584, 1152)
    assert shapes["mm_projector.linear.2.bias"] == (3584,)
    assert shapes["image_newline"] == (3584,)
    decoder = {f"model.model.layers.27.self_attn.{n}_proj.bias" for n in "qkv"} | {"model.model.norm.weight", "model.lm_head.weight"}
    tower = {"vision_model.vision_model.encoder.layers.26.mlp.fc2.bias", "vision_model.vision_model.head.probe"}
    assert decoder | tower <= set(shapes)
    assert len(shapes) == 339 + 448 + 4 + 1
    ours = {name: aitqe_layout.our_name(name, opt_visor_layout.PREFIXES) for name in shapes if name != "image_newline"}
    assert all(opt_visor_layout.released_name(place) == name for name, place in ours.items())


VIDEO = {"sampler": "opt_visor", "frames": 120, "times": REAL["frame_pattern"], "reducer": None}


def test_doctor_reads_its_headers(released: Path) -> None:
    found = inspect_model(str(released))
    assert found.ok
    assert "released Opt-Visor layout" in found.kind
    assert found.match is not None
    assert found.match.matching == len(opt_visor_layout.released_shapes(load_backend(str(released), device="cpu").model))


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mm_projector_type": "temp"}, "known: mlp, mean, mean_after"),
        ({"mm_projector_type": "mlp"}, "no pooling and a pooling_kernel of 4"),
        ({"image_tile_tokens": 730}, "disagrees with itself"),
        ({"hidden_size": None}, "lacks hidden_size"),
    ],
)
def test_configs_that_cannot_run(changes: dict[str, Any], said: str) -> None:
    written = {key: value for key, value in (REAL | changes).items() if value is not None}
    with pytest.raises(UserError, match=said):
        opt_visor_layout.to_lvlm_config(written)


def test_a_projector_without_pooling_is_read_too(released: Path, upstream: Upstream, film: Path, tmp_path: Path) -> None:
    """`mlp`: GELU, no second bias, names without `linear`; every patch is a token."""
    folder = tmp_path / "plain"
    folder.mkdir()
    for file in released.iterdir():
        if file.is_file() and not file.name.endswith(".safetensors"):
            (folder / file.name).write_bytes(file.read_bytes())
    weights = {k: v for k, v in upstream.released().items() if not k.startswith("mm_projector")}
    weights |= {
        "mm_projector.0.weight": torch.randn(16, 24),
        "mm_projector.0.bias": torch.randn(16),
        "mm_projector.2.weight": torch.randn(16, 16),
    }
    save_file(weights, folder / "model.safetensors")
    upstream.tower.config.save_pretrained(folder / "tower")
    config = json.loads((folder / "config.json").read_text()) | {"mm_projector_type": "mlp", "pooling_kernel": 1}
    (folder / "config.json").write_text(json.dumps(config))
    loaded = load_backend(str(folder), device="cpu")
    assert loaded.prompts.ids(asked(film)).count(loaded.prompts.processor.image_token_id) == 2 * 25
    states = loaded.model.tower_features(torch.zeros(1, 3, 70, 70))[0].features
    expected = F.gelu(states @ weights["mm_projector.0.weight"].T + weights["mm_projector.0.bias"]) @ weights["mm_projector.2.weight"].T
    torch.testing.assert_close(loaded.model.visual_tokens(torch.zeros(1, 3, 70, 70)).features, expected)


def test_a_checkpoint_that_is_not_whole_is_told(released: Path, upstream: Upstream, tmp_path: Path) -> None:
    for file in released.iterdir():
        if file.is_file() and not file.name.endswith(".safetensors"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    upstream.tower.config.save_pretrained(tmp_path / "tower")
    weights = upstream.released()
    del weights["mm_projector.linear.2.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"not whole: .* MISSING from the file: model.adapter.mlp.linear_2.bias"):
        opt_visor_layout.load_opt_visor(tmp_path)
