"""Personal data by its form: what is found, what only looks like it."""

import time

import pytest

from data_tools.text.pii import added_pii, find_pii


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("write to Ann.Lee+x@Example.co.uk today", "mail", "ann.lee+x@example.co.uk"),
        ("call +49 (0)30 123 45 67", "phone", "490301234567"),
        ("(030) 1234567, ask for Ann", "phone", "0301234567"),
        ("reach us at 555-123-4567.", "phone", "5551234567"),
        ("Tel: 0301234567", "phone", "0301234567"),
        ("card 4111 1111 1111 1111 expires soon", "card", "4111111111111111"),
        ("5500-0000-0000-0004", "card", "5500000000000004"),
        ("seen from 8.8.8.8 at night", "ip", "8.8.8.8"),
        ("seen from 2001:4860:4860::8888 at night", "ip", "2001:4860:4860::8888"),
        ("pay to DE89 3704 0044 0532 0130 00", "iban", "DE89370400440532013000"),
        ("SSN 219-09-9999", "ssn", "219099999"),
    ],
)
def test_each_kind_is_found_once_whatever_its_spelling(text, kind, value):
    assert find_pii(text) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a dog on a beach in 2019",
        "1920 x 1080 pixels, 24-70mm f/2.8",
        "from 2019-10-05 to 2020-11-06, 10:30:15",
        "card 4111 1111 1111 1112",  # Luhn's digit is wrong
        "0000 0000 0000 0000",
        "version 1.2.3.4.5 and 300.1.1.1",
        "192.168.0.1 and 127.0.0.1",  # of no public net
        "DE00 3704 0044 0532 0130 00",
        "900-12-3456 and 123-00-4567",
        "ISBN 978-3-16-148410-0",
        "order 1234567890123456789012345",
        "@someone likes this",
        "3.14159265358979",
        "12:30 Uhr; ratio 16:9:4",
    ],
)
def test_what_only_looks_like_it(text):
    assert find_pii(text) == []


def test_several_in_one_text():
    found = find_pii("Ann a@b.org, 555-123-4567 or 555-765-4321; 4111111111111111")
    assert sorted(one.kind for one in found) == ["card", "mail", "phone", "phone"]


def test_what_a_rewrite_adds_and_what_it_only_spells_anew():
    raw = "call 555-123-4567"
    assert list(added_pii(raw, "Ring (555) 123-4567 for details.")) == []
    assert [one.value for one in added_pii(raw, "Ring 555.123.4567 or write to ann@example.org.")] == ["ann@example.org"]


@pytest.mark.parametrize("piece", ["1", "1 ", "1-", "a@", "a.", "+1", ":", "A1B2 ", "1.", "(1)"])
def test_long_texts_take_no_long_time(piece):
    started = time.process_time()
    find_pii(piece * 200_000)
    assert time.process_time() - started < 1
