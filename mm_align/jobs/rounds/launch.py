"""The training of a round in processes of its own: what `mmalign train` does under torchrun, with the same ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import Stopped, to_yaml
from ..train.results import TrainReport

if TYPE_CHECKING:
    from ..train.config import TrainConfig

LOOK = 0.5  # seconds between looks at whether a stop was asked for


def train_in(processes: int) -> Callable[[TrainConfig], TrainReport]:
    """As `train.run`, in so many processes on this machine. Raises `Stopped`; what is wrong is said by the processes."""

    def train(config: TrainConfig) -> TrainReport:
        from data_tools.disk.durable import write_atomic

        out = Path(config.out)
        settings = out.with_name(f"{out.name}.yaml")
        write_atomic(settings, to_yaml(config).encode())
        return TrainReport(out, exit_code=int(wait([*command(processes), str(settings)]) != 0))

    return train


def command(processes: int) -> list[str]:
    """The words before the config's file. Only the first process is heard."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--local-ranks-filter=0"]
    return [sys.executable, *launcher, "-m", "mm_align", "train", "--config"]


def wait(words: list[str]) -> int:
    """The command's exit code, of which torchrun only keeps whether it is 0. A stop that is asked for here is asked for there;
    raises `Stopped` where it came to that."""
    from ..progress import stop_on_signals

    with stop_on_signals() as stop, subprocess.Popen(words) as process:
        told = False
        while True:
            try:
                code = process.wait(LOOK)
            except subprocess.TimeoutExpired:
                if stop() and not told:
                    process.terminate()
                    told = True
                continue
            if code and stop():
                raise Stopped("training was stopped; the same command continues")
            return code
