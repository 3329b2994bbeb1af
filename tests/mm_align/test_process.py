"""`mmalign` as a script or a terminal meets it: its exit codes, what goes to which stream, colours."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from mm_align.cli import main

MMALIGN = (sys.executable, "-m", "mm_align")
GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


def told(code: int) -> bool:
    """Whether the guide has a row for this exit code."""
    return f"\n| {code} |" in GUIDE


@pytest.fixture
def pairs(tmp_path):
    """Many rows of one small picture."""
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    rows = ({"id": str(i), "image": "red.png", "caption": f"a red square, number {i}"} for i in range(3000))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path / "pairs.jsonl"


def signals(pairs, out, *more):
    return [*MMALIGN, "enhance-data", str(pairs), "--stages", "signals", "--signals", "image", "--out", str(out), *more]


def test_done_and_bad_input():
    done = subprocess.run([*MMALIGN, "completion", "bash"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, told(0)) == (0, "", True)
    bad = subprocess.run([*MMALIGN, "enhance-data", "nowhere", "--out", "out"], capture_output=True, text=True, timeout=60)
    assert (bad.returncode, bad.stdout, told(2)) == (2, "", True)
    assert re.fullmatch(r"error: .*nowhere.*\n", bad.stderr)


def test_failed(monkeypatch, capsys):
    from mm_align.jobs import doctor

    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding("parts", "torch", "gone", "broken", "install it")])
    assert (main(["doctor"]), told(1)) == (1, True)
    assert "1 broken" in capsys.readouterr().out


def test_stopped_and_continued(pairs, tmp_path):
    out = tmp_path / "out"
    run = subprocess.Popen(signals(pairs, out, "--batch-size", "1"), stderr=subprocess.PIPE, text=True)
    started = time.monotonic()
    while not any(file.stat().st_size for file in out.glob(".mmalign/journal/*")) and time.monotonic() - started < 60:
        time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    errors = run.communicate(timeout=60)[1]
    assert (run.returncode, told(75)) == (75, True), errors
    assert errors.splitlines()[-1].startswith("stopped: ")
    again = subprocess.run(signals(pairs, out, "--batch-size", "1"), capture_output=True, text=True, timeout=120)
    assert again.returncode == 0
    assert "continuing the unfinished run" in again.stderr
    assert again.stdout.startswith("3000 rows in = 3000 kept")


def test_interrupted(monkeypatch, capsys):
    from mm_align.jobs import doctor

    def examine():
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "examine", examine)
    assert (main(["doctor"]), told(130)) == (130, True)
    assert capsys.readouterr().err == "interrupted\n"


COLOUR = re.compile(r"\x1b\[[0-9;]*[34][0-7](;|m)")  # a foreground or a background of select graphic rendition


def on_a_terminal(command, **environment):
    """What a command writes where standard error is a terminal."""
    mine, its = os.openpty()
    told = os.environ | {"TERM": "xterm-256color", "COLUMNS": "160"} | environment
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=its, env=told)
    os.close(its)
    seen = b""
    while True:
        try:
            part = os.read(mine, 1 << 16)
        except OSError:  # Linux says so when the other side has closed
            part = b""
        if not part:
            break
        seen += part
    os.close(mine)
    assert process.wait(timeout=60) == 0
    return seen.decode()


def test_colours_are_for_terminals_that_want_them(pairs, tmp_path):
    limit = ("--limit", "200")
    assert COLOUR.search(on_a_terminal(signals(pairs, tmp_path / "a", *limit), NO_COLOR=""))
    assert not COLOUR.search(on_a_terminal(signals(pairs, tmp_path / "b", *limit), NO_COLOR="1"))
    done = subprocess.run(signals(pairs, tmp_path / "c", *limit, "-v"), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout + done.stderr
