"""The nested audit field: fixed keys, fixed types, in Arrow as in JSON."""

import json
import subprocess
import sys

import pyarrow as pa

from data_tools.aitqe import SCORE_KEYS, audit_arrow_type, audit_fields
from data_tools.records import Verdict

FULL = Verdict(
    "rewrite", {"overall": 2.0, "text_quality": 3}, {"overall": "poor"}, "new", "new", 0.123456, "ok", "model", flags=("caption_cut",)
)
PROVENANCE = {"model": "tiny", "revision": "abc", "policy": "model", "prompt_sha": "123", "device": "cpu"}


def test_fields_by_hand():
    fields = audit_fields(FULL, PROVENANCE)
    assert fields["p_rewrite"] == 0.1235
    assert list(fields["scores"]) == [*SCORE_KEYS, "overall_after"]
    assert fields["scores"]["overall_after"] is None
    assert fields["scores"]["text_quality"] == 3.0
    assert fields["scores"]["object_detail"] is None
    assert fields["explanations"]["overall"] == "poor"
    assert (fields["action"], fields["reason"], fields["parse_status"], fields["flags"]) == ("rewrite", "model", "ok", ["caption_cut"])
    assert [fields[key] for key in ("model", "revision", "policy", "prompt_sha")] == ["tiny", "abc", "model", "123"]
    assert "device" not in fields


def test_the_score_of_the_rewrite_is_carried():
    fields = audit_fields(Verdict("rewrite", {"overall": 2, "overall_after": 9}), {})
    assert (fields["scores"]["overall"], fields["scores"]["overall_after"]) == (2.0, 9.0)
    assert pa.array([fields], type=audit_arrow_type()).to_pylist() == [fields]


def test_an_empty_verdict_has_the_same_keys_in_the_same_order():
    assert list(audit_fields(Verdict("keep"), {})) == list(audit_fields(FULL, PROVENANCE))
    json.dumps(audit_fields(Verdict("keep"), {}), allow_nan=False)


def test_arrow_type_holds_every_audit():
    rows = [audit_fields(FULL, PROVENANCE), audit_fields(Verdict("keep"), {})]
    column = pa.array(rows, type=audit_arrow_type())
    assert column.to_pylist() == rows
    assert [f.name for f in audit_arrow_type()] == list(rows[0])


def test_the_room_needs_neither_torch_nor_pyarrow_to_import():
    code = "import sys, data_tools.aitqe; print([m for m in ('torch', 'transformers', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
