"""`mmalign memory` against training steps of small random models on the CPU: peak bytes estimated, and as torch's allocator counts them."""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainingArguments

from mm_align.losses.lm import LmObjective
from mm_align.models.lvlm import LvlmForConditionalGeneration
from mm_align.models.lvlm_config import LvlmConfig
from mm_align.train import ObjectiveTrainer
from mm_align.train.footprint import Step, parts_of, peak_of, sizes_of
from mm_align.train.lora import apply_lora
from mm_align.train.optim import train_only

ASKED = 0.15
SIDE, PATCH = 64, 8


class Case(NamedTuple):
    """A model's sizes and how it is trained."""

    name: str
    hidden: int = 256
    layers: int = 4
    kv_heads: int = 8
    rows: int = 4
    tokens: int = 512
    train: tuple[str, ...] = ("adapter", "language_model")
    lora: bool = False
    bf16: bool = False
    checkpointing: bool = False
    accumulation: int = 1


CASES = (
    Case("all of it"),
    Case("one row", rows=1),
    Case("eight rows", rows=8),
    Case("long rows", rows=2, tokens=1024),
    Case("wider", hidden=512, layers=2),
    Case("deeper", layers=12),
    Case("grouped keys", kv_heads=2),
    Case("checkpointing", layers=12, checkpointing=True),
    Case("checkpointing, wider, one row", hidden=512, layers=8, rows=1, checkpointing=True),
    Case("adapter alone", train=("adapter",)),
    Case("tower too", train=("vision_tower", "adapter", "language_model")),
    Case("low-rank updates", lora=True),
    Case("low-rank updates, checkpointing", layers=12, lora=True, checkpointing=True),
    Case("bfloat16", bf16=True),
    Case("bfloat16, checkpointing", layers=12, bf16=True, checkpointing=True),
    Case("bfloat16, adapter alone", bf16=True, train=("adapter",)),
    Case("bfloat16, low-rank updates", bf16=True, lora=True),
    Case("two forwards a step", accumulation=2),
)


def config_of(case: Case) -> LvlmConfig:
    """A small CLIP tower, an MLP, a Llama of the case's sizes."""
    vision = {"model_type": "clip_vision_model", "hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4}
    text = {"model_type": "llama", "vocab_size": 4096, "hidden_size": case.hidden, "intermediate_size": 3 * case.hidden}
    return LvlmConfig(
        vision_config=vision | {"num_attention_heads": 4, "image_size": SIDE, "patch_size": PATCH, "projection_dim": 64},
        text_config=text | {"num_hidden_layers": case.layers, "num_attention_heads": 8, "num_key_value_heads": case.kv_heads},
        image_token_id=4095,
    )


def model_of(case: Case) -> LvlmForConditionalGeneration:
    """With random weights, and what trains as the case says."""
    model = LvlmForConditionalGeneration(config_of(case))
    if case.lora:
        apply_lora(model, {"r": 32, "alpha": 64, "dropout": 0.05})
    train_only(model, case.train)
    return model


def estimated(case: Case) -> int:
    """Bytes by the estimate."""
    picture = config_of(case).num_image_tokens
    step = Step(
        case.rows,
        case.tokens,
        case.tokens - picture,
        bf16=case.bf16,
        checkpointing=case.checkpointing,
        accumulation=case.accumulation,
        foreach=False,
    )
    with torch.device("meta"):
        model = model_of(case)
    return sum(part.bytes for part in parts_of(sizes_of(model), step, peak_of(model, step)))


def measured(case: Case, steps: int = 2) -> int:
    """The most bytes that torch's allocator had given out at once, from before the model was made to the end of `steps` steps."""
    gc.collect()
    with tempfile.TemporaryDirectory() as folder, profile(activities=[ProfilerActivity.CPU], profile_memory=True) as told:
        train(case, folder, steps)
        gc.collect()
    now = peak = 0
    for event in sorted((e for e in told.profiler.kineto_results.events() if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def train(case: Case, folder: str, steps: int) -> None:
    """A run of the toolkit's own trainer on rows of full length; one is a token shorter, so that they need a mask as rows of data do."""
    model = model_of(case)
    if case.bf16:
        for parameter in model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)  # as `mmalign train` keeps them
    rows = steps * case.rows * case.accumulation
    checkpointing = "activation_checkpointing" if hasattr(TrainingArguments, "activation_checkpointing") else "gradient_checkpointing"
    args = TrainingArguments(
        folder,
        per_device_train_batch_size=case.rows,
        gradient_accumulation_steps=case.accumulation,
        max_steps=steps,
        use_cpu=True,
        bf16=case.bf16,
        report_to=[],
        save_strategy="no",
        optim="adamw_torch",
        disable_tqdm=True,
        log_level="error",
        dataloader_pin_memory=False,
        **{checkpointing: case.checkpointing},
    )
    data = [{"row": number} for number in range(rows)]
    trainer = ObjectiveTrainer(model, args, LmObjective(), train_dataset=data, data_collator=lambda items: batch_of(model, case, items))
    trainer.train()


def batch_of(model: LvlmForConditionalGeneration, case: Case, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Rows of a picture and words that all train."""
    generator = torch.Generator().manual_seed(items[0]["row"])
    ids = torch.randint(0, 4000, (len(items), case.tokens), generator=generator)
    picture = model.config.num_image_tokens
    ids[:, :picture] = 4095
    labels, mask = ids.clone(), torch.ones_like(ids)
    labels[:, :picture] = -100
    if len(items) > 1:
        mask[0, -1], labels[0, -1] = 0, -100
    return {
        "input_ids": ids,
        "labels": labels,
        "attention_mask": mask,
        "pixel_values": torch.randn(len(items), 3, SIDE, SIDE, generator=generator),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the figures as JSON to this file")
    parser.add_argument("--only", help="cases whose name holds this")
    args = parser.parse_args()
    torch.manual_seed(0)
    found = []
    for case in (case for case in CASES if not args.only or args.only in case.name):
        guess, real = estimated(case), measured(case)
        found.append({"case": case._asdict(), "estimated": guess, "measured": real, "ratio": guess / real})
        print(f"{case.name:34} estimated {guess / 2**20:8.1f} MiB  measured {real / 2**20:8.1f} MiB  {guess / real:.3f}", flush=True)
    ratios = [entry["ratio"] for entry in found]
    within = sum(abs(ratio - 1) <= ASKED for ratio in ratios)
    print(f"{within} of {len(ratios)} within {ASKED:.0%}; ratios {min(ratios):.3f} to {max(ratios):.3f}")
    if args.out:
        args.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
