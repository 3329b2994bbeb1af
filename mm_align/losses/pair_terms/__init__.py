"""The table of pair terms: the `type` key of a preference loss -> what it is made of. One file a term."""

from . import apo_down, apo_zero, bco_pair, exo_pair, flex, hinge, ipo, kto_pair, nca_pair, orpo, robust, sigmoid, simpo
from .base import PairTerm

PAIR_TERMS: dict[str, PairTerm] = {
    "sigmoid": sigmoid.TERM,
    "ipo": ipo.TERM,
    "hinge": hinge.TERM,
    "robust": robust.TERM,
    "nca_pair": nca_pair.TERM,
    "bco_pair": bco_pair.TERM,
    "apo_zero": apo_zero.TERM,
    "apo_down": apo_down.TERM,
    "simpo": simpo.TERM,
    "orpo": orpo.TERM,
    "kto_pair": kto_pair.TERM,
    "exo_pair": exo_pair.TERM,
    "flex": flex.TERM,
}

__all__ = ["PAIR_TERMS", "PairTerm"]
