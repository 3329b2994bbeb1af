"""Speed of feedback, as ratios within one run: sixteen questions about a picture, ten candidates for a picture, many small pictures.

    python scripts/bench/feedback.py              # all on the CPU; --only judging|candidates|small
    python scripts/bench/feedback.py --family qwen2_vl --rounds 5 --device cuda

Random models of three families with 20 to 30 million parameters, and the bundled ones for many small pictures. Every way does the same
work on one thread, interleaved; CPU seconds (on a GPU: seconds), median [least-most] of the rounds. Answers must agree: log-probabilities
of yes and no, and the number of tokens.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from data_tools.calls import Decision, Sampling
from data_tools.io.images import decode
from data_tools.records import Image, Message, Part, Sample
from data_tools.scenes.rows import captioned_scene, png
from mm_align.backends import load_backend
from mm_align.backends.conversations import conversations
from mm_align.backends.questions import encode_questions

ROUNDS = 5
QUESTIONS, CANDIDATES, TOKENS = 16, 10, 32
VOCABULARY = 32_064
TEXT = {"vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": 4096,
        "bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}  # fmt: skip
TOWER = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 6}
CHAT = (
    "{% for m in messages %}{% for p in m['content'] %}{{ p['text'] if p['type'] == 'text' else 'PICTURE' }}{% endfor %}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


# -- models ------------------------------------------------------------------------------------------------------------


def corpus() -> list[str]:
    drawn = (captioned_scene(random.Random(f"bench-{i}"), "train").text for i in range(400))
    return [*drawn, *questions(64), *["yes no Yes No Describe the picture in detail."] * 9]


def tokenizer(*marks: str) -> PreTrainedTokenizerFast:
    """Byte-level BPE of SceneWorld's words; the models' vocabulary is larger, as that of real ones."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(corpus(), trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False))
    fast = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<eos>")
    fast.add_special_tokens({"additional_special_tokens": list(marks)})
    return fast


def save_llava(folder: Path) -> None:
    """A picture of 336 pixels is 576 tokens, as LLaVA-1.5's."""
    words = tokenizer("<image>")
    vision = CLIPVisionConfig(**TOWER, num_attention_heads=6, image_size=336, patch_size=14)
    image = words.convert_tokens_to_ids("<image>")
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=LlamaConfig(**TEXT), image_token_index=image))
    pictures = CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    facts = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    save(model, LlavaProcessor(pictures, words, chat_template=CHAT.replace("PICTURE", "<image>\n"), **facts), folder)


def save_qwen2_vl(folder: Path) -> None:
    """A picture of 364 pixels is 169 tokens at three positions each (M-RoPE)."""
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    words = tokenizer(*marks)
    ids = words.convert_tokens_to_ids(list(marks))
    vision = {"depth": 6, "embed_dim": 192, "num_heads": 6, "mlp_ratio": 4, "hidden_size": 256, "patch_size": 14}
    text = TEXT | {"rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 1e6}}
    keys = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=vision, **dict(zip(keys, ids, strict=True))))
    pictures = Qwen2VLImageProcessor(min_pixels=364 * 364, max_pixels=364 * 364)
    template = CHAT.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>")
    save(model, Qwen2VLProcessor(pictures, words, Qwen2VLVideoProcessor(), chat_template=template), folder)


def save_idefics3(folder: Path) -> None:
    """SmolVLM's way: a picture is cut into 2 x 2 tiles and shown once more as a whole, five times 64 tokens."""
    places = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
    words = tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *places)
    vision = {**TOWER, "num_attention_heads": 6, "image_size": 224, "patch_size": 14}
    image, pad = words.convert_tokens_to_ids("<image>"), words.pad_token_id
    config = Idefics3Config(vision_config=vision, text_config=LlamaConfig(**TEXT), image_token_id=image, scale_factor=2, pad_token_id=pad)
    pictures = Idefics3ImageProcessorPil(size={"longest_edge": 448}, max_image_size={"longest_edge": 224})
    template = CHAT.replace("PICTURE", "<image>")
    save(Idefics3ForConditionalGeneration(config), Idefics3Processor(pictures, words, image_seq_len=64, chat_template=template), folder)


def save(model: Any, processor: Any, folder: Path) -> None:
    model.generation_config.eos_token_id = None  # so that every way writes as many tokens as it may
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


FAMILIES = {"llava": save_llava, "qwen2_vl": save_qwen2_vl, "idefics3": save_idefics3}


def family(name: str, folder: Path, device: str, dtype: str) -> Any:
    torch.manual_seed(0)
    FAMILIES[name](folder / name)
    backend = load_backend(str(folder / name), device=device, dtype=dtype)
    backend.loaded.ends.clear()
    return backend


def sample(number: int, text: str = "") -> Sample:
    scene = captioned_scene(random.Random(f"bench-{number}"), "heldout").scene
    return Sample(f"s{number}", (Message("user", (Part("image"), Part("text", text))),), (decode(Image(data=png(scene))),))


