"""The published RLAIF-V-Dataset: Parquet with pictures as bytes, and reference log-probabilities as JSON where there are some."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..io.picture_values import is_nothing
from ..io.refusals import RowError
from ..records import Part, PreferencePair
from .pair import REFERENCE, Place, answer, pair_from, placed_text, with_rest

FIELDS = "question, chosen, rejected, image or image_path (and ds_name, origin_dataset, origin_split, idx, logps)"
IMAGE_KEY = "image"
IMAGE_KEYS = ("image", "images", "image_path")
TEXTS = ("ds_name", "origin_dataset", "origin_split")  # "" where nothing is known
LOGPS = "logps"


def recognises(row: Mapping[str, Any]) -> bool:
    return all(isinstance(row.get(key), str) for key in ("question", "chosen", "rejected")) and ("image" in row or "image_path" in row)


def pair_of(row: Mapping[str, Any], place: Place) -> PreferencePair:
    """`idx` names the sample. `logps` stays in the meta, and its two sums become the reference "logps"."""
    if all(is_nothing(row.get(key)) for key in IMAGE_KEYS):
        raise RowError("missing_image", "neither 'image' nor 'image_path' holds a picture")
    row = {key: value for key, value in row.items() if key not in TEXTS or value}
    if row.get(LOGPS) is not None and not row.get(REFERENCE):
        row[REFERENCE] = {LOGPS: sums_in(row[LOGPS])}
    known = ("question", "chosen", "rejected", *(["image_path"] if _says_the_same(row) else []))
    turns = [{"role": "user", "content": row.get("question")}]
    answers = (answer(row.get("chosen"), "chosen"), answer(row.get("rejected"), "rejected"))
    return pair_from(row, place, turns, answers, known=known, image_keys=IMAGE_KEYS, id_key="idx")


def _says_the_same(row: Mapping[str, Any]) -> bool:
    """Whether `image_path` is what the picture's own path is, as in the published files."""
    image = row.get("image")
    return isinstance(image, Mapping) and image.get("path") == row.get("image_path")


def sums_in(value: Any) -> tuple[float, float]:
    """The summed log-probabilities of the chosen and the rejected answer: of JSON text (or what it says) that is
    [sum, mean, per token, sum, mean, per token], chosen first, or an object with such a list as "logps". Raises RowError."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
        found = found["logps"] if isinstance(found, Mapping) else found
        if len(found) != 6:
            raise ValueError(f"{len(found)} entries where there should be 6")
        return float(found[0]), float(found[3])
    except (ValueError, TypeError, KeyError) as error:
        raise RowError("bad_logps", f"field 'logps' cannot be read: {type(error).__name__}: {error}") from error


def row_of(pair: PreferencePair, images: list[Any]) -> dict[str, Any]:
    turns, meta = pair.sample.messages, pair.sample.meta
    if len(turns) != 1 or len(images) != 1:
        raise RowError("too_much", f"this format holds one question about one picture, found {len(turns)} turns and {len(images)} pictures")
    split = meta.get("origin_split", "")
    row: dict[str, Any] = {
        "ds_name": str(meta.get("ds_name", "")),
        "image": images[0],
        "question": placed_text(_without_first_picture(turns[0].parts)),
        "chosen": pair.chosen,
        "rejected": pair.rejected,
        "origin_dataset": str(meta.get("origin_dataset", "")),
        "origin_split": split if isinstance(split, str) else json.dumps(split, ensure_ascii=False),
        "idx": pair.sample.id,
        "image_path": str(meta.get("image_path") or pair.sample.images[0].path or ""),
    }
    if LOGPS in meta and list(pair.reference) == [LOGPS]:
        return with_rest(row, PreferencePair(pair.sample, pair.chosen, pair.rejected, pair.margin), "idx")
    return with_rest(row, pair, "idx")


def _without_first_picture(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """A question whose picture comes first needs no placeholder."""
    return parts[1:] if parts and parts[0].kind == "image" else parts


def schema() -> Any:
    import pyarrow as pa

    texts = ("ds_name", "question", "chosen", "rejected", "origin_dataset", "origin_split", "idx", "image_path")
    return pa.schema([(name, pa.string()) for name in texts])
