"""The language of rules: what each form means, three-valued logic, fractions, and errors that show the place."""

import itertools
import math

import pytest

from data_tools.filters.rule_terms import Share, cut, cuts
from data_tools.filters.rules import RuleError, parse

ROW = {"image.width": 90, "image.aspect": 1.5, "text.words": 2, "text.language": "en", "exact.duplicate": True, "similarity.clip": None}


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ("image.width < 100", True),
        ("image.width >= 100", False),
        ("100 > image.width", True),
        ("image.width == 90 and text.words != 2", False),
        ("0.5 < image.aspect < 2", True),
        ("0.5 < image.aspect < 1.5", False),
        ("text.words < image.width", True),
        ("text.language == 'en'", True),
        ('text.language in ("de", "fr")', False),
        ("text.language NOT IN ('de', 'fr')", True),
        ("text.words in (2, 3)", True),
        ("exact.duplicate", True),
        ("not exact.duplicate", False),
        ("exact.duplicate == false", False),
        ("similarity.clip < 0.2", None),
        ("similarity.clip is unknown", True),
        ("similarity.clip is known", False),
        ("image.height < 5", None),
        ("text.words < 3 OR similarity.clip < 0.2", True),
        ("text.words > 3 or similarity.clip < 0.2", None),
        ("text.words > 3 and similarity.clip < 0.2", False),
        ("text.words < 3 and similarity.clip < 0.2", None),
        ("not similarity.clip < 0.2", None),
        ("image.width < -1e3", False),
        ("image.width > .5", True),
    ],
)
def test_what_each_form_means(rule, holds):
    assert parse(rule, ROW.keys() | {"image.height"})(ROW) is holds


def test_and_binds_before_or_and_not_before_and():
    """`a or b and not c` is `a or (b and (not c))` for all 27 combinations of true, false, unknown."""
    flat, bracketed = parse("a or b and not c"), parse("a or (b and (not c))")
    for a, b, c in itertools.product((True, False, None), repeat=3):
        row = {"a": a, "b": b, "c": c}
        assert flat(row) is bracketed(row)
        if None not in row.values():
            assert flat(row) is (a or (b and not c))
    assert parse("(a or b) and c")({"a": True, "b": True, "c": False}) is False
    assert flat({"a": True, "b": True, "c": True}) is True


def test_what_a_rule_looks_at():
    rule = parse("image.width < 100 or text.words < 3 and not (similarity.clip in bottom 20%) or image.width > 9000")
    assert rule.names == ("image.width", "text.words", "similarity.clip")
    assert rule.shares == (Share("similarity.clip", "bottom", 20),)
    assert str(parse(" text.words\n  <  3 ")) == "text.words < 3"


def test_fractions_by_hand():
    """Ten values 1..10: the top 30 % are 8, 9, 10 and the bottom 20 % are 1, 2; 25 % of ten is rounded down to two."""
    values = {"s": [3, 1, 2, 10, 9, 8, 7, 6, 5, 4]}
    for text, inside in [("top 30%", {8, 9, 10}), ("bottom 20%", {1, 2}), ("top 25%", {9, 10}), ("top 100%", set(range(1, 11)))]:
        rule = parse(f"s in {text}")
        ends = cuts(rule.shares, values)
        assert {v for v in values["s"] if rule({"s": v}, ends)} == inside, text


def test_fractions_of_ties_of_unknown_values_and_of_too_few():
    tied = Share("s", "top", 25)
    assert cut([5, 5, 5, 1], tied) == 5  # k is 1, all three that tie are inside
    assert cut([None, math.nan, 4, 3, 2, 1], tied) == 4
    assert cut([float(i) for i in range(70)], Share("s", "bottom", 10)) == 6  # seven rows, though 70 * 0.1 in floats is less
    few = parse("s in top 1%")
    assert few({"s": 3}, cuts(few.shares, {"s": [1, 2, 3]})) is False
    assert few({"s": 3}) is None
    assert few({"s": None}, {few.shares[0]: 3.0}) is None


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", "at its end"),
        ("image.widht < 100", "did you mean image.width?"),
        ("zzz < 1", "there are exact.duplicate, image.aspect"),
        ("text.language == en", 'a text to compare with stands in quotes: "..."'),
        ("image.width = 100", "write '=='"),
        ("image.width < 100 && text.words < 3", "write 'and'"),
        ("image.width < 100 text.words < 3", "expected 'and', 'or' or the end"),
        ("(image.width < 100", "expected ')'"),
        ("image.width <", "expected the name of a signal"),
        ("3 < 5", "neither side"),
        ("100", "expected a comparison"),
        ("image.width in top 30", "expected '%', as in 'top 30%'"),
        ("image.width in top", "expected a percentage, as in 'top 30%'"),
        ("image.width in 30%", "'bottom 20%'"),
        ("image.width in top 0%", "more than 0"),
        ("image.width in top 101%", "at most 100"),
        ("image.width in (1, )", "expected a number or a quoted text"),
        ("text.language == 'en", "the text is not closed"),
        ("image.width is small", "expected 'known' or 'unknown'"),
        ("__import__('os').system('true')", "cannot be read"),
        ("open", "no signal has this name"),
        ("image.width < 10px", "cannot be read"),
        ("image.width; text.words", "cannot be read"),
        ("(" * 60 + "exact.duplicate" + ")" * 60, "more than 50 brackets"),
        ("not " * 60 + "exact.duplicate", "more than 50 brackets and nots"),
    ],
)
def test_errors_say_what_and_where(rule, told):
    with pytest.raises(RuleError) as error:
        parse(rule, ROW)
    assert told in str(error.value)


def test_the_place_of_an_error_is_marked():
    with pytest.raises(RuleError) as error:
        parse("text.words < 3 and image.widht\n< 100", ROW)
    _, shown, mark = str(error.value).splitlines()
    assert shown[mark.index("^") :].startswith("image.widht <")


@pytest.mark.parametrize("rule", ["text.language < 3", "text.language in top 10%", "image.width", "image.width == 'en'"])
def test_a_text_and_a_number_do_not_compare(rule):
    read = parse(rule, ROW)
    with pytest.raises(RuleError, match=r"^rule '.*': .*\(here "):
        read(ROW, dict.fromkeys(read.shares, 1.0))
