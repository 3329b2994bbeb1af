"""Rows that repeat to the letter, by hand."""

from hashlib import sha256

import PIL.Image

from data_tools.filters import FILTERS
from data_tools.filters.choice import chosen
from data_tools.filters.exact import ExactSignals
from data_tools.records import Image, Sample


def row(data, caption):
    return Sample("r", (), (Image(data=data),) if data else (), caption)


def compared(one, rows):
    return {name: column.tolist() for name, column in one.compare(one.pack(one(rows))).items()}


def test_pictures_captions_and_pairs_by_hand():
    """Rows: 0 A x, 1 B x, 2 A y, 3 A "X ", 4 no picture, y, 5 no caption, B. Row 3 repeats row 0 in both: case and space say nothing."""
    rows = [row(b"A", "x"), row(b"B", "x"), row(b"A", "y"), row(b"A", "X "), row(None, "y"), row(b"B", "")]
    told = compared(ExactSignals(), rows)
    assert told["exact.image_repeats"] == [-1, -1, 0, 0, -1, 1]
    assert told["exact.image_copies"] == [3, 2, 3, 3, 0, 2]
    assert told["exact.caption_repeats"] == [-1, 0, -1, 0, 2, -1]
    assert told["exact.caption_copies"] == [3, 3, 2, 3, 2, 0]
    assert told["exact.pair_repeats"] == [-1, -1, -1, 0, -1, -1]


def test_only_what_is_wanted_is_worked_out():
    captions = ExactSignals(("exact.caption_copies",))
    assert captions.needs == {"caption"}
    assert compared(captions, [row(b"A", "x"), row(b"A", "x")]) == {"exact.caption_copies": [2, 2]}
    assert ExactSignals(("exact.image_repeats",)).needs == {"bytes"}
    assert ExactSignals(("exact.pair_repeats",)).needs == {"bytes", "caption"}


def test_the_hash_is_sha256_of_the_encoded_bytes():
    assert ExactSignals()([row(b"abc", "x")])[0]["exact.sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_pixels_are_hashed_with_their_size_and_mode_where_that_is_asked_for():
    """The same 8 bytes as 2 x 4 and as 4 x 2 grey points are two pictures; of unknown pixels nothing repeats."""
    pictures = [PIL.Image.frombytes("L", size, bytes(range(8))) for size in ((2, 4), (4, 2), (2, 4))]
    rows = [Sample("r", (), (Image(pixels=picture),)) for picture in pictures] + [row(b"A", "x")] * 2
    one = ExactSignals(("exact.pixels", "exact.pixels_repeats", "exact.pixels_copies"))
    assert one.needs == {"pixels"}
    told = one(rows)
    assert told[0] == {"exact.pixels": sha256(b"L 2 4\n" + bytes(range(8))).hexdigest()}
    assert told[3] == {"exact.pixels": None}
    assert compared(one, rows) == {"exact.pixels_repeats": [-1, -1, 0, -1, -1], "exact.pixels_copies": [2, 1, 2, 0, 0]}


def test_what_costs_much_is_told_on_request_only():
    assert chosen(["exact"], FILTERS)[0].needs == {"bytes", "caption"}
    (usual,), (all_of_it,) = chosen(["exact"], FILTERS), chosen(["exact", "exact.pixels_repeats"], FILTERS)
    assert all_of_it.across == (*usual.across, "exact.pixels_repeats")
    assert all_of_it.needs == {"bytes", "caption", "pixels"}
    (few,) = chosen(["exact.pixels_copies"], FILTERS)
    assert (few.across, few.hidden) == (("exact.pixels_copies",), {"exact.pixels"})
