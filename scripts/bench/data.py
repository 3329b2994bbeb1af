"""Speed of reading, decoding and filtering image-text pairs without a model, beside peers, as ratios within one run.

    python scripts/bench/data.py                       # all; --only pairs|decode|read|start
    python scripts/bench/data.py --only pairs --juicer /path/to/venv --pairs 2000 20000

Interleaved runs on one thread, CPU seconds of whole processes (pairs, start) or of calls (decode, read), median [least-most] of five.
Pictures are made of noise at all scales, 0.2 bytes a pixel at quality 85: as many as dense photographs have. `--pictures DIR` crops JPEG of
your own. A peer that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

RUNS = 5
THREADS = {"OMP_NUM_THREADS": "1", "MMALIGN_DECODERS": "1"}
ENV = os.environ | THREADS | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ENV.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is not compiled anew at every start, and neither is a peer
WORDS = "a the red blue old dog cat house street on under near two people standing with bicycle market tree river sunset"
LARGE, LARGE_ROWS = (1150, 1450), 500  # sides of the pictures of a second comparison, and its rows
LEAST_CHARS, LEAST_SIDE = 10, 100  # of the three decisions
SIGNALS = ["--signals", "text.chars,image.width,image.height,perceptual.repeats"]
RADII = {"ours": "radius 4 (default)", "exact": "radius 0"}
RULES = [f"text.chars < {LEAST_CHARS}", f"image.width < {LEAST_SIDE} or image.height < {LEAST_SIDE}", "perceptual.repeats is known"]


def spread(values: Sequence[float]) -> str:
    return "{} [{}-{}]".format(*(f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in (statistics.median(values), min(values), max(values))))


def ratio(of: Sequence[float], to: Sequence[float]) -> str:
    """Round by round, so that what slows one round down slows both."""
    return spread([a / b for a, b in zip(of, to, strict=True)])


def interleaved(ways: dict[str, Callable[[], object]], runs: int, warm: int = 1) -> dict[str, list[float]]:
    """CPU seconds of each way and of the processes that it starts, `runs` times in turn after `warm` times that do not count."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(-warm, runs):
        for name, way in ways.items():
            started = cpu()
            way()
            seconds[name] += [cpu() - started] if run >= 0 else []
    return seconds


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


# Pictures and pairs


def noise(rng: np.random.Generator, size: tuple[int, int]) -> PIL.Image.Image:
    total = np.zeros((size[1], size[0], 3), np.float32)
    for n in (2, 4, 8, 16, 32, 64, 128, 256, 512):
        layer = ((rng.normal(0, 1, (n, n, 3)) + 2 * rng.normal(0, 1, (n, n, 1))) / n**0.6).astype(np.float32)
        for c in range(3):
            total[:, :, c] += np.asarray(PIL.Image.fromarray(layer[:, :, c]).resize(size, PIL.Image.Resampling.BICUBIC))
    grain = rng.normal(0, 5, (size[1], size[0], 1))
    return PIL.Image.fromarray(((total - total.mean()) / total.std() * 55 + 127 + grain).clip(0, 255).astype(np.uint8))


def bases(rng: np.random.Generator, pictures: str | None, n: int, least: tuple[int, int]) -> list[PIL.Image.Image]:
    """What pictures are cut out of: own ones that are large enough (an enlarged one would have fewer bytes a pixel), or noise."""
    if pictures is None:
        return [noise(rng, least) for _ in range(n)]
    found = (PIL.Image.open(path) for path in sorted(Path(pictures).rglob("*.jp*g")))
    large = [p.convert("RGB") for p in found if p.width >= least[0] and p.height >= least[1]]
    if not large:
        raise SystemExit(f"no JPEG below '{pictures}' is {least[0]} x {least[1]} pixels or larger, as crops of this size need")
    return large


def crop(rng: np.random.Generator, base: PIL.Image.Image, low: int, high: int) -> PIL.Image.Image:
    width, height = (int(side) for side in rng.integers(low, high, 2))
    x, y = int(rng.integers(0, base.width - width)), int(rng.integers(0, base.height - height))
    picture = base.crop((x, y, x + width, y + height))
    return picture.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else picture


