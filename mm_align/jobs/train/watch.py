"""Evaluations while `mmalign train` runs: benchmarks on the model as it is now, and answers to look at."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .folder import BROKEN_SUITES
from .suites import Broken, answers, never_logged, quarantine

if TYPE_CHECKING:
    from data_tools.records import Message, Sample

    from ...backends.transformers_ import TransformersBackend
    from ...train.trainer import ObjectiveTrainer
    from .config import TrainConfig
    from .setup import Ready

log = logging.getLogger(__name__)


class Watch:
    """`watch(step)` runs the suites, logs `NAME/metric`, and adds the answers to the first rows of the evaluation data to `samples.jsonl`.

    With several processes every one computes the same answers and the first one writes: nobody waits for nobody.
    """

    def __init__(self, config: TrainConfig, parts: Ready, trainer: ObjectiveTrainer, path: Path) -> None:
        self.parts, self.trainer, self.path = parts, trainer, path
        self.select_by, self.tokens = config.select_by, config.answer_tokens
        self.broken: dict[str, Broken] = {name: {} for name in parts.suites}
        self.unseen: Broken = {}  # rows to show whose pictures are broken: the evaluation loss has put them into quarantine
        rows = parts.eval_data.samples() if parts.eval_data is not None else iter(())
        self.shown = list(islice(filter(None, map(asked, rows)), config.show_answers))

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self.parts.suites and not self.shown

    def __call__(self, step: int) -> None:
        backend = backend_of(self.parts, self.trainer)
        with self.trainer.compute_loss_context_manager():
            found = {f"{name}/{metric}": value for name in self.parts.suites for metric, value in self._scores(name, backend).items()}
            if found:
                self.trainer.log(found)
            self._require_selected()
            self._show(step, backend)

    def _scores(self, name: str, backend: TransformersBackend) -> dict[str, float]:
        """Metrics of a suite; a row whose picture cannot be decoded is in quarantine, and counts as unanswered."""
        from ...evals import evaluate

        suite, broken = self.parts.suites[name], self.broken[name]
        known = len(broken)
        scores = evaluate(suite, lambda samples, sampling: answers(backend, samples, sampling, broken))
        if len(broken) > known and self.trainer.is_world_process_zero():
            log.warning("eval suite %s: %d of its pictures cannot be decoded; %s says why", name, len(broken), BROKEN_SUITES)
            quarantine(self.path.parent / BROKEN_SUITES, name, suite.samples(), broken)
        return scores

    def _require_selected(self) -> None:
        """UserError where the run selects by a name that no log entry has, this evaluation's among them."""
        known = {name for entry in self.trainer.state.log_history for name, value in entry.items() if isinstance(value, int | float)}
        if self.select_by is not None and self.select_by not in known:
            raise never_logged(self.select_by, {name for name in known if name.startswith("eval_") or "/" in name})

    def _show(self, step: int, backend: TransformersBackend) -> None:
        from data_tools.calls import Sampling

        if not self.shown:
            return
        responses = answers(backend, [prompt for prompt, _ in self.shown], Sampling(max_tokens=self.tokens), self.unseen)
        if self.trainer.is_world_process_zero():
            said = {response.sample_id: response.text for response in responses}
            shown = [_shown(step, prompt, wanted, said[prompt.id]) for prompt, wanted in self.shown if prompt.id in said]
            add_lines(self.path, step, shown)


def backend_of(parts: Ready, trainer: ObjectiveTrainer) -> TransformersBackend:
    """The model in training, ready to answer."""
    from ...backends.loading import Loaded, end_ids, prompts_for
    from ...backends.transformers_ import TransformersBackend

    model = trainer.accelerator.unwrap_model(trainer.model)
    loaded = Loaded(model, prompts_for(parts.processor), "in training", lambda: "in training", end_ids(model, parts.processor.tokenizer))
    return TransformersBackend(loaded, trainer.args.per_device_eval_batch_size)


def asked(sample: Sample) -> tuple[Sample, str] | None:
    """The sample up to its last answer, and that answer; None for a sample that does not end with one."""
    *before, last = sample.messages
    if last.role != "assistant" or not before:
        return None
    pictures = sum(part.kind != "text" for message in before for part in message.parts)
    return replace(sample, messages=tuple(before), images=sample.images[:pictures]), _text([last])


def _text(messages: Iterable[Message]) -> str:
    return "\n".join("".join(p.text if p.kind == "text" else f"<{p.kind}>" for p in m.parts) for m in messages)


def _shown(step: int, prompt: Sample, wanted: str, answer: str) -> dict[str, Any]:
    return {"step": step, "id": prompt.id, "prompt": _text(prompt.messages), "answer": answer, "expected": wanted}


def add_lines(path: Path, step: int, entries: Sequence[dict[str, Any]]) -> None:
    """Add entries of `step` behind those of earlier steps; what an interrupted start wrote of this step or later goes."""
    from data_tools.disk.durable import write_atomic

    known = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []
    kept = [entry for entry in known if entry["step"] < step]
    write_atomic(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in [*kept, *entries]).encode())
