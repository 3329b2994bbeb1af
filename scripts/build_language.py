"""Make the packaged tables of mm_align/evals/language/data from NLTK's Punkt and tagger files, WordNet 3.0 and pattern's lists.

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb wordnet
    python scripts/build_language.py --wordnet wordnet/usr/share/wordnet --nltk-data NLTK_DATA --pattern pattern_singularize_tables.json

NLTK_DATA holds tokenizers/punkt_tab/english and taggers/averaged_perceptron_tagger_eng. The tables are the same bytes every time.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path

DATA = Path(__file__).parents[1] / "mm_align" / "evals" / "language" / "data"
PUNKT = ("abbrev_types.txt", "collocations.tab", "sent_starters.txt", "ortho_context.tab")


def write(name: str, content: str) -> None:
    path = DATA / f"{name}.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content.encode(), 9, mtime=0))
    print(f"{path.stat().st_size:>9,} bytes  {path.relative_to(DATA)}")


def wordnet(folder: Path) -> None:
    """Of each part of speech the words of its index, and its exceptions (of a form that comes twice the last counts)."""
    for name in ("noun", "verb", "adj", "adv"):
        index = (folder / f"index.{name}").read_text(encoding="utf-8").splitlines()
        write(f"wordnet/{name}.txt", table(line.split(" ", 1)[0] for line in index if not line.startswith(" ")))
        irregular = {form: words for form, *words in map(str.split, (folder / f"{name}.exc").read_text(encoding="utf-8").splitlines())}
        write(f"wordnet/{name}.exc", table(" ".join([form, *words]) for form, words in irregular.items()))


def punkt(folder: Path) -> None:
    for name in PUNKT:
        write(f"punkt/{name}", table((folder / name).read_text(encoding="utf-8").split("\n")))


def tagger(folder: Path) -> None:
    """Features and their tags sorted; weights, which have three decimals, as whole thousandths in one text a feature: read in a tenth of
    the time."""
    for name in ("weights", "tagdict", "classes"):
        found = json.loads((folder / f"averaged_perceptron_tagger_eng.{name}.json").read_text(encoding="utf-8"))
        if name == "weights":
            found = {
                feature: " ".join(f"{tag} {thousandths(weight)}" for tag, weight in sorted(row.items())) for feature, row in found.items()
            }
        write(f"tagger/{name}.json", json.dumps(found, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def thousandths(weight: float) -> int:
    if round(weight * 1000) / 1000 != weight:
        raise SystemExit(f"a weight of the tagger is {weight!r}; expected three decimals")
    return round(weight * 1000)


def table(rows: Iterable[str]) -> str:
    return "\n".join(sorted({row for row in rows if row}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("wordnet", "nltk-data", "pattern"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    wordnet(given.wordnet)
    punkt(given.nltk_data / "tokenizers" / "punkt_tab" / "english")
    tagger(given.nltk_data / "taggers" / "averaged_perceptron_tagger_eng")
    write("pattern_singularize.json", given.pattern.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
