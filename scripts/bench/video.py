"""Decoding, ours beside torchcodec, decord, OpenCV and plain PyAV: CPU seconds for 64 frames, and who gives the right frames of which file.

    python scripts/bench/video.py                     # both; --only speed|accuracy, --rounds 5
    python scripts/bench/video.py --clips bench-clips # keeps the made clips there: making them takes minutes

Speed: 64 frames at equal distances, each way from opening the file to RGB pictures in memory, one thread, interleaved, CPU seconds, median
[least-most] of the rounds; the number painted in every frame is read and must be the one asked for. Accuracy: 16 frames of every clip of
tests/video/clips.py. A decoder that is not installed is left out and named; torchcodec needs FFmpeg's shared libraries beside it.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
STRIP = 0.125  # of a made film's height, for its number
FRAMES, ASKED = 64, 16


class Film(NamedTuple):
    """A clip for speed: what is written, and the size (height, width) that frames are asked for in, None for their own."""

    name: str
    file: str
    size: tuple[int, int]
    frames: int
    rate: int
    gop: int
    shrink: tuple[int, int] | None = None
    b_frames: int = 3  # in a row, at most: x264's default


FILMS = (
    Film("720p, 30 s, GOP 250", "720p-gop250.mp4", (720, 1280), 900, 30, 250),
    Film("the same, shrunk to 252 x 448", "720p-gop250.mp4", (720, 1280), 900, 30, 250, (252, 448)),
    Film("720p, 30 s, GOP 12", "720p-gop12.mp4", (720, 1280), 900, 30, 12),
    Film("720p, 30 s, GOP 250, no B-frames", "720p-gop250-p.mp4", (720, 1280), 900, 30, 250, b_frames=0),
    Film("360p, 10 min, GOP 250", "360p-10min.mp4", (360, 640), 16_200, 27, 250),
)


def painted() -> Any:
    """The clip maker of the tests."""
    spec = importlib.util.spec_from_file_location("painted_clips", ROOT / "tests/video/clips.py")
    module = sys.modules["painted_clips"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# -- ways: (path, places of frames, size) -> pictures [T, 3, H, W] -------------------------------------------------------


def ours(path: str, places: Sequence[int], size: tuple[int, int] | None) -> Any:
    from video.decode import decode

    return decode(path, indices=places, size=size).frames


def by_torchcodec(path: str, places: Sequence[int], size: tuple[int, int] | None) -> Any:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    return VideoDecoder(path, seek_mode="exact", transforms=[Resize(size)] if size else None).get_frames_at(list(places)).data


def by_decord(path: str, places: Sequence[int], size: tuple[int, int] | None) -> Any:
    import decord

    height, width = size or (-1, -1)
    return decord.VideoReader(path, num_threads=1, height=height, width=width).get_batch(list(places)).asnumpy().transpose(0, 3, 1, 2)


def by_opencv(path: str, places: Sequence[int], size: tuple[int, int] | None) -> Any:
    """One after another: its seeking is slower still (docs), and not exact."""
    import cv2

    cv2.setNumThreads(1)
    video, wanted, found = cv2.VideoCapture(path), set(places), {}
    for place in range(max(places) + 1):
        if not video.grab():
            break
        if place in wanted:
            picture = video.retrieve()[1]
            picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA) if size else picture
            found[place] = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)
    video.release()
    return [found[place] for place in places if place in found]


def by_pyav(path: str, places: Sequence[int], size: tuple[int, int] | None) -> Any:
    """The loop of its documentation: one after another."""
    import av

    wanted, found, (height, width) = set(places), {}, size or (None, None)
    with av.open(path) as file:
        file.streams.video[0].thread_count = 1
        for place, frame in enumerate(file.decode(video=0)):
            if place in wanted:
                found[place] = frame.reformat(width, height, "rgb24", threads=1).to_ndarray().transpose(2, 0, 1)
            if place == max(places):
                break
    return [found[place] for place in places if place in found]


Way: TypeAlias = Callable[[str, Sequence[int], tuple[int, int] | None], Any]
WAYS: dict[str, Way] = {
    "ours, auto": ours, "torchcodec, exact": by_torchcodec, "decord": by_decord, "OpenCV, in order": by_opencv, "PyAV, in order": by_pyav,
}  # fmt: skip
MODULES = {"torchcodec, exact": "torchcodec.decoders", "decord": "decord", "OpenCV, in order": "cv2"}


def ways_here() -> dict[str, Way]:
    """Those whose library loads; the others are named."""
    from video.decode import DECODERS

    there = {}
    for name, way in WAYS.items():
        try:
            module = importlib.import_module(MODULES.get(name, "av"))
        except (ImportError, RuntimeError, OSError) as error:
            print(f"left out: {name} ({(str(error).strip().splitlines() or ['does not load'])[0]})")
            continue
        if way is by_torchcodec and (why := DECODERS["torchcodec"].missing()):
            print(f"left out: {name} ({why})")
            continue
        there[name] = way
        print(f"{name}: {getattr(sys.modules[module.__name__.partition('.')[0]], '__version__', '')}")
    return there


# -- speed -------------------------------------------------------------------------------------------------------------


def bench_speed(films: Sequence[Film], folder: Path, rounds: int, clips: Any) -> None:
    ways = ways_here()
    print(f"\n{FRAMES} frames, CPU seconds, median [least-most] of {rounds}, one thread")
    print_row("film", ways)
    print_row("---", ["---"] * len(ways))
    for film in films:
        path = made(film, folder, clips)
        places = np.linspace(0, film.frames - 1, FRAMES).round().astype(int).tolist()
        spent = interleaved(ways, (str(path), places, film.shrink), rounds, clips)
        print_row(film.name, [told(seconds) for seconds in spent.values()])


def print_row(head: str, cells: Iterable[str]) -> None:
    print(f"| {head} | {' | '.join(cells)} |", flush=True)


def interleaved(ways: dict[str, Way], task: tuple[str, list[int], Any], rounds: int, clips: Any) -> dict[str, list[float]]:
    """CPU seconds of each round. RuntimeError where a way gives other frames than those asked for."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            pictures = way(*task)
            spent[name].append(time.process_time() - begun)
            if turn == 0 and (seen := [clips.read(np.asarray(picture), STRIP) for picture in pictures]) != task[1]:
                raise RuntimeError(f"{name} gave other frames than those asked for: {seen}")
            del pictures
    return spent


