"""What a prompt says around the frames of a film: times in the styles that models were trained with."""

from __future__ import annotations

import difflib
import itertools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

OPT_VISOR = "frame {}: <reserved_114><frame><reserved_115>"  # frame_pattern of its config.json


class ClipText(NamedTuple):
    """Text before the first frame, before and after each frame, and behind the last."""

    head: str
    frames: list[tuple[str, str]]
    tail: str

    def filled(self, frame: str) -> str:
        """All of it, with `frame` where each frame stands."""
        return self.head + "".join(before + frame + after for before, after in self.frames) + self.tail


def clip_text(times: Sequence[float], duration: float, style: str = "none") -> ClipText:
    """The text around frames at `times` (seconds from the first visible frame, as decoded) of a film of `duration` seconds.

    style: one of STYLES, or a pattern that holds `<frame>`, in which {} is the frame's number, <TIMEIDX> its whole second, <TIMESTAMP>
    the same as H:M:S. ValueError for another style, or negative or unordered times.
    """
    times = [float(moment) for moment in times]
    if any(moment < 0 for moment in times) or any(late < early for early, late in itertools.pairwise(times)):
        raise ValueError(f"times of frames rise from 0 on, got {times[:6]}")
    if "<frame>" in style:
        return pattern(times, style)
    if style not in STYLES:
        near = difflib.get_close_matches(style, STYLES, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(STYLES)}, or a pattern with <frame>"
        raise ValueError(f"unknown style of timestamps '{style}'; {hint}")
    return STYLES[style](times, float(duration))


def pattern(times: Sequence[float], frame_pattern: str) -> ClipText:
    """Opt-Visor's patterns: {} the frame's number from 0, <TIMEIDX> its second, <TIMESTAMP> that as H:M:S, nothing between frames
    [R: RUCAIBox/Opt-Visor data_processor.py]."""
    frames = []
    for number, moment in enumerate(times):
        text = frame_pattern.replace("{}", str(number)).replace("<TIMEIDX>", str(int(moment)))
        before, _, after = text.replace("<TIMESTAMP>", time.strftime("%H:%M:%S", time.gmtime(int(moment)))).partition("<frame>")
        frames.append((before, after))
    return ClipText("", frames, "")


def none(times: Sequence[float], duration: float) -> ClipText:
    """Frames and nothing else, a line end behind the last."""
    return ClipText("", [("", "")] * len(times), "\n")


def mm_ss(times: Sequence[float], duration: float) -> ClipText:
    """`[01:05]` before each frame, hours where the film has them; a line end behind the last."""
    return ClipText("", [(f"[{_clock(moment, duration >= 3600)}]", "") for moment in times], "\n")


def llava_video(times: Sequence[float], duration: float) -> ClipText:
    """LLaVA-Video's sentence behind the frames [R: LLaVA-VL/LLaVA-NeXT docs/LLaVA_Video_1003.md].

    Times are the frames' own; the source divides by a rounded rate.
    """
    places = ",".join(f"{moment:.2f}s" for moment in times)
    sentence = (
        f"The video lasts for {duration:.2f} seconds, and {len(times)} frames are uniformly sampled from it. "
        f"These frames are located at {places}.Please answer the following questions related to this video.\n"
    )
    return ClipText("", [("", "")] * len(times), sentence)


def qwen3_vl(times: Sequence[float], duration: float) -> ClipText:
    """Qwen3-VL's `<1.5 seconds>` before each pair of frames, the mean of their times, the pair between vision tokens
    [R: transformers models/qwen3_vl/processing_qwen3_vl.py]. A last frame without a partner is its own; the source repeats it."""
    frames = []
    for number, moment in enumerate(times):
        partner = times[min(number + 1, len(times) - 1)]
        first, last = number % 2 == 0, number % 2 == 1 or number == len(times) - 1
        before = f"<{(moment + partner) / 2:.1f} seconds><|vision_start|>" if first else ""
        frames.append((before, "<|vision_end|>" if last else ""))
    return ClipText("", frames, "")


def seconds(times: Sequence[float], duration: float) -> ClipText:
    """Qwen3-VL's `<1.5 seconds>` before every frame, for models that read frames one by one; a line end behind the last."""
    return ClipText("", [(f"<{moment:.1f} seconds>", "") for moment in times], "\n")


def videollama3(times: Sequence[float], duration: float) -> ClipText:
    """VideoLLaMA3's `Time 1.5s:` before each frame, commas between, a line end behind the last
    [R: DAMO-NLP-SG/VideoLLaMA3 videollama3/model/processor.py]."""
    last = len(times) - 1
    return ClipText("", [(f"Time {round(moment, 1)}s:", "," if number < last else "\n") for number, moment in enumerate(times)], "")


def opt_visor(times: Sequence[float], duration: float) -> ClipText:
    """`frame 0: <reserved_114>...<reserved_115>`, the pattern of Opt-Visor's published checkpoint, which tells no times."""
    return pattern(times, OPT_VISOR)


def _clock(moment: float, hours: bool) -> str:
    minutes, second = divmod(int(moment), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}" if hours else f"{minutes:02d}:{second:02d}"


STYLES: dict[str, Callable[[Sequence[float], float], ClipText]] = {
    "none": none,
    "mm_ss": mm_ss,
    "seconds": seconds,
    "llava_video": llava_video,
    "qwen3_vl": qwen3_vl,
    "videollama3": videollama3,
    "opt_visor": opt_visor,
}
