"""The tables of frame selection: SAMPLERS know times only, SELECTORS look at the frames."""

from collections.abc import Callable

import numpy as np

from .aks import aks
from .bolt import bolt
from .candidates import Candidates
from .dpp import dpp
from .face import sample, select
from .focus import focus
from .fps import fps
from .interval_middle import interval_middle
from .k_center import k_center
from .keyframes import keyframes
from .linspace import linspace
from .llava_video import llava_video
from .mdp3 import mdp3
from .opt_visor import opt_visor
from .qwen_vl import qwen_vl
from .scene_changes import colours, scene_changes
from .top_k import top_k
from .uniform import uniform
from .videollama3 import videollama3

SAMPLERS: dict[str, Callable[..., np.ndarray]] = {
    "fps": fps,
    "interval_middle": interval_middle,
    "keyframes": keyframes,
    "linspace": linspace,
    "llava_video": llava_video,
    "opt_visor": opt_visor,
    "qwen_vl": qwen_vl,
    "uniform": uniform,
    "videollama3": videollama3,
}

SELECTORS: dict[str, Callable[..., np.ndarray]] = {
    "aks": aks,
    "bolt": bolt,
    "dpp": dpp,
    "focus": focus,
    "k_center": k_center,
    "mdp3": mdp3,
    "scene_changes": scene_changes,
    "top_k": top_k,
}

__all__ = ["SAMPLERS", "SELECTORS", "Candidates", "colours", "sample", "select"]