def questions(count: int) -> list[str]:
    rng = random.Random(0)
    names = [f"{c} {s}" for c in ("red", "blue", "green", "yellow") for s in ("circle", "square", "star", "triangle")]
    return [f"Is there a {rng.choice(names)} to the left of the {names[i % len(names)]}? Please answer yes or no." for i in range(count)]


# -- measuring ---------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    seconds: float
    result: Any


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} [{min(values):.3g}-{max(values):.3g}]"


def timed(way: Callable[[], Any], device: str) -> Run:
    """CPU seconds of this process, or seconds on the clock where the work is a GPU's."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    result = way()
    if device != "cpu":
        torch.cuda.synchronize()
    return Run(clock() - started, result)


def interleaved(ways: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, list[Run]]:
    """The first time of each way is not counted: it finds layouts and warms up."""
    found: dict[str, list[Run]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for number in range(rounds):
        for name in list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]:  # nobody is always first
            found[name].append(timed(ways[name], device))
    return found


def told(found: dict[str, list[Run]], base: str) -> dict[str, float]:
    """Prints every way beside `base`; the median ratios."""
    ratios = {name: [b.seconds / r.seconds for b, r in zip(found[base], runs, strict=True)] for name, runs in found.items()}
    for name, runs in found.items():
        print(f"  {name:42} {spread([run.seconds for run in runs])} s, {spread(ratios[name])} x as fast as {base}")
    return {name: statistics.median(values) for name, values in ratios.items()}


class Tower:
    """Counts the calls of a model's vision tower while it is in use."""

    def __init__(self, backend: Any) -> None:
        self.calls = 0
        parts = backend.model.model
        tower = next(getattr(parts, name) for name in ("vision_tower", "visual", "vision_model") if hasattr(parts, name))
        tower.register_forward_hook(self._called)

    def _called(self, *_: Any) -> None:
        self.calls += 1

    def during(self, way: Callable[[], Any]) -> int:
        self.calls = 0
        way()
        return self.calls


# -- judging -----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def independent(backend: Any, shown: Sample, asked: Sequence[str]) -> list[Decision]:
    """A whole forward a question, the head at the last token only."""
    return [decision for one in conversations(shown, asked) for decision in alone(backend, one)]


def alone(backend: Any, conversation: Sample) -> list[Decision]:
    inputs = moved(backend, backend.prompts.encode([conversation]))
    logits = backend.model(**inputs, use_cache=False, logits_to_keep=1).logits[:, -1]
    verdicts: list[Decision] = backend._judge.verdicts.read(logits)
    return verdicts


