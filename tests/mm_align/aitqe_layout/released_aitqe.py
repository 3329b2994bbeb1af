"""A tiny random AITQE in exactly the released layout: its tokenizer, its stock parts, its logits, copies of it with something amiss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

from data_tools.aitqe.prompt import AITQE_PROMPT
from data_tools.records import Image, Sample

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


def asked(caption: str, number: int = 0) -> Sample:
    noise = np.random.default_rng(number).integers(0, 255, (28, 28, 3), dtype=np.uint8)
    return Sample(f"s{number}", (AITQE_PROMPT.message(caption),), (Image(pixels=PIL.Image.fromarray(noise)),))


def upstream_logits(upstream: Upstream, backend, sample: Sample) -> torch.Tensor:
    ids = backend.prompts.ids(sample)
    places = [token == backend.prompts.processor.image_token_id for token in ids]
    picture = torch.tensor(np.asarray(sample.images[0].pixels), dtype=torch.float32).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        return upstream.logits(picture, ids, places)


def our_logits(backend, sample: Sample) -> torch.Tensor:
    with torch.no_grad():
        return backend.model(**backend.prompts.encode([sample])).logits[0]


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
