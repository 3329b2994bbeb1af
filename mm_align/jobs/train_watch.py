"""Evaluations while `mmalign train` runs: benchmarks on the model as it is now, and answers to look at."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import UserError

if TYPE_CHECKING:
    from data_tools.records import Message, Sample

    from ..backends.transformers_ import TransformersBackend
    from ..evals import Benchmark
    from ..train.trainer import ObjectiveTrainer
    from .train_config import TrainConfig
    from .train_setup import Ready

log = logging.getLogger(__name__)


class Watch:
    """`watch(step)` runs the suites, logs `NAME/metric`, and adds the answers to the first rows of the evaluation data to `samples.jsonl`.

    With several processes every one computes the same answers and the first one writes: nobody waits for nobody.
    """

    def __init__(self, config: TrainConfig, parts: Ready, trainer: ObjectiveTrainer, path: Path) -> None:
        self.parts, self.trainer, self.path = parts, trainer, path
        self.suites = suites(config.eval_suites)
        self.tokens = config.answer_tokens
        rows = parts.eval_data.samples() if parts.eval_data is not None else iter(())
        self.shown = list(islice(filter(None, map(asked, rows)), config.show_answers))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.suites and not self.shown

    def __call__(self, step: int) -> None:
        backend = backend_of(self.parts, self.trainer)
        with self.trainer.compute_loss_context_manager():
            found = {f"{name}/{metric}": value for name, suite in self.suites.items() for metric, value in _scores(suite, backend).items()}
            if found:
                self.trainer.log(found)
            self._show(step, backend)

    def _show(self, step: int, backend: TransformersBackend) -> None:
        from data_tools.calls import Sampling

        if not self.shown:
            return
        answers = backend.generate([prompt for prompt, _ in self.shown], Sampling(max_tokens=self.tokens))
        if self.trainer.is_world_process_zero():
            shown = [_shown(step, prompt, wanted, r.text) for (prompt, wanted), r in zip(self.shown, answers, strict=True)]
            add_lines(self.path, step, shown)


def suites(described: Sequence[str | dict[str, Any]]) -> dict[str, Benchmark]:
    """Name -> benchmark, of a config's `eval_suites`. UserError for an unknown type or option, and for two of one name."""
    from ..evals import build_benchmark

    found: dict[str, Benchmark] = {}
    for given in described:
        options = {"type": given} if isinstance(given, str) else dict(given)
        name = str(options.pop("name", options.get("type")))
        if name in found:
            raise UserError(f"two eval_suites are called '{name}'; give one another `name`")
        try:
            found[name] = build_benchmark(options)
            list(islice(found[name].samples(), 1))  # what cannot be read is said now, not after the first epoch
        except (ValueError, TypeError, OSError) as error:
            raise UserError(f"eval suite {name}: {error}") from error
    return found


def _scores(suite: Benchmark, backend: TransformersBackend) -> dict[str, float]:
    from ..evals import evaluate

    return evaluate(suite, backend.generate)


def backend_of(parts: Ready, trainer: ObjectiveTrainer) -> TransformersBackend:
    """The model in training, ready to answer."""
    from ..backends.loading import Loaded, end_ids, prompts_for
    from ..backends.transformers_ import TransformersBackend

    model = trainer.accelerator.unwrap_model(trainer.model)
    loaded = Loaded(model, prompts_for(parts.processor), "in training", lambda: "in training", end_ids(model, parts.processor.tokenizer))
    return TransformersBackend(loaded, trainer.args.per_device_eval_batch_size)


def asked(sample: Sample) -> tuple[Sample, str] | None:
    """The sample up to its last answer, and that answer; None for a sample that does not end with one."""
    *before, last = sample.messages
    if last.role != "assistant" or not before:
        return None
    pictures = sum(part.kind == "image" for message in before for part in message.parts)
    return replace(sample, messages=tuple(before), images=sample.images[:pictures]), _text([last])


def _text(messages: Iterable[Message]) -> str:
    return "\n".join("".join(p.text if p.kind == "text" else f"<{p.kind}>" for p in m.parts) for m in messages)


def _shown(step: int, prompt: Sample, wanted: str, answer: str) -> dict[str, Any]:
    return {"step": step, "id": prompt.id, "prompt": _text(prompt.messages), "answer": answer, "expected": wanted}


def add_lines(path: Path, step: int, entries: Sequence[dict[str, Any]]) -> None:
    """Add entries of `step` behind those of earlier steps; what an interrupted start wrote of this step or later goes."""
    from data_tools.shards import write_atomic

    known = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    kept = [entry for entry in known if entry["step"] < step]
    write_atomic(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in [*kept, *entries]).encode())