def make_pairs(folder: Path, rows: int, sides: tuple[int, int], pictures: str | None) -> Path:
    """`rows.jsonl` with id, text and images, as both tools read it: 5 % captions of a word, 5 % tiny pictures, 8 % repeats, half of these
    smaller, all encoded anew."""
    rng = np.random.default_rng(0)
    base = bases(rng, pictures, 60, (sides[1] + 300, sides[1] + 50))
    (folder / "images").mkdir(parents=True)
    last = crop(rng, base[0], *sides)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as out:
        for row in range(rows):
            kind, quality = rng.random(), 85
            if kind < 0.08:
                scale = 0.8 if kind < 0.04 else 1.0
                picture = last.resize((int(last.width * scale), int(last.height * scale)), PIL.Image.Resampling.LANCZOS)
                quality = int(rng.integers(60, 80))
            elif kind < 0.13:
                picture = crop(rng, base[rng.integers(len(base))], 40, LEAST_SIDE - 1)
            else:
                picture = last = crop(rng, base[rng.integers(len(base))], *sides)
            picture.save(folder / "images" / f"{row}.jpg", quality=quality)
            text = " ".join(rng.choice(WORDS.split(), 1 if rng.random() < 0.05 else int(rng.integers(4, 30))))
            out.write(json.dumps({"id": f"r{row}", "text": text, "images": [f"images/{row}.jpg"]}) + "\n")
    return folder


def made_pairs(folder: Path, *wanted: Any) -> Path:
    """Those that an earlier run left in `--work`, or new ones."""
    return folder if (folder / "rows.jsonl").exists() else make_pairs(folder, *wanted)


# The same three decisions, whole commands


def ours(source: Path, out: Path, *more: str) -> None:
    rules = [word for rule in RULES for word in ("--drop-if", rule)]
    command = [sys.executable, "-m", "mm_align", "enhance-data", str(source), "--out", str(out), "--overwrite", "--stages", "signals"]
    done = subprocess.run([*command, *SIGNALS, *rules, *more], env=ENV, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)


def theirs(source: Path, out: Path, juicer: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    steps = [
        {"text_length_filter": {"min_len": LEAST_CHARS, "max_len": 1_000_000}},
        {"image_shape_filter": {"min_width": LEAST_SIDE, "min_height": LEAST_SIDE}},
        {"image_deduplicator": {"method": "phash"}},
    ]
    names = {"text_keys": "text", "image_key": "images", "np": 1, "use_cache": False}
    told = {"project_name": "bench", "dataset_path": str(source / "rows.jsonl"), "export_path": str(out / "kept.jsonl"), "process": steps}
    (out / "config.yaml").write_text(json.dumps(told | names), encoding="utf-8")  # JSON is YAML
    command = [str(juicer / "bin" / "dj-process"), "--config", str(out / "config.yaml")]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, cwd=out)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def kept(path: Path) -> set[str]:
    return {json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()}


def bench_pairs(counts: Sequence[int], sides: tuple[int, int], juicer: Path | None, options: argparse.Namespace, work: Path) -> None:
    """Rows a CPU second of both whole commands; without start-up: of the rows beyond the first few."""
    runs = options.runs
    folders = {rows: made_pairs(work / f"pairs-{rows}-{sides[0]}", rows, sides, options.pictures) for rows in (20, *counts)}
    files = [*(folders[counts[0]] / "images").iterdir()]
    shapes = [PIL.Image.open(path).size for path in files]
    pixels, size = (sum(w * h for w, h in shapes) / len(shapes), sum(path.stat().st_size for path in files) / len(files))
    print(f"pairs: pictures of {pixels / 1e6:.2f} Mpx and {size / 1e3:.0f} kB on average, median [least-most] of {runs}")
    ways: dict[str, Callable[[int], None]] = {"mmalign": lambda n: ours(folders[n], work / f"ours-{n}")}
    if options.variants:
        ways["mmalign, radius 0"] = lambda n: ours(folders[n], work / f"exact-{n}", "--perceptual-radius", "0")
        ways["mmalign, without extra fast"] = lambda n: ours(folders[n], work / f"plain-{n}", "--no-fast-pictures")
    if not find_spec("simplejpeg"):
        print("  simplejpeg (extra fast) is not installed here: pictures are decoded by Pillow alone")
    if juicer is not None:
        ways["data-juicer"] = lambda n: theirs(folders[n], work / f"theirs-{n}", juicer)
    for way in ways.values():
        way(20)  # so that no run is the first that reads its libraries
    seconds = interleaved({f"{name}/{n}": (lambda w=way, n=n: w(n)) for n in folders for name, way in ways.items()}, runs, warm=0)
    for n in counts:
        print(f"  {n} rows")
        beyond = {name: [a - b for a, b in zip(seconds[f"{name}/{n}"], seconds[f"{name}/20"], strict=True)] for name in ways}
        for name in ways:
            whole = seconds[f"{name}/{n}"]
            rates = spread([n / s for s in whole]), spread([(n - 20) / s for s in beyond[name]])
            print(f"    {name:28} {spread(whole)} CPU s; {rates[0]} rows a CPU second, {rates[1]} without start-up", end="")
            if juicer is None or name == "data-juicer":
                print()
                continue
            times = ratio(seconds[f"data-juicer/{n}"], whole), ratio(beyond["data-juicer"], beyond[name])
            print(f"; {times[0]} x data-juicer, {times[1]} x without start-up")
        if juicer is not None:
            told = kept(work / f"theirs-{n}" / "kept.jsonl")
            for folder, radius in list(RADII.items())[: 2 if options.variants else 1]:
                mine = kept(work / f"{folder}-{n}" / "rows.jsonl")
                apart = f"ours alone {len(mine - told)}, data-juicer alone {len(told - mine)}"
                print(f"    kept rows, {radius}: both {len(mine & told)}, {apart}")


