"""Clips with the frame number painted in, of every kind and every trouble that decoding should stand: truth that no decoder makes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.bitstream import BitStreamFilterContext

BITS = 14
SIZE = (64, 96)  # height, width
MILLI = Fraction(1, 1000)


@dataclass(frozen=True)
class Clip:
    """A written file and what is right: the number painted in every visible frame, its time from the first one, and flags to expect.

    lost: places of frames that damage took; there any picture will do, if the clip is flagged. least: where a file breaks off, how many
    of the frames are left depends on the encoder: at least so many.
    """

    path: Path
    numbers: list[int]
    times: list[float]
    flags: tuple[str, ...] = ()
    lost: tuple[int, ...] = ()
    least: int = 0


# -- pictures ----------------------------------------------------------------------------------------------------------


def paint(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """uint8 [H, W, 3]: the number above, below it a pattern that moves with the number."""
    height, width = size
    return stamp(_ground(height, width, number), number)


def stamp(picture: np.ndarray, number: int, part: float = 0.5) -> np.ndarray:
    """Writes the number into the upper `part` of a picture [H, W, 3]: 20 black and white cells, 14 bits and their low 6 inverted."""
    height, width = round(picture.shape[0] * part), picture.shape[1]
    bits = [(number >> place) & 1 for place in range(BITS)]
    cells = np.array([*bits, *(1 - bit for bit in bits[:6])], np.uint8).reshape(2, 10) * 255
    rows, columns = np.arange(height) * 2 // height, np.arange(width) * 10 // width
    picture[:height] = cells[rows][:, columns, None]
    return picture


def read(frame: Any, part: float = 0.5) -> int:
    """The number in a picture [3, H, W] of any size; -1 where the cells contradict each other."""
    grey = np.asarray(frame)[:, : round(np.asarray(frame).shape[1] * part)].mean(axis=0)
    rows, columns = (np.linspace(0, length, count + 1) for length, count in zip(grey.shape, (2, 10), strict=True))
    bits = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            inset_y, inset_x = (bottom - top) * 0.3, (right - left) * 0.3
            cell = grey[int(top + inset_y) : int(bottom - inset_y) + 1, int(left + inset_x) : int(right - inset_x) + 1]
            bits.append(int(cell.mean() > 127))
    fits = all(bits[BITS + place] == 1 - bits[place] for place in range(6))
    return sum(bit << place for place, bit in enumerate(bits[:BITS])) if fits else -1


def _ground(height: int, width: int, number: int) -> np.ndarray:
    """A smooth pattern that drifts, with grain: motion for B-frames, and something to spend bits on."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    shift = 1.7 * number
    waves = np.sin((x + shift) / 9) + np.sin((y - 0.6 * shift) / 7) + np.sin((x + y + 0.4 * shift) / 13)
    grain = np.random.default_rng(7).normal(0, 9, (height, width + 64))[:, number % 64 : number % 64 + width]
    grey = 128 + 30 * waves + grain
    return np.clip(np.stack([grey, grey * 0.8, 255 - grey], axis=-1), 0, 255).astype(np.uint8)


# -- files -------------------------------------------------------------------------------------------------------------


