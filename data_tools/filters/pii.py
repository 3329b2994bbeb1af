"""How much personal data a caption holds, as far as its form tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..records import Sample
from ..text.pii import KINDS, find_pii
from .base import Need, Signals, narrowed

ANY = "pii.any"


class PiiSignals:
    """Counts in the caption: `pii.mail`, `pii.phone`, `pii.card`, `pii.ip`, `pii.iban`, `pii.ssn`, and `pii.any` of all (see `text.pii`).

    What a model writes instead is seen by the guard `pii` of `data_tools.aitqe.Guards`.
    """

    kinds: dict[str, type] = dict.fromkeys((*(f"pii.{kind}" for kind in KINDS), ANY), int)
    needs: frozenset[Need] = frozenset({"caption"})

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = narrowed(self.kinds, names)

    def __call__(self, samples: Sequence[Sample]) -> list[Signals]:
        return [self._of(sample.caption or "") for sample in samples]

    def _of(self, caption: str) -> Signals:
        found = Counter(f"pii.{one.kind}" for one in find_pii(caption))
        found[ANY] = found.total()
        return {name: found[name] for name in self.names}
