"""Runs the blocks of a page in its order in one folder, as a reader would who copies one after the other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from doc_blocks import PAGES, ROOT, Block, commands, name_of, read_blocks
from doc_checks import COMMENT, words_of

from mm_align.cli import main

# Pages of a group share a file of tests, and so a worker; what is in none of them is in `rest`.
GROUPS = {
    "data": ["README.md", "docs/enhance.md", "docs/signals.md", "docs/cascade.md", "docs/engines.md", "docs/aitqe.md"],
    "training": ["docs/train.md", "docs/data.md", "docs/adapters.md", "docs/encoders.md", "docs/eeca.md", "docs/benchmarks.md"],
    "feedback": ["docs/feedback.md", "docs/preference.md", "docs/rounds.md"],
    "video": ["docs/video.md"],
}
PYTHONPATH = str(ROOT)
LONGEST = 3600.0  # seconds for a block; the slowest takes some minutes where nothing else runs
BEHIND = "trap 'jobs -p | xargs -r kill 2>/dev/null' EXIT\nset -euo pipefail\n"  # what a block left running ends with it


def pages_of(group: str, *, slow: bool = False) -> list[str]:
    """Pages of a group with blocks to run; slow: with blocks that only `make test-all` runs."""
    elsewhere = [page for name, pages in GROUPS.items() if name != group for page in pages]
    pages = [name_of(page) for page in PAGES if name_of(page) not in elsewhere]
    wanted = GROUPS.get(group, pages)
    return [page for page in wanted if any(block.runs and ("slow" in block.marks) == slow for block in read_blocks(ROOT / page))]


def run_page(page: str, folder: Path, *, slow: bool = False) -> None:
    """Run the page's blocks in `folder`, the slow ones too where `slow`. Raises AssertionError naming the block that failed."""
    (folder / "scripts").symlink_to(ROOT / "scripts")
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = [block for block in read_blocks(ROOT / page) if block.runs and (slow or "slow" not in block.marks)]
    shell = [block for block in blocks if block.language == "bash"]
    shell = [block for block in shell if not _plain(block)] or shell[:1]  # a process of its own costs seconds; one a page there is
    for block in blocks:
        if block.language == "python":
            exec(compile(block.text, block.where, "exec"), names)  # blocks of a page are one session
        elif block in shell:
            _shell(block, folder)
        else:
            _call(block)


def _plain(block: Block) -> bool:
    """Nothing but `mmalign` and words that no shell would change: then a call will do for a new process."""
    return all(line.startswith("mmalign ") and not _special(line) for line in commands(block.text))


def _special(line: str) -> bool:
    unquoted = re.sub(r"""'[^']*'|"[^"$`]*\"""", "", COMMENT.sub(r"\1", line))
    return bool(set(unquoted) & set("();<>|&$`*?~"))


def _call(block: Block) -> None:
    for line in commands(block.text):
        code = main(words_of(line)[1:])
        assert code == 0, f"{block.where}: exit code {code} of {line}"


def _shell(block: Block, folder: Path) -> None:
    """The block in a bash of its own; `mmalign` and `python` are this environment's, with the packages beside these tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    started = subprocess.Popen(
        ["bash", "-c", BEHIND + block.text],
        cwd=folder,
        env=os.environ | {"PATH": path, "PYTHONPATH": PYTHONPATH, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = started.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)  # not the shell alone: what it had started would go on
        raise
    assert started.returncode == 0, f"{block.where}: exit code {started.returncode}\n{block.text}\n{said[-5000:]}"
