"""A source of two shards, a fake step, and whole runs over them: what the tests of the pipeline share."""

import hashlib
import io
import json

from PIL import Image

from data_tools.io import list_shards
from data_tools.pipeline import outputs_of, run
from data_tools.records import Verdict
from data_tools.run.directory import fingerprint, open_run
from data_tools.run.plan import Plan, Watch


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def write_source(folder, shards=2, rows=25):
    """Rows 3 and 11 of every shard are broken: no JSON, no picture file."""
    folder.mkdir(parents=True, exist_ok=True)
    for s in range(shards):
        lines = []
        for i in range(rows):
            name = f"{s}-{i}.png"
            if i != 11:
                (folder / name).write_bytes(png((s * 40, i * 5 % 256, 9)))
            row = {"id": f"s{s}r{i}", "image": name, "caption": f"caption {i} of {s}", "extra": {"z": i, "a": None}}
            lines.append("{ broken" if i == 3 else json.dumps(row))
        (folder / f"part-{s}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def batch_step(samples):
    """Every third caption is rewritten; the text tells which samples were judged together."""
    together = hashlib.sha256("".join(s.id for s in samples).encode()).hexdigest()[:8]
    return [
        Verdict("rewrite", {"overall": 3.0}, text=f"{s.caption} with {together}", p_rewrite=0.9, reason="model")
        if s.source.row % 3 == 0
        else Verdict("keep", {"overall": 8.0}, p_rewrite=0.1, reason="model")
        for s in samples
    ]


def make_plan(**changes):
    audit = changes.pop("audit", lambda v: {"action": v.action, "overall": v.scores.get("overall"), "reason": v.reason})
    return Plan(**{"step": batch_step, "audit": audit, "block_rows": 4, **changes})


def do(source, out, plan=None, watch=None):
    shards, plan = list_shards(source), plan or make_plan()
    binding = {"source": {s.name: fingerprint(s.path) for s in shards}}
    with open_run(out, binding, outputs_of(shards, plan.format)) as run_dir:
        return run(shards, plan, run_dir, watch or Watch())


def results(out):
    """Every file whose bytes must not depend on how often a run was interrupted."""
    places = [*out.glob("*.*"), *out.glob("quarantine/*"), *out.glob(".mmalign/stats/*"), *out.glob(".mmalign/done/*")]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in places if p.is_file()}


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]
