"""Every filter of the table: one mapping a sample, its own names, and no row that raises."""

import numpy as np
import PIL.Image
import pytest

from data_tools.filters import FILTERS, kinds_of
from data_tools.filters.base import Comparing
from data_tools.filters.choice import chosen
from data_tools.records import Image, Sample


def sample(caption="a red square on a white ground", size=(40, 20)):
    return Sample("r0", (), (Image(pixels=PIL.Image.new("RGB", size, "red"), size=size),), caption)


BLOCK = [sample(), Sample("r1"), Sample("r2", caption=""), sample("\ud83d \x00 \u202e", (1, 1)), Sample("r4", images=(Image(),))]


@pytest.fixture(params=FILTERS)
def room(request):
    return request.param


def test_one_mapping_a_sample_with_its_names_and_types(room):
    one = FILTERS[room]()
    told = one(BLOCK)
    assert len(told) == len(BLOCK)
    kinds = one.kinds
    assert all(name.partition(".")[0] == room for name in one.names)
    for row in told:
        assert tuple(row) == one.names
        assert all(value is None or isinstance(value, kinds.get(name, float)) for name, value in row.items())


def test_a_block_tells_what_its_rows_tell_alone(room):
    one = FILTERS[room]()
    assert one(BLOCK) == [one([row])[0] for row in BLOCK]
    assert one([]) == []


def test_a_single_signal_can_be_had_alone(room):
    every = FILTERS[room]()
    for name in kinds_of([every]):
        (one,) = chosen([name], FILTERS)
        assert list(kinds_of([one])) == [name]
        if name in one.names:
            assert [row[name] for row in one(BLOCK)] == [row[name] for row in every(BLOCK)]


def test_a_comparing_filter_tells_every_name_of_every_row(room):
    """Packed row by row or together, and of no row at all."""
    one = FILTERS[room]()
    if not isinstance(one, Comparing):
        return
    told = one(BLOCK)
    packed = one.pack(told)
    assert len(packed) == len(BLOCK)
    assert np.array_equal(packed, np.concatenate([one.pack([row]) for row in told]))
    for rows in (packed, packed[:0]):
        columns = one.compare(rows)
        assert tuple(columns) == one.across
        assert all(column.shape == (len(rows),) for column in columns.values())
        kinds = kinds_of([one])
        for name, column in columns.items():
            assert (name in one.references) == (kinds[name] is str)
            assert name in one.references or isinstance(column[:1].tolist(), list)


@pytest.mark.parametrize(("wanted", "hint"), [("imgae", "'image'"), ("image.widht", "'image.width'"), ("nothing", "rooms are image")])
def test_an_unknown_signal_is_refused_with_the_nearest(wanted, hint):
    with pytest.raises(ValueError, match=hint):
        chosen([wanted], FILTERS)


def test_values_by_hand():
    """A picture of 40 x 20 has aspect 2 and, being of one colour, no entropy; "a red square on a white ground" has 30 characters, 7 words,
    two of them "a", and is English."""
    (row,) = [{**a, **b} for a, b in zip(FILTERS["image"]()([sample()]), FILTERS["text"]()([sample()]), strict=True)]
    assert (row["image.width"], row["image.height"], row["image.aspect"]) == (40, 20, 2.0)
    content = ("image.sharpness", "image.entropy", "image.contrast", "image.constant")
    assert [row[name] for name in content] == [0.0, 0.0, 0.0, 1.0]
    assert (row["text.chars"], row["text.words"], row["text.language"]) == (30, 7, "en")
    assert (row["text.commonest"], row["text.noise"], row["text.capitals"], row["text.boilerplate"]) == (0.2857, 0.0, 0.0, None)
