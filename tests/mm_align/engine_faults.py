"""A source, a null model that breaks where a caption says so, and runs in processes of their own: for every test of engines."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import PIL.Image

# Python imports a `sitecustomize` from its search path at every start, so that workers of any engine have it too.
BREAKING = '''
"""The null model, but a caption may kill its worker."""
import os, resource, signal, time
from pathlib import Path
from mm_align.backends.null import NullBackend

marks = Path(os.environ["FAULT_MARKS"])
answer = NullBackend.generate
KEEP, REWRITE = '{"Overall Score": "9<Overall>"}', '{"Recaption": "a small square on white ground", "Overall Score": "2<Overall>"}'

def once(word):
    try:
        (marks / word).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True

def generate(self, samples, sampling):
    time.sleep(float(os.environ.get("FAULT_SLOW", "0")))
    text = " ".join(part.text for sample in samples for part in sample.messages[0].parts)
    (marks / f"pid-{os.getpid()}").touch()
    if "KILLONCE" in text and once("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if "POISON" in text and not (marks / "cured").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if "MEMORYONCE" in text and once("memory"):
        raise MemoryError("simulated")
    if "LIMITED" in text and once("limited"):
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        bytearray(4 << 30)
    if "BUG" in text:
        raise KeyError("a mistake in the model")
    return [
        response
        for sample in samples
        for response in answer(NullBackend(REWRITE if "bad" in sample.messages[0].parts[1].text else KEEP), [sample], sampling)
    ]

NullBackend.generate = generate
'''


def write_source(folder: Path, shards: int = 5, rows: int = 40, words: dict[int, str] | None = None) -> Path:
    """Rows 3 and 11 of every shard are broken; every seventh id is that of the first shard. words: put into row 20 of a shard."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    (folder / "x.png").write_bytes(buffer.getvalue())
    for shard in range(shards):
        lines = [line(shard, row, (words or {}).get(shard, "")) for row in range(rows)]
        (folder / f"part-{shard}.jsonl").write_text("".join(f"{text}\n" for text in lines))
    return folder


def line(shard: int, row: int, word: str) -> str:
    if row == 3:
        return "{ broken"
    told = word if row == 20 else "bad" if row % 5 == 0 else "plain"
    name = "0" if row % 7 == 0 else shard
    return json.dumps(
        {"id": f"s{name}r{row}", "image": "none.png" if row == 11 else "x.png", "caption": f"{told} caption {row} of {shard}"}
    )


class Machine:
    """The command line in processes of their own, whose null model is `BREAKING`."""

    def __init__(self, folder: Path) -> None:
        self.marks = folder / "marks"
        self.marks.mkdir()
        (folder / "faults").mkdir()
        (folder / "faults" / "sitecustomize.py").write_text(BREAKING)
        self.path = os.pathsep.join([str(folder / "faults"), str(Path(__file__).parents[2])])

    def start(self, source: Path, out: Path, *more: str, slow: float = 0.0, **env: str) -> subprocess.Popen[str]:
        given = {"PYTHONPATH": self.path, "FAULT_MARKS": str(self.marks), "FAULT_SLOW": str(slow), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "mm_align", "enhance-data", str(source), "--out", str(out), "--model", "null:", *OPTIONS, *more]
        return subprocess.Popen(command, env={**os.environ, **given, **env}, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, source: Path, out: Path, *more: str, **env: str) -> tuple[int, str]:
        """Exit code and everything said."""
        return end_of(self.start(source, out, *more, **env))

    def worker(self, run: "subprocess.Popen[str]", but: frozenset[int] = frozenset()) -> int:
        """The process id of a worker that is judging, for the newest of which `but` does not tell."""
        until = time.monotonic() + 30
        while time.monotonic() < until and run.poll() is None:
            pids = {int(path.name[4:]) for path in self.marks.glob("pid-*")} - but - {run.pid}
            alive = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
            if alive:
                return alive[0]
            time.sleep(0.01)
        raise AssertionError(f"no worker judged anything: {run.communicate()}")


OPTIONS = ("--batch-size", "8", "--on-duplicate", "quarantine", "--max-rewrite-fraction", "0.1")


def end_of(run: "subprocess.Popen[str]") -> tuple[int, str]:
    out, err = run.communicate(timeout=100)
    return run.returncode, out + err


def results(out: Path) -> dict[str, bytes]:
    """Every file whose bytes must not depend on engine, workers, slices or deaths."""
    told = ("report.html", "report.json", "config.yaml", "run.json", "lock")
    places = [p for p in out.rglob("*") if p.is_file() and p.name not in told and "claims" not in p.parts]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in places}
