"""pattern.en's `singularize` by its own tables: rules that are wrong often, and so part of CHAIR's numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import NamedTuple

from .tables import text

KEPT = 1 << 17
LAST_LETTERS = "aeisx"  # of what the rules end in; only (ox)en has no end


class Rules(NamedTuple):
    """pattern's lists. unchanged: one string a line of the words whose ENDS are left as they are (a test that pattern has inverted)."""

    unchanged: str
    ie_plurals: tuple[str, ...]
    irregular: Mapping[str, str]
    endings: tuple[tuple[re.Pattern[str], str], ...]
    prepositions: frozenset[str]


@lru_cache(KEPT)
def singularize(word: str) -> str:
    """pattern 3.6's `singularize(word)`: bus gives bu, glass glas, men man."""
    rules = _rules()
    head, *rest = word.split("-")
    if rest and rest[0] in rules.prepositions:  # mothers-in-law
        return "-".join([singularize(head), *rest])
    if word.endswith("'"):
        return singularize(word[:-1]) + "'s"
    lower = word.lower()
    if f"{lower}\n" in rules.unchanged:
        return word
    if lower.endswith(rules.ie_plurals):
        return lower
    if lower.endswith(tuple(rules.irregular)):
        plural = next(plural for plural in rules.irregular if lower.endswith(plural))
        return re.sub(f"(?i){plural}$", rules.irregular[plural], word)
    if word.isascii() and lower[-1] not in LAST_LETTERS and not lower.startswith("ox"):
        return word
    return _by_ending(word, rules)


def _by_ending(word: str, rules: Rules) -> str:
    for ending, to in rules.endings:
        if found := ending.search(word):
            for number, group in enumerate(found.groups(), 1):
                if group is None:
                    to = to.replace(f"\\{number}", "")
            return ending.sub(to, word)
    return word


@cache
def _rules() -> Rules:
    tables = json.loads(text("pattern_singularize.json"))
    return Rules(
        "".join(f"{entry}\n" for entry in (*tables["uninflected"], *tables["uncountable"])),
        tuple(f"{stem}s" for stem in tables["ie_stems_may_start_with_caret"]),
        dict(tables["irregular_plural_to_singular_in_order"]),
        tuple((re.compile(ending), to) for ending, to in tables["ordered_regex_rules_pattern_replacement"]),
        frozenset(tables["plural_prepositions"]),
    )
