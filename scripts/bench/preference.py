"""Speed and memory of a preference step, as ratios within one run: ours against TRL's DPOTrainer on equal pairs and weights.

    python scripts/bench/preference.py                   # both vocabularies, equality, speed, memory
    python scripts/bench/preference.py --vocab 2048 --only speed

A random LLaVA (text 256 x 6, vision 192 x 6, 224 px, 256 image tokens), 4 pairs a step, two pairs share a picture; whole steps (data,
forward, backward, clipping, AdamW) on one thread, interleaved; CPU seconds of a step, median and spread of five runs. Our reference
scores are made once and count with 1 / EPOCHS of their time; TRL's reference runs in every step, since it caches none for pictures.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainingArguments,
)
from transformers.models.clip.image_processing_clip import CLIPImageProcessor

from data_tools.preference import write_pairs
from data_tools.records import Image, Message, Part, PreferencePair, Sample
from data_tools.scenes.descriptions import detailed_description
from data_tools.scenes.questions import questions
from data_tools.scenes.rows import captioned_scene
from mm_align.losses.preference import PreferenceObjective
from mm_align.models.llava_layout import load_llava
from mm_align.train import ObjectiveTrainer, train_only
from mm_align.train.pair_data import PairCollator, PairSet, pair_set
from mm_align.train.reference import Keys, ReferenceCache, context_of
from mm_align.train.reference_scores import Scorer, fill, references_of
from mm_align.train.sources import Source

ROUNDS = 5
PAIRS, BATCH = 64, 4
STEPS, WARMUP = 10, 3  # of one run; the first ones are not counted
EPOCHS = 4  # RLAIF-V's
LR, BETA = 1e-4, 0.1
SIDE, WORDS = 224, 64
TEMPLATE = (  # short turns, so that the same text becomes the same tokens for ours and for TRL
    "{%- for m in messages -%}{%- if m['role'] == 'assistant' -%}{% generation %}{{- m['content'][0]['text'] + eos_token -}}"
    "{% endgeneration %}{%- else -%}{%- for p in m['content'] -%}{{- '<image>' if p['type'] == 'image' else p['text'] -}}"
    "{%- endfor -%}{{- '\n' -}}{%- endif -%}{%- endfor -%}"
)


# -- the workload ------------------------------------------------------------------------------------------------------


def write_workload(folder: Path, vocab: int) -> None:
    """`pairs.jsonl` with its pictures, and a random LLaVA with its processor in `llava`."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = [pair for number in range(PAIRS // 2) for pair in two_pairs(number, folder)]
    write_pairs(folder / "pairs.jsonl", pairs)
    tokenizer = make_tokenizer([text for pair in pairs for text in (pair.chosen, pair.rejected, pair.sample.messages[0].parts[1].text)])
    random_llava(tokenizer, vocab).save_pretrained(folder / "llava")
    pictures = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    options = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    LlavaProcessor(pictures, tokenizer, chat_template=TEMPLATE, **options).save_pretrained(folder / "llava")


def two_pairs(number: int, folder: Path) -> Iterator[PreferencePair]:
    """Two questions about one picture; the answers tell of this scene and of another, in about 68 tokens."""
    rng = random.Random(f"preference-{number}")
    scene, other = (captioned_scene(rng, "train").scene for _ in range(2))
    path = folder / f"{number}.png"
    scene_picture(scene).save(path)
    for turn, asked in enumerate(("Describe the image in detail.", rng.choice(list(questions(scene, rng)))["question"])):
        message = Message("user", (Part("image"), Part("text", asked)))
        chosen, rejected = (
            " ".join(f"{detailed_description(shown, rng)} {detailed_description(shown, rng)}".split()[:WORDS]) for shown in (scene, other)
        )
        yield PreferencePair(Sample(f"{number}-{turn}", (message,), (Image(str(path)),)), chosen, rejected, 1.0)


def scene_picture(scene: Any) -> Any:
    import io

    import PIL.Image

    from data_tools.scenes.rows import png

    return PIL.Image.open(io.BytesIO(png(scene))).convert("RGB").resize((SIDE, SIDE))


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<pad>", "<eos>", "<image>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2048, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", additional_special_tokens=["<image>"], padding_side="left"
    )


def random_llava(tokenizer: Any, vocab: int) -> LlavaForConditionalGeneration:
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=192, intermediate_size=768, num_hidden_layers=6, num_attention_heads=3, image_size=SIDE, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=vocab, hidden_size=256, intermediate_size=576, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=2048, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    image = tokenizer.convert_tokens_to_ids("<image>")
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=image, image_seq_length=256, vision_feature_layer=-2)
    )


# -- ways to train -----------------------------------------------------------------------------------------------------


class Timed(NamedTuple):
    """CPU and wall seconds of a step, CPU seconds of scoring the reference, the losses, and the gradients of the first step."""

    cpu: float
    wall: float
    reference: float
    losses: list[float]
    gradients: dict[str, torch.Tensor]


