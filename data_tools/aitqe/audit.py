"""What an output row says about its caption: the nested `aitqe` field, with fixed keys and types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..records import Verdict
from .parser import RESCORED, SCORE_KEYS

if TYPE_CHECKING:
    import pyarrow as pa

_P_DECIMALS = 4
_SCORES = (*SCORE_KEYS, RESCORED)
_PROVENANCE = ("model", "revision", "policy", "prompt_sha")


def audit_fields(verdict: Verdict, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The `aitqe` field of one row. Every key is always there, in one order; None stands for unknown.

    provenance: "model" and "revision" (from `Backend.describe()`), "policy" and "prompt_sha" (from `AitqeStep.describe()`).
    """
    return {
        "action": verdict.action,
        "scores": {key: _float(verdict.scores.get(key)) for key in _SCORES},
        "explanations": {key: verdict.explanations.get(key) for key in SCORE_KEYS},
        "p_rewrite": None if verdict.p_rewrite is None else round(float(verdict.p_rewrite), _P_DECIMALS),
        "parse_status": verdict.parse_status,
        "reason": verdict.reason,
        "flags": list(verdict.flags),
    } | {key: None if provenance.get(key) is None else str(provenance[key]) for key in _PROVENANCE}


def audit_arrow_type() -> pa.DataType:
    """The Arrow struct of `audit_fields`, for writers that need a schema before the first row."""
    import pyarrow as pa

    text = pa.string()
    return pa.struct(
        [
            ("action", text),
            ("scores", pa.struct([(key, pa.float64()) for key in _SCORES])),
            ("explanations", pa.struct([(key, text) for key in SCORE_KEYS])),
            ("p_rewrite", pa.float64()),
            ("parse_status", text),
            ("reason", text),
            ("flags", pa.list_(text)),
            *((key, text) for key in _PROVENANCE),
        ]
    )


def _float(score: float | None) -> float | None:
    return None if score is None else float(score)
