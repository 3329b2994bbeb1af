"""The table of benchmarks: the `type` key of an evaluation's config -> class."""

from .amber import AmberBenchmark
from .base import Benchmark, Judged, build_benchmark, evaluate
from .cceval import CcevalBenchmark
from .chair import ChairBenchmark
from .eventhallusion import EventHallusionBenchmark
from .faithscore import FaithScoreBenchmark
from .foil import FoilBenchmark
from .hallusionbench import HallusionBenchmark
from .intervals import Interval, bootstrap, paired_difference
from .mme import MmeBenchmark
from .mmhal import MmhalBenchmark
from .mmstar import MmstarBenchmark
from .object_halbench import ObjectHalbenchBenchmark
from .objects import ObjectsBenchmark
from .official import Official, Scored
from .pope import PopeBenchmark
from .qa import QaBenchmark
from .refomb import RefombBenchmark
from .scoring import score
from .throne import ThroneBenchmark
from .video_mme import VideoMmeBenchmark
from .videohallucer import VideoHallucerBenchmark

# Two of ours, then the published ones by name.
BENCHMARKS: dict[str, type[Benchmark]] = {
    "qa": QaBenchmark,
    "objects": ObjectsBenchmark,
    "amber": AmberBenchmark,
    "cceval": CcevalBenchmark,
    "chair": ChairBenchmark,
    "eventhallusion": EventHallusionBenchmark,
    "faithscore": FaithScoreBenchmark,
    "foil": FoilBenchmark,
    "hallusionbench": HallusionBenchmark,
    "mme": MmeBenchmark,
    "mmhal": MmhalBenchmark,
    "mmstar": MmstarBenchmark,
    "object_halbench": ObjectHalbenchBenchmark,
    "pope": PopeBenchmark,
    "refomb": RefombBenchmark,
    "throne": ThroneBenchmark,
    "video_mme": VideoMmeBenchmark,
    "videohallucer": VideoHallucerBenchmark,
}

__all__ = [
    "BENCHMARKS",
    "AmberBenchmark",
    "Benchmark",
    "ChairBenchmark",
    "Interval",
    "Judged",
    "MmeBenchmark",
    "MmstarBenchmark",
    "ObjectHalbenchBenchmark",
    "ObjectsBenchmark",
    "Official",
    "PopeBenchmark",
    "QaBenchmark",
    "Scored",
    "ThroneBenchmark",
    "bootstrap",
    "build_benchmark",
    "evaluate",
    "paired_difference",
    "score",
]
