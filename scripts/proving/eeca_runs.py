"""One run of the EECA experiment: adapter and LLM body trained between a frozen tower and frozen word embeddings, then measured."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from eeca_facts import entity_context
from eeca_world import CAPTION_QUESTION, CONTEXT, NAME_QUESTION, Pictures
from torch.utils.data import Dataset, SequentialSampler
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

from data_tools.scenes.captions import short_caption
from data_tools.scenes.entities import FACTS, LEVELS, Entity, question
from data_tools.scenes.extract import Agreement, agreement
from mm_align.losses.base import IGNORE
from mm_align.losses.eeca import EecaObjective, name_ids
from mm_align.losses.entity_classes import EntityClasses
from mm_align.models import LvlmConfig, LvlmForConditionalGeneration
from mm_align.train import ObjectiveTrainer, train_only
from vision.tokens import VisualTokens

PICTURES = 32  # a step
GENERAL_EVERY = 4  # every so many-th step is general captioning
TEXT_ROWS = 8  # of a landmark step: questions about facts without any picture, so that what the LLM knows by name stays
HIDDEN = 256  # of the adapter's MLP, in every variant


class Variant(NamedTuple):
    """What a run has of EECA's parts."""

    high: bool
    hierarchy: bool
    contrast: bool


VARIANTS = {
    "baseline": Variant(False, False, False),
    "high_res": Variant(True, False, False),
    "hierarchy": Variant(True, True, False),
    "contrast": Variant(True, False, True),
    "eeca": Variant(True, True, True),
}


@dataclass(frozen=True)
class Recipe:
    """lr: of the adapter and the heads; llm: its multiple for the LLM's body; weight: of each auxiliary loss that the variant has."""

    lr: float = 5e-3
    llm: float = 0.2
    weight: float = 1.0
    steps: int = 300


class World(NamedTuple):
    """asked: the facts that training asks with pictures, by entity; the others are met in text alone."""

    entities: tuple[Entity, ...]
    tokenizer: Any
    asked: tuple[tuple[str, ...], ...]
    classes: EntityClasses


