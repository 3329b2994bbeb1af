"""`mmalign rlaif rounds`: feedback, preference training, the best checkpoint, and again from there on other pictures.

Every arrow is a file: a round is done when its `round.json` is there, its parts are jobs that continue by themselves, and what happens next
hangs on nothing but the folder. Its parts: `config`, `slices` (whose pictures), `training` (steps and selection),
`measures` (benchmarks, reward, drift), `report`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...config import Stopped, UserError, to_yaml
from ..endpoint_costs import tell_total
from ..run_errors import user_errors
from .config import SELF, RoundsConfig, feedback_config
from .slices import ROWS, sliced
from .training import Failed, check, trained

if TYPE_CHECKING:
    from data_tools.calls import Backend
    from data_tools.run.directory import RunDir

    from ..feedback.config import FeedbackConfig
    from ..feedback.feedback import FeedbackReport
    from ..train.config import TrainConfig
    from ..train.results import TrainReport

__all__ = ["Parts", "RoundsConfig", "RoundsReport", "rounds", "run"]
log = logging.getLogger(__name__)
DONE = "round.json"
# what may differ between the starts of one run
UNBOUND = frozenset(
    {
        *("out", "overwrite", "rounds", "images_per_round", "keep_checkpoints", "title", "shown", "device", "dtype", "batch_size"),
        *("concurrency", "timeout", "request_cache", "price_in", "price_out"),
    }
)


class Parts(NamedTuple):
    """What the rounds are made of: jobs as functions of their configs, and a model by its name."""

    feedback: Callable[[FeedbackConfig], FeedbackReport]
    train: Callable[[TrainConfig], TrainReport]
    load: Callable[[str], Backend]


@dataclass(frozen=True)
class RoundsReport:
    """What a run came to: its folder, the last round's model, and what is known of every round, the start (0) first."""

    out: Path
    model: str
    rounds: list[Mapping[str, Any]] = field(default_factory=list)
    exit_code: int = 0


def run(config: RoundsConfig) -> RoundsReport:
    """Do what the config says and print what came of it. Raises UserError and `Stopped`."""
    from .report import spent

    report = rounds(config)
    tell_total(spent(config, report.out))
    print(f"model: {report.model}, report: {report.out / 'rounds.html'}")
    return report


def rounds(config: RoundsConfig, parts: Parts | None = None) -> RoundsReport:
    """All rounds that are left; `rounds.html` and `rounds.json` are written anew after each. Other `parts` are for tests."""
    from ..progress import stop_on_signals

    check(config)
    parts = parts or own_parts(config)
    with rounds_folder(config) as run_dir:
        sliced(run_dir, config)
        run_dir.journal("rounds").touch()  # from here on the folder is bound to this configuration
        told: list[Mapping[str, Any]] = []
        code = 0
        with stop_on_signals() as stop:
            try:
                for one in every_round(config, run_dir.root, parts, stop):
                    told.append(one)
            except Failed as error:
                log.error("error: round %d: %s", len(told), error)
                code = 1
        return RoundsReport(run_dir.root, str(told[-1]["model"]) if told else config.model, told, code)


def every_round(config: RoundsConfig, root: Path, parts: Parts, stop: Callable[[], bool]) -> Iterator[Mapping[str, Any]]:
    """What each round came to, the start first. Raises Failed, and `Stopped` where a stop was asked for."""
    from .report import write_report

    told: list[Mapping[str, Any]] = []
    for number in range(config.rounds + 1):
        if stop():
            raise Stopped(f"stopped before round {number}; the same command continues")
        told.append(the_round(config, root, number, told, parts))
        write_report(config, root, told)
        yield told[-1]


def own_parts(config: RoundsConfig) -> Parts:
    """The jobs of this toolkit."""
    from ..feedback import feedback
    from ..feedback.config import ModelFields, part
    from ..feedback.models import Models
    from ..train import train
    from .launch import train_in

    training = train.run if config.processes == 1 else train_in(config.processes)
    return Parts(feedback.feedback, training, Models(part(config, ModelFields)).loaded)