class Watch(TrainerCallback):
    """Marks the end of each step, and keeps losses and the first gradients."""

    def __init__(self, *, gradients: bool = False) -> None:
        self.marks: list[tuple[float, float]] = []
        self.losses: list[float] = []
        self.gradients: dict[str, torch.Tensor] | None = {} if gradients else None

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.global_step == 0 and self.gradients is not None:
            self.gradients |= {name: p.grad.detach().clone() for name, p in model.named_parameters() if p.grad is not None}

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.marks.append((time.process_time(), time.perf_counter()))

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def timed(self, reference: float) -> Timed:
        counted = len(self.marks) - WARMUP
        (cpu, wall), (cpu_end, wall_end) = self.marks[WARMUP - 1], self.marks[-1]
        return Timed((cpu_end - cpu) / counted, (wall_end - wall) / counted, reference, self.losses, self.gradients or {})


def arguments(kind: Callable[..., TrainingArguments], folder: Path, **options: Any) -> TrainingArguments:
    return kind(
        output_dir=str(folder), per_device_train_batch_size=BATCH, max_steps=STEPS, learning_rate=LR, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1,
        train_sampling_strategy="sequential", lr_scheduler_type="constant", **options,
    )  # fmt: skip


def ours(folder: Path, dtype: torch.dtype, watch: Watch, layout: str = "shared") -> Timed:
    """Our trainer; the reference is scored first."""
    loaded = load_llava(folder / "llava", dtype=dtype)
    model, processor = loaded.model, loaded.processor
    train_only(model, ["vision_tower", "adapter", "language_model"])
    with tempfile.TemporaryDirectory() as work:
        data = our_pairs(folder, processor, Path(work))
        collate = Converted(processor, dtype, layout)
        seconds = time.process_time()
        context = context_of(model, processor, dtype=dtype, layout=layout)
        references = references_of(ReferenceCache(Path(work) / "reference", context), data, Keys())
        fill(references, data, Scorer(model, collate, dtype=dtype), 8)
        seconds = time.process_time() - seconds
        data.references = {"reference": references}
        trainer = ObjectiveTrainer(
            model, arguments(TrainingArguments, Path(work)), PreferenceObjective(beta=BETA), train_dataset=data, data_collator=collate,
            callbacks=[watch],
        )  # fmt: skip
        with quiet():
            trainer.train()
    return watch.timed(seconds)


class Converted(PairCollator):
    """Pictures in the model's precision."""

    def __init__(self, processor: Any, dtype: torch.dtype, layout: Any) -> None:
        super().__init__(processor, layout=layout)
        self.dtype = dtype

    def __call__(self, pairs: Any) -> dict[str, torch.Tensor]:
        batch = super().__call__(pairs)
        return batch | {"pixel_values": batch["pixel_values"].to(self.dtype)}


def our_pairs(folder: Path, processor: Any, work: Path) -> PairSet:
    return pair_set([Source(path=str(folder / "pairs.jsonl"))], processor, quarantine=work / "quarantine.jsonl", shuffle=False)


def theirs(folder: Path, dtype: torch.dtype, watch: Watch) -> Timed:
    """TRL's DPOTrainer on transformers' LLaVA with a frozen copy as reference, as full fine-tuning needs it there."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model, reference = (LlavaForConditionalGeneration.from_pretrained(folder / "llava", dtype=dtype) for _ in range(2))
    with tempfile.TemporaryDirectory() as work:
        trainer = DPOTrainer(
            model, reference, arguments(DPOConfig, Path(work), beta=BETA, max_length=None),
            train_dataset=Dataset.from_list(rows_for_trl(folder)), processing_class=AutoProcessor.from_pretrained(folder / "llava"),
            callbacks=[watch],
        )  # fmt: skip
        with quiet():
            trainer.train()
    return watch.timed(0.0)


def rows_for_trl(folder: Path) -> list[dict[str, Any]]:
    """The same pairs with decoded pictures, in TRL's conversational form."""
    from data_tools.io.images import decode
    from data_tools.preference import read_pairs

    rows = []
    for pair in read_pairs(folder / "pairs.jsonl"):
        asked = [{"type": p.kind} if p.kind == "image" else {"type": "text", "text": p.text} for p in pair.sample.messages[0].parts]
        answers = {s: [{"role": "assistant", "content": [{"type": "text", "text": getattr(pair, s)}]}] for s in ("chosen", "rejected")}
        rows.append({"images": [decode(i).pixels for i in pair.sample.images], "prompt": [{"role": "user", "content": asked}], **answers})
    return rows


@contextmanager
def quiet() -> Iterator[None]:
    """Trainers print their logs; they are not what is read here."""
    kept, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = kept


WAYS: dict[str, Callable[[Path, torch.dtype, Watch], Timed]] = {
    "ours": ours,
    "ours, a row an answer": lambda folder, dtype, watch: ours(folder, dtype, watch, "duplicated"),
    "TRL DPOTrainer": theirs,
}


# -- comparisons -------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g}-{max(values):.4g}]"


