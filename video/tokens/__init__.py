"""The table of reducers: the `type` key of a reducer config -> class."""

from .average_pool import AveragePool
from .base import Reduced, Reducer, Seen
from .build import build_reducer
from .diff_fp import DiffFp
from .dycoke import DyCoke
from .fastvid import FastVid
from .grid_sample import GridSample
from .holitom import HoliTom
from .llava_pool import LlavaPool
from .prumerge import PruMerge
from .prunevid import PruneVid
from .temporal_pool import TemporalPool
from .tome import ToMe
from .vidcom2 import VidCom2
from .visionzip import VisionZip

REDUCERS: dict[str, type[Reducer]] = {
    "average_pool": AveragePool,
    "diff_fp": DiffFp,
    "dycoke": DyCoke,
    "fastvid": FastVid,
    "grid_sample": GridSample,
    "holitom": HoliTom,
    "llava_pool": LlavaPool,
    "prumerge": PruMerge,
    "prunevid": PruneVid,
    "temporal_pool": TemporalPool,
    "tome": ToMe,
    "vidcom2": VidCom2,
    "visionzip": VisionZip,
}

__all__ = ["REDUCERS", "Reduced", "Reducer", "Seen", "build_reducer"]
