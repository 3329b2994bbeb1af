"""Sampling rules against their sources (digests of the peers' own code on the same films), and what holds for all of them."""

import numpy as np
import pytest

from video.frames import SAMPLERS, sample
from video.frames.qwen_vl import frame_size, smart_frames, smart_resize

RATES = (1.0, 5.0, 8.0, 23.976, 24.0, 25.0, 29.97, 30.0, 59.94, 60.0)
FILMS = [(count, rate) for count in (1, 2, 3, 7, 30, 61, 100, 250, 899, 1000, 5000, 16200, 107892) for rate in RATES]


# -- the peers' rules --------------------------------------------------------------------------------------------------


def test_llava_video_is_that_of_llava_next(make_film, fingerprint):
    """280 films and settings through LLaVA-NeXT's process_video_with_decord gave this digest."""
    settings = ((1, None, False), (1, 64, False), (1, 64, True), (0.5, 32, False))
    found = [
        sample(make_film(count, fps), "llava_video", n, rate=rate, force=force)
        for count, fps in FILMS
        for rate, n, force in settings
        if count >= 64
    ]
    assert fingerprint(found) == 412752616


def test_videollama3_is_that_of_videollama3(make_film, fingerprint):
    """1,170 films and settings through VideoLLaMA3's load_video_from_ids."""
    found = [sample(make_film(*f), "videollama3", n, rate=rate) for f in FILMS for rate in (None, 0.5, 1) for n in (None, 16, 180)]
    assert fingerprint(found) == 4175207362


def test_interval_middle_is_that_of_videochat_flash(make_film, fingerprint):
    """720 films and settings through VideoChat-Flash's get_frame_indices, its repeats left away."""
    fixed = [sample(make_film(*f), "interval_middle", n) for f in FILMS for n in (1, 4, 16, 64)]
    free = [
        sample(make_film(*f), "interval_middle", least=least, most=most)
        for f in FILMS
        for least, most in ((1, None), (64, 512))
        if f[0] >= 4
    ]
    assert fingerprint(fixed + free) == 910438317


def test_qwen_counts_and_sizes_are_those_of_qwen_vl_utils(make_film, fingerprint):
    """480 counts of smart_nframes and 360 sizes of fetch_video's arithmetic (qwen-vl-utils 0.0.14)."""
    settings = ({}, {"rate": 0.5}, {"rate": 4.0, "most": 64}, {"least": 16})
    counts = [[smart_frames(count, make_film(count, fps).fps, **setting)] for count, fps in FILMS for setting in settings if count > 1]
    assert fingerprint(counts) == 379580599
    sizes = [
        frame_size(height, width, n, patch=patch)
        for height in (48, 240, 360, 720, 1080, 2160)
        for width in (64, 426, 640, 1280, 1920, 3840)
        for n in (2, 8, 64, 256, 768)
        for patch in (14, 16)
    ]
    assert fingerprint(sizes) == 2037570887


def test_qwen_places_are_those_of_qwen_vl_utils(make_film):
    assert sample(make_film(719, 29.97), "qwen_vl", rate=0.5).tolist() == [0, 80, 160, 239, 319, 399, 479, 558, 638, 718]
    assert sample(make_film(101, 25.0), "qwen_vl", 9).tolist() == [0, 14, 29, 43, 57, 71, 86, 100]  # 9 rounds to 8, halves to even
    part = sample(make_film(300, 25.0), "qwen_vl", start=2.02, end=7.5)
    assert part.tolist() == [51, 66, 81, 96, 111, 127, 142, 157, 172, 187]


def test_qwen_takes_a_single_frame_and_stretches_of_a_variable_rate(make_film):
    assert sample(make_film(1), "qwen_vl").tolist() == [0]
    film = make_film(20, times=[*np.arange(10) * 1.0, *(9.1 + np.arange(10) * 0.1)])
    assert sample(film, "qwen_vl", 100, start=8.5, end=9.3).tolist() == [9, 10, 11, 12]
    with pytest.raises(ValueError, match="no frame lies"):
        sample(film, "qwen_vl", start=5.0, end=4.0)
    with pytest.raises(ValueError, match="seconds from the first"):
        sample(film, "qwen_vl", start=-1.0)
    with pytest.raises(ValueError, match="200 times"):
        smart_resize(10, 4000, 28, 1.0, 1e9)


