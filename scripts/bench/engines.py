"""What sharing shards brings and costs: two local workers against one thread, and Ray's actors against local workers.

    python scripts/bench/engines.py                 # 20,000 pairs, five rounds; --rows, --rounds, --side
    python scripts/bench/engines.py --only gain     # or ray

Interleaved runs of the command line, wall seconds (the gain is of wall time) and CPU seconds, median and spread. The yardstick of the gain
is what two processes that only decode pictures gain over one in the same round: the most that this machine gives at that moment.
"""

from __future__ import annotations

import argparse
import io
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SHARDS = 20
PICTURES = 50  # different ones
COMPUTE = """
import io, sys
from PIL import Image
data, times = open(sys.argv[1], "rb").read(), int(sys.argv[2])
for _ in range(times):
    Image.open(io.BytesIO(data)).convert("RGB")
"""


class Cost(NamedTuple):
    """Seconds of one run."""

    wall: float
    cpu: float


def write_source(folder: Path, rows: int, side: int) -> Path:
    """Tars of JPEG pictures (smooth noise) with captions."""
    import numpy as np
    import PIL.Image

    pictures = []
    for seed in range(PICTURES):
        small = np.random.default_rng(seed).integers(0, 255, (side // 16, side // 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PIL.Image.fromarray(small).resize((side, side), PIL.Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        pictures.append(buffer.getvalue())
    folder.mkdir()
    for shard in range(SHARDS):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for row in range(shard * rows // SHARDS, (shard + 1) * rows // SHARDS):
                for suffix, data in (("jpg", pictures[row % PICTURES]), ("txt", f"a caption of row {row}".encode())):
                    info = tarfile.TarInfo(f"{row:09d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
    (folder.parent / "one.jpg").write_bytes(pictures[0])
    return folder


def timed(*commands: Sequence[str]) -> Cost:
    """Processes side by side, until the last has ended."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MMALIGN_DECODERS"), "1")
    env = {**os.environ, **threads, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    used, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    started = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for command in commands]
    for process in started:
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{process.args}: {said}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(time.monotonic() - began, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime)


def enhance(source: Path, out: Path, *more: str) -> Cost:
    command = [sys.executable, "-m", "mm_align", "enhance-data", str(source), "--out", str(out), "--overwrite", "--model", "null:", *more]
    return timed(command)


def bench_gain(source: Path, work: Path, rounds: int, rows: int) -> None:
    """What two workers gain over one thread, beside what two processes gain that only decode."""
    picture = str(work / "one.jpg")
    compute = [sys.executable, "-c", COMPUTE, picture, str(rows)]
    half = [*compute[:-1], str(rows // 2)]
    costs: dict[str, list[Cost]] = {"one process": [], "two workers": [], "decoding, one": [], "decoding, two": []}
    for _ in range(rounds):
        costs["decoding, one"].append(timed(compute))
        costs["one process"].append(enhance(source, work / "one"))
        costs["two workers"].append(enhance(source, work / "two", "--workers", "2"))
        costs["decoding, two"].append(timed(half, half))
        say(costs)
    table(costs)
    gains = {name: gain(costs[one], costs[two]) for name, one, two in (
        ("workers", "one process", "two workers"), ("decoding", "decoding, one", "decoding, two"),
    )}  # fmt: skip
    for name, each in gains.items():
        print(f"gain of {name}: {spread(each)}")
    shares = [ours / most for ours, most in zip(gains["workers"], gains["decoding"], strict=True)]
    print(f"share of the gain that two processes can have: {spread(shares)} (goal: at least 0.9)")
    least = {name: min(cost.wall for cost in each) for name, each in costs.items()}
    ours, most = least["one process"] / least["two workers"], least["decoding, one"] / least["decoding, two"]
    print(f"by the quietest run of each: workers {ours:.2f}, decoding {most:.2f}, share {ours / most:.2f}")


def bench_ray(source: Path, work: Path, rounds: int) -> None:
    """Two actors of a cluster that is up against two local workers, start of the command included."""
    from ray.cluster_utils import Cluster

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "MMALIGN_DECODERS": "1"}
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    costs: dict[str, list[Cost]] = {"two workers": [], "two actors": []}
    try:
        for _ in range(rounds):
            costs["two workers"].append(enhance(source, work / "two", "--workers", "2"))
            costs["two actors"].append(enhance(source, work / "ray", "--workers", "2", "--engine", "ray", "--ray-address", cluster.address))
            say(costs)
    finally:
        cluster.shutdown()
    table(costs)
    print("CPU seconds of actors are the cluster's and not counted here")
    more = [ray.wall / local.wall - 1 for local, ray in zip(costs["two workers"], costs["two actors"], strict=True)]
    print(f"Ray takes longer by a share of {spread(more)} (goal: at most 0.25)")
    least = {name: min(cost.wall for cost in each) for name, each in costs.items()}
    print(f"by the quietest run of each: {least['two actors'] / least['two workers'] - 1:.2f}")


def say(costs: dict[str, list[Cost]]) -> None:
    """The last round, for whoever waits."""
    print("  ".join(f"{name} {each[-1].wall:.1f}" for name, each in costs.items()), file=sys.stderr, flush=True)


def gain(one: Sequence[Cost], two: Sequence[Cost]) -> list[float]:
    return [a.wall / b.wall for a, b in zip(one, two, strict=True)]


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def table(costs: dict[str, list[Cost]]) -> None:
    for name, each in costs.items():
        print(f"{name:>14}: wall {spread([c.wall for c in each])} s, CPU {spread([c.cpu for c in each])} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["gain", "ray"])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", type=int, default=512, help="pixels of a picture's side")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        source = write_source(work / "source", given.rows, given.side)
        if given.only != "ray":
            bench_gain(source, work, given.rounds, given.rows)
        if given.only != "gain":
            bench_ray(source, work, given.rounds)


if __name__ == "__main__":
    main()
