"""One contract for every backend of the table: where it calls itself fit for a file, its frames are right or it raises; else it warns."""

import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest

from video.decode import DECODERS, VideoError, decode, open_video, probe
from video.decode.choice import AUTO


@pytest.fixture(params=DECODERS)
def backend(request):
    if why := DECODERS[request.param].missing():
        pytest.skip(why)
    return request.param


def test_a_backend_is_right_where_it_says_so(zoo, kind, backend, clips):
    clip = zoo(kind)
    info = probe(clip.path)
    if why := DECODERS[backend].unfit(info):
        with pytest.warns(UserWarning, match=why):
            open_video(clip.path, backend).close()
        return
    indices = np.unique(np.linspace(0, info.n_frames - 1, 16).round().astype(int))
    try:
        with warnings.catch_warnings(action="error"):
            got = decode(clip.path, indices=[*indices, *indices[::-1]], backend=backend)
    except VideoError:
        assert backend != "pyav"
        return
    seen = dict(zip(got.indices.tolist(), (clips.read(frame) for frame in got.frames), strict=True))
    assert not [(place, number) for place, number in seen.items() if number != clip.numbers[place] and place not in clip.lost]
    np.testing.assert_array_equal(got.times, info.times[got.indices])


def test_shapes_and_sizes(backend, plain, zoo, clips):
    got = decode(plain.path, indices=[0, 30], backend=backend)
    assert got.frames.shape == (2, 3, 64, 96)
    small = decode(zoo("H.264, rotated by 90").path, indices=[3, 40], size=(32, 48), backend=backend)
    assert small.frames.shape == (2, 3, 32, 48)
    assert [clips.read(frame) for frame in small.frames] == [3, 40]


def test_colours(backend, tmp_path, clips):
    """Flat pictures in the four ways that a file may store colour, each told in its header, come back within 3 of 255."""
    colours = [(200, 30, 40), (20, 180, 60), (30, 60, 220), (128, 128, 128), (255, 255, 255), (0, 0, 0), (250, 220, 10)]
    for matrix in ("bt709", "smpte170m"):
        for full in (False, True):
            path = clips.write_colours(tmp_path / f"{matrix}{full}.mp4", colours, matrix, full)
            middle = decode(path, backend=backend).frames[:, :, 32, 48].int().numpy()
            assert np.abs(middle - np.array(colours)).max() <= 3


def test_bytes(backend, plain, clips):
    got = decode(plain.path.read_bytes(), indices=[50, 3], backend=backend)
    assert [clips.read(frame) for frame in got.frames] == [50, 3]


def test_auto_never_takes_decord():
    assert "decord" not in AUTO


def test_decord_warns_on_files_it_gets_wrong(zoo, clips):
    """What `unfit` says is so: each of these gives other frames, or none. The day decord is mended, this fails and the warning can go."""
    if why := DECODERS["decord"].missing():
        pytest.skip(why)
    for kind in ("H.264, open GOPs", "H.264, edit list, closed GOPs", "H.264, MPEG-TS from 10 s on", "AV1", "GIF", "MP4 that breaks off"):
        info = probe(zoo(kind).path)
        with pytest.warns(UserWarning, match="decord was asked for, but it"):
            video = open_video(zoo(kind).path, "decord")
        with video:
            try:
                seen = video.clip(indices=range(0, info.n_frames, 4))
            except VideoError:
                continue
            assert [clips.read(frame) for frame in seen.frames] != zoo(kind).numbers[::4]


def test_a_backend_that_is_not_there_is_named_with_its_cure(plain, monkeypatch):
    monkeypatch.setattr(DECODERS["torchcodec"], "missing", staticmethod(lambda: "torchcodec is not installed (pip install ...)"))
    with pytest.raises(VideoError, match=r"torchcodec cannot be used here: torchcodec is not installed \(pip install"):
        decode(plain.path, backend="torchcodec")
    assert len(decode(plain.path, indices=[1])) == 1


def test_a_torchcodec_that_loads_without_ffmpeg_is_not_there(monkeypatch):
    """As 0.17 does: a module that imports, and says that it has no FFmpeg."""
    for name in ("torchcodec", "torchcodec.decoders"):
        module = ModuleType(name)
        module.__spec__, module.ffmpeg_major_version = ModuleSpec(name, None), None
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["torchcodec"].decoders = sys.modules["torchcodec.decoders"]
    assert "no shared libraries of FFmpeg" in DECODERS["torchcodec"].missing.__wrapped__()
    sys.modules["torchcodec"].ffmpeg_major_version = 7
    assert DECODERS["torchcodec"].missing.__wrapped__() == ""


def test_an_unknown_backend_names_those_there_are(plain):
    with pytest.raises(VideoError, match="unknown backend 'cv2': auto, pyav, torchcodec, decord"):
        decode(plain.path, backend="cv2")
