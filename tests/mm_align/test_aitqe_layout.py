"""Released AITQE checkpoints: a tiny random one written in exactly their layout, and the real sizes on the meta device."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from data_tools.aitqe.prompt import AITQE_PROMPT
from data_tools.calls import Sampling
from data_tools.records import Image, Sample
from mm_align.backends import load_backend
from mm_align.config import UserError
from mm_align.jobs import doctor
from mm_align.jobs.convert import ConvertConfig, run
from mm_align.models import LvlmForConditionalGeneration, aitqe_layout
from mm_align.models.inspect import inspect_model, parameters_of

GOLDEN = {  # token -> id under the Qwen2 vocabulary (aitqe method page, 1.6 and 1.9)
    "Evaluate": 82345,
    "Ġthe": 279,
    "Ġcaption": 17256,
    "if": 333,
    "Ġscore": 5456,
    "Ġis": 374,
    "Ġlow": 3347,
    "Ġgive": 2968,
    "Ġa": 264,
    "Ġshort": 2805,
    "Ġdescription": 4008,
    "Ġof": 315,
    "Ġimage": 2168,
    ".Ċ": 624,
    "Respond": 65354,
    "Ġusing": 1667,
    "Ġdictionary": 10997,
    "Ġstructure": 5944,
    "ĊĊ": 271,
    '{"': 4913,
    "Rec": 3820,
    "Overall": 27489,
    '>",': 21156,
}
AFTER_CAPTION = [333, 5456, 374, 3347, 11, 2968, 264, 2805, 4008, 315, 279, 2168, 624, 65354, 1667, 264, 10997, 5944, 13]
ADDED = {"<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<img_start>": 151646, "<noloss_start>": 151647}
PLAIN_ADDED = "<noloss_start>"  # added, but not marked special
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
REAL = {
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
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "language_model_name_or_path": "/models/base",
    "vision_model_name_or_path": "/models/tower",
    "mm_projector_type": "mlp",
    "image_aspect_ratio": "square",
    "visual_hidden_dim": 1152,
    "pesudo_img_size": 384,
    "pesudo_patch_size": 14,
    "image_tile_tokens": 729,
    "pooling_kernel": 1,
}


def byte_order() -> list[str]:
    """The 256 byte letters with GPT-2's ids: printable ones first, so that a newline is 198 and a space 220."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    assert set(letters) == set(pre_tokenizers.ByteLevel.alphabet())
    return letters


def write_tokenizer(folder: Path) -> None:
    """vocab.json and merges.txt that hold the golden tokens under their real ids; half-way merges get ids from 100000 on, and
    words that no merge reaches fill the rest, so that added tokens begin at 151643 as in the real file."""
    vocab = {letter: i for i, letter in enumerate(byte_order())} | GOLDEN
    merges: list[str] = []
    for token in GOLDEN:
        for cut in range(1, len(token)):
            merge = f"{token[:cut]} {token[cut]}"
            if merge not in merges:
                merges.append(merge)
            vocab.setdefault(token[: cut + 1], 100000 + len(vocab))
    taken = set(vocab.values())
    vocab |= {f"unused {i}": i for i in range(ADDED["<|endoftext|>"]) if i not in taken}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    added = {
        str(i): {
            "content": text,
            "special": text != PLAIN_ADDED,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "single_word": False,
        }
        for text, i in ADDED.items()
    }
    settings = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "added_tokens_decoder": added,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


