"""kill -9 at any moment of a run with signals and comparisons across shards: the end is byte for byte that of an undisturbed one."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_tools.filters import FILTERS, FilterStep
from data_tools.filters.audit import audit_fields
from data_tools.filters.choice import chosen
from data_tools.filters.rules import parse
from data_tools.filters.scan import Scan
from data_tools.filters.scanned import Scanned
from data_tools.io import list_shards
from data_tools.pipeline import run
from data_tools.run.directory import fingerprint, open_run
from data_tools.run.plan import Plan, Watch


def neighbour(name):
    """A file of the folder above, for what it makes and runs."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KILLS, PIPELINE = neighbour("test_pipeline_kills"), neighbour("pipeline_cases")
memory_disk, results = KILLS.memory_disk, PIPELINE.results
RULES = ("image.width < 2 or text.words in top 10%", "exact.caption_repeats is known", "near_text.repeats is known and image.aspect == 1")


def write_source(folder, shards, rows):
    """Captions repeat across shards, to the letter and nearly; rows 3 and 11 of each shard are broken."""
    PIPELINE.write_source(folder, shards, rows)
    for s in range(shards):
        path = folder / f"part-{s}.jsonl"
        lines = path.read_text().splitlines()
        for i, line in enumerate(lines):
            if i != 3:
                caption = f"a caption that is as long as number {i // (1 + s)} of them all needs to be {'near' * (i % 4 == 0)}"
                lines[i] = json.dumps(json.loads(line) | {"caption": caption})
        path.write_text("\n".join(lines) + "\n")
    return folder


def make_plan(block_rows, on_duplicate, **_):
    return {"block_rows": block_rows, "on_duplicate": on_duplicate}


def do(source, out, plan):
    shards = list_shards(source)
    outputs = [name for s in shards for name in (f"{s.name}.jsonl", f"quarantine/{s.name}.jsonl")]
    with open_run(out, {"source": {s.name: fingerprint(s.path) for s in shards}}, outputs) as run_dir:
        scan = Scan(chosen([], FILTERS), [parse(rule) for rule in RULES], block_rows=plan["block_rows"])
        step = FilterStep(scan.filters, scan.rules, scanned=Scanned(scan, run_dir))
        more = {"audit_field": "filters", "keeps_raw": False, "scan": scan, "by_scan": True, "look": step.look}
        return run(shards, Plan(step, audit_fields, **plan, **more), run_dir, Watch())


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork")
def test_killed_anywhere_it_ends_the_same(memory_disk):
    command = [sys.executable, "-c", KILLS.SCENARIO, str(Path(__file__)), str(memory_disk)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr[-3000:]
    assert int(made.stdout.split()[0]) >= 24


def test_the_scenario_has_something_to_compare(tmp_path):
    summary = do(write_source(tmp_path / "src", 2, 40), tmp_path / "out", make_plan(7, "quarantine"))
    assert {f"rule:{rule}" for rule in RULES} < set(summary.reasons)
    assert summary.kept > 5
