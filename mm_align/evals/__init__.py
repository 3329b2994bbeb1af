"""The table of benchmarks: the `type` key of an evaluation's config -> class."""

from .base import Benchmark, Judged, build_benchmark, evaluate
from .intervals import Interval, bootstrap, paired_difference
from .objects import ObjectsBenchmark
from .qa import QaBenchmark

BENCHMARKS: dict[str, type[Benchmark]] = {"qa": QaBenchmark, "objects": ObjectsBenchmark}

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Interval",
    "Judged",
    "ObjectsBenchmark",
    "QaBenchmark",
    "bootstrap",
    "build_benchmark",
    "evaluate",
    "paired_difference",
]
