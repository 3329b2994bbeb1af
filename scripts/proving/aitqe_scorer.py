"""The tiny image-text encoder of the AITQE proof's similarity filter: SigLIP's architecture, CLIP's loss, trained on raw pairs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

from data_tools.io import decode, list_shards, read
from data_tools.records import Sample
from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor

ZOO = Path(__file__).resolve().parents[2] / "mm_align/zoo"
EYES = "tiny-lvlm"  # whose tower it starts from and whose tokenizer it has: a CLIP from nothing would need far more pairs
WORDS = 48  # tokens of a text
BATCH = 64


def new_scorer() -> tuple[SiglipModel, SiglipProcessor]:
    """The tower of `EYES` with a new pooling head, and a new text encoder of two layers."""
    eyes = LvlmForConditionalGeneration.from_pretrained(ZOO / EYES, dtype=torch.float32)
    tokenizer = LvlmProcessor.from_pretrained(ZOO / EYES).tokenizer
    vision = eyes.config.vision_config.to_dict() | {"vision_use_head": True, "model_type": "siglip_vision_model"}
    width = vision["hidden_size"]
    text = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4, "projection_size": width}
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "eos")} | {"bos_token_id": None}
    shape = {"vocab_size": len(tokenizer), "max_position_embeddings": WORDS}
    model = SiglipModel(SiglipConfig(text_config=text | ids | shape, vision_config=vision))
    model.vision_model.load_state_dict(eyes.model.vision_tower.state_dict(), strict=False)
    side = {"height": vision["image_size"], "width": vision["image_size"]}
    return model, SiglipProcessor(SiglipImageProcessor(size=side), tokenizer)


def train_scorer(pairs: str, out: Path, steps: int, seed: int = 0) -> None:
    """Contrast on all pairs as they are, the poor ones too; blank captions are left out. Writes a folder as `save_pretrained` does."""
    torch.manual_seed(seed)
    rng = random.Random(f"aitqe-scorer-{seed}")
    rows = [row for shard in list_shards(pairs) for row in read(shard) if isinstance(row, Sample) and (row.caption or "").strip()]
    model, processor = new_scorer()
    pixels, ids = _pixels(rows, processor), _ids(rows, processor)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps, pct_start=0.15)
    model.train()
    for _ in range(steps):
        drawn = rng.sample(range(len(rows)), min(BATCH, len(rows)))
        found = model(pixel_values=pixels[drawn].float(), input_ids=ids[drawn])
        logits = found.text_embeds @ found.image_embeds.T * model.logit_scale.exp().clamp(max=100)  # [n, n]
        same = torch.arange(len(drawn))
        loss = (F.cross_entropy(logits, same) + F.cross_entropy(logits.T, same)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    print(f"similarity: {len(rows)} pairs, {steps} steps, last loss {loss.item():.3f}")
    model.eval().save_pretrained(out)
    processor.save_pretrained(out)


def _pixels(rows: Sequence[Sample], processor: SiglipProcessor) -> torch.Tensor:
    """[n, 3, S, S] in float16."""
    pictures = [decode(row.images[0]).pixels for row in rows]
    parts = [processor.image_processor(images=pictures[k : k + BATCH], return_tensors="pt") for k in range(0, len(pictures), BATCH)]
    return torch.cat([part["pixel_values"].half() for part in parts])


def _ids(rows: Sequence[Sample], processor: SiglipProcessor) -> torch.Tensor:
    texts = [row.caption for row in rows]
    return processor(text=texts, padding="max_length", truncation=True, max_length=WORDS, return_tensors="pt")["input_ids"]
