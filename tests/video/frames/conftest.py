"""Films without files: a constant or a variable rate, as rules see them."""

import zlib

import numpy as np
import pytest

from video.clip import VideoInfo


def film(count, fps=25.0, times=None, keys=(0.0,)):
    times = np.arange(count) / fps if times is None else np.asarray(times, float)
    duration = count / fps if len(times) == count and np.allclose(np.diff(times), 1 / fps) else float(times[-1] + np.diff(times)[-1])
    return VideoInfo("a.mp4", 64, 48, 0, duration, times, list(keys), count > 2 and np.ptp(np.diff(times)) > 1e-9, "h264", "mp4")


def digest(arrays):
    """One number for many lists of places: what a peer's code gave, run outside the project."""
    number = 0
    for array in arrays:
        number = zlib.crc32(np.asarray(array, "<i8").tobytes(), number)
    return number


@pytest.fixture
def make_film():
    return film


@pytest.fixture
def fingerprint():
    return digest
