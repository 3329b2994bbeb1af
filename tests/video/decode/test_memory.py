"""Reading holds what was asked for and no more, and gives everything back."""

import gc
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from video.decode import VideoError, decode, open_video, probe

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")


def megabytes():
    """Resident memory, what the allocator keeps for later given back first."""
    import ctypes

    gc.collect()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_two_hundred_opens_leave_nothing_behind(plain, zoo, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(plain.path.read_bytes()[:2000])

    def once():
        decode(plain.path, indices=[3, 40])
        decode(zoo("MPEG-2, program stream").path.read_bytes(), indices=[3])
        with pytest.raises(VideoError):
            probe(broken)

    for _ in range(20):
        once()
    memory, files = megabytes(), open_files()
    for _ in range(200):
        once()
    assert open_files() == files
    assert megabytes() - memory < 4


@pytest.fixture(scope="module")
def long(tmp_path_factory, clips):
    """1,500 frames of 240 x 320: 330 MB decoded."""
    flat = [np.full((240, 320, 3), shade, np.uint8) for shade in range(256)]
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    fast = {"preset": "ultrafast"}
    return clips.write(path, range(1500), size=(240, 320), gop=300, options=fast, picture=lambda number, size: flat[number % 256])


def test_memory_does_not_grow_with_the_length(long):
    with open_video(long) as video:
        video.clip(indices=[0])
        before = megabytes()
        for piece in video.pieces(length=50):
            assert len(piece) == 50
            assert megabytes() - before < 60  # two pieces of 11 MB, and the decoder's pictures
        del piece
        video.clip(indices=range(0, 1500, 300))
        assert megabytes() - before < 25


def test_an_open_reader_is_idle_between_readings(long):
    with open_video(long) as video:
        video.clip(indices=[700])
        before, spent = megabytes(), time.process_time()
        time.sleep(0.5)
        assert time.process_time() - spent < 0.25
        assert megabytes() - before < 2
