"""Personal data that can be told by its form: mail addresses, phone numbers, card numbers, IP addresses, IBANs, US social security numbers.

Names and street addresses have no such form and are not found. The expressions and what they leave out are this toolkit's choice.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import NamedTuple

KINDS = ("mail", "phone", "card", "ip", "iban", "ssn")
LOOK = 20_000  # characters of a text that are looked at

_MAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}(?![\w@])")
_CARD = re.compile(r"(?<![\w.,-])\d(?:[ -]?\d){12,18}(?![\w-]|[.,]\d)")
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")
_IBAN = re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")
_IPV4 = re.compile(r"(?<![\w.-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")
_PHONE = re.compile(
    r"(?<![\w.+(/-])(?:"
    r"\+\d(?:[ ().\-/]{0,2}\d){7,14}"  # with its country: +49 (0)30 123456
    r"|\(\d{2,5}\)[ \-./]?\d(?:[ \-./]?\d){4,9}"  # with its area in brackets: (030) 123 456
    r"|(?:1[ \-.])?\d{3}[ \-.]\d{3}[ \-.]\d{4}"  # as in North America: 555-123-4567
    r")(?![\w-]|[.,/]\d)"
)
_CALLED = re.compile(
    r"\b(?:tel|phone|telephone|call|mobile|cell|fax|whatsapp|telefon|handy)\b[\s.:#]{1,3}(\d(?:[ \-./]?\d){5,13})(?!\w)", re.IGNORECASE
)


class Found(NamedTuple):
    """`kind` of KINDS, and what was found in a form in which two spellings of the same are equal."""

    kind: str
    value: str


def find_pii(text: str) -> list[Found]:
    """All that is found, each place once: a card number is no phone number too."""
    text = text[:LOOK]
    found: list[Found] = []
    for kind, expression, sound in _SEARCHES:
        if kind != "mail" and not _DIGIT.search(text):
            return found
        for match in expression.finditer(text):
            value = sound(match[match.lastindex or 0])
            if value is not None:
                found.append(Found(kind, value))
                text = text[: match.start()] + " " * (match.end() - match.start()) + text[match.end() :]
    return found


def added_pii(raw: str, rewrite: str) -> Iterator[Found]:
    """What a rewrite holds and the text that it replaces does not."""
    before = set(find_pii(raw))
    return (one for one in find_pii(rewrite) if one not in before)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _card(text: str) -> str | None:
    """Of a length and start that cards have, with Luhn's check digit right."""
    digits = _digits(text)
    if digits[0] not in "23456" or len(set(digits)) == 1:
        return None
    doubled = (int(d) * (2 if i % 2 else 1) for i, d in enumerate(reversed(digits)))
    return digits if sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0 else None


def _iban(text: str) -> str | None:
    """With its check digits right (ISO 7064 mod 97-10)."""
    flat = text.replace(" ", "")
    turned = flat[4:] + flat[:4]
    return flat if 15 <= len(flat) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1 else None


def _ip(text: str) -> str | None:
    """An address of the public net; private and documentation ranges tell of nobody."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return str(address) if address.is_global else None


def _phone(text: str) -> str | None:
    digits = _digits(text)
    return digits if 7 <= len(digits) <= 15 and len(set(digits)) > 1 else None


_DIGIT = re.compile(r"\d")
_SEARCHES = (
    ("mail", _MAIL, str.lower),
    ("iban", _IBAN, _iban),
    ("card", _CARD, _card),
    ("ssn", _SSN, _digits),
    ("ip", _IPV4, _ip),
    ("ip", _IPV6, _ip),
    ("phone", _PHONE, _phone),
    ("phone", _CALLED, _phone),
)
