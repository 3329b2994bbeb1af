"""What a reference model gives each answer token: scored once, kept in files that know what they are scores of.

FOLDER/<context>/context.json     whose scores these are: weights, configuration, processor, precision, layout
FOLDER/<context>/NNN.scores       float32, appended
FOLDER/<context>/NNN.index        a record of RECORD for each pair, appended after its scores are on disk
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import nn

from data_tools.disk.durable import read_json, sync, to_json, write_atomic
from data_tools.disk.lock import take_lock
from data_tools.io.images import encoded
from data_tools.records import Image

from ..models import LvlmProcessor
from ..models.batch import same_picture
from ..models.corruptions import Corruption
from ..models.pairs import PreparedPair

RECORD = np.dtype([("key", "V32"), ("offset", "<i8"), ("chosen", "<i4"), ("rejected", "<i4"), ("crc", "<u4")])
CONTEXT = "context.json"


class Scores(NamedTuple):
    """float32, one number an answer token."""

    chosen: np.ndarray
    rejected: np.ndarray


# -- what scores are known by ------------------------------------------------------------------------------------------


def context_of(model: nn.Module, processor: LvlmProcessor, *, dtype: torch.dtype, layout: str) -> dict[str, str]:
    """Everything but the pair that scores depend on. dtype: what the forward computes in. Low-rank updates play no part."""
    told = {key: value for key, value in model.config.to_dict().items() if key not in ("_name_or_path", "transformers_version", "dtype")}
    return {
        "weights": weights_hash(model),
        "configuration": _hash(json.dumps(told, sort_keys=True, default=str).encode()),
        "template": processor.fingerprint(),
        "picture processor": _hash(json.dumps(processor.image_processor.to_dict(), sort_keys=True, default=str).encode()),
        "precision": str(dtype).removeprefix("torch."),
        "attention": str(model.config.get_text_config()._attn_implementation),
        "layout": layout,
    }


def weights_hash(model: nn.Module) -> str:
    """The same for models of the same weights, whether or not low-rank updates have been put into them."""
    tensors = {name.replace(".base_layer.", "."): value for name, value in model.state_dict().items() if "lora_" not in name}
    with ThreadPoolExecutor() as pool:  # hashing leaves Python's lock
        digests = pool.map(lambda name: _tensor_hash(name, tensors[name]), sorted(tensors))
        return _hash("".join(digests).encode())


def _tensor_hash(name: str, tensor: torch.Tensor) -> str:
    data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return _hash(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), data)


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


class Keys:
    """Keys of pairs, by their pictures' bytes and their tokens; a picture that many pairs show is read once."""

    def __init__(self, contrast: Corruption | None = None) -> None:
        self.contrast = contrast
        self._known: dict[Hashable, bytes] = {}

    def of(self, pair: PreparedPair) -> bytes:
        """32 bytes. BadImage for a picture that cannot be read."""
        worse = "" if self.contrast is None else f"{self.contrast.kind} {self.contrast.seed}"
        digest = hashlib.sha256(worse.encode())
        tokens = (array.tobytes() for side in (pair.chosen, pair.rejected) for array in side)
        for part in (*map(self._picture, pair.sample.images), *tokens):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
        return digest.digest()

    def _picture(self, image: Image) -> bytes:
        known = same_picture(image)
        if known not in self._known:
            held = image.data is not None or image.path is not None
            data = encoded(image) if held or image.pixels is None else repr(image.pixels.size).encode() + image.pixels.tobytes()
            self._known[known] = hashlib.sha256(data).digest()
        return self._known[known]


class References:
    """The scores of a data set's rows: row -> scores, by the rows' keys (None: a row whose picture cannot be read)."""

    def __init__(self, cache: ReferenceCache, keys: Sequence[bytes | None]) -> None:
        self.cache, self.keys = cache, keys

    def of(self, row: int) -> Scores | None:
        key = self.keys[row]
        return None if key is None else self.cache.find(key)

    def missing(self) -> list[int]:
        """Rows without scores, of rows that are the same pair the first."""
        first: dict[bytes, int] = {}
        for row, key in enumerate(self.keys):
            if key is not None and key not in first and self.cache.find(key) is None:
                first[key] = row
        return list(first.values())


