"""The table of benchmarks: the `type` key of an evaluation's config -> class."""

from .amber import AmberBenchmark
from .base import Benchmark, Judged, build_benchmark, evaluate
from .chair import ChairBenchmark
from .intervals import Interval, bootstrap, paired_difference
from .objects import ObjectsBenchmark
from .official import Official, Scored
from .pope import PopeBenchmark
from .qa import QaBenchmark
from .scoring import score

BENCHMARKS: dict[str, type[Benchmark]] = {
    "qa": QaBenchmark,
    "objects": ObjectsBenchmark,
    "pope": PopeBenchmark,
    "amber": AmberBenchmark,
    "chair": ChairBenchmark,
}

__all__ = [
    "BENCHMARKS",
    "AmberBenchmark",
    "Benchmark",
    "ChairBenchmark",
    "Interval",
    "Judged",
    "ObjectsBenchmark",
    "Official",
    "PopeBenchmark",
    "QaBenchmark",
    "Scored",
    "bootstrap",
    "build_benchmark",
    "evaluate",
    "paired_difference",
    "score",
]
