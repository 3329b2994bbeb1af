"""One run of the video experiment: a tiny video model trained on films at T frames of M tokens, and its loss on held-out films."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from data_tools.disk.durable import to_json, write_atomic
from data_tools.records import Message, Part
from data_tools.scenes.film_rows import frames, make_film
from data_tools.scenes.films import DURATION, KINDS
from mm_align.jobs.train.config import ModelConfig
from mm_align.jobs.train.model import build
from mm_align.losses.base import IGNORE
from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor
from video.clip import VideoInfo
from video.frames import sample
from video.tokens import AveragePool, GridSample, TemporalPool
from vision.tokens import VisualTokens

MOST = 16  # frames that the tower sees; fewer are made of these
FRAMES, TOKENS = (1, 2, 4, 8, 16), (1, 4, 9, 16, 64)
SECONDS = np.arange(MOST) * DURATION / MOST
FILM = VideoInfo("film", 64, 64, 0, DURATION, SECONDS, SECONDS[:1], False, "h264", "mp4")


class Arm(NamedTuple):
    """How a film loses frames and how a frame loses tokens: sample (leave out) or compress (average)."""

    frames: str
    tokens: str


ARMS = {f"{f}-{t}": Arm(f, t) for f in ("sample", "compress") for t in ("compress", "sample")}
MAIN = "sample-compress"  # frames are left out, tokens are pooled: what the released models do


@dataclass(frozen=True)
class Recipe:
    """How the model that all runs start from is trained (`base`, T and M drawn anew for every batch), and how each run goes on."""

    films: int = 1200
    base_epochs: int = 10
    base_lr: float = 7e-4
    epochs: int = 1
    lr: float = 5e-4
    held_out: int = 300
    batch: int = 6


@dataclass(frozen=True)
class Run:
    """One model: T frames of M tokens each."""

    arm: str
    t: int
    m: int
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{self.arm}-{self.t}x{self.m}-{self.seed}"


class Films(NamedTuple):
    """Tower features of every film [n, MOST, N, D] in float16, the patch grid, and the words of its questions."""

    features: torch.Tensor
    grid: tuple[int, int]
    words: list[list[Words]]


class Words(NamedTuple):
    """A question and its answer: token ids, whether each is the answer's, and the kind."""

    ids: list[int]
    answers: list[bool]
    kind: int


def start(name: str) -> tuple[LvlmForConditionalGeneration, LvlmProcessor]:
    """A model as it is: bundled, or a folder."""
    model, processor = build(ModelConfig.model_validate({"from": name}), 0)
    return model.float(), processor


def base(name: str, recipe: Recipe, films: Films, folder: Path) -> Path:
    """The folder of the model that all runs start from: trained on every T and M of the grid in turn, so that none is favoured."""
    path = folder / "base"
    if (path / "config.json").exists():
        return path
    torch.manual_seed(0)
    model, processor = start(name)
    draw = random.Random("base")
    steps = (
        (Run(draw.choice(list(ARMS)), draw.choice(FRAMES), draw.choice(TOKENS)), rows)
        for rows in batches(films, recipe.base_epochs, 0, recipe)
    )
    learn(model, processor, list(steps), recipe.base_lr, films)
    model.save_pretrained(path)
    processor.save_pretrained(path)
    return path


@torch.no_grad()
def films_of(model: LvlmForConditionalGeneration, processor: LvlmProcessor, split: str, n: int, cache: Path) -> Films:
    """The films of a split, all their frames seen by the tower once."""
    made = [make_film(0, split, index) for index in range(n)]
    path = cache / f"{split}-{n}.safetensors"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        rows = [tower(model, processor, frames(film, [(k + 0.5) * film.duration / MOST for k in range(MOST)])) for _, film in made]
        save_file({"features": torch.stack(rows).half()}, path)
    features = load_file(path)["features"]
    side = math.isqrt(features.shape[2])
    asked = [row["sceneworld"]["questions"] for row, _ in made]
    return Films(features, (side, side), [[words_of(processor, q) for q in questions] for questions in asked])


