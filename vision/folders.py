"""What a folder that a model is loaded from must hold, told in a sentence before a library looks for it in its own words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")
WANTED = "give a folder with a model's config and weights, as its library writes it, or a name on the hub"


class NoModelThere(ValueError):
    """A place on this disk holds no model; the message, which does not name the place, tells what it lacks and what to do."""


def check_folder(name: str, file: str = "config.json", key: str = "model_type") -> None:
    """Nothing for what is no place on this disk. NoModelThere for a file, and for a folder whose `file` is not there or has no `key`."""
    if not name.strip():
        raise NoModelThere(f"its name is empty; {WANTED}")
    place = Path(name)
    if place.is_file():
        raise NoModelThere(f"it is a file; {WANTED}")
    if not place.is_dir():
        return
    if not place.joinpath(file).is_file():
        raise NoModelThere(f"the folder holds no {file}{_held(place)}; {WANTED}")
    found = _read(place / file)
    if not isinstance(found, dict) or not found.get(key):
        holds = f"the keys {', '.join(sorted(found)[:6])}" if found and isinstance(found, dict) else "nothing of the kind"
        raise NoModelThere(f"its {file} names no '{key}' (it holds {holds}), so nobody knows which model this is; {WANTED}")


def check_weights(name: str) -> None:
    """NoModelThere for a folder without a file of weights."""
    place = Path(name)
    if place.is_dir() and not any(path for pattern in WEIGHTS for path in place.glob(pattern)):
        raise NoModelThere(f"the folder holds no weights (*.safetensors){_held(place)}; copy or download them again")


def _held(place: Path) -> str:
    names = sorted(path.name for path in place.iterdir())
    return f" but {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" if names else ", it is empty"


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NoModelThere(f"its {path.name} cannot be read as JSON ({error}); copy or download it again") from error
