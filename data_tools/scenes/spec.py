"""The numbers of SceneWorld version 1, read from the one file that fixes them (`spec_v1.json`)."""

import json
import random
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Any

SPEC: Mapping[str, Any] = MappingProxyType(json.loads(files("data_tools.scenes").joinpath("spec_v1.json").read_text("utf-8")))

SHAPES: tuple[str, ...] = tuple(SPEC["shapes"])
COLORS: tuple[str, ...] = tuple(SPEC["colors"])
SIZES: tuple[str, ...] = tuple(SPEC["object_sizes"])
TEXTURES: tuple[str, ...] = tuple(SPEC["textures"])
PLACES: tuple[str, ...] = tuple(SPEC["places"])
KINDS: tuple[str, ...] = tuple(SPEC["corruptions"])


def weighted(rng: random.Random, weights: Mapping[str, float]) -> str:
    """One key of `weights`, drawn in proportion to its value."""
    return rng.choices(list(weights), list(weights.values()))[0]