def told(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.2f} [{min(seconds):.2f}-{max(seconds):.2f}]"


def made(film: Film, folder: Path, clips: Any) -> Path:
    """The film's file, written if it is not there: x264's defaults."""
    path = folder / film.file
    if not path.exists():
        print(f"making {path.name}", file=sys.stderr)
        street = Street(film.size)

        def picture(number: int, size: tuple[int, int]) -> np.ndarray:
            return clips.stamp(street(number), number, STRIP)

        part = path.with_name(f"part-{path.name}")
        clips.write(part, range(film.frames), size=film.size, rate=film.rate, gop=film.gop, b_frames=film.b_frames, picture=picture)
        part.rename(path)
    return path


class Street:
    """A made film that costs an encoder about what a filmed one does: grain, a background that pans now and then, things that pass by."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size, noise = size, np.random.default_rng(1)
        height, width = size
        light = sum(strength * _soft(noise, height, 2 * width, patch) for patch, strength in ((64, 30), (16, 14), (4, 7)))
        tint = _soft(noise, height, 2 * width, 32)[..., None] * np.array([5, -10, 12])
        self.ground = (128 + light[..., None] * np.array([1, 0.8, 0.6]) + tint).astype(np.float32)
        self.grain = noise.normal(0, 2.5, (height + 64, width + 64, 1)).astype(np.float32)
        self.things = [self._thing(noise) for _ in range(6)]

    def _thing(self, noise: np.random.Generator) -> tuple[np.ndarray, int, float, int]:
        height, width = self.size
        texture = 120 + 40 * _soft(noise, height // 6, width // 8, 6)[..., None] + noise.integers(-80, 80, 3)
        speed = noise.uniform(1, 6) * noise.choice([-1, 1]) * width / 1280
        return texture.astype(np.float32), int(noise.integers(height // 4, height - height // 6)), speed, int(noise.integers(0, width))

    def __call__(self, number: int) -> np.ndarray:
        """uint8 [H, W, 3]."""
        height, width = self.size
        pan = int(np.clip((np.sin(number / 150) * 0.6 + 0.5) * width, 0, width))  # still at either end
        picture = self.ground[:, pan : pan + width].copy()
        for texture, top, speed, begin in self.things:
            x = int(begin + speed * number) % (width + texture.shape[1]) - texture.shape[1]
            left, right = max(0, x), min(width, x + texture.shape[1])
            picture[top : top + texture.shape[0], left:right] = texture[:, left - x : right - x]
        y, x = np.random.default_rng(number).integers(0, 64, 2)
        picture += self.grain[y : y + height, x : x + width]
        return np.clip(picture, 0, 255).astype(np.uint8)


def _soft(noise: np.random.Generator, height: int, width: int, patch: int) -> np.ndarray:
    """Normal noise, a value every `patch` pixels, linear between them: [height, width]."""
    coarse = noise.normal(0, 1, (height // patch + 2, width // patch + 2))
    y, x = np.arange(height) / patch, np.arange(width) / patch
    row, column, down, right = y.astype(int), x.astype(int), (y % 1)[:, None], x % 1
    above = coarse[row][:, column] * (1 - right) + coarse[row][:, column + 1] * right
    below = coarse[row + 1][:, column] * (1 - right) + coarse[row + 1][:, column + 1] * right
    return above * (1 - down) + below * down


# -- accuracy ----------------------------------------------------------------------------------------------------------


def bench_accuracy(folder: Path, clips: Any, kinds: Sequence[str]) -> None:
    """Right frames of those asked for, as a table; what damage took is not asked for."""
    ways = ways_here()
    print(f"\nRight frames of {ASKED} asked for at equal distances")
    print_row("file", ways)
    print_row("---", ["---"] * len(ways))
    whole = dict.fromkeys(ways, 0)
    for number, kind in enumerate(kinds):
        place = folder / f"zoo-{number}"
        place.mkdir(exist_ok=True)
        clip = clips.ZOO[kind](place)
        row = {name: right(way, clip, clips) for name, way in ways.items()}
        print_row(kind, [told for told, _ in row.values()])
        for name, (_, all_right) in row.items():
            whole[name] += all_right
    print_row("all right", [f"{count} of {len(kinds)} files" for count in whole.values()])


def right(way: Way, clip: Any, clips: Any) -> tuple[str, bool]:
    """(how many of how many, whether all) for one way and one clip."""
    from video.decode import probe

    there = [place for place in range(probe(clip.path).n_frames) if place not in clip.lost]
    places = [there[at] for at in np.unique(np.linspace(0, len(there) - 1, ASKED).round().astype(int))]
    try:
        pictures = way(str(clip.path), places, None)
    except Exception as error:  # a peer's, of whatever kind: that it fails is the finding
        if way is ours:
            raise
        return f"fails ({type(error).__name__})", False
    seen = [clips.read(np.asarray(picture)) for picture in pictures]
    count = sum(number == clip.numbers[place] for number, place in zip(seen, places, strict=False))
    return f"{count}/{len(places)}", count == len(places)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("speed", "accuracy"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clips", type=Path, help="where the films for speed are kept; a folder that goes away if not given")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    clips = painted()
    with tempfile.TemporaryDirectory() as work:
        folder = options.clips or Path(work)
        folder.mkdir(parents=True, exist_ok=True)
        if options.only != "accuracy":
            bench_speed(FILMS, folder, options.rounds, clips)
        if options.only != "speed":
            bench_accuracy(Path(work), clips, list(clips.ZOO))


if __name__ == "__main__":
    # This file is called video.py, and its folder stands first where Python looks for the package of that name.
    sys.path[:] = [place for place in sys.path if Path(place).resolve() != Path(__file__).resolve().parent]
    main()
