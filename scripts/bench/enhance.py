"""Speed of enhance-data, as ratios within one run: ours against the upstream manner, the pipeline against the model, memory.

    python scripts/bench/enhance.py            # all three; --only model|pipeline|memory
    python scripts/bench/enhance.py --model MODEL --data ROWS.jsonl

Interleaved runs on one thread, CPU seconds, median and spread of five.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

RUNS = 5
WORKER = """
import json, sys, time
from pathlib import Path
from mm_align.jobs.enhance.enhance import enhance
source, out, model = sys.argv[1:4]
import data_tools.pipeline, data_tools.report, pyarrow  # imports are not what is measured
from mm_align.backends import load_backend
backend = load_backend(model)
wall, cpu = time.perf_counter(), time.process_time()
report = enhance(source, out, model=model, backend=backend, overwrite=True)
told = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "model_wall": report.step_seconds, "rows": report.fresh_rows}
# Not ru_maxrss: it carries over from the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps(told | {"peak_mb": int(peak.split()[1]) / 1024}))
"""


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} [{min(values):.3g}-{max(values):.3g}]"


def interleaved(ways: dict[str, Callable[[], object]], runs: int = RUNS) -> dict[str, list[float]]:
    """CPU seconds of each way, `runs` times in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            started = time.process_time()
            way()
            seconds[name].append(time.process_time() - started)
    return seconds


def bench_model(model: str, data: str | None, rows: int) -> None:
    """Batched generation with early stop against one `generate` a row, as the released script does it; same weights, same answers."""
    import torch

    from data_tools.aitqe import AITQE_PROMPT
    from data_tools.aitqe.step import BRANCHES
    from data_tools.calls import Sampling
    from mm_align.backends import load_backend

    torch.set_num_threads(1)
    backend = load_backend(model)
    asked = questions(data, rows, AITQE_PROMPT)
    answers: dict[str, list[str]] = {}

    def ours(name: str, stop: tuple[str, ...]) -> Callable[[], object]:
        sampling = Sampling(max_tokens=384, stop=stop, branches=BRANCHES)
        return lambda: answers.__setitem__(name, [r.text for r in backend.generate(asked, sampling)])

    def upstream(name: str, stop: tuple[str, ...]) -> Callable[[], object]:
        return lambda: answers.__setitem__(name, [one_by_one(backend, sample, stop) for sample in asked])

    stop = AITQE_PROMPT.stop
    ways = {"ours, full": ours("ours, full", ()), "upstream manner, full": upstream("upstream manner, full", ())}
    ways |= {
        "ours, early stop": ours("ours, early stop", stop),
        "upstream manner, early stop": upstream("upstream manner, early stop", stop),
    }
    for way in ways.values():
        way()  # warm-up
    seconds = interleaved(ways)
    print(f"SceneWorld, {rows} rows, one thread, CPU seconds, median [least-most] of {RUNS}")
    for name, values in seconds.items():
        print(f"  {name:30} {spread(values)}")
    for kind in ("full", "early stop"):
        mine, theirs = f"ours, {kind}", f"upstream manner, {kind}"
        ratios = [b / a for a, b in zip(seconds[mine], seconds[theirs], strict=True)]
        same = sum(a == b for a, b in zip(answers[mine], answers[theirs], strict=True))
        print(f"  {kind}: {spread(ratios)} times the rows a second; {same} of {rows} answers equal to the letter")


def questions(data: str | None, rows: int, prompt) -> list:
    from dataclasses import replace
    from itertools import islice

    from data_tools.io import decode, list_shards, read
    from data_tools.records import Sample
    from data_tools.scenes.rows import scene_rows

    found = scene_rows(rows, 1, "heldout") if data is None else (r for s in list_shards(data) for r in read(s) if isinstance(r, Sample))
    samples = islice(found, rows)
    return [replace(s, images=(decode(s.images[0]),), messages=(prompt.message(s.caption or ""),)) for s in samples]


