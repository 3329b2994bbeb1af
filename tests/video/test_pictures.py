"""A video as pictures: which frames at which times, told before and after decoding, kept by path and file."""

import os
from pathlib import Path

import numpy as np
import pytest

from video.pictures import shown, to_show

av = pytest.importorskip("av")


def grey_film(path: Path, greys: range) -> str:
    """A frame a tenth of a second, each of one grey."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for grey in greys:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="rgb24")))
        file.mux(stream.encode())
    return str(path)


def test_two_of_ten_frames_by_hand(tmp_path):
    """Middles of the halves of a second: 0.25 and 0.75 s show frames 2 and 7."""
    path = grey_film(tmp_path / "film.mp4", range(0, 240, 24))
    found = shown(path, "uniform", 2)
    assert found.times == pytest.approx([0.2, 0.7])
    assert found.duration == pytest.approx(1.0)
    assert [np.asarray(picture).mean() for picture in found.pictures] == pytest.approx([48, 168], abs=4)
    before = to_show(path, "uniform", 2)
    assert (before.times, before.duration) == (found.times, found.duration)


def test_kept_while_the_file_is_the_same(tmp_path):
    path = grey_film(tmp_path / "film.mp4", range(0, 240, 24))
    first = shown(path, "uniform", 2)
    assert shown(path, "uniform", 2).pictures[0] is first.pictures[0]
    grey_film(tmp_path / "film.mp4", range(240, 0, -24))
    os.utime(path, ns=(1, 1))
    assert np.asarray(shown(path, "uniform", 2).pictures[0]).mean() == pytest.approx(192, abs=4)


def test_no_file_and_no_video(tmp_path):
    with pytest.raises(FileNotFoundError):
        shown(str(tmp_path / "none.mp4"))
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match=r"bad\.mp4"):
        shown(str(tmp_path / "bad.mp4"))
