"""What a run did to its rows, in bounded memory: counts, score and length distributions, vocabulary, and rows to show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rapidfuzz.distance import Levenshtein

from ..records import Rejected, Sample, Verdict
from .gallery import Gallery, cut
from .signals import SignalStats
from .sketches import WORD, Histogram, KeyCounter, TextSketch, words_of

SCHEMA = 1
ACTIONS = ("keep", "rewrite", "drop", "quarantine")
STREAMS = ("kept", "before", "after", "gone")  # raw = kept + before + gone; output = kept + after
SHARE_UNITS = 10_000  # p_rewrite, edit distance, share of names kept: integers of 1e-4
SHARE_BINS = 20
SCORE_UNITS = 1_000
DIGIT = re.compile(r"\d")
EDIT_CHARS = 4_096  # of each text: the distance of two 1 MB captions would take minutes
RESCORED = "_after"  # a step that scores its own rewrite may report it as "overall_after" and so on


class Stats:
    """Statistics of one run or of a part of it. `add` and `merge` commute: the JSON is the same in any order of rows or parts.

    Words are runs of letters and digits, case folded. Lengths, counts and histograms are exact; distinct-n has a standard
    error of 0.8 %, the Jensen-Shannon divergence is a lower bound (see `sketches`); edit distances look at the first 4,096
    characters of both texts. The size of the state does not depend on the number of rows.
    """

    def __init__(self, seed: int = 0) -> None:
        self.actions = dict.fromkeys(ACTIONS, 0)
        self.duplicates = 0
        self.parse = KeyCounter()
        self.reasons = {action: KeyCounter() for action in ACTIONS}
        self.scores: dict[str, dict[str, Histogram]] = {}
        self.p_rewrite = {action: Histogram() for action in ACTIONS}
        self.edit = Histogram()
        self.names_kept = Histogram()
        self.texts = {stream: TextSketch() for stream in STREAMS}
        self.gallery = Gallery(seed)
        self.signals = SignalStats()

    @property
    def rows(self) -> int:
        return sum(self.actions.values())

    @property
    def unparsable(self) -> int:
        return self.parse.counts.get("unparsable", 0)

    def add(self, sample: Sample, verdict: Verdict, text: str) -> None:
        """One judged row. `text` is the caption to train on; it counts as output only where the row is kept or rewritten."""
        action = verdict.action
        self.actions[action] += 1
        self.parse.add(verdict.parse_status or "not asked")
        if verdict.reason:
            self.reasons[action].add(cut(verdict.reason, 200) or "")
        self._add_scores(verdict)
        self._add_texts(action, sample.caption or "", text)
        overall = verdict.scores.get("overall")
        self.gallery.add(sample, verdict, text, overall)

    def tell(self, sample: Sample, verdict: Verdict) -> None:
        """What filters told of a row, whether it stays or leaves."""
        self.signals.add(sample.caption or "", verdict.signals)

    def reject(self, rejected: Rejected) -> None:
        """One row that never became a sample."""
        self.actions["quarantine"] += 1
        self.reasons["quarantine"].add(cut(rejected.reason, 200) or "unknown")
        self.gallery.reject(rejected)

    def duplicate(self, n: int = 1) -> None:
        """`n` rows whose id was seen before; they are counted here beside whatever became of them."""
        self.duplicates += n

    def _add_scores(self, verdict: Verdict) -> None:
        for name, value in verdict.scores.items():
            if value is not None:
                by_action = self.scores.setdefault(name, {})
                if verdict.action not in by_action:
                    by_action[verdict.action] = Histogram()
                by_action[verdict.action].add(int(value + 0.5), round(value * SCORE_UNITS))
        if verdict.p_rewrite is not None:
            units = round(verdict.p_rewrite * SHARE_UNITS)
            self.p_rewrite[verdict.action].add(share_bin(units), units)

    def _add_texts(self, action: str, before: str, after: str) -> None:
        words = words_of(before)
        if action == "keep":
            self.texts["kept"].add(before, words)
        elif action == "rewrite":
            new = words_of(after)
            self.texts["before"].add(before, words)
            self.texts["after"].add(after, new)
            self._add_change(before, after, new)
        else:
            self.texts["gone"].add(before, words)

    def _add_change(self, before: str, after: str, new: list[str]) -> None:
        distance = Levenshtein.normalized_distance(before[:EDIT_CHARS], after[:EDIT_CHARS])
        self.edit.add(share_bin(round(distance * SHARE_UNITS)), round(distance * SHARE_UNITS))
        names = names_of(before)
        if names:
            units = round(len(names.intersection(new)) / len(names) * SHARE_UNITS)
            self.names_kept.add(share_bin(units), units)

    def merge(self, other: Stats) -> None:
        """Take in the rows of another part of the run."""
        for action in ACTIONS:
            self.actions[action] += other.actions[action]
            self.reasons[action].merge(other.reasons[action])
            self.p_rewrite[action].merge(other.p_rewrite[action])
        self.duplicates += other.duplicates
        self.parse.merge(other.parse)
        for name, by_action in other.scores.items():
            mine = self.scores.setdefault(name, {})
            for action, histogram in by_action.items():
                mine.setdefault(action, Histogram()).merge(histogram)
        self.edit.merge(other.edit)
        self.names_kept.merge(other.names_kept)
        for stream in STREAMS:
            self.texts[stream].merge(other.texts[stream])
        self.gallery.merge(other.gallery)
        self.signals.merge(other.signals)

    def raw_texts(self) -> TextSketch:
        """All captions as they were read."""
        return TextSketch.union(self.texts[s] for s in ("kept", "before", "gone"))

    def output_texts(self) -> TextSketch:
        """All captions that are written for training."""
        return TextSketch.union(self.texts[s] for s in ("kept", "after"))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, bounded, and equal byte for byte (`json.dumps`) for the same rows however they were cut into parts."""
        return {
            "schema": SCHEMA,
            "actions": self.actions,
            "duplicates": self.duplicates,
            "parse": self.parse.to_dict(),
            "reasons": {a: self.reasons[a].to_dict() for a in ACTIONS},
            "scores": {n: {a: h.to_dict() for a, h in sorted(self.scores[n].items())} for n in sorted(self.scores)},
            "p_rewrite": {a: self.p_rewrite[a].to_dict() for a in ACTIONS},
            "edit": self.edit.to_dict(),
            "names_kept": self.names_kept.to_dict(),
            "texts": {s: self.texts[s].to_dict() for s in STREAMS},
            "gallery": self.gallery.to_dict(),
        } | ({"signals": self.signals.to_dict()} if self.signals.rows else {})

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Stats:
        """Raises `ValueError` for a dict of another schema."""
        if d.get("schema") != SCHEMA:
            raise ValueError(
                f"report statistics of schema {d.get('schema')!r}; this version reads schema {SCHEMA}: run again with --overwrite"
            )
        out = cls()
        out.actions = dict(d["actions"])
        out.duplicates = d["duplicates"]
        out.parse = KeyCounter.from_dict(d["parse"])
        out.reasons = {a: KeyCounter.from_dict(d["reasons"][a]) for a in ACTIONS}
        out.scores = {n: {a: Histogram.from_dict(h) for a, h in by.items()} for n, by in d["scores"].items()}
        out.p_rewrite = {a: Histogram.from_dict(d["p_rewrite"][a]) for a in ACTIONS}
        out.edit = Histogram.from_dict(d["edit"])
        out.names_kept = Histogram.from_dict(d["names_kept"])
        out.texts = {s: TextSketch.from_dict(d["texts"][s]) for s in STREAMS}
        out.gallery = Gallery.from_dict(d["gallery"])
        if "signals" in d:
            out.signals = SignalStats.from_dict(d["signals"])
        return out


def share_bin(units: int) -> int:
    """The bin (0..19) of a share in units of 1e-4; 1.0 falls in the last."""
    return min(SHARE_BINS - 1, units * SHARE_BINS // SHARE_UNITS)


def names_of(text: str) -> set[str]:
    """Words that are capitalised inside the text or hold a digit, lower-cased: a cheap stand-in for named entities."""
    words: list[str] = WORD.findall(text[:EDIT_CHARS])
    return {w.lower() for i, w in enumerate(words) if (i and w[0].isupper()) or (not w.isalpha() and DIGIT.search(w))}
