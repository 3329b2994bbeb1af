"""Speed of a training step, as ratios within one run: ours against a hand-written loop and TRL, packing, pictures shared by rows.

    python scripts/bench/train.py              # all on the CPU; --only loops|packing|pictures
    python scripts/bench/train.py --model MODEL --rounds 5

Every way trains the same weights on the same rows in the same order, whole steps (data, forward, backward, clipping, AdamW) on one
thread, interleaved; CPU seconds, median and spread of five. A step is counted from the end of the one before, the first ones left out.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader
from transformers import AutoProcessor, LlavaForConditionalGeneration, TrainerCallback, TrainingArguments

from data_tools.records import Message
from data_tools.scenes.descriptions import detailed_description
from data_tools.scenes.questions import questions
from data_tools.scenes.rows import captioned_scene, png
from mm_align.backends.load import find_name
from mm_align.losses import IGNORE, LmObjective
from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor
from mm_align.models.llava_saving import save_llava
from mm_align.train import ObjectiveTrainer, train_only
from mm_align.train.data import Collator, TrainingSet, training_set
from mm_align.train.sources import Source

ROUNDS = 5
BATCH = 16
STEPS, WARMUP = 12, 4  # of one round; the first ones are not counted
LOGGED = 10  # steps between two log lines
LR = 1e-4
TEMPLATE = (  # short turns, so that the same text becomes the same tokens for ours and for TRL
    "{%- for m in messages -%}{%- for p in m['content'] -%}{{- '<image>' if p['type'] == 'image' else p['text'] -}}{%- endfor -%}"
    "{{- eos_token if m['role'] == 'assistant' else '\n' -}}{%- endfor -%}"
)


class Timed(NamedTuple):
    """CPU and wall seconds of the counted steps, the tokens in them and those that train, and the mean loss of the first ten steps."""

    cpu: float
    wall: float
    tokens: int
    trained: int
    loss: float

    @property
    def rate(self) -> float:
        return self.tokens / self.cpu


class Clock:
    """Marks the end of each step."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.marks.append((time.process_time(), time.perf_counter()))

    def counted(self, collate: Counting, loss: float) -> Timed:
        """From the end of the warm-up to the end."""
        (cpu, wall), (cpu_end, wall_end) = self.marks[WARMUP - 1], self.marks[-1]
        tokens, trained = (sum(counts[WARMUP : len(self.marks)]) for counts in (collate.counts, collate.trained))
        return Timed(cpu_end - cpu, wall_end - wall, tokens, trained, loss)


class Ticking(TrainerCallback):
    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.clock.tick()


# -- rows --------------------------------------------------------------------------------------------------------------


def write_rows(folder: Path, pictures: int, each: int, *, copies: bool = False) -> Path:
    """`each` rows a picture, one after the other: questions and a detailed description in turn, so lengths differ widely.

    copies: every row gets a file of its own, so that nothing can know that pictures are the same.
    """
    folder.mkdir(parents=True)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for number in range(pictures):
            rng = random.Random(f"bench-{number}")
            scene = captioned_scene(rng, "train").scene
            asked = [(q["question"], q["answer"]) for q in questions(scene, rng)] + [
                ("Describe it in detail.", detailed_description(scene, rng))
            ]
            for turn in range(each):
                question, answer = asked[(number + turn) % len(asked)] if (number + turn) % 3 else asked[-1]
                name = f"{number}-{turn}.png" if copies else f"{number}.png"
                (folder / name).write_bytes(png(scene))
                talk = [{"from": "human", "value": f"<image>{question}"}, {"from": "gpt", "value": answer}]
                out.write(json.dumps({"id": f"{number}-{turn}", "image": name, "conversations": talk}) + "\n")
    return folder / "rows.jsonl"


def rows_for_trl(rows: TrainingSet) -> list[dict[str, Any]]:
    """The same conversations with decoded pictures, in TRL's prompt-completion form."""
    return [trl_row(rows[i].sample) for i in range(len(rows))]


def trl_row(sample: Any) -> dict[str, Any]:
    asked, answered = sample.messages
    return {"images": [image.pixels for image in sample.images], "prompt": [turn(asked)], "completion": [turn(answered)]}


def turn(message: Message) -> dict[str, Any]:
    parts = [{"type": p.kind} if p.kind == "image" else {"type": "text", "text": p.text} for p in message.parts]
    return {"role": message.role, "content": parts}


# -- ways to train -----------------------------------------------------------------------------------------------------