def tower(model: LvlmForConditionalGeneration, processor: LvlmProcessor, pictures: Sequence[Any]) -> torch.Tensor:
    """[T, N, D]"""
    (read,) = model.tower_features(processor.image_processor(images=list(pictures), return_tensors="pt")["pixel_values"])
    return read.features


def words_of(processor: LvlmProcessor, question: dict[str, Any]) -> Words:
    turns = (Message("user", (Part("text", question["question"]),)), Message("assistant", (Part("text", question["answer"]),), True))
    encoded = processor.encode_for_training(turns)
    return Words(encoded.ids, encoded.trains, KINDS.index(question["kind"]))


# -- what a run sees ---------------------------------------------------------------------------------------------------


def seen(features: torch.Tensor, run: Run, grid: tuple[int, int]) -> torch.Tensor:
    """[B, MOST, N, D] -> [B, t * m, D]: `t` frames of `m` tokens of each film, by the toolkit's own sampler and reducers."""
    kernel = math.ceil(grid[0] / math.isqrt(run.m))
    arm = ARMS[run.arm]
    reduce = AveragePool(kernel) if arm.tokens == "compress" else GridSample(kernel)
    if arm.frames == "sample":
        kept = features[:, sample(FILM, "uniform", run.t).tolist()]
    else:
        shorten = TemporalPool(features.shape[1] // run.t)
        kept = torch.stack([shorten(film, grid).features.unflatten(0, (run.t, -1)) for film in features])
    return torch.stack([reduce(film, grid).features for film in kept])


class Batch(NamedTuple):
    """Inputs of the model; of every place [B, L]: kinds, the kind of question that it belongs to, and asked, which one; -1 for none."""

    inputs: dict[str, Any]
    labels: torch.Tensor
    kinds: torch.Tensor
    asked: torch.Tensor


def batch_of(films: Films, rows: Sequence[int], run: Run, processor: LvlmProcessor) -> Batch:
    """Every question of a film behind the same visual tokens, none seeing another: what one asks may tell another's answer."""
    visual = seen(films.features[list(rows)].float(), run, films.grid)
    n = visual.shape[1]
    length = n + max(sum(len(words.ids) for words in films.words[row]) for row in rows)
    ids = torch.full((len(rows), length), processor.tokenizer.pad_token_id)
    ids[:, :n] = processor.image_token_id
    labels, kinds, asked = (torch.full_like(ids, fill) for fill in (IGNORE, -1, -1))
    positions = torch.zeros_like(ids)
    positions[:, :n] = torch.arange(n)
    for b, row in enumerate(rows):
        at = n
        for number, words in enumerate(films.words[row]):
            place = slice(at, at + len(words.ids))
            at += len(words.ids)
            ids[b, place] = torch.tensor(words.ids)
            labels[b, place] = torch.tensor([i if a else IGNORE for i, a in zip(words.ids, words.answers, strict=True)])
            kinds[b, place], asked[b, place] = words.kind, number
            positions[b, place] = n + torch.arange(len(words.ids))
    inputs = {"input_ids": ids, "attention_mask": apart(asked, n), "position_ids": positions}
    return Batch({**inputs, "tower_features": [VisualTokens.full(visual, None)]}, labels, kinds, asked)


def apart(asked: torch.Tensor, n: int) -> torch.Tensor:
    """[B, 1, L, L] bool: what is before, of the film's tokens or of the same question."""
    length = asked.shape[1]
    before = torch.ones(length, length, dtype=torch.bool).tril()
    same = asked[:, :, None] == asked[:, None, :]
    film = (torch.arange(length) < n)[None, None, :]
    return (before & (same | film))[:, None]


# -- training and measuring --------------------------------------------------------------------------------------------


def play(run: Run, recipe: Recipe, train: Films, test: Films, model_name: str, folder: Path) -> dict[str, Any]:
    """Train and measure a run, or read what it came to. The order of films is the seed's alone, the same for every T and M."""
    path = folder / f"{run.name}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    cpu = time.process_time()
    torch.manual_seed(run.seed)
    model, processor = start(model_name)
    learn(model, processor, [(run, rows) for rows in batches(train, recipe.epochs, run.seed, recipe)], recipe.lr, train)
    found = {**asdict(run), "recipe": asdict(recipe), **measure(model, processor, run, test, recipe), "cpu_s": time.process_time() - cpu}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, to_json(found))
    print(f"{run.name}: loss {found['loss']:.4f}, accuracy {found['accuracy']:.3f}, {found['cpu_s']:.0f} CPU s", flush=True)
    return found


