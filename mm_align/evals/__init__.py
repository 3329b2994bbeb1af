"""The table of benchmarks: the `type` key of an evaluation's config -> class."""

from .base import Benchmark, Judged, build_benchmark, evaluate
from .intervals import Interval, bootstrap, paired_difference
from .qa import QaBenchmark

BENCHMARKS: dict[str, type[Benchmark]] = {"qa": QaBenchmark}

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Interval",
    "Judged",
    "QaBenchmark",
    "bootstrap",
    "build_benchmark",
    "evaluate",
    "paired_difference",
]
