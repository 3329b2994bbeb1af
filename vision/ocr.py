"""Text in pictures, found and read by RapidOCR, whose wheel brings the weights (PP-OCR as ONNX): nothing is fetched, no torch is needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

SIDE = 736  # pixels of the longer side at which text is looked for, as the detector was trained
LEAST = 16  # a picture with a shorter side has no room for a line that could be read
PARTS = ("det", "rec")  # of the file names of the two networks: one finds lines, the other reads them


class Line(NamedTuple):
    """A line of text. `corners`: [4, 2], each (x, y) as a share of the picture's width and height, clockwise from the upper left."""

    text: str
    corners: np.ndarray


class TextReader:
    """The lines of each picture whose reading is surer than one half; each picture's are a function of it alone.

    `digest`: first 16 hex digits of the SHA-256 of the two networks.
    """

    def __init__(self, engine: Any, digest: str = "") -> None:
        self.engine, self.digest = engine, digest

    def __call__(self, pictures: Sequence[PIL.Image.Image]) -> list[list[Line]]:
        return [self._lines(picture) for picture in pictures]

    def _lines(self, picture: PIL.Image.Image) -> list[Line]:
        if min(picture.size) < LEAST:
            return []
        rgb = picture.convert("RGB")
        rgb.thumbnail((SIDE, SIDE), reducing_gap=2.0)
        found = self.engine(np.asarray(rgb)[:, :, ::-1])  # it takes OpenCV's order of colours
        if found.boxes is None or not found.txts:
            return []
        corners = np.asarray(found.boxes, np.float64) / rgb.size  # [n, 4, 2]
        return [Line(str(text), box) for text, box in zip(found.txts, corners, strict=True)]


def load_text_reader(folder: str | Path | None = None) -> TextReader:
    """RapidOCR on one thread, with the networks of its own wheel or those of a folder (`*det*.onnx`, `*rec*.onnx`).

    Raises ValueError in a sentence: the extra is absent, a network is missing, cannot be read, or brings no alphabet.
    """
    try:
        import onnxruntime
        import rapidocr
    except ImportError as error:
        raise ValueError(f"reading text in pictures needs RapidOCR and onnxruntime ({error}): pip install 'mm-align[ocr]'") from error
    files = _networks(folder or Path(rapidocr.__file__).parent / "models")
    for path in files.values():
        _refuse_unread(onnxruntime, path, alphabet=path is files["rec"])
    paths = {f"{part.capitalize()}.model_path": str(path) for part, path in files.items()}  # with these it fetches none
    threads = {f"EngineConfig.onnxruntime.{kind}_op_num_threads": 1 for kind in ("intra", "inter")}
    shrink = {"Det.limit_type": "max", "Det.limit_side_len": SIDE}
    engine = rapidocr.RapidOCR(params={"Global.use_cls": False, "Global.log_level": "error", **paths, **threads, **shrink})
    return TextReader(engine, _digest(files.values()))


def _networks(folder: str | Path) -> dict[str, Path]:
    """The file of each of `PARTS` in a folder. Raises ValueError where there is not one of each."""
    found = {part: sorted(Path(folder).glob(f"*{part}*.onnx")) for part in PARTS}
    for part, files in found.items():
        if len(files) != 1:
            names = ", ".join(path.name for path in files) or "none"
            raise ValueError(f"'{folder}' should hold one file *{part}*.onnx; it holds {names}")
    return {part: files[0] for part, files in found.items()}


def _refuse_unread(onnxruntime: Any, path: Path, alphabet: bool) -> None:
    """ValueError for what is no network, and for one that reads but brings no alphabet: RapidOCR would fetch one."""
    from onnxruntime.capi import onnxruntime_pybind11_state as said

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except (said.InvalidProtobuf, said.InvalidGraph, said.InvalidArgument, said.Fail) as error:
        raise ValueError(f"'{path}' is no network that onnxruntime can read: {str(error).splitlines()[0][:300]}") from error
    if alphabet and "character" not in session.get_modelmeta().custom_metadata_map:
        raise ValueError(f"'{path}' lacks its alphabet (metadata `character`), without which nothing is read: take one made for RapidOCR")


def _digest(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:16]
