"""kill -9 at any moment, then the same again: the end is byte for byte that of an undisturbed run."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

# Runs in a process of its own, which imports once and forks a child for every start; a child is killed by a timer or when it
# is about to make its n-th change to a file (audit events of Python), wherever that is.
SCENARIO = r"""
import importlib.util, os, random, resource, signal, sys, time
from pathlib import Path

spec = importlib.util.spec_from_file_location("t", sys.argv[1])
t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)
from data_tools.aitqe import quota
from data_tools.pipeline import stopping_on_full_disk
from data_tools.run.directory import RunStopped

folder = Path(sys.argv[2])
source = t.write_source(folder / "src", shards=2, rows=40)
plan = t.make_plan(block_rows=7, rule=quota(0.2), on_duplicate="quarantine")
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.truncate", "os.rmdir"}

def start(out, before=lambda: None):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        before()
        with stopping_on_full_disk(out):
            t.do(source, out, plan)
        code = 0
    except RunStopped:
        code = 75
    finally:
        os._exit(code)

def die_at(n):
    left = [n]
    def hook(event, arguments):
        if event in CHANGES or (event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    return lambda: sys.addaudithook(hook)

def end_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

t.do(source, folder / "warm", plan)  # what it imports late, every child would import again
began = time.monotonic()
assert end_of(start(folder / "reference")) == 0
took = time.monotonic() - began
expected = t.results(folder / "reference")
assert len(expected) >= 8
rng, kills, runs, starts = random.Random(0), {"time": 0, "change": 0}, 0, 0
while min(kills.values()) < 12:
    out, runs = folder / f"run{runs}", runs + 1
    for attempt in range(1000):
        how, starts = min(kills, key=kills.get), starts + 1
        if how == "time":
            pid = start(out)
            time.sleep(rng.random() * took * 1.1)
            os.kill(pid, signal.SIGKILL)
        else:
            pid = start(out, die_at(rng.randint(1, 40)))
        code = end_of(pid)
        assert code in (0, -9), code
        kills[how] += code == -9
        if code == 0 or (attempt > 12 and end_of(start(out)) == 0):
            break
    assert t.results(out) == expected, out
    assert not [p for p in out.rglob("*") if p.name.endswith(".tmp")] or code == 0

out = folder / "full"
for size in (1_500, 4_000, 7_000):
    def small_disk(size=size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    assert end_of(start(out, small_disk)) == 75
assert end_of(start(out)) == 0
assert t.results(out) == expected
print(sum(kills.values()), "kills in", runs, "runs", starts, "starts")
"""


@pytest.fixture
def memory_disk(tmp_path):
    """A folder in memory where there is one: killing a process loses nothing of it, and fsync costs nothing there."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_killed_anywhere_it_ends_the_same(memory_disk):
    made = subprocess.run(
        [sys.executable, "-c", SCENARIO, str(Path(__file__).with_name("pipeline_cases.py")), str(memory_disk)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert made.returncode == 0, made.stderr[-3000:]
    assert int(made.stdout.split()[0]) >= 24
