"""Opt-outs and licences as rows state them."""

import pytest

from data_tools.filters.rights import RightsSignals, spelling
from data_tools.records import Sample


def told(meta, **options):
    return RightsSignals(**options)([Sample("r", meta=meta)])[0]


@pytest.mark.parametrize(
    ("meta", "out"),
    [
        ({}, None),
        ({"caption": "noai"}, None),
        ({"X-Robots-Tag": "noindex, noai"}, True),
        ({"x_robots_tag": "googlebot: noimageai"}, True),
        ({"robots": "noindex, nofollow"}, False),
        ({"noai": True}, True),
        ({"noai": "false"}, False),
        ({"tdm-reservation": 1}, True),
        ({"tdm-reservation": 0}, False),
        ({"json": {"opt_out": "yes"}}, True),
    ],
)
def test_opt_outs(meta, out):
    assert told(meta)["rights.opt_out"] is out


@pytest.mark.parametrize(
    ("license", "one"),
    [
        ("CC BY 4.0", "cc-by-4.0"),
        ("cc-by-nc-sa-2.0", "cc-by-nc-sa-2.0"),
        ("https://creativecommons.org/licenses/by-sa/3.0/deed.de", "cc-by-sa-3.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "cc0-1.0"),
        ("CC0", "cc0-1.0"),
        ("MIT License", "mit-license"),
    ],
)
def test_a_licence_has_one_spelling(license, one):
    assert spelling(license) == one
    assert told({"license": license})["rights.license"] == one


def test_a_list_of_licences_allows_those_and_no_row_without_one():
    allowed = ["CC BY 4.0", "cc0"]
    rows = [
        {"license": "cc-by-4.0"},
        {"licence_url": "https://creativecommons.org/publicdomain/zero/1.0/"},
        {"license": "cc-by-nc-4.0"},
        {},
    ]
    assert [told(row, allowed=allowed)["rights.licensed"] for row in rows] == [True, True, False, False]
    assert told({"license": "cc-by-4.0"})["rights.licensed"] is None