def write(
    path: Path,
    numbers: Sequence[int],
    *,
    codec: str = "libx264",
    rate: Any = 30,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 3,
    start: float = 0.0,
    audio: float = 0.0,
    turn: int = 0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    picture: Callable[[int, tuple[int, int]], np.ndarray] = paint,
) -> Path:
    """Encodes pictures of `numbers` at `rate`, or at `times` (seconds, in milliseconds' steps); `audio`: seconds of sound from 0 on."""
    with av.open(str(path), "w", container_options=container or {}) as file:
        stream = file.add_stream(codec, rate=None if times else rate, options=options or {})
        sound = file.add_stream("aac", rate=16_000, layout="mono") if audio else None
        shown = picture(numbers[0], size) if numbers else np.zeros((*size, 3), np.uint8)
        stream.height, stream.width = np.rot90(shown, turn // 90).shape[:2]
        stream.pix_fmt = pix_fmt
        stream.codec_context.gop_size, stream.codec_context.max_b_frames, stream.codec_context.thread_count = gop, b_frames, 1
        base = MILLI if times else 1 / Fraction(rate)
        stream.time_base = stream.codec_context.time_base = base
        if turn:
            stream.set_display_rotation(-turn)
        if sound is not None:
            _write_sound(file, sound, audio)
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.rot90(picture(number, size), turn // 90)), "rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = round((start + times[place]) / base) if times else place + round(start / base), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_sound(path: Path, seconds: float) -> Path:
    """A file of silence, without a picture."""
    with av.open(str(path), "w") as file:
        _write_sound(file, file.add_stream("aac", rate=16_000, layout="mono"), seconds)
    return path


def write_colours(path: Path, colours: Sequence[tuple[int, int, int]], matrix: str, full: bool) -> Path:
    """A flat picture of each colour; `matrix`: bt709 or smpte170m, `full`: luma from 0 to 255; both are told in the header."""
    told = f"colormatrix={matrix}:colorprim={matrix}:transfer={matrix}:qp=4{':fullrange=on' if full else ''}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"x264-params": told})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.color_range = 2 if full else 1
        for place, colour in enumerate(colours):
            picture = av.VideoFrame.from_ndarray(np.full((*SIZE, 3), colour, np.uint8), "rgb24")
            space = "ITU709" if matrix == "bt709" else "ITU601"
            frame = picture.reformat(format="yuv420p", dst_colorspace=space, dst_color_range="JPEG" if full else "MPEG")
            frame.pts = place
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def _write_sound(file: Any, stream: Any, seconds: float) -> None:
    for place in range(int(seconds * 16_000) // 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, place * 1024, Fraction(1, 16_000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def cut(source: Path, path: Path, first: int, rate: int = 30, container: dict[str, str] | None = None) -> Path:
    """The frames from `first` on without encoding again: packets from the keyframe before go along, hidden by an edit list."""
    with av.open(str(source)) as old, av.open(str(path), "w", container_options=container or {}) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        begin = round(first / rate / stream.time_base)
        packets = [packet for packet in old.demux(stream) if packet.dts is not None]
        key = max(place for place, packet in enumerate(packets) if packet.is_keyframe and packet.pts <= begin)
        for packet in packets[key:]:
            packet.pts, packet.dts, packet.stream = packet.pts - begin, packet.dts - begin, copy
            new.mux(packet)
    return path


def shorten(source: Path, path: Path, part: float) -> Path:
    """The first `part` of a file's bytes."""
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def damage(source: Path, path: Path, place: int, length: int) -> Path:
    """Random bytes over `length` bytes from `place` on."""
    data = bytearray(source.read_bytes())
    data[place : place + length] = np.random.default_rng(3).integers(0, 256, length, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    return path


def lie_mp4(source: Path, path: Path, seconds: float) -> Path:
    """Every duration of an MP4's header becomes `seconds`."""
    data = bytearray(source.read_bytes())
    scale = struct.unpack(">I", data[data.index(b"mvhd") + 16 : data.index(b"mvhd") + 20])[0]
    for box, clock, offset in ((b"mvhd", scale, 20), (b"tkhd", scale, 24)):
        place = data.index(box) + offset
        data[place : place + 4] = struct.pack(">I", int(seconds * clock))
    place = data.index(b"mdhd")
    clock = struct.unpack(">I", data[place + 16 : place + 20])[0]
    data[place + 20 : place + 24] = struct.pack(">I", min(int(seconds * clock), 2**32 - 1))
    path.write_bytes(data)
    return path


def lie_mkv(source: Path, path: Path, seconds: float) -> Path:
    """The duration in a Matroska's header becomes `seconds`."""
    data = bytearray(source.read_bytes())
    place = data.index(b"\x44\x89\x88") + 3
    data[place : place + 8] = struct.pack(">d", seconds * 1000)
    path.write_bytes(data)
    return path


# -- the zoo -----------------------------------------------------------------------------------------------------------

COUNT = 60
NUMBERS = list(range(COUNT))
EVEN = [number / 30 for number in NUMBERS]
UNEVEN = [
    *(place / 30 for place in range(20)),
    *(20 / 30 + place / 6 for place in range(20)),
    *(20 / 30 + 20 / 6 + place / 30 for place in range(20)),
]
OPEN = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
FRONT = {"movflags": "faststart"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "25", "deadline": "realtime", "cpu-used": "6", "b": "200k"}


def even(path: Path, flags: Sequence[str] = (), **how: Any) -> Clip:
    """Sixty frames at a steady rate."""
    rate = how.get("rate", 30)
    return Clip(write(path, NUMBERS, **how), NUMBERS, [number / float(rate) for number in NUMBERS], tuple(flags))


def _cut(folder: Path, first: int, suffix: str = ".mp4", flags: Sequence[str] = ("edit_list",), **how: Any) -> Clip:
    path = cut(write(folder / f"whole{suffix}", NUMBERS, **how), folder / f"cut{suffix}", first)
    return Clip(path, NUMBERS[first:], EVEN[: COUNT - first], tuple(flags))


def _begun_open(folder: Path) -> Clip:
    """Cut at a keyframe of an open GOP: frame 11 stands behind keyframe 12 and needs what was cut off."""
    whole, path = write(folder / "whole.mkv", NUMBERS, options=OPEN), folder / "begun.mkv"
    with av.open(str(whole)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.size]
        second = [place for place, packet in enumerate(packets) if packet.is_keyframe][1]
        for packet in packets[second:]:
            packet.stream = copy
            new.mux(packet)
    return Clip(path, NUMBERS[12:], EVEN[: COUNT - 12], ("headless",))


def _hidden(folder: Path) -> Clip:
    """VP9 whose hidden frames have packets of their own, a few milliseconds before the frame they came with."""
    whole, path = write(folder / "whole.webm", NUMBERS, codec="libvpx-vp9", gop=250, b_frames=0, options=ALT_REF), folder / "hidden.webm"
    with av.open(str(whole)) as old, av.open(str(path), "w", container_options={"fflags": "-autobsf"}) as new:
        stream = old.streams.video[0]
        copy, split = new.add_stream_from_template(stream), BitStreamFilterContext("vp9_superframe_split", stream)
        for whole_packet in old.demux(stream):
            parts = split.filter(whole_packet if whole_packet.size else None)
            for packet in parts:
                if packet.pts is None:
                    packet.pts, packet.is_keyframe = parts[-1].pts - 5, False
                packet.dts, packet.stream = packet.pts, copy
                new.mux(packet)
    return Clip(path, NUMBERS, EVEN, ("hidden_frames",))


def _short(folder: Path, suffix: str, part: float, **how: Any) -> Clip:
    path = shorten(write(folder / f"whole{suffix}", NUMBERS, b_frames=0, **how), folder / f"short{suffix}", part)
    return Clip(path, NUMBERS, EVEN, ("truncated",), least=20)


def _damaged(folder: Path) -> Clip:
    """The second keyframe of five is noise: its GOP is lost."""
    path, whole = folder / "damaged.mp4", write(folder / "whole.mp4", NUMBERS)
    with av.open(str(whole)) as file:
        place = [packet.pos for packet in file.demux(video=0) if packet.is_keyframe][1]
    return Clip(damage(whole, path, place + 4, 400), NUMBERS, EVEN, (), tuple(range(12, 24)))


ZOO: dict[str, Callable[[Path], Clip]] = {
    "H.264, closed GOPs of 12": lambda folder: even(folder / "a.mp4"),
    "H.264, one GOP": lambda folder: even(folder / "a.mp4", gop=250),
    "H.264, open GOPs": lambda folder: even(folder / "a.mp4", ["open_gop"], options=OPEN),
    "H.264, intra refresh": lambda folder: even(
        folder / "a.mp4", ["open_gop"], gop=20, options={"x264-params": "intra-refresh=1:keyint=20"}
    ),
    "H.264, 29.97 frames a second": lambda folder: even(folder / "a.mp4", rate=Fraction(30000, 1001)),
    "H.264, 10 bit": lambda folder: even(folder / "a.mp4", pix_fmt="yuv420p10le"),
    "H.264, odd size": lambda folder: even(folder / "a.mp4", size=(65, 97), pix_fmt="yuv444p"),
    "H.264, fragments": lambda folder: even(folder / "a.mp4", container={"movflags": "frag_keyframe+empty_moov"}),
    "H.264, variable rate": lambda folder: Clip(write(folder / "a.mp4", NUMBERS, times=UNEVEN), NUMBERS, UNEVEN),
    "H.264, edit list, closed GOPs": lambda folder: _cut(folder, 17),
    "H.264, edit list, one GOP": lambda folder: _cut(folder, 40, gop=250),
    "H.264, edit list, open GOPs": lambda folder: _cut(folder, 5, flags=("edit_list", "open_gop"), options=OPEN),
    "H.264, picture after sound": lambda folder: even(folder / "a.mp4", ["late_start"], start=1.5, audio=3.0),
    "H.264, rotated by 90": lambda folder: even(folder / "a.mp4", turn=90),
    "H.264, rotated by 180": lambda folder: even(folder / "a.mp4", turn=180),
    "H.264, rotated by 270": lambda folder: even(folder / "a.mp4", turn=270),
    "H.264, MPEG-TS from 10 s on": lambda folder: even(folder / "a.ts", start=10.0),
    "H.264, MPEG-TS, open GOPs": lambda folder: even(folder / "a.ts", ["open_gop"], options=OPEN),
    "H.264, Matroska, open GOPs": lambda folder: even(folder / "a.mkv", ["open_gop"], options=OPEN),
    "H.264, Matroska, begun in open GOPs": _begun_open,
    "H.264, AVI": lambda folder: even(folder / "a.avi", ["counted"], b_frames=2),
    "H.264, raw": lambda folder: even(folder / "a.h264", ["counted"]),
    "HEVC, 10 bit, open GOPs": lambda folder: even(
        folder / "a.mp4", ["open_gop"], codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": "log-level=none:pools=1"}
    ),
    "AV1": lambda folder: even(folder / "a.mp4", codec="libsvtav1", gop=30, b_frames=0, options={"preset": "8", "crf": "15"}),
    "VP9, alternate references": lambda folder: even(folder / "a.webm", codec="libvpx-vp9", gop=250, b_frames=0, options=ALT_REF),
    "VP9, hidden frames in packets of their own": _hidden,
    "VP8": lambda folder: even(folder / "a.webm", codec="libvpx", gop=30, b_frames=0, options={"cpu-used": "5", "b": "400k"}),
    "MPEG-4, AVI": lambda folder: even(folder / "a.avi", ["open_gop"], codec="mpeg4", b_frames=2, options={"b": "800k"}),
    "MPEG-2, program stream": lambda folder: even(folder / "a.mpg", ["open_gop"], codec="mpeg2video", b_frames=2, options={"b": "800k"}),
    "FLV": lambda folder: even(folder / "a.flv", b_frames=2),
    "Windows Media": lambda folder: even(folder / "a.wmv", codec="wmv2", b_frames=0, options={"b": "800k"}),
    "GIF": lambda folder: even(folder / "a.gif", codec="gif", rate=10, pix_fmt="rgb8", b_frames=0),
    "one frame": lambda folder: Clip(write(folder / "a.mp4", [7]), [7], [0.0]),
    "MP4 that breaks off": lambda folder: _short(folder, ".mp4", 0.6, container=FRONT),
    "Matroska that breaks off": lambda folder: _short(folder, ".mkv", 0.6),
    "MPEG-TS that breaks off": lambda folder: _short(folder, ".ts", 0.63),
    "damaged in its second GOP": _damaged,
    "MP4 header of ten hours": lambda folder: Clip(lie_mp4(write(folder / "a.mp4", NUMBERS), folder / "b.mp4", 36_000), NUMBERS, EVEN),
    "Matroska header of ten hours": lambda folder: Clip(
        lie_mkv(write(folder / "a.mkv", NUMBERS), folder / "b.mkv", 36_000), NUMBERS, EVEN, ("header_lies",)
    ),
}
