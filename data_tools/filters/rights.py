"""What a row says about the right to use it: opt-outs of its owner and its licence, as far as a field of the row tells."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ..records import Sample
from .base import Need, Signals, Value, narrowed

# Fields whose text lists directives to robots; img2dataset refuses a download by the first two of these directives, and by
# "noindex" and "noimageindex" on request. Those two speak of search engines, not of training, and count for nothing here.
DIRECTIVES = ("x_robots_tag", "x_robots", "robots", "robots_tag", "robots_directives")
NO_AI = frozenset({"noai", "noimageai", "noml", "nottraining", "notraining"})
# Fields that say yes or no; "tdm_reservation" is that of the W3C's TDM Reservation Protocol.
REFUSALS = ("noai", "noimageai", "opt_out", "optout", "opted_out", "do_not_train", "no_train", "tdm_reservation", "tdm_reserved")
LICENSES = ("license", "licence", "license_name", "license_id", "license_url", "licence_url", "rights")
FIELDS = frozenset((*DIRECTIVES, *REFUSALS, *LICENSES))
YES = frozenset({"1", "1.0", "true", "yes", "y", "t"})
_CC = re.compile(
    r"(?:creativecommons\.org/(licenses|publicdomain)/([a-z+-]+)(?:/(\d\.\d))?|\b(?:cc[- ])(by(?:[- ](?:nc|nd|sa))*)(?:[- ]v?(\d\.\d))?)"
)


class RightsSignals:
    """`rights.opt_out`: whether a field of the row refuses its use for training, None where no field speaks of it; `rights.license`: the
    licence in one spelling ("CC BY 4.0" and its address are "cc-by-4.0"), None where there is none; `rights.licensed`: whether that is one
    of `allowed`, None where nobody says what is allowed. Field names are read in any case, with - and : as _, in `DIRECTIVES`, `REFUSALS`
    and `LICENSES`, at the top of the row or in its field "json".
    """

    kinds: dict[str, type] = {"rights.opt_out": bool, "rights.license": str, "rights.licensed": bool}
    needs: frozenset[Need] = frozenset()

    def __init__(self, names: Sequence[str] = (), allowed: Sequence[str] = ()) -> None:
        self.names = narrowed(self.kinds, names)
        self.allowed = frozenset(spelling(one) for one in allowed)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        return [self._of(_fields(sample.meta)) for sample in samples]

    def _of(self, fields: Mapping[str, Any]) -> Signals:
        if not fields and not self.allowed:
            return dict.fromkeys(self.names)
        named = next((str(fields[key]) for key in LICENSES if isinstance(fields.get(key), str) and fields[key].strip()), None)
        told: dict[str, Value] = {"rights.opt_out": opted_out(fields), "rights.license": None if named is None else spelling(named)}
        told["rights.licensed"] = told["rights.license"] in self.allowed if self.allowed else None
        return {name: told[name] for name in self.names}


def refuses(meta: Mapping[str, Any]) -> bool:
    """Whether a field of a row of these fields refuses its use for training."""
    return bool(opted_out(_fields(meta)))


def opted_out(fields: Mapping[str, Any]) -> bool | None:
    """Whether one of the fields refuses training; None where none of them is there."""
    directives = [str(fields[key]) for key in DIRECTIVES if fields.get(key)]
    answers = [fields[key] for key in REFUSALS if fields.get(key) is not None]
    if not directives and not answers:
        return None
    said = {word for text in directives for word in re.split(r"[^a-z-]+", text.lower())}
    return bool(said & NO_AI) or any(str(answer).strip().lower() in YES for answer in answers)


def spelling(license: str) -> str:
    """A licence's name in one spelling: Creative Commons by their short names, all others in lower case with - between words."""
    flat = license.strip().lower()
    found = _CC.search(flat)
    if found and found[1] == "publicdomain":
        return "cc0-1.0" if found[2] == "zero" else "pdm-1.0"
    if found:
        return "-".join(filter(None, ("cc", re.sub(r"\s", "-", found[2] or found[4]), found[3] or found[5])))
    return "cc0-1.0" if re.fullmatch(r"cc[- ]?0(?:[- ]1\.0)?", flat) else re.sub(r"[\s_]+", "-", flat)


def _fields(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that speak of rights, under their plain names."""
    inner = meta.get("json")
    both = {**inner, **meta} if isinstance(inner, Mapping) else meta
    return {name: value for key, value in both.items() if (name := _name(str(key)))}


@lru_cache(maxsize=4096)
def _name(key: str) -> str | None:
    plain = key.lower().replace("-", "_").replace(":", "_")
    return plain if plain in FIELDS else None
