"""AITQE's answer: read it from whatever a model wrote, and write it as the training target."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..records import ParseStatus
from ..text import LooseObject, encodable, read_objects, read_python_dict

MARKER = "<Overall>"
LOWEST, HIGHEST = 1, 10

# Record key -> title in the answer; the order is part of the learned format [R: README example].
TITLES = {
    "overall": "Overall",
    "text_quality": "Text Quality",
    "image_text_matching": "Image-Text Matching",
    "object_detail": "Object Detail",
    "semantic_understanding": "Semantic Understanding",
    "text_chart_description": "Text/Chart Description",
}
SCORE_KEYS = tuple(TITLES)
ASPECTS = SCORE_KEYS[1:]
RESCORED = "overall_after"  # overall score of a rewrite, in a verdict and its audit; no key of an answer

_READ_CHARS = 65_536  # far above any token limit in use; keeps an endless reply cheap
_EXPLANATION = ":explanation"
_ABSENT = {"none", "null", "n/a", "na", "not needed", "not applicable", "-"}
_MARK = re.compile(re.escape(MARKER), re.IGNORECASE)
_NUMBER = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,9})?)(?![\d.]*\d)\s*(?:(?:/|out of)\s*(\d{1,9}))?", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:[,\-\u2013~]|to\b)\s*\d")
_LINE = re.compile(r"^[\s\-*#>{.\"'\d]{0,12}([A-Za-z][A-Za-z/\- ]{2,40}?)[\s*\"'_]{0,6}[:=][\s*\"'_]{0,6}(.{1,2000})", re.MULTILINE)
_SPOKEN = re.compile(r"overall[\s_]{0,3}(?:score|rating)\W{0,6}(?:is|of)?\W{0,6}(\d.{0,12})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a quality model said about one caption.

    status: "ok" a strict JSON object with an overall score (text around it is only flagged); "repaired" mended, or stopped early
    right behind the overall score; "truncated" ended inside the object; "no_score" readable but without an overall score;
    "unparsable" nothing known in it.
    recaption: only if complete. overall, scores: as written, also outside 1..10 (then flagged "out_of_range:KEY"), None if not a
    number. scores: the five aspects that were found. flags: sorted notes, e.g. "text_before", "cut:recaption", "other_scale:overall".
    """

    status: ParseStatus
    recaption: str | None = None
    overall: float | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    explanations: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    raw: str = ""

    def all_scores(self) -> dict[str, float | None]:
        """Overall and aspects under their record keys; None where there is no number."""
        return {"overall": self.overall} | {key: self.scores.get(key) for key in ASPECTS}


class _Found(NamedTuple):
    fields: dict[str, Any]
    status: ParseStatus
    flags: set[str]


def in_range(score: float | None) -> bool:
    """Whether this is a number on the scale 1..10."""
    return score is not None and LOWEST <= score <= HIGHEST


def parse(raw: str) -> Reply:
    """Read a reply by the first way that finds a known key: strict JSON, Python dict, broken or cut object, lines of prose.

    Never raises and never clamps; linear in the length of the reply, of which the first 65,536 characters are read. The rules are
    this toolkit's choice (upstream drops the last character and adds a brace, which is right for one ending of five).
    """
    text = encodable(raw[:_READ_CHARS])
    found = _from_objects(text) or _from_braceless(text) or _from_lines(text)
    if found is None:
        return Reply("unparsable", raw=raw)
    if len(raw) > _READ_CHARS:
        found.flags.add("reply_cut")
    return _to_reply(found, raw)


def render(reply: Reply) -> str:
    """The training target: the released schema in its key order, marker inside the overall string, one line.

    Raises ValueError when there is no overall score or a score is off the scale 1..10.
    """
    answer: dict[str, Any] = {} if reply.recaption is None else {"Recaption": reply.recaption}
    for key, score in reply.all_scores().items():
        if score is None and key != "overall":
            continue
        if not in_range(score):
            raise ValueError(f"the {key} score is {score}; a training target needs a number from {LOWEST} to {HIGHEST}")
        answer[f"{TITLES[key]} Score"] = f"{score:g}{MARKER}" if key == "overall" else json.loads(f"{score:g}")
        if key in reply.explanations:
            answer[f"{TITLES[key]} Explanation"] = reply.explanations[key]
    return json.dumps(answer, ensure_ascii=False)


def _squeeze(name: str) -> str:
    return re.sub(r"[^a-z]", "", name[:80].lower().replace("&", "and"))


