"""The nouns of video check themselves, print shapes and go through JSON."""

import json

import numpy as np
import pytest
import torch

from video.clip import FramePlan, VideoClip, VideoInfo


def info(**changes):
    given = {
        "path": "a.mp4", "width": 64, "height": 48, "rotation": 0, "duration": 0.4, "times": [0.0, 0.1, 0.2, 0.3], "key_times": [0.0],
        "variable_rate": False, "codec": "h264", "container": "mp4",
    }  # fmt: skip
    return VideoInfo(**{**given, **changes})


def clip(**changes):
    given = {"frames": torch.zeros(2, 3, 48, 64, dtype=torch.uint8), "times": [0.0, 0.2], "indices": [0, 2], "source": info()}
    return VideoClip(**{**given, **changes})


def test_an_info_counts_and_goes_through_json():
    back = VideoInfo.from_dict(json.loads(json.dumps(info(flags=("open_gop",)).to_dict())))
    assert (back.n_frames, back.flags, back.times.dtype) == (4, ("open_gop",), np.float64)
    assert back.fps == pytest.approx(10)
    assert info(duration=0.0).fps == 0


def test_the_frame_shown_at_a_time_is_the_last_that_has_begun():
    assert info().index_at([-1, 0, 0.0999, 0.1, 0.1 - 1e-6, 0.25, 9]).tolist() == [0, 0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("changes", [{"times": []}, {"times": [0.0, 0.0]}, {"rotation": 45}, {"flags": ("odd",)}])
def test_an_info_that_does_not_fit_is_refused(changes):
    with pytest.raises(ValueError):
        info(**changes)


def test_a_clip_prints_shapes():
    assert "frames=[2, 3, 48, 64] uint8, times=[2] 0, 0.2" in repr(clip())
    assert len(clip()) == 2


@pytest.mark.parametrize(
    "changes",
    [{"frames": torch.zeros(2, 3, 48, 64)}, {"frames": torch.zeros(2, 48, 64, dtype=torch.uint8)}, {"times": [0.0]}, {"indices": [0, 4]}],
)
def test_a_clip_that_does_not_fit_is_refused(changes):
    with pytest.raises(ValueError):
        clip(**changes)


def test_a_plan_adds_up_and_goes_through_json():
    plan = FramePlan(times=(0.0, 0.2), tokens_a_frame=49, visual_tokens=98, text_tokens=12, reason="why", indices=(0, 2))
    assert (plan.n_frames, plan.total) == (2, 110)
    assert FramePlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("changes", [{"times": (-1.0, 0.2)}, {"times": (0.2, 0.2)}, {"indices": (0,)}])
def test_a_plan_that_does_not_fit_is_refused(changes):
    with pytest.raises(ValueError):
        FramePlan(**{"times": (0.0, 0.2), "tokens_a_frame": 49, "visual_tokens": 98, **changes})