class Upstream(torch.nn.Module):
    """The released model from stock parts: hidden_states[-2] of the tower, two Linear layers, Qwen2 [R: modeling_mm.py]."""

    def __init__(self) -> None:
        super().__init__()
        tower = SiglipVisionConfig(
            hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=28, patch_size=14
        )
        self.tower = SiglipVisionModel(tower)
        text = Qwen2Config(
            vocab_size=152064,
            max_position_embeddings=512,
            tie_word_embeddings=False,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            **SIZES,
        )
        self.model = Qwen2ForCausalLM(text)
        self.projector = torch.nn.Sequential(torch.nn.Linear(24, 16), torch.nn.GELU(), torch.nn.Linear(16, 16, bias=False))
        self.newline = torch.nn.Parameter(torch.randn(16))

    def released(self) -> dict[str, torch.Tensor]:
        """The weights under their released names."""
        named = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        named |= {f"vision_model.vision_model.{k}": v for k, v in self.tower.state_dict().items()}
        named |= {f"mm_projector.{k}": v for k, v in self.projector.state_dict().items()}
        return {k: v.detach().clone() for k, v in named.items()} | {"image_newline": self.newline.detach()}

    def logits(self, pixels: torch.Tensor, ids: list[int], places: list[bool]) -> torch.Tensor:
        """One row: `ids` where `places` is False, the picture's vectors elsewhere. [L, V]"""
        states = self.tower(pixels, output_hidden_states=True).hidden_states[-2]
        embeds = self.model.get_input_embeddings()(torch.tensor([[0 if here else token for token, here in zip(ids, places, strict=True)]]))
        embeds[0, torch.tensor(places)] = self.projector(states)[0]
        return self.model(inputs_embeds=embeds).logits[0]


@pytest.fixture(scope="module")
def upstream() -> Upstream:
    torch.manual_seed(0)
    model = Upstream().eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 0.3)
    return model


