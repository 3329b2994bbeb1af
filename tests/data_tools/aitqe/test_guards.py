"""Rewrites that must not pass, and right ones that must."""

import time

import pytest

from data_tools.aitqe import Guards
from data_tools.aitqe.guards import unchanged

RAW = "A large red circle is above a small blue square."
GOOD = "A small red circle is above a large blue square."
GERMAN = "Ein großer roter Kreis ist über einem kleinen blauen Quadrat."
CHINESE = "红色的大圆圈在蓝色方块上面"


@pytest.mark.parametrize(
    ("raw", "rewrite", "guard"),
    [
        (RAW, GOOD, None),
        (RAW, "", "empty"),
        (RAW, " ... ", "empty"),
        (RAW, "A red <Overall> circle.", "leftover"),
        (RAW, 'A red circle.", "Overall Score": "2', "leftover"),
        (RAW, "A red circle {x}", "leftover"),
        (RAW, "A red circle.<|im_end|>", "leftover"),
        (RAW, "A red\x00 circle.", "leftover"),
        (RAW, "A red circle\ufffd.", "leftover"),
        (RAW, "The image shows a red circle.", "banned_opening"),
        (RAW, '"This  picture depicts a red circle."', "banned_opening"),
        (RAW, "I\u2019m sorry, but I cannot see a picture.", "banned_opening"),
        (RAW, "A red circle. The image shows a square too.", None),
        (RAW, "red circle red circle red circle red circle", "repetition"),
        (RAW, "Circle", "too_short"),
        (RAW, "A red circle above it", None),
        (RAW, "Red, blue, green and one more colour each. " * 1 + "x " * 200, "repetition"),
        (RAW, " ".join(f"word{i}" for i in range(60)), "too_long"),
        (RAW, CHINESE, "language"),
        (RAW, GERMAN, "language"),
        (RAW, "A red circle is above a blue square, ask ann@example.org.", "pii"),
        ("A red circle, 555-123-4567", "A red circle is above a blue square, call (555) 123-4567.", None),
    ],
)
def test_refusals(raw, rewrite, guard):
    assert Guards().refusal(raw, rewrite) == guard


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "   ",
        "IMG_20210403_1234.jpg",
        "x",
        "1234567",
        GERMAN,
        CHINESE,
        "Большой красный круг на белом",
        "buy now free shipping best price " * 30_000,
        "red red red red red red red red",
    ],
)
def test_junk_captions_do_not_block_a_right_rewrite(raw):
    assert Guards().refusal(raw, GOOD) is None


@pytest.mark.parametrize(
    ("language", "raw", "rewrite", "refused"),
    [
        ("en", GERMAN, GERMAN.replace("roter", "grüner"), False),
        ("en", "", GERMAN, False),  # same script as a caption without letters is taken to have: cannot be told from a right one
        ("en", "", CHINESE, True),
        ("en", "IMG_1.jpg", CHINESE, True),
        ("de", RAW, GERMAN, False),
        ("same", GERMAN, GOOD, True),
        ("same", RAW, GOOD, False),
        ("any", RAW, CHINESE, False),
        ("en", RAW, "Red circle.", False),
    ],
)
def test_language_rule(language, raw, rewrite, refused):
    assert (Guards(language=language, min_ratio=0).refusal(raw, rewrite) == "language") is refused


def test_openings_are_the_callers_choice():
    assert Guards(banned_openings=("a small",)).refusal(RAW, GOOD) == "banned_opening"
    assert Guards(banned_openings=()).refusal(RAW, "The image shows a red circle.") is None


@pytest.mark.parametrize("options", [{"min_ratio": 5.0}, {"min_ratio": -1}, {"max_repetition": 0}])
def test_impossible_limits(options):
    with pytest.raises(ValueError, match=r"ratio|repetition"):
        Guards(**options)


def test_unchanged_ignores_white_space_only():
    assert unchanged("a  red\ncircle", " a red circle ")
    assert not unchanged("a red circle", "A red circle")


def test_megabyte_captions_are_quick():
    start = time.perf_counter()
    Guards().refusal("buy now " * 125_000, "x " * 500_000)
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(("pii", "guard"), [("added", None), ("any", "pii"), ("off", None)])
def test_personal_data_that_the_raw_caption_has_too(pii, guard):
    assert Guards(pii=pii).refusal("ask ann@example.org", "A sign says to ask ann@example.org.") == guard