# -- files -------------------------------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    shard: int
    offset: int
    chosen: int
    rejected: int
    crc: int


class ReferenceCache:
    """The scores of one context under `root`. Others' scores are never read; `others` says how their contexts differ.

    Processes may read while others append: each appends to a shard of its own.
    """

    def __init__(self, root: Path, context: Mapping[str, str]) -> None:
        self.root, self.context = root, dict(context)
        self.folder = root / _hash(json.dumps(self.context, sort_keys=True).encode())[:20]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self.folder / CONTEXT, to_json(self.context))
        self.refresh()

    def refresh(self) -> None:
        """See what was appended meanwhile."""
        self._shards: list[Path] = sorted(self.folder.glob("*.index"))
        self._maps: dict[int, np.memmap] = {}
        self._entries = {key: entry for number, file in enumerate(self._shards) for key, entry in _entries(number, file)}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}}  # a worker maps the files itself

    def __len__(self) -> int:
        return len(self._entries)

    def others(self) -> list[list[str]]:
        """For each other context with scores under the root, the names of the parts in which it differs from this one."""
        found = []
        for file in sorted(self.root.glob(f"*/{CONTEXT}")):
            other = read_json(file) or {}
            if file.parent != self.folder and any(file.parent.glob("*.index")):
                found.append([name for name, value in self.context.items() if other.get(name) != value])
        return found

    def find(self, key: bytes) -> Scores | None:
        """The scores of a pair; None where there are none, or not what was written."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.shard not in self._maps:
            self._maps[entry.shard] = np.memmap(self._shards[entry.shard].with_suffix(".scores"), np.uint8, "r")
        data = self._maps[entry.shard][4 * entry.offset : 4 * (entry.offset + entry.chosen + entry.rejected)].tobytes()
        flat = np.frombuffer(data, "<f4")
        return None if zlib.crc32(data) != entry.crc else Scores(flat[: entry.chosen], flat[entry.chosen :])

    @contextmanager
    def appending(self) -> Iterator[Callable[[Mapping[bytes, Scores]], None]]:
        """Gives a function that adds scores for good: a kill leaves those of its finished calls."""
        with _free_shard(self.folder) as (index, scores):
            yield lambda found: _append(index, scores, found)
        self.refresh()


def _entries(number: int, file: Path) -> Iterator[tuple[bytes, _Entry]]:
    """The records of a shard whose scores are there."""
    data = file.read_bytes()
    held = file.with_suffix(".scores").stat().st_size // 4 if file.with_suffix(".scores").exists() else 0
    for record in np.frombuffer(data[: len(data) // RECORD.itemsize * RECORD.itemsize], RECORD):
        entry = _Entry(number, *(int(record[name]) for name in ("offset", "chosen", "rejected", "crc")))
        if entry.offset + entry.chosen + entry.rejected <= held:
            yield bytes(record["key"]), entry


@contextmanager
def _free_shard(folder: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """The files of the first shard that no other process appends to, after cutting off what a kill left half written."""
    number = 0
    while True:
        with (folder / f"{number:03}.index").open("ab") as index, (folder / f"{number:03}.scores").open("ab") as scores:
            if take_lock(index):
                for file, size in ((index, RECORD.itemsize), (scores, 4)):  # another may have added between opening and locking
                    file.truncate(file.seek(0, os.SEEK_END) // size * size)
                yield index, scores
                return
        number += 1


def _append(index: IO[bytes], scores: IO[bytes], found: Mapping[bytes, Scores]) -> None:
    records = np.zeros(len(found), RECORD)
    at = scores.seek(0, os.SEEK_END) // 4
    for record, (key, pair) in zip(records, found.items(), strict=True):
        flat = np.concatenate(pair).astype("<f4")
        scores.write(flat.tobytes())
        record["key"], record["offset"], record["crc"] = np.void(key), at, zlib.crc32(flat.tobytes())
        record["chosen"], record["rejected"] = len(pair.chosen), len(pair.rejected)
        at += len(flat)
    for file, data in ((scores, b""), (index, records.tobytes())):
        file.write(data)
        file.flush()
        sync(Path(file.name))
