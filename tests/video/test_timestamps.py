"""Times in a prompt, letter by letter as the models' own code writes them."""

import pytest

from video.timestamps import STYLES, clip_text

TIMES = [0.0, 1.02, 2.5]


def test_llava_video_says_its_sentence():
    assert clip_text(TIMES, 3.456, "llava_video").filled("F") == (
        "FFFThe video lasts for 3.46 seconds, and 3 frames are uniformly sampled from it. These frames are located at "
        "0.00s,1.02s,2.50s.Please answer the following questions related to this video.\n"
    )


def test_qwen3_vl_tells_the_mean_time_of_each_pair():
    """(0 + 1.02) / 2 = .51; the third frame is without a partner."""
    assert clip_text(TIMES, 3.0, "qwen3_vl").filled("F") == (
        "<0.5 seconds><|vision_start|>FF<|vision_end|><2.5 seconds><|vision_start|>F<|vision_end|>"
    )
    assert clip_text(TIMES, 3.0, "seconds").filled("F") == "<0.0 seconds>F<1.0 seconds>F<2.5 seconds>F\n"


def test_opt_visor_numbers_frames():
    assert clip_text(TIMES, 3.0, "opt_visor").filled("F") == (
        "frame 0: <reserved_114>F<reserved_115>frame 1: <reserved_114>F<reserved_115>frame 2: <reserved_114>F<reserved_115>"
    )
    assert clip_text([3661.9], 4000, "<TIMEIDX> <TIMESTAMP> <frame>;").filled("F") == "3661 01:01:01 F;"


def test_videollama3_and_the_plain_clock():
    assert clip_text(TIMES, 3.0, "videollama3").filled("F") == "Time 0.0s:F,Time 1.0s:F,Time 2.5s:F\n"
    assert clip_text([5.9, 65.0], 70.0, "mm_ss").filled("F") == "[00:05]F[01:05]F\n"
    assert clip_text([5.0, 3665.0], 4000.0, "mm_ss").filled("F") == "[0:00:05]F[1:01:05]F\n"


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_style_has_a_place_for_each_frame(style, count):
    text = clip_text([float(i) for i in range(count)], 9.0, style)
    assert len(text.frames) == count
    assert text.filled("\0").count("\0") == count


def test_a_wrong_style_or_time_is_told():
    with pytest.raises(ValueError, match="did you mean 'llava_video'"):
        clip_text(TIMES, 3.0, "llava-video")
    with pytest.raises(ValueError, match="rise from 0"):
        clip_text([1.0, 0.5], 3.0)
    with pytest.raises(ValueError, match="rise from 0"):
        clip_text([-1.0], 3.0)
