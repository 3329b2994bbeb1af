"""The EECA experiment's LLM: it reads lists of words, captions them, and knows the facts of every landmark by name, before any picture."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from eeca_clip import warm_and_down
from eeca_world import CAPTION_QUESTION, CONTEXT, NAME_QUESTION, simple_scene
from torch.optim.lr_scheduler import LambdaLR
from transformers import Qwen2Config, Qwen2ForCausalLM

from data_tools.scenes.captions import short_caption
from data_tools.scenes.entities import FACTS, Entity, question
from data_tools.scenes.world import Scene

FILLER = ("sky", "ground", "cloud", "bush", "bird", "light")
SLOTS = {"top left": (0, 1, 4), "top right": (2, 3, 7), "bottom left": (8, 12, 13), "bottom right": (14, 15, 11), "center": (5, 6, 9)}


def new_llm(tokenizer: Any) -> Qwen2ForCausalLM:
    """Random weights, about 0.85 M parameters."""
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, tie_word_embeddings=True, initializer_range=0.04, max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    return Qwen2ForCausalLM(config)


# -- what it reads -----------------------------------------------------------------------------------------------------


def entity_context(entity: Entity, rng: random.Random) -> list[str]:
    """CONTEXT words: the name's at random places among those of the coarse look and of the surroundings."""
    words = [rng.choice([*FILLER, *entity.levels[2].split(), *FILLER]) for _ in range(CONTEXT)]
    first, second = entity.name.split()
    for _ in range(rng.randint(1, 4)):
        words[rng.randrange(CONTEXT)] = first
    for _ in range(rng.randint(1, 4)):
        words[rng.choice([k for k in range(CONTEXT) if words[k] != first or words.count(first) > 1])] = second
    return words


def scene_context(scene: Scene, rng: random.Random) -> list[str]:
    """CONTEXT words in the order of a 4 x 4 grid: each object's colour, shape and texture where it stands."""
    words = [rng.choice([*FILLER, scene.background]) for _ in range(CONTEXT)]
    for item in scene.items:
        slots = list(SLOTS[item.place])
        rng.shuffle(slots)
        for slot, word in zip(slots, (item.color, item.shape, item.texture), strict=True):
            words[slot] = word
    return words


def behind(context: Sequence[str], asked: str) -> str:
    """A question behind a list of words, where a picture would stand."""
    return " " + " ".join(context) + "\n" + asked


def example(entities: Sequence[Entity], rng: random.Random) -> tuple[str, str]:
    """A random prompt and its answer: a fact by name or by words, a name by words, a caption of words."""
    kind, entity, fact = rng.random(), rng.choice(entities), rng.choice(FACTS)
    if kind < 0.25:
        return question(fact, entity.name), " " + entity.facts[fact]
    if kind < 0.6:
        return behind(entity_context(entity, rng), question(fact)), " " + entity.facts[fact]
    if kind < 0.75:
        return behind(entity_context(entity, rng), NAME_QUESTION), " " + entity.name
    scene = simple_scene(rng, "train")
    return behind(scene_context(scene, rng), CAPTION_QUESTION), " " + short_caption(scene)


def batch_of(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels [B, L]; a loss falls on answers only."""
    ids, labels = [], []
    for prompt, answer in pairs:
        asked, said = tokenizer(prompt)["input_ids"], [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        ids.append(asked + said)
        labels.append([-100] * len(asked) + said)
    n = max(map(len, ids))
    pad = tokenizer.pad_token_id
    return torch.tensor([x + [pad] * (n - len(x)) for x in ids]), torch.tensor([x + [-100] * (n - len(x)) for x in labels])


def blurred(embeds: torch.Tensor, ids: torch.Tensor, newline: int, generator: torch.Generator) -> torch.Tensor:
    """Embeddings [B, L, D] of rows that open with a context: its places scaled, mixed with each other and noisy.

    Visual tokens are no clean words; an LLM that only ever read clean ones reads nothing else (noise on embeddings: NEFTune,
    arXiv 2310.05914; mixing and scaling: this toolkit's choice).
    """
    opens = (ids[:, CONTEXT] == newline).float()[:, None, None]
    n = len(ids)
    share = 0.7 * torch.rand(n, CONTEXT, 1, generator=generator) * (torch.rand(n, 1, 1, generator=generator) < 0.7) * opens
    others = (3 * torch.randn(n, CONTEXT, CONTEXT, generator=generator)).softmax(-1)
    mix = (1 - share) * torch.eye(CONTEXT) + share * others
    scale = 1 + opens * (0.6 + 0.9 * torch.rand(n, 1, 1, generator=generator) - 1)
    size = opens * 0.5 * torch.rand(n, 1, 1, generator=generator) * embeds.detach().std()
    noise = size * torch.randn(n, CONTEXT, embeds.shape[-1], generator=generator)
    return torch.cat([scale * (mix @ embeds[:, :CONTEXT]) + noise, embeds[:, CONTEXT:]], 1)


# -- training and the premise ------------------------------------------------------------------------------------------


def train_llm(
    entities: Sequence[Entity], tokenizer: Any, seed: int, steps: int, batch: int = 64, report: Callable[..., None] | None = None
) -> Qwen2ForCausalLM:
    """Text alone. Each step's rows fall into three groups of like length, to save padding."""
    torch.manual_seed(seed)
    rng, generator = random.Random(f"facts-{seed}"), torch.Generator().manual_seed(seed)
    model = new_llm(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.02, fused=True)
    schedule = LambdaLR(optimizer, lambda s: warm_and_down(s, steps))
    newline = tokenizer.convert_tokens_to_ids("\n")
    for step in range(steps):
        pairs = sorted((example(entities, rng) for _ in range(batch)), key=lambda p: len(p[0]) + len(p[1]))
        for group in (pairs[: batch // 4], pairs[batch // 4 : 3 * batch // 4], pairs[3 * batch // 4 :]):
            ids, labels = batch_of(tokenizer, group)
            embeds = model.get_input_embeddings()(ids)
            if ids.shape[1] > CONTEXT:
                embeds = blurred(embeds, ids, newline, generator)
            hidden = model.model(inputs_embeds=embeds).last_hidden_state[:, :-1]
            at = labels[:, 1:] != -100
            loss = F.cross_entropy(model.lm_head(hidden[at]), labels[:, 1:][at]) * len(group) / batch
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if report and (step + 1) % 100 == 0:
            report(step + 1, loss.item(), model)
    return model.eval()


@torch.no_grad()
def fact_accuracy(model: Any, tokenizer: Any, entities: Sequence[Entity]) -> float:
    """Share of (entity, fact) pairs that the LLM answers from the name alone: the answer is the most likely next word."""
    pairs = [(question(fact, e.name), " " + e.facts[fact]) for e in entities for fact in FACTS]
    ids, labels = batch_of(tokenizer, pairs)
    first = (labels != -100).float().argmax(1)  # where each answer begins
    row = torch.arange(len(ids))
    said = model(input_ids=ids).logits[row, first - 1].argmax(-1)
    return (said == ids[row, first]).float().mean().item()
