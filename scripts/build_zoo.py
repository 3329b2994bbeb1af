"""Builds the zoo: trains its models on SceneWorld through the project's own trainer, in stages that can be killed and resumed.

python scripts/build_zoo.py                                   # all, one after the other (hours on a CPU)
python scripts/build_zoo.py --only tiny-lvlm --work runs/zoo --out mm_align/zoo
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import TrainerCallback, TrainingArguments
from zoo import plan
from zoo.aitqe import AitqeStage
from zoo.architecture import IMAGE, PATCH, WIDTH, model_from, new_model
from zoo.batches import Stage, only
from zoo.describing import describing_curve
from zoo.judge import JudgeStage
from zoo.judging import judging_curve
from zoo.lvlm import LvlmStage, chat_corpus
from zoo.objective import ZooObjective
from zoo.tokenizer import aitqe_corpus, build_tokenizer, json_pieces
from zoo.watch import decision_curve

from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor
from mm_align.train.trainer import ObjectiveTrainer
from vision.images import SquareImageProcessor

ZOO = Path("mm_align/zoo")


class Recipe(NamedTuple):
    """How one model is made. start: the bundled model whose weights it starts from, None for random ones.
    curve: what is measured on validation scenes at each checkpoint."""

    stage: type[Stage]
    parts: Sequence[plan.Part]
    corpus: Callable[[], Iterable[str]]
    pieces: Callable[[], Sequence[str]]
    curve: Callable[[Any, LvlmProcessor], dict[str, Any]]
    start: str | None = None


MODELS = {
    "tiny-aitqe": Recipe(AitqeStage, plan.AITQE, aitqe_corpus, json_pieces, decision_curve),
    "tiny-lvlm": Recipe(LvlmStage, plan.LVLM, chat_corpus, tuple, describing_curve, start="tiny-aitqe"),
    "tiny-judge": Recipe(JudgeStage, plan.JUDGE, chat_corpus, tuple, judging_curve, start="tiny-lvlm"),
}


def new_processor(recipe: Recipe, work: Path) -> LvlmProcessor:
    """The processor, with the tokenizer trained once and kept in `work`."""
    folder = work / "processor"
    if not (folder / "tokenizer.json").is_file():
        tokenizer = build_tokenizer(recipe.corpus(), recipe.pieces())
        LvlmProcessor(SquareImageProcessor(IMAGE), tokenizer, num_image_tokens=(IMAGE // PATCH) ** 2).save_pretrained(folder)
    return LvlmProcessor.from_pretrained(folder)


class Curve(TrainerCallback):
    """Appends each log entry, and at each checkpoint what the recipe measures on validation scenes, to a JSONL file."""

    def __init__(self, file: Path, part: plan.Part, measure: Callable[[Any], dict[str, Any]]) -> None:
        self.file, self.part, self.measure = file, part, measure

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        self._append(state.global_step, {k: round(v, 4) for k, v in (logs or {}).items() if isinstance(v, float)})

    def on_save(self, args, state, control, model=None, **kwargs) -> None:
        if self.part.lm:
            model.eval()
            self._append(state.global_step, self.measure(model))
            model.train()

    def _append(self, step: int, entry: dict) -> None:
        with self.file.open("a") as out:
            out.write(json.dumps({"part": self.part.name, "step": step, **entry}) + "\n")


def train(recipe: Recipe, part: plan.Part, model: LvlmForConditionalGeneration, objective: ZooObjective, processor, work: Path) -> None:
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
    gentle = {"vision_tower": 0.3} if part.lm else {}  # what the eyes learned alone should last
    trainer = ObjectiveTrainer(
        model, args, objective, train_dataset=recipe.stage(processor, part), data_collator=only, lr_scale=gentle,
        callbacks=[Curve(work / "log.jsonl", part, lambda watched: recipe.curve(watched, processor))],
    )  # fmt: skip
    trainer.train(resume_from_checkpoint=any(folder.glob("checkpoint-*")))
    model.save_pretrained(folder / "done")
    torch.save(objective.state_dict(), folder / "done" / "objective.pt")


def build(recipe: Recipe, work: Path, out: Path) -> None:
    """Train one model, or go on where a killed run stopped, and write it to `out`: fp16 safetensors and the processor."""
    work.mkdir(parents=True, exist_ok=True)
    processor = new_processor(recipe, work)
    tokenizer = processor.tokenizer
    model = new_model(tokenizer) if recipe.start is None else model_from(ZOO / recipe.start, tokenizer)
    objective = ZooObjective(WIDTH, WIDTH, IMAGE // PATCH, cell=0.5 if recipe.start is None else 0.1)  # trained eyes need less
    for part in recipe.parts:
        done = work / part.name / "done"
        if (done / "objective.pt").is_file():
            model = LvlmForConditionalGeneration.from_pretrained(done, dtype=torch.float32)
            objective.load_state_dict(torch.load(done / "objective.pt", weights_only=True))
        else:
            train(recipe, part, model, objective, processor, work)
    model.half().save_pretrained(out)
    processor.save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=MODELS, help="one model; default: all")
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"), help="checkpoints and logs, one folder a model")
    parser.add_argument("--out", type=Path, default=ZOO, help="where the finished models go; their cards come from scripts/proving")
    parser.add_argument("--threads", type=int, default=1, help="more are slower at these sizes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name in [options.only] if options.only else MODELS:
        build(MODELS[name], options.work / name, options.out / name)


if __name__ == "__main__":
    sys.exit(main())
