"""What a perfect quality model would answer about a SceneWorld caption: scores, explanations and the recaption."""

from __future__ import annotations

from ..aitqe.parser import Reply
from .captions import short_caption
from .extract import mentions
from .rows import Captioned

# kind -> (text quality, its explanation); kinds not listed read well.
_TEXT = {
    "file_name": (1, "a file name."),
    "boilerplate": (3, "advertising text."),
    "broken_grammar": (3, "the grammar is broken."),
    "repetition": (2, "it repeats itself."),
    "empty": (1, "it is empty."),
    "other_language": (4, "it is not English."),
}
# kind -> (matching, its explanation); None: as low as the overall score.
_MATCHING: dict[str, tuple[int | None, str]] = {
    "good": (9, "it matches the image."),
    "wrong_object": (None, "a shape is wrong."),
    "wrong_color": (None, "a color is wrong."),
    "wrong_count": (None, "a number is wrong."),
    "wrong_relation": (None, "a position is wrong."),
    "missing_detail": (7, "an object is not mentioned."),
    "other_image": (1, "it describes another image."),
    "file_name": (1, "it says nothing."),
    "boilerplate": (2, "it says little."),
    "broken_grammar": (6, "it is hard to understand."),
    "repetition": (5, "it says little."),
    "empty": (1, "it says nothing."),
    "other_language": (8, "it matches the image."),
}


def opinion(made: Captioned) -> Reply:
    """The exact reply, in AITQE's form. Only a poor caption gets a recaption; overall falls with the recorded severity."""
    detail, detail_words = _detail(made.text)
    overall = _overall(made, detail)
    matching, matching_words = _MATCHING[made.kind]
    text, text_words = _TEXT.get(made.kind, (9, "it is clear."))
    layout, layout_words = _layout(made.text)
    chart, chart_words = _chart(made)
    return Reply(
        status="ok",
        recaption=None if made.kind == "good" else short_caption(made.scene),
        overall=overall,
        scores={
            "text_quality": text,
            "image_text_matching": overall if matching is None else matching,
            "object_detail": detail,
            "semantic_understanding": layout,
            "text_chart_description": chart,
        },
        explanations={
            "overall": "a good caption." if made.kind == "good" else "a poor caption.",
            "text_quality": text_words,
            "image_text_matching": matching_words,
            "object_detail": detail_words,
            "semantic_understanding": layout_words,
            "text_chart_description": chart_words,
        },
    )


def _overall(made: Captioned, detail: int) -> int:
    if made.kind == "good":
        return {9: 10, 7: 9}.get(detail, 8)
    return max(1, min(6, round(8 - 7.5 * made.severity)))


def _detail(text: str) -> tuple[int, str]:
    found = mentions(text)
    if any(m.size for m in found):
        return 9, "sizes and places are given."
    if any(m.place for m in found):
        return 7, "places are given."
    return (5, "only colors and shapes.") if found else (1, "no details.")


def _layout(text: str) -> tuple[int, str]:
    found = mentions(text)
    if any(m.place for m in found) or any(w in text for w in (" of ", " above ", " below ")):
        return 8, "the layout is described."
    return (5, "objects are listed.") if found else (1, "no meaning.")


def _chart(made: Captioned) -> tuple[int, str]:
    if not made.scene.signs and not made.scene.charts:
        return 5, "there is no text."
    said = [f"says {s.word}" in made.text for s in made.scene.signs] + [f"bar is {c.tallest}" in made.text for c in made.scene.charts]
    return (9, "the text is described.") if all(said) else (2, "the text is not described.")