def equality(folder: Path) -> None:
    """Loss and gradients of the first step in float32, losses of ten steps in float64."""
    one, other = (WAYS[name](folder, torch.float32, Watch(gradients=True)) for name in ("ours", "TRL DPOTrainer"))
    named = {their_name(name): value for name, value in one.gradients.items()}
    assert named.keys() == other.gradients.keys(), sorted(named.keys() ^ other.gradients.keys())[:6]
    apart = torch.stack([(named[name] - value).norm() for name, value in other.gradients.items()]).norm()
    size = torch.stack([value.norm() for value in other.gradients.values()]).norm()
    print(f"  float32, step 1: loss {one.losses[0]:.7f} and {other.losses[0]:.7f}; gradients differ by {apart / size:.2g} of their norm")
    with double_head():
        one, other = (WAYS[name](folder, torch.float64, Watch()) for name in ("ours", "TRL DPOTrainer"))
    worst = max(abs(a - b) for a, b in zip(one.losses, other.losses, strict=True))
    print(f"  float64, {STEPS} steps: losses differ by at most {worst:.2g} ({' '.join(f'{loss:.4f}' for loss in one.losses)})")


@contextmanager
def double_head() -> Iterator[None]:
    """TRL's head computes in float32 whatever the model is: for the comparison in float64 it gets a plain one in the model's precision."""
    from trl.trainer import utils

    class Plain:
        @staticmethod
        def apply(hidden: Any, weight: Any, bias: Any, labels: Any, *options: Any) -> Any:
            logits = hidden @ weight.T
            scores = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
            return scores, torch.zeros_like(scores), None, logits.mean(-1).detach(), logits.argmax(-1) == labels

    kept, utils._ChunkedLogProbFunction = utils._ChunkedLogProbFunction, Plain
    try:
        yield
    finally:
        utils._ChunkedLogProbFunction = kept


def their_name(ours: str) -> str:
    return ours.replace("model.adapter.", "model.multi_modal_projector.")


def speed(folder: Path, rounds: int) -> None:
    found: dict[str, list[Timed]] = {name: [] for name in WAYS}
    for number in range(rounds):
        for name in list(WAYS)[number % len(WAYS) :] + list(WAYS)[: number % len(WAYS)]:  # nobody is always first
            found[name].append(WAYS[name](folder, torch.float32, Watch()))
    for name, runs in found.items():
        steps = PAIRS / BATCH * EPOCHS
        whole = [run.cpu + run.reference / steps for run in runs]
        ratios = [(base.cpu + base.reference / steps) / mine for base, mine in zip(found["TRL DPOTrainer"], whole, strict=True)]
        wall = statistics.median(run.wall for run in runs)
        print(f"  {name:24} {spread([BATCH / seconds for seconds in whole])} pairs a CPU second, {spread(ratios)} x TRL; a step "
              f"{spread([run.cpu for run in runs])} CPU s ({wall:.3g} on the clock) + reference "
              f"{statistics.median(run.reference for run in runs):.3g} s once for {PAIRS} pairs")  # fmt: skip


def memory(folder: Path) -> None:
    """Peak of each way in a process of its own, the imports included."""
    found = {name: peak(folder, name) for name in WAYS}
    base = found["TRL DPOTrainer"]
    for name, value in found.items():
        print(f"  {name:24} {value:.0f} MiB at most, {value / base:.2f} of TRL")


def peak(folder: Path, way: str) -> float:
    command = [sys.executable, __file__, "--peak-of", way, "--folder", str(folder)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def high_water() -> float:
    """MiB at most of this process. (getrusage's figure survives exec, so a child would begin with its parent's.)"""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def describe(folder: Path) -> None:
    processor = load_llava(folder / "llava").processor
    with tempfile.TemporaryDirectory() as work:
        data = our_pairs(folder, processor, Path(work))
        pairs = [data[i] for i in range(BATCH * STEPS)]
        shared, apart = (PairCollator(processor, layout=layout)(pairs[:BATCH]) for layout in ("shared", "duplicated"))
    both = [tokens for pair in pairs for tokens in (pair.chosen, pair.rejected)]
    answers = sum(int(tokens.trains.sum()) for tokens in both)
    print(f"  {len(pairs)} pairs, {sum(len(t.ids) for t in both) / STEPS:.0f} tokens a step in a row an answer ({answers / STEPS:.0f} of "
          f"answers); the first step: {apart['input_ids'].numel()} places in rows of their own, {shared['input_ids'].numel()} shared, "
          f"{len(shared['pixel_values'])} pictures")  # fmt: skip


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, action="append")
    parser.add_argument("--only", choices=("equality", "speed", "memory"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--peak-of", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    if options.peak_of:
        WAYS[options.peak_of](options.folder, torch.float32, Watch())
        print(high_water())
        return
    import trl

    for vocab in options.vocab or (2048, 32064):
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            write_workload(folder, vocab)
            print(
                f"vocabulary {vocab}, TRL {trl.__version__}, torch {torch.__version__}, one thread, median [least-most] of {options.rounds}"
            )
            describe(folder)
            if options.only in (None, "equality"):
                equality(folder)
            if options.only in (None, "speed"):
                speed(folder, options.rounds)
            if options.only in (None, "memory"):
                memory(folder)


if __name__ == "__main__":
    main()
