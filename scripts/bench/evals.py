"""Speed of `mmalign score`: CHAIR on 5,000 captions against the upstream scripts on the same file, POPE and AMBER with all their items.

    python scripts/bench/evals.py
    python scripts/bench/evals.py --upstream CHAIR-metric-standalone --pattern pattern --captions opera/log/chair_eval_results

CPU seconds, each command in a process of its own, interleaved; median and spread of five runs: of the whole command, and of scoring,
which leaves out start and imports, and of upstream the reading of its pickle too.

--upstream   a checkout of https://github.com/Maxlinn/CHAIR-metric-standalone with its chair.pkl; its script needs nltk
             and tqdm, and unpickles: give only a checkout that you trust
--pattern    a checkout of https://github.com/clips/pattern, which does not import from its sources: its singularize is cut out of them
--opera      a checkout of https://github.com/shikiw/OPERA, whose chair.py has the WordNet family; it reads the pickle of --upstream
--nltk-data  for --opera: a folder of NLTK's punkt_tab, averaged_perceptron_tagger_eng and wordnet
--captions   files of image_id and caption (JSON lines), or the folder of several; OPERA's logs are in its repository. Without them
             captions are made up of few words, which flatters a scorer that remembers words
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DATA = ROOT / "mm_align" / "evals" / "data"
PUNKT = ROOT / "mm_align" / "evals" / "language" / "data" / "punkt"
RUNS, CAPTIONS = 5, 5_000
SCORE = """
import sys, time
import mm_align.evals, mm_align.jobs.score
from mm_align.cli import main
started = time.process_time()
code = main(["score", *sys.argv[1:], "--json"])
print(time.process_time() - started)
sys.exit("torch was imported" if "torch" in sys.modules else code)
"""
UPSTREAM = """
import pickle, sys, time
import chair
sys.modules["__main__"].CHAIR = chair.CHAIR
with open(sys.argv[2], "rb") as file:
    evaluator = pickle.load(file)
started = time.process_time()
found = evaluator.compute_chair(sys.argv[1], "image_id", "caption")
spent = time.process_time() - started
chair.print_metrics(found)
print(spent)
"""
PARTS = ("plural_prepositions", "singularize")  # of pattern/text/en/inflect.py, and all that is called singular_...


class Way(NamedTuple):
    """A command, where it runs and what its environment has beside ours."""

    words: Sequence[str]
    folder: Path
    environment: dict[str, str]


def ours(*words: str) -> Way:
    return Way([sys.executable, "-c", SCORE, *words], ROOT, {"PYTHONPATH": str(ROOT)})


class Spent(NamedTuple):
    """CPU seconds of a process, of them those of scoring, and the lines that it printed before."""

    whole: float
    scoring: float
    printed: list[str]


def spent(way: Way, out: Path) -> Spent:
    with out.open("wb") as file:
        streams = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0)]
        here = Path.cwd()
        os.chdir(way.folder)
        child = os.posix_spawn(way.words[0], way.words, {**os.environ, **way.environment}, file_actions=streams)
        os.chdir(here)
        _, status, used = os.wait4(child, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"{' '.join(way.words[3:])} ended with {code}")
    *lines, scoring = out.read_text(encoding="utf-8").splitlines()
    return Spent(used.ru_utime + used.ru_stime, float(scoring), lines)


def interleaved(ways: dict[str, Way], folder: Path, runs: int) -> dict[str, list[Spent]]:
    found: dict[str, list[Spent]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            found[name].append(spent(way, folder / f"{name}.out"))
    return found


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} [{min(values):.3g}-{max(values):.3g}]"


def told(runs: Sequence[Spent]) -> str:
    return f"{spread([run.whole for run in runs])} CPU seconds, of them scoring {spread([run.scoring for run in runs])}"


# -- CHAIR -------------------------------------------------------------------------------------------------------------


def bench_chair(folder: Path, given: argparse.Namespace) -> None:
    file = folder / "captions.jsonl"
    rows = list(read_captions(given.captions)) if given.captions else list(made_up_captions())
    file.write_text("\n".join(json.dumps(row) for row in rows[:CAPTIONS]), encoding="utf-8")
    print(f"chair, {len(rows[:CAPTIONS]):,} {'given' if given.captions else 'made-up'} captions")
    scripts = {"pattern_singularize": None, "opera": None}
    if given.upstream and given.pattern:
        scripts["pattern_singularize"] = upstream_chair(folder, file, given.upstream.absolute(), given.pattern)
    if given.upstream and given.opera and given.nltk_data:
        scripts["opera"] = script(given.opera, file, given.upstream.absolute(), {"NLTK_DATA": str(given.nltk_data.absolute())})
    for flavor, theirs in scripts.items():
        against(flavor, ours("chair", "--responses", str(file), "--flavor", flavor), theirs, folder, given.runs)


def against(flavor: str, mine: Way, theirs: Way | None, folder: Path, runs: int) -> None:
    found = interleaved({"ours": mine} | ({"upstream": theirs} if theirs else {}), folder, runs)
    print(f"  {flavor}: {told(found['ours'])}")
    if "upstream" not in found:
        return
    print(f"    upstream: {told(found['upstream'])}")
    pairs = list(zip(found["upstream"], found["ours"], strict=True))
    whole, scoring = ([theirs[at] / mine[at] for theirs, mine in pairs] for at in (0, 1))
    same = json.loads(found["ours"][0].printed[-1])["printed"] == found["upstream"][0].printed
    print(f"    ratio: {spread(whole)} of the whole, {spread(scoring)} of scoring; the same numbers: {same}")


def script(folder: Path, captions: Path, pickled: Path, environment: dict[str, str]) -> Way:
    """The chair.py of a folder, which is the first place that Python looks at."""
    return Way([sys.executable, "-c", UPSTREAM, str(captions), str(pickled / "chair.pkl")], folder, environment)


def upstream_chair(folder: Path, captions: Path, upstream: Path, pattern: Path) -> Way:
    """Its script with the singularize of pattern and with NLTK's Punkt model, whose files are the packaged ones."""
    package = folder / "modules" / "pattern" / "en"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text(cut_out(pattern / "pattern" / "text" / "en" / "inflect.py"), encoding="utf-8")
    english = folder / "nltk_data" / "tokenizers" / "punkt_tab" / "english"
    english.mkdir(parents=True)
    for table in PUNKT.glob("*.gz"):
        (english / table.stem).write_bytes(gzip.decompress(table.read_bytes()))
    environment = {"PYTHONPATH": str(folder / "modules"), "NLTK_DATA": str(folder / "nltk_data")}
    return script(upstream, captions, upstream, environment)


