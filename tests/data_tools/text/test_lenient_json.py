"""Objects in replies: strict, Python-like, broken, cut."""

import time

import pytest

from data_tools.text import read_objects, read_python_dict


def loose(text):
    return next(o for o in read_objects(text) if not o.strict)


def test_strict_object_keeps_its_span():
    seen = next(read_objects('say {"a": 1} end'))
    assert (seen.fields, seen.span, seen.strict, seen.closed) == ({"a": 1}, (4, 12), True, True)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"a": 1,}', {"a": "1"}),
        ("{'a': 'dog\\'s', 'b': None}", {"a": "dog's", "b": None}),
        ("{'a': 'a dog's bone', 'b': 'x'}", {"a": "a dog's bone", "b": "x"}),
        ('{"a": "says "STOP" now", "b": "x"}', {"a": 'says "STOP" now', "b": "x"}),
        ('{"a": "x" "b": "y"}', {"a": "x", "b": "y"}),
        ('{"a": "x"\n "b": "y"}', {"a": "x", "b": "y"}),
        ('{"a": "line\nbreak", "b": [1, 2],}', {"a": "line\nbreak", "b": [1, 2]}),
        ('{"a": "\\u00e9\\n\\ud83d\\ude00\\ud800",}', {"a": "é\n😀\ufffd"}),
    ],
)
def test_broken_objects(text, fields):
    seen = loose(text)
    assert seen.fields == fields
    assert seen.closed


@pytest.mark.parametrize(
    ("text", "fields", "cut"),
    [
        ('{"a": "x", "b": "half', {"a": "x"}, ("b", "half")),
        ('{"a": "x", "b": 1', {"a": "x"}, ("b", "1")),
        ('{"a": "x", "b": null', {"a": "x"}, ("b", "null")),
        ('{"a": "x", "b":', {"a": "x"}, ("b", "")),
        ('{"a": "x", "b', {"a": "x"}, None),
        ('{"a": "x",', {"a": "x"}, None),
        ('{"a": [1, 2', {}, ("a", "[1, 2")),
    ],
)
def test_cut_objects(text, fields, cut):
    seen = loose(text)
    assert (seen.fields, seen.cut, seen.closed) == (fields, cut, False)


def test_python_dict():
    assert read_python_dict("so: {'a': True, 'b': 'x'} done").fields == {"a": True, "b": "x"}


@pytest.mark.parametrize("text", ["none", "}{", "{'a': open('x')}", "{1, 2}", "{[]: 1}", "{" * 300 + "}" * 300])
def test_no_python_dict(text):
    assert read_python_dict(text) is None


@pytest.mark.parametrize("value", ["1" + "+1" * 30_000, "-" * 60_000 + "1", "(" * 60_000, "[" * 150 + "]" * 150, "not " * 15_000 + "1"])
def test_hostile_python_neither_crashes_nor_hangs(value):
    start = time.perf_counter()
    seen = read_python_dict("{'a': " + value + "}")
    assert seen is None or isinstance(seen.fields, dict)
    assert time.perf_counter() - start < 2
