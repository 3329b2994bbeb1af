"""Builds the zoo: trains tiny-aitqe on SceneWorld through the project's own trainer, in stages that can be killed and resumed.

python scripts/build_zoo.py --work runs/zoo --out mm_align/zoo/tiny-aitqe
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from transformers import TrainerCallback, TrainingArguments
from zoo.batches import Stage, only
from zoo.objective import TinyAitqeObjective
from zoo.plan import PLAN, Part
from zoo.tokenizer import build_tokenizer
from zoo.watch import by_kind, drawn, rewrite_log_odds

from mm_align.models import LvlmConfig, LvlmForConditionalGeneration, LvlmProcessor
from mm_align.train.trainer import ObjectiveTrainer
from vision.images import SquareImageProcessor

IMAGE, PATCH, WIDTH = 64, 8, 128


def new_model(tokenizer) -> LvlmForConditionalGeneration:
    """The AITQE architecture at toy size: SigLIP tower (its last layer unused), 2-layer MLP, Qwen2 decoder."""
    torch.manual_seed(0)
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": 4,
        "num_attention_heads": 4, "image_size": IMAGE, "patch_size": PATCH, "vision_use_head": False,
    }  # fmt: skip
    text = {
        "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 344, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 4096, "initializer_range": 0.04,
        "tie_word_embeddings": True, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None,
    }  # fmt: skip
    image_token = tokenizer.convert_tokens_to_ids("<image>")
    config = LvlmConfig(vision_config=vision, text_config=text, adapter={"type": "mlp"}, image_token_id=image_token)
    model = LvlmForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model


def new_processor(work: Path) -> LvlmProcessor:
    """The processor, with the tokenizer trained once and kept in `work`."""
    folder = work / "processor"
    if not (folder / "tokenizer.json").is_file():
        tokens = (IMAGE // PATCH) ** 2
        LvlmProcessor(SquareImageProcessor(IMAGE), build_tokenizer(), num_image_tokens=tokens).save_pretrained(folder)
    return LvlmProcessor.from_pretrained(folder)


class Curve(TrainerCallback):
    """Appends each log entry, and at each checkpoint the decision's AUROC by kind on validation scenes, to a JSONL file."""

    def __init__(self, file: Path, part: Part, processor: LvlmProcessor) -> None:
        self.file, self.part, self.processor = file, part, processor

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self._append(state.global_step, {k: round(v, 4) for k, v in (logs or {}).items() if isinstance(v, float)})

    def on_save(self, args, state, control, model=None, **kwargs) -> None:
        if self.part.lm:
            made = drawn("validation", 24, 144, "curve")
            model.eval()
            self._append(state.global_step, {"auroc": by_kind(made, rewrite_log_odds(model, self.processor, made))})
            model.train()

    def _append(self, step: int, entry: dict) -> None:
        with self.file.open("a") as out:
            out.write(json.dumps({"part": self.part.name, "step": step, **entry}) + "\n")


def train(part: Part, model: LvlmForConditionalGeneration, objective: TinyAitqeObjective, processor: LvlmProcessor, work: Path) -> None:
    """Run or resume one stage; its end state is left in `work/<name>/done`."""
    folder = work / part.name
    schedule = {"num_stable_steps": part.steps - part.warmup - part.decay, "num_decay_steps": part.decay, "min_lr_ratio": 0.02}
    args = TrainingArguments(
        output_dir=str(folder), max_steps=part.steps, per_device_train_batch_size=1, learning_rate=part.lr, warmup_steps=part.warmup,
        lr_scheduler_type="warmup_stable_decay", lr_scheduler_kwargs=schedule, weight_decay=0.05, adam_beta2=0.98, max_grad_norm=1.0,
        optim="adamw_torch_fused", logging_steps=20, save_steps=200, save_total_limit=1, report_to=[], disable_tqdm=True, seed=0,
        dataloader_num_workers=0, use_cpu=not torch.cuda.is_available(), train_sampling_strategy="sequential",
    )  # fmt: skip
    objective.lm_weight = part.lm
    stage = Stage(processor, part.name, part.steps, part.pictures, part.captions, part.full, part.shares)
    gentle = {"vision_tower": 0.3} if part.lm else {}  # what the eyes learned alone should last
    trainer = ObjectiveTrainer(
        model, args, objective, train_dataset=stage, data_collator=only, lr_scale=gentle,
        callbacks=[Curve(work / "log.jsonl", part, processor)],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    model.save_pretrained(folder / "done")
    torch.save(objective.state_dict(), folder / "done" / "objective.pt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"), help="checkpoints and logs")
    parser.add_argument("--out", type=Path, default=Path("mm_align/zoo/tiny-aitqe"), help="where the finished model goes")
    parser.add_argument("--threads", type=int, default=1, help="more are slower at these sizes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    processor = new_processor(options.work)
    model = new_model(processor.tokenizer)
    objective = TinyAitqeObjective(WIDTH, WIDTH, IMAGE // PATCH)
    for part in PLAN:
        done = options.work / part.name / "done"
        if (done / "objective.pt").is_file():
            model = LvlmForConditionalGeneration.from_pretrained(done, dtype=torch.float32)
            objective.load_state_dict(torch.load(done / "objective.pt", weights_only=True))
        else:
            train(part, model, objective, processor, options.work)
    export(model, processor, options.out)


def export(model: LvlmForConditionalGeneration, processor: LvlmProcessor, out: Path) -> None:
    """fp16 safetensors and the processor; the card is written by `scripts/proving/tiny_aitqe.py` from what it measures."""
    model.half().save_pretrained(out)
    processor.save_pretrained(out)


if __name__ == "__main__":
    sys.exit(main())