# Decode and resize


def bench_decode(pictures: str | None, runs: int, work: Path) -> None:
    """A picture of 1.7 Mpx to RGB of 336 px, to grey of 256 and of 128 or more: Pillow in full, our scaled decode, the extra `fast`."""
    from data_tools.filters.perceptual import PerceptualSignals
    from data_tools.io.images import decode, within
    from data_tools.records import Image

    rng = np.random.default_rng(1)
    encoded = [jpeg(base.resize((1500, 1133), PIL.Image.Resampling.LANCZOS)) for base in bases(rng, pictures, 12, (1500, 1133))[:24]]
    print(f"decode: {len(encoded)} pictures of 1.7 Mpx, {sum(map(len, encoded)) / len(encoded) / 1e3:.0f} kB")
    for side, grey in ((336, False), (256, True), (PerceptualSignals.side, True)):

        def plain(data: bytes, side: int = side, grey: bool = grey) -> Image:
            whole = PIL.Image.open(io.BytesIO(data)).convert("L" if grey else "RGB")
            return Image(pixels=whole.resize(within(whole.size, side), PIL.Image.Resampling.BICUBIC))

        def scaled(data: bytes, fast: bool = False, side: int = side, grey: bool = grey) -> Image:
            return decode(Image(data=data), max_side=side, grey=grey, loose=side == PerceptualSignals.side, fast=fast)

        ways: dict[str, Callable[[bytes], Image]] = {"plain Pillow": plain, "scaled": scaled}
        ways |= {"scaled, extra fast": lambda data, scaled=scaled: scaled(data, fast=True)} if find_spec("simplejpeg") else {}
        seconds = interleaved({name: (lambda w=way: [w(data) for data in encoded]) for name, way in ways.items()}, runs)
        for name, values in seconds.items():
            rate = spread([len(encoded) / s for s in values])
            print(
                f"  {side} px {'grey' if grey else 'RGB':4} {name:18} {rate} a CPU second, {ratio(seconds['plain Pillow'], values)} x plain"
            )
    same_decisions(make_pairs(work / "decided", 600, (400, 720), pictures), scaled)


def same_decisions(folder: Path, scaled: Callable[[bytes], Any]) -> None:
    """Which pictures repeat an earlier one, told by the hash of the whole picture and by that of its small decode."""
    from data_tools.filters.perceptual import RADIUS, Repeats, phashes, view_of
    from data_tools.io.images import decode
    from data_tools.records import Image

    encoded = [(folder / "images" / f"{row}.jpg").read_bytes() for row in range(600)]
    ways: list[Callable[[bytes], Image]] = [lambda data: decode(Image(data=data)), scaled]
    hashes = [phashes([view_of(way(data)) for data in encoded]) for way in ways]
    told = [Repeats(RADIUS).of(one, np.ones(len(one), bool)) for one in hashes]
    bits = np.bitwise_count(hashes[0] ^ hashes[1])
    print(
        f"  decisions about repeats among {len(encoded)} pictures: {(told[0] == told[1]).sum()} equal, {(told[0] >= 0).sum()} and "
        f"{(told[1] >= 0).sum()} repeat; hashes differ in {bits.mean():.2f} bits, {bits.max()} at most"
    )