def world_of(entities: tuple[Entity, ...], tokenizer: Any, seed: int) -> World:
    rng = random.Random(f"eeca-asked-{seed}")
    asked = tuple(tuple(rng.sample(FACTS, len(FACTS) // 2)) for _ in entities)
    levels = tuple(tuple(sorted({e.levels[k] for e in entities})) for k in range(len(LEVELS)))
    return World(entities, tokenizer, asked, EntityClasses(levels, tuple(sorted(e.name for e in entities))))


class Features(NamedTuple):
    """What the frozen tower read, in float16: low [n, N, d], high [n, k^2 N, d]."""

    low: torch.Tensor
    high: torch.Tensor


def new_model(tower: Any, llm: Any, image_token_id: int, high: bool, seed: int) -> LvlmForConditionalGeneration:
    """The model around copies of the frozen `tower` (a transformers vision model) and of `llm`. Only the adapter is random."""
    torch.manual_seed(seed)
    size = tower.config.image_size
    branches = [{"image_size": size}, {"image_size": 2 * size, "crops": 2}][: 1 + high]
    adapter = {"type": "eeca", "hidden_size": HIDDEN} if high else {"type": "mlp", "bias": True, "hidden_size": HIDDEN}
    config = LvlmConfig(
        vision_config=tower.config, text_config=llm.config, image_token_id=image_token_id, branches=branches, adapter=adapter
    )
    model = LvlmForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.state_dict())
    model.model.language_model.load_state_dict(llm.model.state_dict())
    model.tie_weights()
    return model


@torch.no_grad()
def read_features(model: LvlmForConditionalGeneration, pixels: torch.Tensor) -> Features:
    """Every picture through the frozen tower once."""
    parts = [[t.features.half() for t in model.tower_features(pixels[i : i + 128])] for i in range(0, len(pixels), 128)]
    return Features(*(torch.cat(column) for column in zip(*parts, strict=True)))


def towers(features: Features, rows: Sequence[int], high: bool) -> list[VisualTokens]:
    """The branches of some pictures as the adapter takes them."""
    kept = features if high else features[:1]
    sides = [int(part.shape[1] ** 0.5) for part in kept]
    return [VisualTokens.full(part[list(rows)].float(), (side, side)) for part, side in zip(kept, sides, strict=True)]


# -- batches -----------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One question and its answer; picture: which of the batch's pictures it is about, None for text alone."""

    question: str
    answer: str
    picture: int | None = None


class Batches(Dataset):
    """Step i, a function of (seed, i): landmark pictures, half with the name question and half with an asked fact, and text
    rows; or general scenes."""

    def __init__(
        self, world: World, pictures: Pictures, features: Features, high: bool, seed: int, steps: int, pick: Sequence[int] | None = None
    ):
        self.world, self.pictures, self.features, self.high, self.seed, self.steps = world, pictures, features, high, seed, steps
        self.landmarks = np.flatnonzero(pictures.entities >= 0).tolist() if pick is None else list(pick)
        self.general = np.flatnonzero(pictures.entities < 0).tolist()
        names = {name: k for k, name in enumerate(world.classes.names)}
        tables = [{name: k for k, name in enumerate(level)} for level in world.classes.levels]
        self.numbers = [names[e.name] for e in world.entities]
        self.levels = [[t[v] for t, v in zip(tables, e.levels, strict=True)] for e in world.entities]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, i: int) -> dict[str, Any]:
        rng = random.Random(f"eeca-batch-{self.seed}-{i}")
        if i % GENERAL_EVERY == GENERAL_EVERY - 1:
            return self._general(rng.sample(self.general, min(PICTURES, len(self.general))))
        return self._landmarks(rng.sample(self.landmarks, min(PICTURES, len(self.landmarks))), rng)

    def _general(self, rows: list[int]) -> dict[str, Any]:
        scenes = [self.pictures.scenes[r] for r in rows]
        return self._batch(rows, [Row(CAPTION_QUESTION, " " + short_caption(scene), k) for k, scene in enumerate(scenes) if scene])

    def _landmarks(self, rows: list[int], rng: random.Random) -> dict[str, Any]:
        asked = []
        for k, r in enumerate(rows):
            number = self.pictures.entities[r]
            entity, fact = self.world.entities[number], rng.choice(self.world.asked[number])
            named = Row(NAME_QUESTION, " " + entity.name, k)
            asked.append(named if k % 2 else Row(question(fact), fact_answer(entity, fact), k))
        return self._batch(rows, asked + [text_row(rng.choice(self.world.entities), k % 2 == 0, rng) for k in range(TEXT_ROWS)])

    def _batch(self, rows: list[int], asked: list[Row]) -> dict[str, Any]:
        shown = [row.picture for row in asked if row.picture is not None]
        which = [int(n) for n in self.pictures.entities[rows]]
        return tokens_of(self.world.tokenizer, asked) | {
            "tower_features": towers(self.features, rows, self.high),
            "picture_index": torch.tensor(shown),
            "entity": torch.tensor([self.numbers[n] if n >= 0 else IGNORE for n in which]),
            "entity_levels": torch.tensor([self.levels[n] if n >= 0 else [IGNORE] * len(LEVELS) for n in which]),
            "entity_block": torch.tensor([shown.index(k) for k in range(len(rows))]),
        }


def text_row(entity: Entity, by_name: bool, rng: random.Random) -> Row:
    """A fact asked without a picture: by the name, or behind a list of words that holds the name."""
    fact = rng.choice(FACTS)
    asked = question(fact, entity.name) if by_name else " " + " ".join(entity_context(entity, rng)) + "\n" + question(fact)
    return Row(asked, fact_answer(entity, fact))


def fact_answer(entity: Entity, fact: str) -> str:
    """The name first, then the fact: what is read off a picture is the entity, what is known of it comes from the LLM."""
    return f" {entity.name}, {entity.facts[fact]}"


def prompt_of(tokenizer: Any, row: Row) -> list[int]:
    """A row with a picture opens with its placeholders and a newline."""
    image = [tokenizer.convert_tokens_to_ids("<image>")] * CONTEXT + tokenizer("\n")["input_ids"]
    return (image if row.picture is not None else []) + tokenizer(row.question)["input_ids"]


def tokens_of(tokenizer: Any, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
    """Right-padded input_ids and labels [B, L]; a loss falls on answers."""
    prompts = [prompt_of(tokenizer, row) for row in rows]
    answers = [[*tokenizer(row.answer)["input_ids"], tokenizer.eos_token_id] for row in rows]
    labels = [[IGNORE] * len(p) + a for p, a in zip(prompts, answers, strict=True)]
    return {
        "input_ids": padded([p + a for p, a in zip(prompts, answers, strict=True)], tokenizer.pad_token_id),
        "labels": padded(labels, IGNORE),
    }


def padded(rows: Sequence[list[int]], fill: int) -> torch.Tensor:
    """[B, L], filled on the right."""
    n = max(map(len, rows))
    return torch.tensor([row + [fill] * (n - len(row)) for row in rows])


# -- training ----------------------------------------------------------------------------------------------------------


def objective_of(world: World, variant: Variant, recipe: Recipe, width: int) -> EecaObjective:
    """The toolkit's objective, without learned heads in its contrast: pooled tokens are pulled to the names' place in the LLM's own
    embedding space and to no learned copy of it (this toolkit's choice, found on the validation world)."""
    ids = [name_ids(lambda text: world.tokenizer(text)["input_ids"], name) for name in world.classes.names]
    return EecaObjective(
        world.classes, ids, width, contrast_width=None,
        hierarchy_weight=recipe.weight * variant.hierarchy, contrast_weight=recipe.weight * variant.contrast,
    )  # fmt: skip


def train(
    model: LvlmForConditionalGeneration, objective: EecaObjective, batches: Batches, recipe: Recipe, seed: int
) -> list[dict[str, float]]:
    """Adapter and LLM body; tower and word embeddings stay frozen. Returns the log."""
    train_only(model, ["adapter", "language_model"])
    model.get_input_embeddings().weight.requires_grad_(False)
    with tempfile.TemporaryDirectory() as out:
        args = TrainingArguments(
            out, max_steps=len(batches), per_device_train_batch_size=1, learning_rate=recipe.lr, lr_scheduler_type="cosine",
            warmup_steps=20, adam_beta2=0.98, weight_decay=0.0, max_grad_norm=1.0, report_to=[], save_strategy="no", logging_steps=50,
            use_cpu=True, disable_tqdm=True, seed=seed,
        )  # fmt: skip
        trainer = InOrder(model, args, objective, lr_scale={"language_model": recipe.llm}, train_dataset=batches, data_collator=only)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return [entry for entry in trainer.state.log_history if "loss" in entry]


class InOrder(ObjectiveTrainer):
    """Batches are random by themselves; they come in their order."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)


def only(batch: list[dict[str, Any]]) -> dict[str, Any]:
    """The collator of a loader whose items are batches already."""
    return batch[0]


# -- measuring ---------------------------------------------------------------------------------------------------------


class Measured(NamedTuple):
    """facts: [n, 4] bool, right answers about each landmark picture. levels: [n, 4] bool, of the name it was given. by_name: [E, 4]
    bool, facts answered from the name alone after training. captions: agreement of each general scene."""

    facts: np.ndarray
    levels: np.ndarray
    by_name: np.ndarray
    captions: list[Agreement]
    example: str


def measure(model: LvlmForConditionalGeneration, world: World, pictures: Pictures, features: Features, high: bool) -> Measured:
    """Greedy answers. A fact counts by the answer's last word alone, whatever name it gives before."""
    model.eval()
    asker = Asker(model, world.tokenizer, features, high)
    rows = np.flatnonzero(pictures.entities >= 0).tolist()
    shown = [world.entities[n] for n in pictures.entities[rows]]
    facts = [[said[-1] == e.facts[f] for said, e in zip(asker.answers(rows, question(f), 4), shown, strict=True)] for f in FACTS]
    asked = [[question(f, e.name) for e in world.entities] for f in FACTS]
    by_name = [
        [said[-1] == e.facts[f] for said, e in zip(asker.texts(q, 4), world.entities, strict=True)]
        for f, q in zip(FACTS, asked, strict=True)
    ]
    known = {e.name: e.levels for e in world.entities}
    levels = [
        [a == b for a, b in zip(known.get(said, (None,) * len(LEVELS)), e.levels, strict=True)]
        for said, e in zip((" ".join(words) for words in asker.answers(rows, NAME_QUESTION, 2)), shown, strict=True)
    ]
    general = np.flatnonzero(pictures.entities < 0).tolist()
    captions = asker.captions(general)
    agreements = [agreement(text, pictures.scenes[r]) for text, r in zip(captions, general, strict=True)]
    return Measured(np.array(facts).T, np.array(levels), np.array(by_name).T, agreements, captions[0])


class Asker:
    """Asks the model about pictures whose tower features are there already."""

    def __init__(self, model: LvlmForConditionalGeneration, tokenizer: Any, features: Features, high: bool) -> None:
        self.model, self.tokenizer, self.features, self.high = model, tokenizer, features, high

    def answers(self, rows: Sequence[int], asked: str, count: int) -> list[list[str]]:
        """The first `count` words of the greedy answer to a question about each picture."""
        return [
            a
            for i in range(0, len(rows), 256)
            for a in self._greedy([Row(asked, "", 0)] * len(rows[i : i + 256]), count, rows[i : i + 256])
        ]

    def texts(self, questions: Sequence[str], count: int) -> list[list[str]]:
        """The same to questions without a picture."""
        return self._greedy([Row(q, "") for q in questions], count)

    @torch.no_grad()
    def _greedy(self, rows: list[Row], count: int, shown: Sequence[int] = ()) -> list[list[str]]:
        prompts = [prompt_of(self.tokenizer, row) for row in rows]
        said: list[list[int]] = [[] for _ in rows]
        features = towers(self.features, shown, self.high) if shown else None
        for _ in range(count):
            ids = padded([p + a for p, a in zip(prompts, said, strict=True)], self.tokenizer.pad_token_id)
            last = torch.zeros_like(ids, dtype=torch.bool)
            last[torch.arange(len(ids)), torch.tensor([len(p) + len(a) - 1 for p, a in zip(prompts, said, strict=True)])] = True
            found = self.model(input_ids=ids, logits_to_keep=last, use_cache=False, tower_features=features).logits.argmax(-1)
            said = [[*a, int(word)] for a, word in zip(said, found, strict=True)]
        return [[word.strip() for word in self.tokenizer.convert_ids_to_tokens(a)] for a in said]

    @torch.no_grad()
    def captions(self, rows: Sequence[int]) -> list[str]:
        tokens = self.model.model.adapter(*towers(self.features, rows, self.high))
        ids = torch.tensor([prompt_of(self.tokenizer, Row(CAPTION_QUESTION, "", 0))] * len(rows))
        embeds = self.model.input_embeddings(ids, tokens.features.flatten(0, 1))
        said = self.model.generate(
            inputs_embeds=embeds,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=32,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return self.tokenizer.batch_decode(said, skip_special_tokens=True)