def test_opt_visor_thins_whole_seconds(make_film):
    """10 s at 25 a second: seconds 0 .. 9 are frames 0, 25 ... 225; of ten, four are int(linspace(0, 9, 4)) = 0, 3, 6, 9."""
    assert sample(make_film(250), "opt_visor").tolist() == list(range(0, 250, 25))
    assert sample(make_film(250), "opt_visor", 4).tolist() == [0, 75, 150, 225]


# -- our own rules -----------------------------------------------------------------------------------------------------


def test_uniform_by_hand(make_film):
    """40 frames, 4 s at 10 a second. Middles of four: .5, 1.5, 2.5, 3.5 s; ends of four: 0, 1.3, 2.6, 3.9 s."""
    film = make_film(40, 10.0)
    assert sample(film, "uniform", 4).tolist() == [5, 15, 25, 35]
    assert sample(film, "uniform", 4, at="ends").tolist() == [0, 13, 26, 39]
    assert sample(film, "uniform", 1).tolist() == [20]


def test_uniform_goes_by_time_where_the_rate_varies(make_film):
    """Nine frames in the first second, then one a second: by number most would be early, by time they are not."""
    film = make_film(18, times=[*np.arange(9) / 9, *np.arange(1, 10)])
    assert film.times[sample(film, "uniform", 5)].tolist() == pytest.approx([8 / 9, 3, 5, 7, 9], abs=1.01)
    assert film.times[sample(film, "fps", rate=0.5)].tolist() == [0, 2, 4, 6, 8]


def test_fps_by_hand(make_film):
    film = make_film(75, 25.0)
    assert sample(film, "fps", rate=2).tolist() == [0, 12, 25, 37, 50, 62]
    assert sample(film, "fps", 3, rate=2).tolist() == [0, 37, 74]
    assert len(sample(film, "fps", rate=1000)) == 75


def test_linspace_truncates_or_rounds(make_film):
    """linspace(0, 9, 5) = 0, 2.25, 4.5, 6.75, 9."""
    assert sample(make_film(10), "linspace", 5).tolist() == [0, 2, 4, 6, 9]
    assert sample(make_film(10), "linspace", 5, rounding="round").tolist() == [0, 2, 4, 7, 9]


def test_keyframes_are_thinned_or_joined(make_film):
    """Joined by the frames farthest from all others: the last, 23 away, then the middle of the first gap."""
    film = make_film(96, 8.0, keys=[0.0, 3.0, 6.0, 9.0])
    assert sample(film, "keyframes").tolist() == [0, 24, 48, 72]
    assert sample(film, "keyframes", 2).tolist() == [0, 72]
    assert sample(film, "keyframes", 6).tolist() == [0, 12, 24, 48, 72, 95]


# -- all of them -------------------------------------------------------------------------------------------------------

EXACT = ("interval_middle", "keyframes", "linspace", "uniform")  # rules of a number; the others are rules of a rate with a bound


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("count", [1, 2, 5, 40, 333])
@pytest.mark.parametrize("n", [1, 2, 7, 32, 1000])
def test_every_sampler_gives_places_in_order_and_none_twice(name, count, n, make_film):
    for film in (make_film(count), make_film(count, times=np.cumsum(0.02 + np.random.RandomState(count).rand(count)))):
        found = sample(film, name, n)
        assert found.dtype == np.int64
        assert found.min() >= 0
        assert found.max() < count
        assert (np.diff(found) > 0).all()
        assert 1 <= len(found) <= n + (name == "qwen_vl")  # whose frames come in pairs
        if name in EXACT:
            assert len(found) == min(n, count)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_refuses_what_it_does_not_know(name, make_film):
    with pytest.raises(ValueError, match="no option"):
        sample(make_film(10), name, 4, colour="red")
    with pytest.raises(ValueError, match="at least 1"):
        sample(make_film(10), name, 0)


def test_an_unknown_sampler_is_told_the_nearest(make_film):
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        sample(make_film(10), "unifrom", 4)
    with pytest.raises(ValueError, match="positive"):
        sample(make_film(10), "fps", rate=0)