def jpeg(picture: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


# Reading shards


def bench_read(pictures: str | None, runs: int, work: Path) -> None:
    """Rows of about 60 kB from a tar and from Parquet, as our samples, against the peers' plain rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_tools.io import list_shards, read

    rng = np.random.default_rng(2)
    base = bases(rng, pictures, 20, (1024, 768))
    rows = [(f"{i:06d}", jpeg(crop(rng, base[i % len(base)], 450, 640)), f"caption {i}") for i in range(1000)]
    tar, parquet = work / "rows.tar", work / "rows.parquet"
    write_tar(tar, rows)
    columns = {"id": [r[0] for r in rows], "image": [{"bytes": r[1], "path": None} for r in rows], "caption": [r[2] for r in rows]}
    pq.write_table(pa.table(columns), parquet, row_group_size=100)

    def samples(path: Path) -> int:
        return sum(len(row.images[0].data) for row in read(list_shards(str(path))[0]))

    def by_tarfile() -> int:
        with tarfile.open(tar) as archive:
            return sum(len(archive.extractfile(member).read()) for member in archive)

    def by_pyarrow() -> int:
        with pq.ParquetFile(parquet) as file:
            batches = file.iter_batches(batch_size=64, use_threads=False)
            return sum(len(row["image"]["bytes"]) for batch in batches for row in batch.to_pylist())

    ways = {"ours, tar": lambda: samples(tar), "tarfile": by_tarfile, "ours, parquet": lambda: samples(parquet), "pyarrow": by_pyarrow}
    if find_spec("webdataset"):
        import webdataset

        ways["webdataset"] = lambda: sum(len(row["jpg"]) for row in webdataset.WebDataset(str(tar), shardshuffle=False))
    else:
        print("  webdataset is not installed here: left out")
    seconds = interleaved(ways, runs)
    print(f"read: 1,000 rows of {sum(len(r[1]) for r in rows) / 1e6:.0f} kB")
    for name, values in seconds.items():
        print(f"  {name:14} {spread([1000 * s for s in values])} CPU ms")
    if "webdataset" in seconds:
        print(f"  tar: {ratio(seconds['webdataset'], seconds['ours, tar'])} x the webdataset package's rows a second")
    print(f"  tar: {ratio(seconds['tarfile'], seconds['ours, tar'])} x plain tarfile's")
    print(f"  parquet: {ratio(seconds['ours, parquet'], seconds['pyarrow'])} of the time of pyarrow's batches as rows")


def write_tar(path: Path, rows: Sequence[tuple[str, bytes, str]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members(rows):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def members(rows: Sequence[tuple[str, bytes, str]]) -> Iterator[tuple[str, bytes]]:
    for number, (key, picture, caption) in enumerate(rows):
        yield from ((f"{key}.jpg", picture), (f"{key}.txt", caption.encode()), (f"{key}.json", json.dumps({"n": number}).encode()))


# Start


def bench_start(juicer: Path | None, runs: int) -> None:
    ways: dict[str, list[str]] = {
        f"mmalign {verb}--help": [sys.executable, "-m", "mm_align", *verb.split(), "--help"] for verb in ("", "enhance-data ")
    }
    ways |= {} if juicer is None else {"dj-process --help": [str(juicer / "bin" / "dj-process"), "--help"]}
    seconds = interleaved(
        {name: (lambda c=command: subprocess.run(c, env=ENV, capture_output=True)) for name, command in ways.items()}, runs
    )
    print("start")
    for name, values in seconds.items():
        print(f"  {name:28} {spread(values)} CPU s")


def juicer_at(given: str | None) -> Path | None:
    """The environment of data-juicer: the one given, or this one."""
    at = Path(given) if given else Path(sys.executable).parent.parent
    if (at / "bin" / "dj-process").exists():
        return at
    print("data-juicer (dj-process) is not installed here: left out")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("pairs", "decode", "read", "start"))
    parser.add_argument("--pairs", type=int, nargs="+", default=[2_000, 20_000], help="rows of the comparison with data-juicer")
    parser.add_argument("--large", type=int, default=LARGE_ROWS, help="rows of a second comparison, of pictures of 1.6 Mpx; 0: none")
    parser.add_argument("--variants", action=argparse.BooleanOptionalAction, default=True, help="radius 0 and plain Pillow too")
    parser.add_argument("--sides", type=int, nargs=2, default=[400, 720], help="width and height of the pairs' pictures: least and most")
    parser.add_argument("--pictures", help="folder of JPEG files to cut pictures out of, instead of noise")
    parser.add_argument("--juicer", help="virtual environment with py-data-juicer, aiohttp and imagededup")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--work", help="folder that keeps the pairs that are made, for another run with the same options")
    options = parser.parse_args()
    juicer = juicer_at(options.juicer) if options.only in (None, "pairs", "start") else None
    with tempfile.TemporaryDirectory() if options.work is None else contextlib.nullcontext(options.work) as work:
        if options.only in (None, "start"):
            bench_start(juicer, options.runs)
        if options.only in (None, "decode"):
            bench_decode(options.pictures, options.runs, Path(work))
        if options.only in (None, "read"):
            bench_read(options.pictures, options.runs, Path(work))
        if options.only in (None, "pairs"):
            bench_pairs(options.pairs, tuple(options.sides), juicer, options, Path(work))
            if options.large:
                bench_pairs([options.large], LARGE, juicer, options, Path(work))


if __name__ == "__main__":
    main()
