"""From wanted packets to decoded frames: seek, decode no more than is needed, match by time, go further back where one is missing."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

import av

from .scan import NONE, Packets, all_frames, decoded, packets_of
from .source import Opened

NEAR = 400  # packets: reading over so many costs less than a seek
RETRIES = 2  # keyframes further back, where a frame does not come out or comes out broken

# Codecs whose frames marked as never referred to can be left undecoded without a change to any other: nal_ref_idc 0, and B-frames
# of MPEG-1, 2 and 4. HEVC's mark holds within a temporal layer only, so HEVC is decoded whole.
SKIPPABLE = {"h264", "mpeg1video", "mpeg2video", "mpeg4"}


class Run(NamedTuple):
    """Packets `start` to `end` are decoded in one go for the wanted ones, {pts: place}."""

    start: int
    end: int
    wanted: dict[int, int]


class Seen(NamedTuple):
    """A decoded frame of the packet at `place`, with a flag of `video.clip.FLAGS` where it is not quite that."""

    place: int
    frame: Any
    flag: str = ""


class Walker:
    """Decodes chosen packets of an open file. flags: what was met on the way."""

    def __init__(self, opened: Opened, packets: Packets) -> None:
        self.opened, self.packets = opened, packets
        self.flags: set[str] = set()
        self._pending: Any = None
        self._next: int | None = None  # the place of the packet that comes next
        self._seekable = True
        self._source: Iterator[Any] = iter(())

    def walk(self, places: Iterable[int]) -> Iterator[Seen]:
        """A frame for each of these packets, each once, in an order of its own; none for what cannot be decoded at all."""
        if self.packets.counted:
            yield from self._count(set(places))
            return
        for run in self._runs(sorted(set(places))):
            poor: dict[int, Seen] = {}
            left = yield from self._run(run, poor, sparing=True)
            for start in self._earlier(left):
                if left:
                    left = yield from self._run(Run(start, run.end, left), poor, sparing=False)
            yield from (poor[place] for place in left.values() if place in poor)

    def _earlier(self, left: dict[int, int]) -> list[int]:
        """Where to begin for what is left, the nearest first."""
        starts = {self.packets.begin(min(left.values()), earlier) for earlier in range(1, RETRIES + 1)} if left else set()
        return sorted(starts, reverse=True)

    def _runs(self, places: list[int]) -> Iterator[Run]:
        """Places in the file's order, those together between which no keyframe allows to leave something out."""
        begin, wanted = 0, dict[int, int]()
        for place, before in zip(places, [None, *places], strict=False):
            start = self.packets.begin(place)
            if before is not None and start > before + 1:
                yield Run(begin, before, wanted)
                wanted = {}
            begin = begin if wanted else start
            wanted[int(self.packets.pts[place])] = place
        if wanted:
            yield Run(begin, places[-1], wanted)

    def _run(self, run: Run, poor: dict[int, Seen], sparing: bool) -> Generator[Seen, None, dict[int, int]]:
        """Yields sound frames; returns what is left, {pts: place}, for which `poor` may hold something."""
        left = dict(run.wanted)
        for frame in self._decode(run, sparing):
            place = left.get(frame.pts)
            if place is not None and not frame.is_corrupt:
                del left[frame.pts]
                yield Seen(place, frame)
            elif not sparing:
                self._note(frame, left, poor)
            elif place is not None:
                poor[place] = Seen(place, frame, "damaged")
        return left

    @staticmethod
    def _note(frame: Any, left: dict[int, int], poor: dict[int, Seen]) -> None:
        """Keeps the best there is for what is missing: itself though broken, else the frame before it, else the one after."""
        for pts, place in left.items():
            known = poor.get(place)
            if frame.pts == pts:
                poor[place] = Seen(place, frame, "damaged")
            elif frame.pts is not None and (known is None or (known.flag == "substituted" and frame.pts < pts)):
                poor[place] = Seen(place, frame, "substituted")

    def _decode(self, run: Run, sparing: bool) -> Iterator[Any]:
        """Frames of a run as they come out. `sparing`: what no other frame refers to is decoded only where it is wanted."""
        codec = self._go(run.start)
        codec.flush_buffers()  # whatever an earlier run, perhaps broken off, has left in it
        sparing = sparing and codec.name in SKIPPABLE
        codec.skip_frame = "DEFAULT"
        for packet in self._read(run.end):
            if sparing:
                codec.skip_frame = "DEFAULT" if packet.pts in run.wanted else "NONREF"
            yield from decoded(packet.decode, self.flags)
        yield from decoded(codec.decode, self.flags)  # without a packet: what the decoder still holds

    def _read(self, end: int) -> Iterator[Any]:
        """Packets from here to the place `end`."""
        while self._next is not None and self._next <= end:
            packet = self._take()
            if packet is None:
                return
            yield packet

    def _take(self) -> Any:
        """The next packet, None at the end."""
        packet = next(self._source, None) if self._pending is None else self._pending
        self._pending = None
        self._next = None if packet is None or self._next is None else self._next + 1
        return packet

    def _go(self, start: int) -> Any:
        """The packet at `start` is read next, whatever it takes; returns the decoder."""
        near = self._next is not None and self._next <= start <= self._next + NEAR
        if not near and not (self._seekable and self._seek(start)):
            self._rewind()
        if not self._forward(start):
            self._seekable = False
            self._rewind()
            self._forward(start)
        return self.opened.stream.codec_context

    def _forward(self, start: int) -> bool:
        """Reads over packets before `start`. False where the next one is another: after a seek some demuxers (MPEG-PS) guess times anew."""
        while self._next is not None and self._next < start:
            self._take()
        self._pending = next(self._source, None) if self._pending is None else self._pending
        return self._pending is not None and _time(self._pending.pts) == self.packets.pts[start]

    def _seek(self, start: int) -> bool:
        """To `start` or before. Demuxers seek by differing clocks, so where one lands is looked up and not believed."""
        pts, dts, second = int(self.packets.pts[start]), int(self.packets.dts[start]), round(1 / self.packets.tick)
        for target in (pts, pts if dts == NONE else dts, pts - second, pts - 10 * second) if start else ():
            try:
                self.opened.container.seek(target, stream=self.opened.stream, backward=True)
            except av.FFmpegError:
                continue
            if self._land(start):
                return True
        return False

    def _rewind(self) -> None:
        self.opened.reopen()
        self._source, self._next, self._pending = packets_of(self.opened, self.flags), 0, None

    def _land(self, start: int) -> bool:
        """Whether the container now stands at or before `start`; the first packet that is known is kept."""
        self._source = packets_of(self.opened, self.flags)
        for packet in self._source:
            place = self.packets.place(packet.pts)
            if place is not None:
                self._pending, self._next = packet, place
                return place <= start
        return False

    def _count(self, places: set[int]) -> Iterator[Seen]:
        """Where frames have no times: all from the beginning, counted."""
        last = max(places, default=-1)
        for place, frame in enumerate(all_frames(self.opened, self.flags) if places else ()):
            if place in places:
                yield Seen(place, frame)
            if place == last:
                return


def _time(pts: int | None) -> int:
    return NONE if pts is None else pts
