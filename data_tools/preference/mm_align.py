"""Our own format: JSON Lines of `PreferencePair.to_dict`, pictures by path or embedded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..io.picture_values import as_struct, images_in
from ..io.refusals import RowError, text_in
from ..records import PreferencePair, Sample, Source
from .pair import Place, ending_with_user, margin_in, reference_in

FIELDS = "sample, chosen, rejected"
IMAGE_KEY = "sample"
KNOWN = ("sample", "chosen", "rejected", "margin", "reference")


def recognises(row: Mapping[str, Any]) -> bool:
    return isinstance(row.get("sample"), Mapping) and "chosen" in row and "rejected" in row


def pair_of(row: Mapping[str, Any], place: Place) -> PreferencePair:
    """Fields beside those of the record go to `sample.meta`."""
    chosen, rejected = (text_in(row.get(side), f"the {side} answer") for side in ("chosen", "rejected"))
    return PreferencePair(_sample(row, place), chosen, rejected, margin_in(row), reference_in(row))


def _sample(row: Mapping[str, Any], place: Place) -> Sample:
    try:
        sample = Sample.from_dict({**row["sample"], "images": [], "source": None})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RowError("bad_record", f"field 'sample' should hold a sample of ours: {type(error).__name__}: {error}") from error
    images = images_in([as_struct(image) for image in row["sample"].get("images") or []], "images", place.image_root)
    placed = sum(part.kind == "image" for message in sample.messages for part in message.parts)
    if placed != len(images):
        raise RowError("image_count", f"the prompt places {placed} pictures, the row has {len(images)}")
    ending_with_user(sample.messages)
    more = {key: value for key, value in row.items() if key not in KNOWN and key not in sample.meta}
    source = Source(place.shard, place.row, place.format, None, ("images",), "id")
    return replace(sample, images=images, source=source, meta={**sample.meta, **more})


def row_of(pair: PreferencePair, images: list[Any]) -> dict[str, Any]:
    row = pair.to_dict()
    row["sample"]["images"] = [{"path": i, "data": None} if isinstance(i, str) else {"path": i["path"], "data": i["bytes"]} for i in images]
    return row
