"""What a user without the repository does: run by `test_wheel.py` in a process that has only the installed packages.

`python outsider.py REPOSITORY ask|some|everything`: what came of each command as JSON. A file of the repository that is opened is told too.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import sys
import time
from pathlib import Path

OPENED: list[str] = []


def watch(repository: str) -> None:
    """Note each file below `repository` that is opened, but for an environment in it and this file."""
    environments = tuple(str(Path(place).resolve()) for place in sys.path if "site-packages" in place)

    def seen(event: str, arguments: tuple[object, ...]) -> None:
        file = arguments[0] if event == "open" else None
        if isinstance(file, str) and file.startswith(repository + os.sep) and not file.startswith(environments):
            OPENED.append(file)

    sys.addaudithook(seen)


def mmalign(*words: str) -> dict[str, object]:
    """The command line in this process: its exit code, standard output, the end of standard error, seconds."""
    from mm_align.cli import main

    out, errors, started = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code: object = main(words)
        except SystemExit as stopped:  # argparse
            code = stopped.code
    return {"code": code, "out": out.getvalue(), "errors": errors.getvalue()[-2000:], "seconds": time.monotonic() - started}


def typed(line: str) -> dict[str, object]:
    """As a shell divides it."""
    return mmalign(*line.split())


def ask() -> dict[str, object]:
    """`--help`, `--list` and `--schema` of every verb, and what needs no verb."""
    from mm_align.cli import VERBS

    told: dict[str, object] = {word: mmalign(*word.split()) for word in ("--version", "--help", "completion bash")}
    for verb in VERBS:
        told[verb] = {option: mmalign(*verb.split(), option) for option in ("--help", "--list", "--schema")}
    return told


def some() -> dict[str, object]:
    """One thin run of verbs that read each kind of file of the packages: models, templates, questions, configs; and of a tour."""
    told = {"scenes make": typed("scenes make --n 12 --seed 7 --questions --poor-share 0 --out scenes --json")}
    Path("runs.csv").write_text("frames,tokens,metric\n" + "".join(_runs()), encoding="utf-8")
    Path("answers.jsonl").write_text(_answers(), encoding="utf-8")
    Path("tour.yaml").write_text(TOUR, encoding="utf-8")
    return told | {
        "video fit": typed("video fit runs.csv --form additive --resamples 20 --no-plot --out law.json --json"),
        "score": typed("score pope --responses answers.jsonl --set options.split=random --json"),
        "tour --dry-run": typed("tour --quick --dry-run --out quick --json"),
        "tour": typed("tour tour.yaml --json"),
        "memory": typed("memory tiny-lvlm --json"),
        "enhance-data": typed("enhance-data scenes --config careful --limit 2 --out better --json"),
    }


def everything() -> dict[str, object]:
    """As `some`, and the verbs that take longer."""
    told = some()
    picture = str(next(Path("scenes/images").glob("*.png")))
    one = ("--set", "data=[{path: scenes, prompt: ''}]", "--set", "batch_size=4")
    draws = ("--set", "candidates.n=2", "--set", "candidates.max_tokens=16")
    return told | {
        "memory --train": typed("memory tiny-aitqe --train sft/tiny --json"),
        "chat": mmalign("chat", "tiny-lvlm", picture, "What is in the picture?", "--max-tokens", "4"),
        "eval": typed("eval tiny-lvlm --bench scenes --limit 3 --out evaluated --json"),
        "train": mmalign("train", "pretrain/tiny", *one, "--steps", "2", "--out", "trained", "--json"),
        "rlaif feedback": mmalign("rlaif", "feedback", "tiny", "--data", "scenes", "--limit", "2", *draws, "--out", "feedback", "--json"),
    }


TOUR = """
title: The smallest tour
out: tour
stages:
  - {name: raw, title: Pictures, why: to see, commands: [mmalign scenes make --n 2 --out raw], shows: [{type: captions, data: raw}]}
"""


def _runs() -> list[str]:
    """Losses that follow a law of frames and tokens, with an optimum."""
    grid = [(frames, tokens) for frames in (4, 8, 16, 32) for tokens in (16, 36, 64, 144)]
    return [f"{frames},{tokens},{1 + 2 * frames**-0.5 + 3 * tokens**-0.7 + 1e-3 * frames}\n" for frames, tokens in grid]


def _answers() -> str:
    """An answer to each question of the POPE file that the packages hold."""
    import gzip

    import mm_align.evals

    file = Path(mm_align.evals.__file__).parent / "data" / "pope" / "coco_pope_random.json.gz"
    rows = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    return "".join(json.dumps({"question_id": row["question_id"], "answer": "yes"}) + "\n" for row in rows)


if __name__ == "__main__":
    watch(sys.argv[1])
    gc.disable()  # a fifth of the time that imports take
    told = {"ask": ask, "some": some, "everything": everything}[sys.argv[2]]()
    parts = {name: str(sys.modules[name].__file__) for name in ("mm_align", "data_tools", "vision", "video") if name in sys.modules}
    print(json.dumps({"told": told, "opened": OPENED, "parts": parts}))