@pytest.fixture(scope="module")
def released(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as published: shards, no tokenizer.json, no preprocessor_config.json; the tower's path does not say "siglip"."""
    folder = tmp_path_factory.mktemp("released") / "tiny"
    folder.mkdir()
    weights = sorted(upstream.released().items())
    for part, rows in enumerate((weights[:40], weights[40:]), 1):
        save_file(dict(rows), folder / f"model-0000{part}-of-00002.safetensors")
    config = REAL | SIZES | {"max_position_embeddings": 512, "visual_hidden_dim": 24, "pesudo_img_size": 28, "image_tile_tokens": 4}
    config |= {"vision_model_name_or_path": "tower", "eos_token_index": 151643, "pad_token_index": 151643, "image_token_index": -200}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text('{"eos_token_id": 151643}')
    (folder / "tower").mkdir()
    upstream.tower.config.save_pretrained(folder / "tower")
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def backend(released: Path):
    return load_backend(str(released), device="cpu", batch_size=4)


def asked(caption: str, number: int = 0) -> Sample:
    noise = np.random.default_rng(number).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    return Sample(f"s{number}", (AITQE_PROMPT.message(caption),), (Image(pixels=PIL.Image.fromarray(noise)),))


# -- tokens ------------------------------------------------------------------------------------------------------------


def test_golden_ids(backend):
    """[picture], 198, 198, 82345 ... 25, the caption with its leading space, 198, 333 ... 13; "a" alone is 264 behind a space."""
    ids = backend.prompts.ids(asked("a"))
    picture = [backend.prompts.processor.image_token_id] * 4
    assert ids == [*picture, 198, 198, 82345, 279, 17256, 25, 264, 198, *AFTER_CAPTION]
    assert 271 not in ids
    assert backend.tokenizer.encode("\n\n") == [271], "the vocabulary does have the token that must not appear"
    assert len(ids) - len(picture) - 1 == 26  # 26 tokens of text besides the caption


def test_a_caption_that_ends_in_a_full_stop_merges_with_the_newline(backend):
    ids = backend.prompts.ids(asked("a."))[4:]
    assert ids == [198, 198, 82345, 279, 17256, 25, 264, 624, *AFTER_CAPTION]


def test_added_tokens_have_the_ids_of_the_file(backend):
    assert {text: backend.tokenizer.convert_tokens_to_ids(text) for text in ADDED} == ADDED
    assert backend.prompts.processor.image_token_id == max(ADDED.values()) + 1


def test_golden_answer_tokens(backend):
    encode = backend.tokenizer.encode
    assert encode('{"Rec')[:2] == [4913, 3820]
    assert encode('{"Overall')[:2] == [4913, 27489]
    assert encode('2<Overall>",')[-1] == 21156
    assert [encode(digit) for digit in "0123456789"] == [[15 + i] for i in range(10)]


@pytest.mark.parametrize("hostile", ["<|endoftext|>", "<img_start>", "<noloss_start>", "<|im_end|><|im_start|>", "<image>"])
def test_a_caption_cannot_inject_control_ids(backend, hostile):
    control = set(ADDED.values()) | {backend.prompts.processor.image_token_id}
    ids = backend.prompts.ids(asked(f"a {hostile} b"))
    assert control & set(ids[4:]) == set()
    assert ids[:4] == [backend.prompts.processor.image_token_id] * 4


# -- weights -----------------------------------------------------------------------------------------------------------


def upstream_logits(upstream: Upstream, backend, sample: Sample) -> torch.Tensor:
    ids = backend.prompts.ids(sample)
    places = [token == backend.prompts.processor.image_token_id for token in ids]
    picture = torch.tensor(np.asarray(sample.images[0].pixels), dtype=torch.float32).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        return upstream.logits(picture, ids, places)


def our_logits(backend, sample: Sample) -> torch.Tensor:
    with torch.no_grad():
        return backend.model(**backend.prompts.encode([sample])).logits[0]


def test_logits_equal_those_of_the_stock_parts(upstream, backend):
    sample = asked("a short description of the image.")
    expected = upstream_logits(upstream, backend, sample)
    assert (our_logits(backend, sample) - expected).abs().max() < 1e-4
    assert expected.std() > 0.1


def test_the_backend_answers_as_the_stock_parts_do(upstream, backend):
    """Two rows of different length in one batch; each first token is the stock parts' best one."""
    samples = [asked("a", 1), asked("a short description of the image", 2)]
    answers = backend.generate(samples, Sampling(max_tokens=1))
    for sample, answer in zip(samples, answers, strict=True):
        best = upstream_logits(upstream, backend, sample)[-1].log_softmax(-1).max()
        assert answer.logprob == pytest.approx(best.item(), abs=1e-4)


def test_describe(backend):
    assert backend.describe()["model"] == "tiny"
    assert backend.loaded.ends == [151643]


def test_convert_and_back(released, upstream, backend, tmp_path, capsys):
    ours, again = tmp_path / "ours", tmp_path / "again"
    assert run(ConvertConfig(source=str(released), out=ours)) == 0
    told = capsys.readouterr().out
    assert "weights mapped" in told
    assert "1 in the file and never used: image_newline" in told
    converted = load_backend(str(ours), device="cpu")
    sample = asked("a low score")
    assert torch.equal(our_logits(converted, sample), our_logits(backend, sample))
    assert converted.prompts.ids(sample) == backend.prompts.ids(sample)
    assert converted.loaded.ends == backend.loaded.ends
    assert run(ConvertConfig(source=str(ours), out=again)) == 0
    written = load_file(again / "model.safetensors")
    assert set(written) == set(upstream.released())
    assert torch.equal(our_logits(load_backend(str(again), device="cpu"), sample), our_logits(backend, sample))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_convert_refuses_what_it_cannot_do(released, tmp_path):
    with pytest.raises(UserError, match="exists; choose another --out"):
        run(ConvertConfig(source=str(released), out=tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"model_type": "qwen2_vl"}')
    with pytest.raises(UserError, match="holds a qwen2_vl model; expected a released AITQE"):
        run(ConvertConfig(source=str(tmp_path / "other"), out=tmp_path / "new"))
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
    with pytest.raises(UserError, match="has no weights to convert"):
        run(ConvertConfig(source="null:", out=tmp_path / "new"))


@pytest.mark.parametrize("out", ["src/tiny", "src", "src/tiny/inside", "src/tiny/a/b"])
def test_convert_never_removes_or_fills_its_source(tmp_path, out):
    """--overwrite once removed any folder, also the one that holds the source."""
    source = tmp_path / "src" / "tiny"
    source.mkdir(parents=True)
    (source / "config.json").write_text('{"model_type": "mm"}')
    with pytest.raises(UserError, match="the source itself|lie inside each other"):
        run(ConvertConfig(source=str(source), out=tmp_path / out, overwrite=True))
    assert contents(tmp_path) == {"src/tiny/config.json": b'{"model_type": "mm"}'}


def test_convert_replaces_only_its_own_work(model_folder_of_ours, tmp_path):
    out, source = tmp_path / "out", str(model_folder_of_ours)
    out.mkdir()
    (out / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match="no folder that convert wrote"):
        run(ConvertConfig(source=source, out=out, overwrite=True))
    assert contents(out) == {"thesis.tex": b"x"}
    (out / "thesis.tex").unlink()
    assert run(ConvertConfig(source=source, out=out, overwrite=True)) == 0
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds what convert did not write \(notes.txt\)"):
        run(ConvertConfig(source=source, out=out, overwrite=True))
    (out / "notes.txt").unlink()
    (out / "config.json").write_text("{}")
    assert run(ConvertConfig(source=source, out=out, overwrite=True)) == 0
    assert json.loads((out / "config.json").read_text())["model_type"] == "mm"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        run(ConvertConfig(source=source, out=tmp_path / "file", overwrite=True))


def test_convert_again_has_nothing_to_do(model_folder_of_ours, tmp_path, capsys):
    """Until the source or the output is another one."""
    out, source = tmp_path / "out", Path(shutil.copytree(model_folder_of_ours, tmp_path / "src"))
    assert run(ConvertConfig(source=str(source), out=out)) == 0
    before = contents(out)
    assert str(tmp_path) not in (out / "converted.json").read_text()
    assert run(ConvertConfig(source=str(source), out=out)) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert contents(out) == before
    (out / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="exists; choose another --out"):
        run(ConvertConfig(source=str(source), out=out))
    (out / "tokenizer.json").write_bytes(before["tokenizer.json"])
    (source / "config.json").write_text((source / "config.json").read_text() + "\n")
    with pytest.raises(UserError, match="exists; choose another --out"):
        run(ConvertConfig(source=str(source), out=out))


def test_a_failing_convert_leaves_nothing(model_folder_of_ours, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(aitqe_layout, "save_released", full)
    with pytest.raises(OSError, match="No space left"):
        run(ConvertConfig(source=str(model_folder_of_ours), out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_convert_hides_bars_in_a_pipe(model_folder_of_ours, tmp_path, monkeypatch):
    hidden: list[bool] = []
    monkeypatch.setattr("transformers.utils.logging.disable_progress_bar", lambda: hidden.append(True))
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert run(ConvertConfig(source=str(model_folder_of_ours), out=tmp_path / "out")) == 0
    assert hidden


@pytest.fixture(scope="module")
def model_folder_of_ours(tmp_path_factory, make_model, make_processor) -> Path:
    """A tiny model in our own layout; its tokenizer is small, so that converting it takes no time."""
    folder = tmp_path_factory.mktemp("ours") / "small"
    make_model(feature_layer=-2, keep_cls=False, adapter={"type": "mlp", "hidden_size": 32, "bias": [True, False]}).save_pretrained(folder)
    make_processor(prompt_style="plain").save_pretrained(folder)
    return folder


# -- the hub -----------------------------------------------------------------------------------------------------------


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cached(released, tmp_path, monkeypatch) -> Path:
    """The checkpoint as the hub's cache keeps it, under the id HymanH/AITQE, on a machine without network."""
    repository = tmp_path / "cache" / "models--HymanH--AITQE"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(released, repository / "snapshots" / COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    return repository / "snapshots" / COMMIT


def test_a_released_checkpoint_by_hub_id(cached, backend):
    """transformers knows no model type "mm", so the id must go the released layout's way."""
    found = load_backend("HymanH/AITQE", device="cpu")
    assert found.describe() == {"model": "HymanH/AITQE", "revision": COMMIT}
    assert torch.equal(our_logits(found, asked("a")), our_logits(backend, asked("a")))
    assert load_backend("HymanH/AITQE", revision=COMMIT, device="cpu").describe()["revision"] == COMMIT
    with pytest.raises(UserError, match="cannot load the model 'HymanH/AITQE'"):
        load_backend("HymanH/AITQE", revision="nosuch")


def test_doctor_and_convert_by_hub_id(cached, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", list)
    assert doctor.run(doctor.DoctorConfig(model="HymanH/AITQE")) == 0
    told = capsys.readouterr().out
    assert "HymanH/AITQE: released AITQE layout, siglip_vision_model + MLP + qwen2" in told
    assert "MiB in bfloat16" in told
    assert run(ConvertConfig(source="HymanH/AITQE", out=tmp_path / "ours")) == 0
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["model_type"] == "mm_align_lvlm"
    mark = json.loads((tmp_path / "ours" / "converted.json").read_text())
    assert (mark["source"], mark["revision"]) == ("HymanH/AITQE", COMMIT)
    capsys.readouterr()
    assert run(ConvertConfig(source="HymanH/AITQE", out=tmp_path / "ours")) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_cache_without_all_weights(cached):
    """Loading says which file is missing; inspecting goes by the config and the network, which is not there."""
    (cached / "model-00002-of-00002.safetensors").unlink()
    (cached / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    )
    with pytest.raises(UserError, match="names model-00002-of-00002.safetensors, which is missing"):
        load_backend("HymanH/AITQE", device="cpu")
    with pytest.raises(UserError, match="no published SigLIP tower is 24 wide"):
        inspect_model("HymanH/AITQE")


# -- what is missing, what is wrong ------------------------------------------------------------------------------------


def changed(released: Path, to: Path, *, without: str = "", **config: object) -> Path:
    """A copy of the checkpoint in which weights whose name holds `without` are left out and config keys differ (None: absent)."""
    folder = Path(shutil.copytree(released, to))
    if without:
        for file in folder.glob("*.safetensors"):
            with safe_open(file, framework="pt") as opened:
                rest = {name: opened.get_tensor(name) for name in opened.keys() if without not in name}  # noqa: SIM118
            save_file(rest, file)
    written = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps({k: v for k, v in written.items() if v is not None or k not in config}))
    return folder


@pytest.mark.parametrize("without", [".head.", ".post_layernorm.", "image_newline"])
def test_unused_parts_may_be_absent(released, backend, tmp_path, without):
    other = load_backend(str(changed(released, tmp_path / "x", without=without)), device="cpu")
    assert torch.equal(our_logits(other, asked("a")), our_logits(backend, asked("a")))


@pytest.mark.parametrize("without", ["mm_projector.2", "layers.1.mlp.up_proj", "vision_model.vision_model.embeddings"])
def test_used_parts_may_not(released, tmp_path, without):
    with pytest.raises(UserError, match=r"not whole: .* MISSING from the file: "):
        load_backend(str(changed(released, tmp_path / "x", without=without)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pesudo_img_size": None}, "lacks pesudo_img_size"),
        ({"image_tile_tokens": 9}, "disagrees with itself: 4 tokens a picture by its sizes, 9 by image_tile_tokens"),
        ({"mm_projector_type": "resampler"}, "mm_projector_type = 'resampler'"),
        ({"pooling_kernel": 2}, "pooling_kernel = 2"),
        ({"vision_model_name_or_path": "/models/siglip-gone"}, "no published SigLIP tower is 24 wide"),
    ],
)
def test_configs_that_cannot_run(released, tmp_path, config, message):
    with pytest.raises(UserError, match=message):
        load_backend(str(changed(released, tmp_path / "x", **config)))


def test_added_tokens_that_come_out_elsewhere(released, tmp_path):
    """Half a vocabulary moves the added tokens to other ids, which would read other rows of the embedding."""
    folder = changed(released, tmp_path / "x")
    vocab = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({k: v for k, v in vocab.items() if not k.startswith("unused")}))
    with pytest.raises(UserError, match="but it comes out as"):
        load_backend(str(folder))


def test_a_released_file_cut_short(released, tmp_path):
    folder = changed(released, tmp_path / "x")
    file = folder / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(UserError, match="model-00002-of-00002.safetensors is cut short"):
        load_backend(str(folder))


def test_no_tokenizer(released, tmp_path):
    folder = changed(released, tmp_path / "x")
    (folder / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"no tokenizer: expected vocab\.json and merges\.txt"):
        load_backend(str(folder))


def test_the_towers_kind_is_not_read_from_its_path(released, backend, tmp_path):
    """Upstream drops the first patch unless the path says "siglip"; here a path that says "clip" changes nothing."""
    folder = changed(released, tmp_path / "x", vision_model_name_or_path="my-clip-tower")
    (folder / "tower").rename(folder / "my-clip-tower")
    assert torch.equal(our_logits(load_backend(str(folder), device="cpu"), asked("a")), our_logits(backend, asked("a")))


def test_a_clip_tower_loses_its_class_token():
    """A CLIP tower is known by its class embedding; 577 rows of positions give 576 tokens a picture."""
    headers = {
        name: aitqe_layout.Header(shape, torch.bfloat16)
        for name, shape in {
            "vision_model.vision_model.embeddings.class_embedding": (1024,),
            "vision_model.vision_model.encoder.layers.23.mlp.fc1.weight": (4096, 1024),
            "vision_model.vision_model.encoder.layers.0.mlp.fc1.weight": (4096, 1024),
        }.items()
    }
    sizes = {
        "visual_hidden_dim": 1024,
        "pesudo_img_size": 336,
        "image_tile_tokens": 576,
        "vision_model_name_or_path": "siglip-in-name-only",
    }
    config = aitqe_layout.to_lvlm_config(REAL | sizes, headers)
    assert config.vision_config.model_type == "clip_vision_model"
    assert config.vision_config.num_hidden_layers == 24
    assert config.num_image_tokens == 576


# -- the real sizes ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> LvlmForConditionalGeneration:
    with torch.device("meta"):
        return LvlmForConditionalGeneration(aitqe_layout.to_lvlm_config(REAL))


def released_keys() -> set[str]:
    """The key list of the method page (1.4), written out: 339 + 448 + 3 + 1."""
    attention = [f"self_attn.{p}_proj.{kind}" for p in "qkv" for kind in ("weight", "bias")] + ["self_attn.o_proj.weight"]
    rest = [f"mlp.{p}_proj.weight" for p in ("gate", "up", "down")] + ["input_layernorm.weight", "post_attention_layernorm.weight"]
    keys = {f"model.model.layers.{i}.{name}" for i in range(28) for name in attention + rest}
    keys |= {"model.model.embed_tokens.weight", "model.model.norm.weight", "model.lm_head.weight"}
    assert len(keys) == 339
    both = ("weight", "bias")
    parts = ["layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", *[f"self_attn.{p}_proj" for p in ("q", "k", "v", "out")]]
    tower = {f"encoder.layers.{i}.{part}.{kind}" for i in range(27) for part in parts for kind in both}
    tower |= {"embeddings.patch_embedding.weight", "embeddings.patch_embedding.bias", "embeddings.position_embedding.weight"}
    tower |= {f"{part}.{kind}" for part in ("post_layernorm", "head.layernorm", "head.mlp.fc1", "head.mlp.fc2") for kind in both}
    tower |= {
        "head.probe",
        "head.attention.in_proj_weight",
        "head.attention.in_proj_bias",
        "head.attention.out_proj.weight",
        "head.attention.out_proj.bias",
    }
    assert len(tower) == 448
    return (
        keys
        | {f"vision_model.vision_model.{name}" for name in tower}
        | {"mm_projector.0.weight", "mm_projector.0.bias", "mm_projector.2.weight", "image_newline"}
    )


def test_the_real_model_has_the_791_released_names(real):
    shapes = aitqe_layout.released_shapes(real)
    assert len(shapes) == 791
    assert set(shapes) == released_keys()


def test_the_real_model_has_the_released_sizes(real):
    parts = parameters_of(real)
    assert parts["language model"] == 7_615_616_512
    assert parts["vision"] == 428_225_600
    assert parts["adapter"] + 3584 == 16_980_992  # image_newline is stored and has no place in our model
    shapes = aitqe_layout.released_shapes(real)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 7_615_616_512 + 428_225_600 + 16_980_992


def test_names_go_both_ways(real):
    for name in real.state_dict():
        assert aitqe_layout.our_name(aitqe_layout.released_name(name)) == name
    assert aitqe_layout.our_name("image_newline") is None
    with pytest.raises(KeyError):
        aitqe_layout.released_name("model.something_else.weight")


# -- inspection --------------------------------------------------------------------------------------------------------


def test_inspect_reads_headers_only(released, monkeypatch):
    monkeypatch.setattr("safetensors.safe_open", lambda *a, **k: pytest.fail("a weight was opened"))
    found = inspect_model(str(released))
    text = "\n".join(found.to_lines())
    assert found.ok
    assert found.match.matching == len(aitqe_layout.released_shapes(_meta(released)))
    assert found.match.ignored == ["image_newline"]
    assert found.stored == found.parameters + 16
    assert found.kv_bytes == 2 * 2 * 1 * 8 * 2  # keys and values, 2 layers, 1 head of 8, 2 bytes
    assert "released AITQE layout, siglip_vision_model + MLP + qwen2" in text
    assert str(released.parent) not in text


def _meta(folder: Path) -> LvlmForConditionalGeneration:
    with torch.device("meta"):
        return LvlmForConditionalGeneration(aitqe_layout.to_lvlm_config(aitqe_layout.read_json(folder / "config.json"), None, folder))


def test_inspect_says_what_is_missing(released, tmp_path):
    found = inspect_model(str(changed(released, tmp_path / "x", without="mm_projector.2")))
    assert not found.ok
    assert found.match.missing == ["mm_projector.2.weight"]
    assert "missing: 1 (mm_projector.2.weight)" in "\n".join(found.to_lines())


def test_inspect_says_what_has_another_shape(released, tmp_path):
    found = inspect_model(str(changed(released, tmp_path / "x", intermediate_size=48)))
    assert len(found.match.misshapen) == 6  # gate, up and down of two layers


def test_inspect_our_own_and_other_layouts(released, tmp_path):
    run(ConvertConfig(source=str(released), out=tmp_path / "ours"))
    found = inspect_model(str(tmp_path / "ours"))
    assert found.ok
    assert found.match.unknown == []
    assert found.kind == "mm_align_lvlm, with a qwen2 decoder"


def test_inspect_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot load the model .nobody.nothing"):
        inspect_model("nobody/nothing")
    with pytest.raises(UserError, match="cannot read"):
        inspect_model(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with pytest.raises(UserError, match=r"expected \*\.safetensors"):
        inspect_model(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"\x01")
    with pytest.raises(UserError, match="no whole safetensors file"):
        inspect_model(str(tmp_path))
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="a qwen2 model, not an image-text model"):
        inspect_model(str(tmp_path))