def one_by_one(backend, sample, stop: tuple[str, ...]) -> str:
    """One row the way the released script asks: batch 1, `generate`, greedy, a stop string that needs the tokenizer."""
    import torch

    processor, model = backend.prompts.processor, backend.model
    ids = torch.tensor([processor.encode(sample.messages)])
    pixels = torch.from_numpy(processor.image_processor.pixels([sample.images[0].pixels]))
    options = {"stop_strings": ["<Overall>"], "tokenizer": processor.tokenizer} if stop else {}
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels, do_sample=False, max_new_tokens=384, **options
        )
    return processor.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip()


def run_once(source: Path, out: Path, model: str) -> dict[str, float]:
    """One enhance run in a process of its own, so that its peak memory is its own."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run([sys.executable, "-c", WORKER, str(source), str(out), model], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def scenes(folder: Path, rows: int) -> Path:
    """Rows as the web has them: an id, a picture file, a caption; SceneWorld's pictures without their truth."""
    from data_tools.scenes.rows import scene_rows

    (folder / "images").mkdir(parents=True)
    with (folder / "rows.jsonl").open("w") as out:
        for sample in scene_rows(rows, 2):
            picture = sample.images[0]
            (folder / "images" / str(picture.path)).write_bytes(picture.data or b"")
            out.write(json.dumps({"id": sample.id, "image": f"images/{picture.path}", "caption": sample.caption}) + "\n")
    return folder


def bench_pipeline(model: str, data: str | None, rows: int, many: int, work: Path) -> None:
    """What everything but the model costs: CPU seconds a row with a null model against those with the model."""
    source = Path(data) if data else scenes(work / "scenes", rows)
    larger = Path(data) if data else scenes(work / "more", many)
    runs: dict[str, list[dict[str, float]]] = {"null": [], "model": [], "many": []}
    for _ in range(RUNS):
        runs["null"].append(run_once(source, work / "out", "null:"))
        runs["model"].append(run_once(source, work / "out", model))
        runs["many"].append(run_once(larger, work / "out-more", "null:"))
    per_row = {name: [r["cpu"] / r["rows"] for r in told] for name, told in runs.items()}
    shares = [null / full for null, full in zip(per_row["null"], per_row["model"], strict=True)]
    print(f"SceneWorld, pictures of 64 and 96 px in files, one thread, median [least-most] of {RUNS}")
    print(f"  pipeline with a null model, {runs['many'][0]['rows']} rows: {spread([1 / s for s in per_row['many']])} rows a CPU second")
    print(f"  everything but the model, {rows} rows: {spread([100 * s for s in shares])} % of the run's CPU time with {model}")


def bench_memory(small: int, large: int, work: Path) -> None:
    """Peak resident memory on many rows against few, null model, full report."""
    peaks = {}
    for rows in (small, large):
        told = run_once(scenes(work / f"scenes-{rows}", rows), work / f"out-{rows}", "null:")
        peaks[rows] = told["peak_mb"]
        print(f"SceneWorld, {rows} rows: peak {told['peak_mb']:.0f} MB, {told['rows'] / told['cpu']:.0f} rows a CPU second")
    print(f"  memory at {large} rows / at {small} rows: {peaks[large] / peaks[small]:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny-aitqe")
    parser.add_argument("--data", help="rows to measure on instead of SceneWorld's")
    parser.add_argument("--only", choices=("model", "pipeline", "memory"))
    parser.add_argument("--rows", type=int, default=96, help="rows of the model comparison")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        if options.only in (None, "model"):
            bench_model(options.model, options.data, options.rows)
        if options.only in (None, "pipeline"):
            bench_pipeline(options.model, options.data, 300, 10_000, Path(work))
        if options.only in (None, "memory"):
            bench_memory(5_000, 50_000, Path(work))


if __name__ == "__main__":
    main()
