"""What is no description, and what only looks like none."""

import time

import pytest

from data_tools.filters.boilerplate import boilerplate
from data_tools.text import words


@pytest.mark.parametrize(
    ("caption", "kind"),
    [
        ("IMG_1234.JPG", "file_name"),
        ("uploads/2019/red-shoes.png?w=300", "file_name"),
        ("dsc00012", "file_name"),
        ("summer-sale-banner-2019", "file_name"),
        ("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "file_name"),
        ("https://example.com/a/b?c", "url"),
        ("www.shop.com - shoes", "url"),
        ("Image", "placeholder"),
        ("photo 3", "placeholder"),
        ("Click to enlarge!", "placeholder"),
        ("Image may contain: 2 people, outdoor", "placeholder"),
        ("buy now cheap shoes", "seo"),
        ("shoes, men, women, running, nike, sale", "seo"),
        ("Mother's Day cards | Etsy | gifts | mugs | decor | home", "seo"),
        ("Wallpaper HD 4K desktop background free download for your computer with a fine view of the sea", "seo"),
    ],
)
def test_boilerplate_and_its_kind(caption, kind):
    assert boilerplate(caption, words(caption)) == kind


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a red dog, a cat, a bird, a tree, a house and a man walk",
        "A man (left) in 2019",
        "Apollo 11",
        "a photo of 3 dogs",
        "t-shirt",
        "a well-known author signs books",
        "Visitors of example.com meet in a large hall with flags on its walls",
        "Eine Katze sitzt auf dem Dach",
        "一只狗在草地上奔跑",
        "A sign that says for sale stands in front of a small white house with a porch",
    ],
)
def test_descriptions_are_none(caption):
    assert boilerplate(caption, words(caption)) is None


@pytest.mark.parametrize("piece", ["a.", "a", "-a", "www.", "a/", "1-", "0"])
def test_long_captions_take_no_long_time(piece):
    caption = piece * 500_000
    started = time.process_time()
    boilerplate(caption, [])
    assert time.process_time() - started < 1
