"""Text in pictures as signals, by a reader that is made up."""

from types import SimpleNamespace

import PIL.Image
import pytest

from data_tools.filters.ocr import OcrFilter
from data_tools.records import Image, Sample


def line(text, left, top, right, bottom):
    return SimpleNamespace(text=text, corners=[(left, top), (right, top), (right, bottom), (left, bottom)])


def samples(*pictures):
    return [Sample(f"s{i}", images=() if p is None else (Image(pixels=p),)) for i, p in enumerate(pictures)]


def test_lines_words_and_the_area_that_they_cover_once():
    """Two lines that overlap by half: three quarters of the width, the upper half: 0.375."""
    asked = []

    def read(pictures):
        asked.extend(pictures)
        return [[line("a b", 0, 0, 0.5, 0.5), line("c", 0.25, 0, 0.75, 0.5)], []]

    pictures = [PIL.Image.new("RGB", (40, 20)), PIL.Image.new("RGB", (10, 10))]
    told = OcrFilter(read)(samples(pictures[0], None, pictures[1]))
    assert asked == pictures
    assert (told[0]["ocr.lines"], told[0]["ocr.words"]) == (2, 3)
    assert told[0]["ocr.area"] == pytest.approx(0.375, abs=0.005)
    assert told[1] == dict.fromkeys(("ocr.lines", "ocr.words", "ocr.area"))
    assert told[2] == {"ocr.lines": 0, "ocr.words": 0, "ocr.area": 0.0}


def test_only_what_is_wanted_is_told():
    assert OcrFilter(lambda pictures: [[]], ["ocr.area"])(samples(PIL.Image.new("RGB", (9, 9)))) == [{"ocr.area": 0.0}]
    with pytest.raises(ValueError, match=r"did you mean 'ocr.words'"):
        OcrFilter(lambda pictures: [[]], ["ocr.word"])