def moved(backend: Any, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    kind = backend.model.dtype
    return {k: v.to(backend.model.device, kind if v.is_floating_point() else None) for k, v in inputs.items()}


def bound(backend: Any, shown: Sample, asked: Sequence[str]) -> tuple[float, int, float]:
    """N (V + P + s) / (V + P + N s) in floating-point operations; also tokens of the head and of a question."""
    talks = conversations(shown, asked)
    head = encode_questions(backend.prompts, [talks], backend.model.config.image_token_id)
    count = len(asked)
    whole = statistics.mean(operations(backend, backend.prompts.encode([one])) for one in talks)
    start = operations(backend, head.inputs)
    size = head.inputs["input_ids"].shape[1]
    return count * whole / (start + count * (whole - start)), size, statistics.mean(map(len, head.tails[0]))


@torch.no_grad()
def operations(backend: Any, inputs: dict[str, torch.Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        backend.model(**moved(backend, inputs), use_cache=False, logits_to_keep=1)
    return counter.get_total_flops()


def bench_judging(backend: Any, name: str, rounds: int, device: str) -> None:
    shown, asked = sample(0), questions(QUESTIONS)
    backend.decide([shown], [asked[:2]])
    ways = {
        "a forward a question": lambda: independent(backend, shown, asked),
        "decide, one call": lambda: backend.decide([shown], [asked])[0],
        "decide, a call a question": lambda: [backend.decide([shown], [[one]])[0][0] for one in asked],
    }
    tower = Tower(backend)
    runs = {way: tower.during(work) for way, work in ways.items()}
    found = interleaved(ways, rounds, device)
    limit, head, tail = bound(backend, shown, asked)
    gap = max(
        abs(math.log(a) - math.log(b))
        for left, right in zip(found["a forward a question"][0].result, found["decide, one call"][0].result, strict=True)
        for a, b in zip(left, right, strict=True)
    )
    size = backend.model.num_parameters() / 1e6
    layout = backend._judge.layout
    print(f"{name}, {size:.1f} M parameters: {QUESTIONS} questions of {tail:.0f} tokens behind a head of {head}, {layout}")
    ratios = told(found, "a forward a question")
    gained = ratios["decide, one call"]
    print(f"  bound {limit:.1f} x, reached {gained / limit:.0%}; largest difference of a log-probability {gap:.1e}; tower calls {runs}")


# -- candidates --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def by_library(backend: Any, inputs: dict[str, torch.Tensor], n: int) -> int:
    """Tokens written by `generate(num_return_sequences=n)`."""
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=TOKENS,
        num_return_sequences=n,
        pad_token_id=0,
        eos_token_id=None,
    )
    return int(backend.model.generate(**inputs, generation_config=config)[:, inputs["input_ids"].shape[1] :].numel())


def bench_candidates(backend: Any, name: str, rounds: int, device: str) -> None:
    shown = sample(0, "Describe the picture in detail.")
    inputs = moved(backend, backend.prompts.encode([shown]))
    sampling = Sampling(n=CANDIDATES, temperature=1.0, max_tokens=TOKENS)
    ways: dict[str, Callable[[], int]] = {
        "ten generate calls": lambda: sum(by_library(backend, inputs, 1) for _ in range(CANDIDATES)),
        "generate(num_return_sequences=10)": lambda: by_library(backend, inputs, CANDIDATES),
        "ours": lambda: sum(answer.tokens for answer in backend.generate([shown], sampling)),
    }
    tower = Tower(backend)
    runs = {way: tower.during(work) for way, work in ways.items()}
    found = interleaved(ways, rounds, device)
    written = {way: results[0].result for way, results in found.items()}
    prompt = inputs["input_ids"].shape[1]
    print(f"{name}: {CANDIDATES} candidates of {TOKENS} tokens behind a prompt of {prompt}; tokens {written}; tower calls {runs}")
    ratios = told(found, "ten generate calls")
    print(f"  against num_return_sequences: {ratios['ours'] / ratios['generate(num_return_sequences=10)']:.2f} x")


# -- many small pictures -----------------------------------------------------------------------------------------------


def bench_small(rounds: int, device: str) -> None:
    """SceneWorld with the bundled models: five questions a picture, ten descriptions a picture."""
    judge, writer = (load_backend(name, device=device, dtype="float32") for name in ("tiny-judge", "tiny-lvlm"))
    shown = [sample(i, "Describe the image in detail.") for i in range(64)]
    asked = [questions(5)] * len(shown)
    judge.decide(shown[:1], asked[:1])
    ways: dict[str, Callable[[], Any]] = {
        "a forward a question": lambda: [independent(judge, s, q) for s, q in zip(shown, asked, strict=True)],
        "decide, a call a picture": lambda: [judge.decide([s], [q])[0] for s, q in zip(shown, asked, strict=True)],
        "decide, one call": lambda: judge.decide(shown, asked),
    }
    found = interleaved(ways, rounds, device)
    first, last = (found[way][0].result for way in ("a forward a question", "decide, one call"))
    gap = max(
        abs(a - b)
        for ours, theirs in zip(first, last, strict=True)
        for x, y in zip(ours, theirs, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    print(f"SceneWorld, tiny-judge: 5 questions about each of {len(shown)} pictures; largest difference of a probability {gap:.1e}")
    told(found, "a forward a question")
    sampling = Sampling(n=CANDIDATES, temperature=1.0, max_tokens=128)
    few = shown[:16]
    lists: dict[str, Callable[[], Any]] = {
        "generate(num_return_sequences=10) a picture": lambda: [library_answers(writer, s) for s in few],
        "ours, a call a picture": lambda: [writer.generate([s], sampling) for s in few],
        "ours, one call": lambda: writer.generate(few, sampling),
    }
    found = interleaved(lists, rounds, device)
    tokens = sum(answer.tokens for answer in found["ours, one call"][0].result)
    print(f"SceneWorld, tiny-lvlm: 10 descriptions of each of {len(few)} pictures, {tokens} tokens by ours")
    told(found, "generate(num_return_sequences=10) a picture")


@torch.no_grad()
def library_answers(backend: Any, shown: Sample) -> Any:
    inputs = moved(backend, backend.prompts.encode([shown]))
    config = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, max_new_tokens=128, num_return_sequences=CANDIDATES,
        pad_token_id=backend.prompts.pad_id(), eos_token_id=backend.loaded.ends,
    )  # fmt: skip
    return backend.model.generate(**inputs, generation_config=config)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("judging", "candidates", "small"))
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    benches = {"judging": bench_judging, "candidates": bench_candidates}
    chosen = [kind for kind in benches if options.only in (None, kind)]
    for name in [options.family] if options.family else FAMILIES if chosen else ():
        with tempfile.TemporaryDirectory() as work:
            backend = family(name, Path(work), options.device, options.dtype)
            for kind in chosen:
                benches[kind](backend, name, options.rounds, options.device)
    if options.only == "small" or (options.only is None and options.family is None):
        bench_small(options.rounds, options.device)


if __name__ == "__main__":
    main()
