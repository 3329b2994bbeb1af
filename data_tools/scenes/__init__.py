"""SceneWorld: rendered scenes with exact ground truth, the offline world of every demo, test and reproduction."""

from .captions import detailed_caption, good_caption, short_caption
from .corrupt import corrupt
from .rows import make_row, scene_rows
from .spec import SPEC
from .world import Chart, Item, Scene, Sign, sample_scene

__all__ = [
    "SPEC", "Chart", "Item", "Scene", "Sign", "corrupt", "detailed_caption", "good_caption", "make_row", "sample_scene",
    "scene_rows", "short_caption",
]  # fmt: skip