Step = tuple[Run, list[int]]


def learn(model: LvlmForConditionalGeneration, processor: LvlmProcessor, steps: Sequence[Step], lr: float, films: Films) -> None:
    """Adapter and language model behind the frozen tower; AdamW, warmup and cosine."""
    model.train()
    trained = [p for name, p in model.named_parameters() if "vision_tower" not in name]
    optimizer = torch.optim.AdamW(trained, lr, weight_decay=0.01)
    warmup = max(1, len(steps) // 20)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, 0.5 * (1 + math.cos(math.pi * step / len(steps))))
    )
    told = 0.0
    for number, (run, rows) in enumerate(steps, 1):
        losses, _ = answer_losses(model, batch_of(films, rows, run, processor))
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        told = 0.98 * told + 0.02 * losses.mean().item()
        if number % 200 == 0:
            print(f"step {number} of {len(steps)}: loss about {told / (1 - 0.98**number):.3f}", flush=True)


def batches(films: Films, epochs: int, seed: int, recipe: Recipe) -> Iterator[list[int]]:
    rng = random.Random(f"films-{seed}")
    n = len(films.words)
    for _ in range(epochs):
        order = rng.sample(range(n), n)
        yield from (order[i : i + recipe.batch] for i in range(0, n - n % recipe.batch, recipe.batch))


def answer_losses(model: LvlmForConditionalGeneration, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every answer token [K]: its loss, and whether it is the likeliest."""
    answers = batch.labels[:, 1:] != IGNORE
    before = F.pad(answers, (0, 1))
    logits = model(**batch.inputs, logits_to_keep=before).logits.float()  # [K, V]
    targets = batch.labels[:, 1:][answers]
    return F.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets


@torch.no_grad()
def measure(model: LvlmForConditionalGeneration, processor: LvlmProcessor, run: Run, films: Films, recipe: Recipe) -> dict[str, Any]:
    """Loss of a question = mean over its answer's tokens; right = all of them likeliest; means over questions, and of each kind."""
    model.eval()
    found: list[tuple[int, float, bool]] = []
    for at in range(0, len(films.words), recipe.batch):
        rows = range(at, min(at + recipe.batch, len(films.words)))
        batch = batch_of(films, rows, run, processor)
        losses, right = answer_losses(model, batch)
        answers = batch.labels[:, 1:] != IGNORE
        owner = (batch.asked[:, 1:] + 100 * torch.arange(len(rows))[:, None])[answers]
        kinds = batch.kinds[:, 1:][answers]
        for one in owner.unique():
            mine = owner == one
            found.append((int(kinds[mine][0]), float(losses[mine].mean()), bool(right[mine].all())))
    result: dict[str, Any] = {"loss": mean(loss for _, loss, _ in found), "accuracy": mean(right for *_, right in found)}
    for number, kind in enumerate(KINDS):
        result[f"loss/{kind}"] = mean(loss for k, loss, _ in found if k == number)
        result[f"accuracy/{kind}"] = mean(right for k, _, right in found if k == number)
    return result


def mean(values: Any) -> float:
    kept = list(values)
    return float(sum(kept) / len(kept))
