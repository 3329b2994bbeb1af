"""A model of a few thousand parameters with its processor, for every test that needs a whole LVLM."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest


def beside(name: str) -> Any:
    """A module of this folder that is no test."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Each once: pytest may read this file a second time, and another `Refusal` is not the one that the tests raise.
for name in ("endpoint_server", "engine_faults", "scripted_enhance", "sliced_runs"):
    if name not in sys.modules:
        sys.modules[name] = beside(name)


def byte_tokenizer() -> Any:
    """One token a byte, and three special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eos>",
        pad_token="<pad>",
        additional_special_tokens=["<image>"],
        clean_up_tokenization_spaces=False,
    )


def tiny_config(tokenizer: Any, **changes: Any) -> Any:
    """SigLIP of 3 layers on 16 px (4 tokens a picture) and Qwen2 of 2 layers."""
    from mm_align.models import LvlmConfig

    parts: dict[str, Any] = {
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 8,
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "tie_word_embeddings": True,
            "initializer_range": 0.2,
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        "adapter": {"type": "mlp", "hidden_size": 24},
        "image_token_id": tokenizer.convert_tokens_to_ids("<image>"),
    }
    return LvlmConfig(**(parts | changes))


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def make_model(tokenizer: Any) -> Callable[..., Any]:
    """A fresh tiny model with seeded weights, in eval mode; keyword arguments change the config."""
    import torch

    from mm_align.models import LvlmForConditionalGeneration

    def make(**changes: Any) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return LvlmForConditionalGeneration(tiny_config(tokenizer, **changes)).eval()

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Any]) -> Any:
    """Shared: leave its weights alone."""
    return make_model()


@pytest.fixture(scope="session")
def make_processor(tokenizer: Any) -> Callable[..., Any]:
    import copy

    from mm_align.models import LvlmProcessor
    from vision.images import SquareImageProcessor

    def make(**options: Any) -> Any:
        return LvlmProcessor(SquareImageProcessor(size=16), copy.deepcopy(tokenizer), **({"num_image_tokens": 4} | options))

    return make


@pytest.fixture(scope="session")
def processor(make_processor: Callable[..., Any]) -> Any:
    return make_processor()


@pytest.fixture(scope="session")
def picture() -> Callable[[int], PIL.Image.Image]:
    """Noise of 20 x 30 pixels, by seed."""

    def make(seed: int) -> PIL.Image.Image:
        return PIL.Image.fromarray(np.random.default_rng(seed).integers(0, 255, (20, 30, 3), dtype=np.uint8))

    return make


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> str:
    """A random CLIP of a few thousand parameters with its processor."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = CLIPConfig(
        vision_config=sizes | {"image_size": 16, "patch_size": 8},
        text_config=sizes | ends | {"vocab_size": len(tokenizer), "max_position_embeddings": 48},
        projection_dim=16,
    )
    folder = tmp_path_factory.mktemp("encoder")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    square = {"height": 16, "width": 16}
    CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=square), tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def painted() -> Any:
    """The maker of films that decoding is tested with: the number of a frame is painted into it."""
    import sys

    spec = importlib.util.spec_from_file_location("painted_clips", Path(__file__).parents[1] / "video" / "clips.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["painted_clips"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory, painted: Any) -> Path:
    """Sixty frames of 96 x 64 in two seconds, H.264."""
    path: Path = painted.write(tmp_path_factory.mktemp("film") / "film.mp4", range(60))
    return path


@pytest.fixture
def reported(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """reported("memory", "tiny-lvlm", code=0): the report of `mmalign ... --json`, which is all that standard output holds."""
    from mm_align.cli import main

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    def call(*words: object, code: int = 0) -> Any:
        capsys.readouterr()
        told = main([*map(str, words), "--json"])
        out, errors = capsys.readouterr()
        assert told == code, errors
        return json.loads(out, parse_constant=refuse)

    return call


# Enhancing


@pytest.fixture
def quality_model(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The model of every name is `scripted_enhance.Scripted()`."""
    import mm_align.backends

    backend = sys.modules["scripted_enhance"].Scripted()
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
    return backend


# Feedback


@pytest.fixture(scope="session")
def fb() -> Any:
    """The module scripted_feedback.py."""
    return beside("scripted_feedback")


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, fb: Any) -> Callable[[Any], Any]:
    """A function that makes a backend the model of every name; until then it is `fb.Scripted()`."""
    import mm_align.backends

    def use(backend: Any) -> Any:
        monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
        return backend

    use(fb.Scripted())
    return use


@pytest.fixture
def pictures(tmp_path: Path, picture: Callable[[int], PIL.Image.Image]) -> Path:
    """A folder of four pictures, p0.png to p3.png."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for seed in range(4):
        picture(seed).save(folder / f"p{seed}.png")
    return folder


# Endpoints


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A server, no key in the environment, and a cache folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MM_ALIGN_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    started = sys.modules["endpoint_server"].Server()
    yield started
    started.close()


@pytest.fixture
def stall(server: Any) -> Any:
    """Nothing comes until the test is over."""
    return lambda handler: server.released.wait(10)


@pytest.fixture
def drip(server: Any) -> Any:
    """A byte now and then, without end: each keeps the socket alive."""

    def dripping(handler: Any) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not server.released.wait(0.05):
            handler.wfile.write(b" ")
            handler.wfile.flush()

    return dripping


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints that try three times without waiting long."""
    from mm_align.backends.http import Endpoint

    monkeypatch.setattr(Endpoint.__init__, "__kwdefaults__", {"timeout": 5.0, "attempts": 3, "first_wait": 0.01})


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints that are believed to offer what most do, so that a test sees its own requests only."""
    from mm_align.backends import openai_

    monkeypatch.setattr(openai_, "probed", lambda *_, **__: openai_.ASSUMED)
