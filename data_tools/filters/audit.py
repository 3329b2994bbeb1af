"""What an output row says about its signals: a field of its own, or a part of the model's audit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..records import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

SIGNALS = "signals"

Audit = Callable[[Verdict], Mapping[str, Any]]


def audit_fields(verdict: Verdict) -> dict[str, Any]:
    """The field of a row that only filters saw: what became of it, why, and its signals."""
    return {"action": verdict.action, "reason": verdict.reason, "flags": list(verdict.flags), SIGNALS: dict(verdict.signals)}


def audit_type(kinds: Mapping[str, type]) -> pa.DataType:
    """The Arrow struct of `audit_fields`."""
    import pyarrow as pa

    fields = [("action", pa.string()), ("reason", pa.string()), ("flags", pa.list_(pa.string())), (SIGNALS, signals_type(kinds))]
    return pa.struct(fields)


def signals_type(kinds: Mapping[str, type]) -> pa.DataType:
    """The Arrow struct of the signals of a row."""
    import pyarrow as pa

    columns = {float: pa.float64(), int: pa.int64(), str: pa.string(), bool: pa.bool_()}
    return pa.struct([(name, columns[kind]) for name, kind in kinds.items()])


def with_signals(audit: Audit, audit_type: Callable[[], Any], kinds: Mapping[str, type]) -> dict[str, Any]:
    """A model's audit and its Arrow type, with the signals as one more field."""
    return {
        "audit": lambda verdict: {**audit(verdict), SIGNALS: dict(verdict.signals)},
        "audit_type": lambda: _one_more(audit_type(), signals_type(kinds)),
    }


def _one_more(struct: pa.StructType, signals: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    return pa.struct([*(struct.field(i) for i in range(struct.num_fields)), (SIGNALS, signals)])