def arguments(kind: Callable[..., TrainingArguments], folder: Path, batch: int, **options: Any) -> TrainingArguments:
    return kind(
        output_dir=str(folder), per_device_train_batch_size=batch, max_steps=STEPS, learning_rate=LR, use_cpu=True, bf16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=LOGGED,
        train_sampling_strategy="sequential", lr_scheduler_type="constant", **options,
    )  # fmt: skip


def ours(model: Any, processor: LvlmProcessor, rows: TrainingSet, folder: Path, batch: int | None = None) -> Timed:
    """Our trainer with the language-modelling objective."""
    clock, losses, tokens = Clock(), Losses(), Counting(Collator(processor))
    args = arguments(TrainingArguments, folder, batch or BATCH)
    trainer = ObjectiveTrainer(model, args, LmObjective(), train_dataset=rows, data_collator=tokens, callbacks=[Ticking(clock), losses])
    with quiet():
        trainer.train()
    return clock.counted(tokens, losses.first)


def by_hand(model: Any, processor: LvlmProcessor, rows: TrainingSet, objective: LmObjective | None) -> Timed:
    """What one writes without a trainer: the model's own loss, or our objective, which asks for the logits that matter only."""
    collate = Counting(Collator(processor))
    loader = DataLoader(rows, BATCH, collate_fn=collate)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, LR, weight_decay=0.0, fused=True)
    clock, losses = Clock(), []
    model.train()
    for batch in islice(cycled(loader), STEPS):
        loss = model(**batch, use_cache=False).loss if objective is None else objective(model, batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        clock.tick()
    return clock.counted(collate, statistics.mean(losses[:LOGGED]))


def cycled(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


def trl(model: Any, processor: Any, rows: list[dict[str, Any]], folder: Path) -> Timed:
    """TRL's SFTTrainer on transformers' LLaVA with the same weights; it tokenises and prepares pictures in its collator, by design."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    clock, losses = Clock(), Losses()
    args = arguments(SFTConfig, folder, BATCH, max_length=None, dataset_kwargs={"skip_prepare_dataset": True})
    trainer = SFTTrainer(model, args, train_dataset=Dataset.from_list(rows), processing_class=processor, callbacks=[Ticking(clock), losses])
    trainer.data_collator = collate = Counting(trainer.data_collator)
    with quiet():
        trainer.train()
    return clock.counted(collate, losses.first)


class Losses(TrainerCallback):
    """The loss of the first log, which is the mean over its steps."""

    first = float("nan")

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if self.first != self.first and logs and "loss" in logs:
            self.first = float(logs["loss"])


class Counting:
    """A collator that notes the tokens of each batch, padding left out, and those that train."""

    def __init__(self, collate: Callable[..., Any]) -> None:
        self.collate, self.counts, self.trained = collate, [], []

    def __call__(self, items: Any) -> Any:
        batch = self.collate(items)
        real = batch["attention_mask"].sum() if "attention_mask" in batch else sum(len(row.encoded.ids) for pack in items for row in pack)
        self.counts.append(int(real))
        self.trained.append(int((batch["labels"] != IGNORE).sum()))
        return batch


@contextmanager
def quiet() -> Iterator[None]:
    """Trainers print their logs; they are not what is read here."""
    kept, sys.stdout = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout = kept


# -- comparisons -------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4g} [{min(values):.4g}-{max(values):.4g}]"


def interleaved(ways: dict[str, Callable[[], Timed]], rounds: int) -> dict[str, list[Timed]]:
    found: dict[str, list[Timed]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[number % len(ways) :] + list(ways)[: number % len(ways)]:  # nobody is always first
            found[name].append(ways[name]())
    return found


def told(found: dict[str, list[Timed]], base: str) -> None:
    for name, runs in found.items():
        ratios = [run.rate / other.rate for run, other in zip(runs, found[base], strict=True)]
        wall = statistics.median(run.tokens / run.wall for run in runs)
        print(f"  {name:34} {spread([run.rate for run in runs])} tokens a CPU second ({wall:.0f} a second on the clock), "
              f"{spread(ratios)} of {base}; {runs[0].tokens} tokens, {runs[0].trained} train, loss {runs[0].loss:.4f}")  # fmt: skip


class Setting(NamedTuple):
    """A model folder, read anew for every run so that all start from the same weights."""

    folder: Path
    work: Path

    def model(self, *, parts: Sequence[str] = ("adapter", "language_model")) -> Any:
        model = LvlmForConditionalGeneration.from_pretrained(self.folder, dtype=torch.float32)
        train_only(model, parts)
        return model

    def processor(self) -> LvlmProcessor:
        plain = LvlmProcessor.from_pretrained(self.folder)
        return LvlmProcessor(plain.image_processor, plain.tokenizer, plain.num_image_tokens, plain.image_token, "chat", TEMPLATE)

    def rows(self, name: str, path: Path, **options: Any) -> TrainingSet:
        return training_set([Source(path=str(path))], self.processor(), quarantine=self.work / f"{name}.jsonl", shuffle=False, **options)


def bench_loops(setting: Setting, rounds: int) -> None:
    """Our trainer, loops by hand and TRL: adapter and language model train, every row has its own picture."""
    rows = setting.rows("loops", write_rows(setting.work / "loops", BATCH * STEPS, 1))
    processor = setting.processor()
    ways: dict[str, Callable[[], Timed]] = {
        "ours": lambda: ours(setting.model(), processor, rows, setting.work / "ours"),
        "loop by hand": lambda: by_hand(setting.model(), processor, rows, None),
        "loop by hand, our objective": lambda: by_hand(setting.model(), processor, rows, LmObjective()),
    }
    try:
        import trl as installed
    except ImportError:
        print("TRL is not installed here; its comparison is left out (make bench installs it into .venv-bench)")
    else:
        print(f"TRL {installed.__version__}")
        ways["TRL SFTTrainer"] = with_trl(setting, rows)
    found = interleaved(ways, rounds)
    print(f"SceneWorld, {BATCH} rows a step, {STEPS - WARMUP} steps a run, one thread, median [least-most] of {rounds}")
    told(found, "loop by hand, our objective")


def with_trl(setting: Setting, rows: TrainingSet) -> Callable[[], Timed]:
    folder = setting.work / "llava"
    folder.mkdir()
    save_llava(setting.model(), setting.processor(), folder)
    theirs = rows_for_trl(rows)

    def run() -> Timed:
        model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
        model.model.vision_tower.requires_grad_(False)
        return trl(model, AutoProcessor.from_pretrained(folder), theirs, setting.work / "trl")

    return run


def bench_packing(setting: Setting, rounds: int) -> None:
    """Real tokens a second with rows end to end against rows padded to the longest, about as many tokens a step.

    A pack as long as two of the longest rows, and as four: in a small model attention over long packs eats what padding cost.
    """
    path = write_rows(setting.work / "packing", BATCH * STEPS * 2, 1)
    processor, padded = setting.processor(), setting.rows("padded", path)
    lengths = padded.store.lengths
    ways = {"padded": lambda: ours(setting.model(), processor, padded, setting.work / "padded")}
    for times in (2, 4):
        capacity = times * int(max(lengths))
        packs = max(1, round(BATCH * float(lengths.mean()) / capacity))
        ways[f"packed, {packs} packs of {capacity}"] = packed_way(setting, path, capacity, packs)
    found = interleaved(ways, rounds)
    batches = lengths[: BATCH * STEPS].reshape(STEPS, BATCH)
    empty = 1 - batches.sum() / (batches.max(1) * BATCH).sum()
    print(f"rows of {min(lengths)}-{max(lengths)} tokens, mean {lengths.mean():.0f}; {BATCH} padded rows a step, {empty:.0%} of it padding")
    told(found, "padded")


def packed_way(setting: Setting, path: Path, capacity: int, packs: int) -> Callable[[], Timed]:
    rows = setting.rows(f"packed-{capacity}", path, packing=True, max_length=capacity)
    return lambda: ours(setting.model(), setting.processor(), rows, setting.work / f"out-{capacity}", packs)


def bench_pictures(setting: Setting, rounds: int) -> None:
    """Four questions a picture: the tower runs once a picture, or once a row where every row has a file of its own."""
    once, often = (setting.rows(n, write_rows(setting.work / n, BATCH * STEPS // 4, 4, copies=n == "often")) for n in ("once", "often"))
    processor = setting.processor()
    found = interleaved(
        {
            "a picture a row": lambda: ours(setting.model(), processor, often, setting.work / "often-out"),
            "each picture once": lambda: ours(setting.model(), processor, once, setting.work / "once-out"),
        },
        rounds,
    )
    print(f"four questions a picture, {BATCH} rows a step")
    told(found, "a picture a row")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-aitqe")
    parser.add_argument("--only", choices=("loops", "packing", "pictures"))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    benches = {"loops": bench_loops, "packing": bench_packing, "pictures": bench_pictures}
    for name, bench in benches.items():
        if options.only in (None, name):
            with tempfile.TemporaryDirectory() as work:
                bench(Setting(Path(find_name(options.model)[1]), Path(work)), options.rounds)


if __name__ == "__main__":
    main()