def _known_names() -> dict[str, str]:
    known = dict.fromkeys(("recaption", "recaptioned", "newcaption", "rewrittencaption", "revisedcaption"), "recaption")
    known |= dict.fromkeys(("overallquality", "overallqualityscore"), "overall")
    for key, title in TITLES.items():
        for base in (_squeeze(title), _squeeze(title.replace("/", " and "))):
            known |= dict.fromkeys((base, f"{base}score", f"{base}rating"), key)
            known |= dict.fromkeys((f"{base}explanation", f"{base}reason"), key + _EXPLANATION)
    return known


_KNOWN = _known_names()


def _known_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in fields.items():
        key = _KNOWN.get(_squeeze(name))
        if key in TITLES and isinstance(value, dict):  # {"Text Quality": {"score": 3, "explanation": "..."}}
            inner = {_squeeze(str(k)): v for k, v in value.items()}
            found |= {key: inner.get("score"), key + _EXPLANATION: inner.get("explanation")}
        elif key is not None:
            found.setdefault(key, value)
    return found


def _from_objects(text: str) -> _Found | None:
    loose: _Found | None = None
    for seen in read_objects(text):
        found = _from_object(text, seen)
        if found and seen.strict:
            return found
        loose = loose or found
    python = read_python_dict(text) if loose else None
    return (python and _from_object(text, python)) or loose


def _from_braceless(text: str) -> _Found | None:
    found = _from_objects("{" + text)
    return found._replace(status="repaired") if found and found.status == "ok" else found


def _from_object(text: str, seen: LooseObject) -> _Found | None:
    fields, flags = _known_fields(seen.fields), _surroundings(text, seen)
    last = next(reversed(fields), None)
    stopped_early = last == "overall" and (seen.cut is None or not seen.cut[1])
    if seen.cut and (key := _KNOWN.get(_squeeze(seen.cut[0]))):
        if key == "overall" and _MARK.search(seen.cut[1]):
            fields[key], stopped_early = seen.cut[1], True
        elif not stopped_early:
            flags.add(f"cut:{key}")
    if not fields and not any(flag.startswith("cut:") for flag in flags):
        return None
    if seen.strict:
        return _Found(fields, "ok", flags)
    return _Found(fields, "repaired" if seen.closed or stopped_early else "truncated", flags)


def _surroundings(text: str, seen: LooseObject) -> set[str]:
    before, after = text[: seen.span[0]].strip(), text[seen.span[1] :].strip() if seen.closed else ""
    notes = {"text_before": before, "text_after": after, "second_object": "{" in after}
    return {note for note, present in notes.items() if present}


def _from_lines(text: str) -> _Found | None:
    fields = _known_fields({m[1]: m[2].strip().rstrip("*\"',}") for m in _LINE.finditer(text)})
    if "overall" not in fields and (spoken := _SPOKEN.search(text)):
        fields["overall"] = spoken[1]
    return _Found(fields, "repaired", {"no_object"}) if fields else None


def _to_reply(found: _Found, raw: str) -> Reply:
    flags = set(found.flags)
    scores = {key: _score(key, found.fields[key], flags) for key in SCORE_KEYS if found.fields.get(key) is not None}
    overall = scores.pop("overall", None)
    explanations = {key: str(found.fields[key + _EXPLANATION]) for key in SCORE_KEYS if found.fields.get(key + _EXPLANATION)}
    recaption = _recaption(found.fields.get("recaption"), flags)
    status = "no_score" if overall is None and found.status != "truncated" else found.status
    clean = {key: encodable(said) for key, said in explanations.items()}
    return Reply(status, recaption, overall, scores, clean, tuple(sorted(flags)), raw)


def _recaption(value: Any, flags: set[str]) -> str | None:
    if not isinstance(value, str):
        flags.update({"unreadable:recaption"} if value is not None else ())
        return None
    if value.strip().casefold().rstrip(".") in _ABSENT:
        flags.add("recaption_placeholder")
        return None
    return encodable(value).strip()


def _score(key: str, value: Any, flags: set[str]) -> float | None:
    number, note = _number(value)
    if number is not None and not in_range(number):
        note = "out_of_range"
    if note:
        flags.add(f"{note}:{key}")
    return number


def _number(value: Any) -> tuple[float | None, str]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        readable = abs(value) < 1e9 if isinstance(value, int) else math.isfinite(value)
        return (float(value), "") if readable else (None, "unreadable")
    text = value.strip("*_\"' \t\n") if isinstance(value, str) else ""
    seen = _NUMBER.match(text)
    if not seen or _RANGE.match(text, seen.end()):
        return None, "unreadable"
    if seen[2] and int(seen[2]) != HIGHEST:
        return None, "other_scale"
    return float(seen[1]), ""