def cut_out(path: Path) -> str:
    """The source of singularize and of the tables that it reads."""
    source = path.read_text(encoding="utf-8")
    kept = ["import re", 'NOUN = "NN"']
    for node in ast.parse(source).body:
        names = [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)] or [getattr(node, "name", "")]
        if any(name in PARTS or name.startswith("singular_") for name in names):
            kept.append(ast.get_source_segment(source, node) or "")
    return "\n".join(kept)


def read_captions(path: Path) -> Iterator[dict]:
    for file in [path] if path.is_file() else sorted(path.rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            yield {"image_id": row["image_id"], "caption": row["caption"]}


def made_up_captions() -> Iterator[dict]:
    draw = random.Random(0)
    truth = json.loads(gzip.decompress((DATA / "chair" / "coco2014_chair_gt_objects.json.gz").read_bytes()))
    for image in draw.sample(sorted(truth), CAPTIONS):
        yield {"image_id": int(image), "caption": description(draw)}


def description(draw: random.Random) -> str:
    """About ninety words on COCO's things."""
    lines = [line.split(", ") for line in gzip.decompress((DATA / "chair" / "synonyms.txt.gz").read_bytes()).decode().splitlines()]
    things = [draw.choice(draw.choice(lines)).strip() for _ in range(14)]
    pairs = zip(things[::2], things[1::2], strict=True)
    frame = "In the {place} there are two {a}s near a well-placed {b}, which isn't visible at first."
    return " ".join(frame.format(place=draw.choice(("background", "foreground", "middle")), a=a, b=b) for a, b in pairs)


# -- POPE and AMBER ----------------------------------------------------------------------------------------------------


def bench_whole(name: str, make: Callable[[], Iterator[dict]], folder: Path, runs: int) -> None:
    file = folder / f"{name}.json"
    rows = list(make())
    file.write_text(json.dumps(rows), encoding="utf-8")
    found = interleaved({name: ours(name, "--responses", str(file))}, folder, runs)[name]
    print(f"{name}, {len(rows):,} made-up answers: {told(found)}; no torch")


def pope_answers() -> Iterator[dict]:
    draw = random.Random(0)
    for split in ("random", "popular", "adversarial"):
        text = gzip.decompress((DATA / "pope" / f"coco_pope_{split}.json.gz").read_bytes()).decode()
        for line in filter(None, map(str.strip, text.splitlines())):
            question = json.loads(line)
            answer = draw.choice(("yes", "Yes, there is one.", "No, there is no such thing in the image.", "no"))
            yield {"question_id": question["question_id"], "category": split, "question": question["text"], "answer": answer}


def amber_answers() -> Iterator[dict]:
    draw = random.Random(0)
    for number in range(1, 15_221):
        yield {"id": number, "response": description(draw) if number <= 1_004 else draw.choice(("Yes", "No"))}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("upstream", "pattern", "opera", "nltk-data", "captions"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench_chair(folder, given)
        bench_whole("pope", pope_answers, folder, given.runs)
        bench_whole("amber", amber_answers, folder, given.runs)


if __name__ == "__main__":
    main()
