"""What signals of pictures cost among many rows, and what a scaled decode does to one: figures of docs/performance.md that need no peer.

    python scripts/bench/signals.py               # both; --only index|sharpness

index: CPU seconds in which `perceptual.repeats` compares random hashes of 64 bits, one run each.
sharpness: `image.sharpness` of the scaled decode that every run uses, against that of a whole decode which is shrunk then; the pictures
are crops of noise as in `data.py`, at quality 85.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from data import bases, crop, jpeg, spread

COUNTS = (20_000, 200_000, 1_000_000)
SIDES = ((400, 720), (1150, 1450))  # of the pictures: least and most, as `data.py` has them
PICTURES = 200  # of each size


def bench_index(counts: Sequence[int]) -> None:
    from data_tools.filters.perceptual import RADIUS, Repeats

    rng = np.random.default_rng(0)
    for count in counts:
        hashes = rng.integers(0, 1 << 64, count, dtype=np.uint64)
        started = time.process_time()
        Repeats(RADIUS).of(hashes, np.ones(count, bool))
        print(f"index: {count:,} random hashes at radius {RADIUS} in {time.process_time() - started:.2f} CPU s", flush=True)


def bench_sharpness(pictures: int) -> None:
    from data_tools.filters.image import ImageSignals
    from data_tools.io.images import decode
    from data_tools.records import Image, Sample

    tell = ImageSignals(("image.sharpness",))
    rng = np.random.default_rng(1)
    for low, high in SIDES:
        grounds = bases(rng, None, 4, (high + 50, high + 50))
        encoded = [jpeg(crop(rng, grounds[i % len(grounds)], low, high)) for i in range(pictures)]
        ways = ({"max_side": tell.side, "grey": True}, {"grey": True})
        samples = ([Sample("", images=(decode(Image(data=data), **way),)) for data in encoded] for way in ways)
        scaled, whole = ([float(row["image.sharpness"] or 0) for row in tell(some)] for some in samples)
        shares = [100 * (1 - a / b) for a, b in zip(scaled, whole, strict=True)]
        print(f"sharpness: sides {low} to {high}, {pictures} pictures: lower by {spread(shares)} % in a scaled decode", flush=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("index", "sharpness"))
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="hashes in the index")
    parser.add_argument("--pictures", type=int, default=PICTURES, help="of each size")
    options = parser.parse_args(words)
    if options.only != "sharpness":
        bench_index(options.counts)
    if options.only != "index":
        bench_sharpness(options.pictures)


if __name__ == "__main__":
    main()
