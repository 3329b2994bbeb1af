"""Every kind of file: `probe` tells its frames' times, `auto` and our reader give exactly the frame asked for, in whatever order."""

import logging

import numpy as np
import pytest

from video.clip import FramePlan
from video.decode import DECODERS, VideoError, decode, open_video, probe


def spread(count, n=16):
    return np.unique(np.linspace(0, count - 1, n).round().astype(int))


def wrong(clips, clip, got):
    """(asked for, seen) where they differ; what damage took does not count."""
    seen = [clips.read(frame) for frame in got.frames]
    pairs = zip(got.indices.tolist(), seen, strict=True)
    return [(clip.numbers[place], number) for place, number in pairs if number != clip.numbers[place] and place not in clip.lost]


def test_probe_tells_what_is_there(zoo, kind):
    clip = zoo(kind)
    info = probe(clip.path)
    assert info.flags == clip.flags
    assert info.n_frames == len(clip.times) or (clip.least <= info.n_frames < len(clip.times))
    np.testing.assert_allclose(info.times, clip.times[: info.n_frames], atol=5.1e-4)  # Matroska rounds to milliseconds
    assert info.variable_rate == (kind == "H.264, variable rate")
    assert set(info.key_times) <= set(info.times)


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_every_frame_is_the_one_asked_for(zoo, kind, backend, clips):
    clip = zoo(kind)
    with open_video(clip.path, backend) as video:
        order = spread(video.info.n_frames)
        assert not wrong(clips, clip, video.clip(indices=order))
        assert not wrong(clips, clip, video.clip(indices=[*order[::-1], *order[:2]]))
        for index in order[::5]:  # jumps back and forth: each from a state that the one before left behind
            assert not wrong(clips, clip, video.clip(indices=[index]))
        assert not wrong(clips, clip, video.clip())


def test_a_time_gives_the_frame_shown_then(zoo, kind, clips):
    clip = zoo(kind)
    with open_video(clip.path) as video:
        ends = [*video.info.times[1:], video.info.duration]
        middles = [(begin + end) / 2 for begin, end in zip(video.info.times, ends, strict=True)]
        got = video.clip(times=middles)
    assert got.indices.tolist() == list(range(video.info.n_frames))
    assert not wrong(clips, clip, got)
    np.testing.assert_array_equal(got.times, video.info.times)


def test_damage_is_flagged_and_ends_with_its_gop(zoo, clips):
    clip = zoo("damaged in its second GOP")
    got = decode(clip.path)
    assert set(got.flags) <= {"damaged", "substituted"}
    assert got.flags
    assert len(got) == 60
    assert decode(clip.path, indices=range(24, 60)).flags == ()


def test_rotation_is_applied_and_size_is_of_the_picture_shown(zoo):
    for turn in (90, 180, 270):
        info = probe(zoo(f"H.264, rotated by {turn}").path)
        assert (info.width, info.height, info.rotation) == (96, 64, turn)


def test_a_late_picture_counts_from_its_first_frame(zoo):
    late = probe(zoo("H.264, picture after sound").path)
    assert (late.start, late.times[0]) == (1.5, 0.0)
    assert late.duration == pytest.approx(2.0)
    assert probe(zoo("H.264, MPEG-TS from 10 s on").path).start == pytest.approx(10.0)


def test_a_header_of_ten_hours_is_not_believed(zoo):
    for kind in ("MP4 header of ten hours", "Matroska header of ten hours"):
        assert probe(zoo(kind).path).duration == pytest.approx(2.0, abs=2e-3)


def test_index_over_rate_is_not_time_where_the_rate_varies(zoo):
    """30, then 6, then 30 frames a second: the mean rate is off by most of a second in the middle."""
    info = probe(zoo("H.264, variable rate").path)
    assert info.variable_rate
    assert np.abs(np.arange(info.n_frames) / info.fps - info.times).max() > 0.5


def test_a_plan_is_followed(plain, clips):
    plan = FramePlan(times=(0.1, 1.0, 1.9), tokens_a_frame=4, visual_tokens=12)
    assert [clips.read(frame) for frame in decode(plain.path, plan).frames] == [3, 30, 57]
    by_index = FramePlan(times=(0.1, 1.0), tokens_a_frame=4, visual_tokens=8, indices=(5, 6))
    assert decode(plain.path, by_index).indices.tolist() == [5, 6]


def test_bytes_and_paths_are_the_same(zoo, clips):
    for kind in ("H.264, closed GOPs of 12", "MPEG-2, program stream", "H.264, AVI"):  # seek, read again from the start, count
        clip = zoo(kind)
        got = decode(clip.path.read_bytes(), indices=[50, 3, 30])
        assert [clips.read(frame) for frame in got.frames] == [50, 3, 30]
        assert got.source.path.endswith("bytes>")


@pytest.mark.parametrize("size", [(32, 48), (128, 192), 32])
@pytest.mark.parametrize("turn", ["closed GOPs of 12", "rotated by 90"])
def test_frames_are_scaled_while_decoding(zoo, clips, size, turn):
    got = decode(zoo(f"H.264, {turn}").path, indices=[3, 40], size=size)
    assert got.frames.shape == (2, 3, *(size if isinstance(size, tuple) else (32, 48)))
    assert [clips.read(frame) for frame in got.frames] == [3, 40]


def test_threads_change_nothing(zoo, clips):
    for kind in ("H.264, open GOPs", "VP9, alternate references", "AV1"):
        alone, together = (decode(zoo(kind).path, indices=[59, 7, 30], threads=threads) for threads in (1, 3))
        assert (alone.frames == together.frames).all()


def test_auto_falls_back_and_says_why(plain, monkeypatch, caplog):
    class Broken(DECODERS["torchcodec"]):
        name = "broken"
        missing = staticmethod(lambda: "")
        unfit = staticmethod(lambda info: "")

        def read(self, indices, size):
            raise VideoError("out of order")

    monkeypatch.setitem(DECODERS, "broken", Broken)
    monkeypatch.setitem(DECODERS, "unfit", type("Unfit", (Broken,), {"unfit": staticmethod(lambda info: "it cannot read H.264")}))
    monkeypatch.setattr("video.decode.choice.AUTO", ("unfit", "broken", "pyav"))
    with caplog.at_level(logging.DEBUG, logger="video.decode"):
        assert decode(plain.path, indices=[5]).indices.tolist() == [5]
    assert "not by unfit: it cannot read H.264" in caplog.text
    assert "broken failed (out of order); decoded by pyav from here on" in caplog.text
