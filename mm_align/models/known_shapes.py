"""Sizes of well-known models, as their published config.json files state them, so that their memory can be told without a network.

A shape has no weights and no tokenizer. `recipes` of a shape are the folders that packaged configs expect an earlier stage to have made.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".json")


@cache
def _table() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def names() -> list[str]:
    """Of the models."""
    return list(_table()["models"])


def name_of(model: str) -> str | None:
    """The shape that a name, a hub id or the folder of a packaged recipe stands for; None where there is none."""
    return next((name for name, shape in _table()["models"].items() if model in (name, *shape["ids"], *shape.get("recipes", ()))), None)


def config_of(name: str) -> dict[str, Any]:
    """What the config.json of the shape `name` says; of a model of towers and language models, as ours would."""
    shape = _table()["models"][name]
    if "config" in shape:
        return dict(shape["config"])
    text = _table()["texts"][shape["text"]]["config"]
    vocabulary = {"vocab_size": shape["vocab_size"]} if "vocab_size" in shape else {}
    return {
        "model_type": "mm_align_lvlm",
        "vision_config": _table()["towers"][shape["vision"]]["config"],
        "text_config": text | vocabulary,
        "image_token_id": text["vocab_size"] - 1,  # any: no word is read
        **shape["rest"],
    }


def tower_of(model: str) -> dict[str, Any] | None:
    """The vision config of a well-known tower by its name or hub id."""
    return _part("towers", model)


def text_of(model: str) -> dict[str, Any] | None:
    """The config of a well-known language model by its name or hub id."""
    return _part("texts", model)


def _part(kind: str, model: str) -> dict[str, Any] | None:
    return next((dict(part["config"]) for name, part in _table()[kind].items() if model in (name, *part["ids"])), None)