@contextmanager
def rounds_folder(config: RoundsConfig) -> Iterator[RunDir]:
    """The folder, held and bound to the configuration."""
    from data_tools.disk.durable import write_atomic
    from data_tools.run.directory import open_run

    from ..feedback.models import known_by

    root = Path(config.out)
    files = {name: known_by(name) for name in {config.model, config.judge} - {SELF}}
    binding = {"config": config.model_dump(mode="json", exclude=set(UNBOUND)), "models": files}
    outputs = ["samples.jsonl", "quarantine/samples.jsonl", "images", "rounds.html", "rounds.json"]
    outputs += [f"round-{number}" for number in range(max(config.rounds, _made(root)) + 1)]
    with user_errors(root), open_run(root, binding, outputs, overwrite=config.overwrite) as run_dir:
        write_atomic(root / "config.yaml", to_yaml(config).encode())
        run_dir.remember("outputs", outputs)  # there may be more rounds than before
        yield run_dir


def _made(root: Path) -> int:
    return max((int(path.name[6:]) for path in root.glob("round-*") if path.name[6:].isdigit()), default=0)


def the_round(config: RoundsConfig, root: Path, number: int, before: list[Mapping[str, Any]], parts: Parts) -> Mapping[str, Any]:
    """What a round came to: read, where it is done, else after what is left of it. Raises Failed."""
    from data_tools.disk.durable import read_json, remove, to_json, write_atomic

    folder = root / f"round-{number}"
    folder.mkdir(exist_ok=True)
    known: Mapping[str, Any] | None = read_json(folder / DONE)
    if known is None:
        known = play(config, folder, number, before, parts) if number else start(config, folder, parts)
        write_atomic(folder / DONE, to_json(known))
    elif not Path(str(known["model"])).exists() and number:
        raise UserError(f"{folder / DONE} tells of the model {known['model']}, which is gone: put it back, or start anew with --overwrite")
    if number and not config.keep_checkpoints:
        remove(folder / "train" / "checkpoints")
    return known


def start(config: RoundsConfig, folder: Path, parts: Parts) -> Mapping[str, Any]:
    """Round 0: the start model as it is."""
    from .measures import figures, measured

    log.info("measuring %s", config.model)
    told = {"round": 0, "model": config.model, "figures": measured(config, folder, config.model, parts.load)}
    if not config.select.lose:
        return told
    return {**told, "chosen_by": figures(config.eval, parts.load(config.model))[0] if config.test else told["figures"]}


def play(config: RoundsConfig, folder: Path, number: int, before: list[Mapping[str, Any]], parts: Parts) -> Mapping[str, Any]:
    """One round from its pictures to the figures of its model."""
    from .measures import drift, judged, measured

    model = str(before[-1]["model"])
    log.info("round %d of %d: feedback on %s", number, config.rounds, model)
    rows = folder / ROWS
    report = parts.feedback(feedback_config(config, number, model, str(rows), str(folder / "feedback")))
    found, pairs = judged(report.out), report.out / "pairs.jsonl"
    if not found["pairs"]:
        raise Failed(
            f"no pairs to train on: of {found['answers']} scored answers no two to one prompt differ enough. Ask for more candidates or "
            f"pictures, or look at {report.out}: a judge that accepts or rejects everything has no use"
        )
    log.info("round %d of %d: training on %d pairs", number, config.rounds, found["pairs"])
    choice = trained(config, number, model, pairs, found["pairs"], folder / "train", before[0], parts.train)
    log.info("round %d of %d: measuring step %d", number, config.rounds, choice["step"])
    found_by = measured(config, folder, choice["model"], parts.load)
    moved = drift(config, folder, choice["model"], model, pairs, parts.load)
    return {"round": number, **choice, "feedback": found, "figures": found_by, "drift": moved}
