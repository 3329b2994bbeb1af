"""Tiny random models of several families, written to disk once, and samples to ask them about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Config,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from data_tools.records import Image, Message, Part, Sample
from mm_align.backends import load_backend
from mm_align.models import LvlmConfig, LvlmForConditionalGeneration, LvlmProcessor
from vision.images import SquareImageProcessor

KEEP, REWRITE = '{"Overall Score": "', '{"Recaption": "'
VERDICTS = ("yes", " yes", "Yes", "no", " no", "NO")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
    "{% if p['type'] == 'text' %}{{ p['text'] }}{% else %}IMAGE{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_tokenizer(*special: str, bos: bool = False, verdicts: tuple[str, ...] = VERDICTS) -> PreTrainedTokenizerFast:
    """Byte-level, no merges; two whole answer openings and spellings of yes and no as tokens; pads with <pad>, ends with <eos>."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens([KEEP, REWRITE, '<Overall>",', *(AddedToken(word, normalized=False) for word in verdicts)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>" if bos else None)
    fast.add_special_tokens({"additional_special_tokens": list(special)})
    if bos:
        start = fast.bos_token_id
        fast._tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", start)])
    return fast


def _scatter(model: torch.nn.Module) -> None:
    """Weights far enough from zero that answers differ between pictures and top-2 margins are wide."""
    torch.manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() > 1:
                p.normal_(0, 0.3)


def _speak_plainly(model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast) -> None:
    """Keeps the model from bytes and marks that are no printable letters, so that answers can be compared as text."""
    rows = [i for i in range(len(tokenizer)) if not (len(t := tokenizer.convert_ids_to_tokens(i)) == 1 and t.isascii() and t.isprintable())]
    with torch.no_grad():
        model.lm_head.weight[rows] = 0


def _text(kind: type, tokenizer: PreTrainedTokenizerFast, **more: object):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    return kind(vocab_size=len(tokenizer), max_position_embeddings=1024, **sizes, **ids, **more)


def build_lvlm(folder: Path) -> None:
    tokenizer = tiny_tokenizer("<image>")
    vision = SiglipVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    text = _text(Qwen2Config, tokenizer, tie_word_embeddings=False)
    config = LvlmConfig(vision_config=vision, text_config=text, image_token_id=tokenizer.convert_tokens_to_ids("<image>"))
    model = LvlmForConditionalGeneration(config)
    _scatter(model)
    _speak_plainly(model, tokenizer)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.half().save_pretrained(folder)
    LvlmProcessor(SquareImageProcessor(32), tokenizer, num_image_tokens=config.num_image_tokens).save_pretrained(folder)


def build_llava(folder: Path, verdicts: tuple[str, ...] = VERDICTS) -> None:
    tokenizer = tiny_tokenizer("<image>", bos=True, verdicts=verdicts)
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
    config = LlavaConfig(
        vision_config=vision, text_config=_text(LlamaConfig, tokenizer), image_token_index=tokenizer.convert_tokens_to_ids("<image>")
    )
    model = LlavaForConditionalGeneration(config)
    _scatter(model)
    model.save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    template = "<bos>" + CHATML.replace("IMAGE", "<image>\n").replace("<|im_start|>", "").replace("<|im_end|>", "")
    LlavaProcessor(
        pictures, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=template
    ).save_pretrained(folder)


def build_qwen(folder: Path) -> None:
    marks = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_start|>", "<|im_end|>")
    tokenizer = tiny_tokenizer(*marks)
    ids = dict(zip(marks, tokenizer.convert_tokens_to_ids(list(marks)), strict=True))
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 32, "patch_size": 4}
    vision |= {"window_size": 16, "fullatt_block_indexes": [1], "temporal_patch_size": 2, "spatial_merge_size": 2}
    text = _text(type(Qwen2_5_VLConfig().text_config), tokenizer).to_dict()
    text |= {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config)
    _scatter(model)
    model.generation_config.repetition_penalty = 1.5
    model.save_pretrained(folder)
    sizes = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
    pictures = Qwen2VLImageProcessor(min_pixels=16 * 16, max_pixels=48 * 48, **sizes)
    template = CHATML.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    videos = Qwen2VLVideoProcessor(**sizes)
    Qwen2_5_VLProcessor(pictures, tokenizer, videos, chat_template=template).save_pretrained(folder)


def build_idefics3(folder: Path) -> None:
    """A picture of 64 pixels is cut into four and shown once more as a whole: five times four tokens."""
    places = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    marks = ("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *places)
    tokenizer = tiny_tokenizer(*marks)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Idefics3Config(
        vision_config=vision | {"image_size": 32, "patch_size": 8},
        text_config=_text(LlamaConfig, tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Idefics3ForConditionalGeneration(config)
    _scatter(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    template = CHATML.replace("IMAGE", "<image>").replace("<|im_start|>", "").replace("<|im_end|>", "<end_of_utterance>")
    Idefics3Processor(pictures, tokenizer, image_seq_len=4, chat_template=template).save_pretrained(folder)


FAMILIES = {"lvlm": build_lvlm, "llava": build_llava, "qwen2_5_vl": build_qwen, "idefics3": build_idefics3}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory):
    """family name -> folder of its tiny model."""
    built: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in built:
            built[family] = tmp_path_factory.mktemp("models") / family
            FAMILIES[family](built[family])
        return built[family]

    return folder


@pytest.fixture(scope="session")
def decided_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny LLaVA whose tokenizer has "Yes" and "No" as single tokens, as typed decisions of transformers need them."""
    folder = tmp_path_factory.mktemp("models") / "llava-no"
    build_llava(folder, (*VERDICTS, "No"))
    return folder


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def backends(model_folder):
    """family name -> its backend, loaded once; tests that change it load their own."""
    loaded: dict[str, object] = {}

    def backend(name: str):
        if name not in loaded:
            loaded[name] = load_backend(str(model_folder(name)), device="cpu", batch_size=8)
        return loaded[name]

    return backend


@pytest.fixture
def backend(backends, family: str):
    return backends(family)


@pytest.fixture
def tower_calls():
    """A context in which calls of the backend's vision tower are counted: one entry a call."""

    @contextmanager
    def counted(backend) -> Iterator[list[int]]:
        calls: list[int] = []
        model = backend.model.model
        tower = next(getattr(model, name) for name in ("vision_tower", "visual", "vision_model") if hasattr(model, name))
        entry = tower.embeddings.patch_embedding if hasattr(tower, "embeddings") else tower  # ours reads layers of a tower by itself
        handle = entry.register_forward_hook(lambda *_: calls.append(1))
        yield calls
        handle.remove()

    return counted


def sample(number: int, text: str) -> Sample:
    """A sample with its own noise picture of 32x32 pixels."""
    noise = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    messages = (Message("user", (Part("image"), Part("text", text))),)
    return Sample(f"s{number}", messages, (Image(pixels=PIL.Image.fromarray(noise)),))


@pytest.fixture
def samples() -> list[Sample]:
    texts = ["a red circle", "", "two blue squares left of a small green star", "été ☕ 漢字", "x" * 90]
    return [sample(i, f"\nEvaluate the caption: {text}\nRespond.") for i, text in enumerate(texts)]
