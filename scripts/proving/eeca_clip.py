"""The EECA experiment's vision encoder: a small CLIP that learns the names of half of a world's landmarks, and general captions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from eeca_world import general_pictures, landmark_pictures, low
from torch.optim.lr_scheduler import LambdaLR
from transformers import CLIPConfig, CLIPModel

from data_tools.scenes.captions import short_caption
from data_tools.scenes.entities import Entity

SIZE, PATCH = 48, 12
TEMPLATES = ("{}", "a picture of {}", "This is {}.")


def new_clip(tokenizer: Any) -> CLIPModel:
    """Random weights, about 0.9 M parameters."""
    ids = {"bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    vision = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "image_size": SIZE, "patch_size": PATCH}
    text = {
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 64,
    }
    both = {"num_attention_heads": 4, "projection_dim": 64}
    return CLIPModel(CLIPConfig(vision_config=vision | both, text_config=text | both | ids, projection_dim=64))


def train_clip(
    entities: Sequence[Entity],
    known: list[int],
    tokenizer: Any,
    seed: int,
    steps: int,
    batch: int = 64,
    report: Callable[..., None] | None = None,
) -> CLIPModel:
    """Contrastive training in turns on pictures of the `known` entities (whole, or crops at full resolution, so that patch
    features see details) and on general scenes. Other entities' pictures and names are never seen."""
    torch.manual_seed(seed)
    rng = random.Random(f"clip-{seed}")
    landmarks = landmark_pictures(tuple(entities), known, 40, f"clip-{seed}")
    scenes = general_pictures(3000, "train", f"clip-{seed}")
    model = new_clip(tokenizer).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    schedule = LambdaLR(optimizer, lambda s: warm_and_down(s, steps))
    for step in range(steps):
        if step % 2:
            rows = [rng.randrange(len(landmarks.entities)) for _ in range(batch)]
            pixels = landmarks.pixels[rows]
            pixels = crops(pixels, rng) if rng.random() < 0.7 else low(pixels, SIZE)
            ids = [int(landmarks.entities[r]) for r in rows]
            strings = [caption(entities[k], rng) for k in ids]
        else:
            rows = [rng.randrange(len(scenes.entities)) for _ in range(batch)]
            pixels, ids = low(scenes.pixels[rows], SIZE), list(range(batch))
            strings = [short_caption(scene) for scene in (scenes.scenes[r] for r in rows) if scene]
        loss = contrast(model, pixels, tokens_of(tokenizer, strings), torch.tensor(ids))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if report and step % 50 < 2:
            report(step, loss.item(), model)
    return model.eval()


def warm_and_down(step: int, steps: int) -> float:
    """60 steps up, constant, then linearly down over the last 40 %."""
    return min(1.0, (step + 1) / 60) * min(1.0, (steps - step) / (0.4 * steps) + 1e-3)


def caption(entity: Entity, rng: random.Random) -> str:
    """Mostly the name, sometimes the family."""
    return rng.choice(TEMPLATES).format(entity.name) if rng.random() < 0.8 else "a " + entity.levels[2]


def crops(pixels: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """One crop of the tower's size from each picture, unscaled, at even offsets near the middle."""
    out = []
    for picture in pixels:
        x, y = 2 * rng.randint(4, 20), 2 * rng.randint(2, 18)
        out.append(picture[:, y : y + SIZE, x : x + SIZE])
    return torch.stack(out)


def tokens_of(tokenizer: Any, strings: Sequence[str]) -> dict[str, torch.Tensor]:
    ended = [s + tokenizer.eos_token for s in strings]
    return dict(tokenizer(ended, return_tensors="pt", padding=True, padding_side="right", return_token_type_ids=False))


def contrast(model: CLIPModel, pixels: torch.Tensor, tokens: dict[str, torch.Tensor], ids: torch.Tensor) -> torch.Tensor:
    """CLIP's symmetric loss; captions of one entity are all positives of its pictures."""
    logits = model(pixel_values=pixels, **tokens).logits_per_image
    same = (ids[:, None] == ids[None]).float()
    count = same.sum(1)
    both = (F.log_softmax(logits, 1) * same).sum(1) / count + (F.log_softmax(logits.T, 1) * same).sum(1) / count
    return -0.5 * both.mean()


@torch.no_grad()
def embed_pictures(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """[n, 3, S, S] -> unit vectors [n, D]: the mean over the whole picture and its 2 x 2 crops, all that the model's branches read."""
    size, half = model.config.vision_config.image_size, pixels.shape[-1] // 2
    views = [low(pixels, size)] + [pixels[:, :, y : y + half, x : x + half] for y in (0, half) for x in (0, half)]
    found = [F.normalize(model.get_image_features(pixel_values=view).pooler_output, dim=-1) for view in views]
    return F.normalize(torch.stack(found).mean(0), dim=-1)


@torch.no_grad()
def embed_names(model: CLIPModel, tokenizer: Any, names: Sequence[str]) -> torch.Tensor:
    """Unit vectors [C, D], the mean over prompts."""
    found = [
        F.normalize(model.get_text_features(**tokens_of(tokenizer, [t.format(n) for n in names])).pooler_output, dim=-1) for t in TEMPLATES
    ]
    return F.normalize(torch.stack(found).mean(0), dim=-1)
