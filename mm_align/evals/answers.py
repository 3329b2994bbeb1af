"""Response files of the usual shapes, read as rows: JSON, JSON lines, CSV, TSV, xlsx; LLaVA answers, lmms-eval logs, VLMEvalKit sheets."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

TEXTS = ("answer", "text", "response", "prediction", "model_answer", "caption", "output", "pred", "filtered_resps", "resps")
KEYS = ("question_id", "id", "index", "image_id", "doc_id", "sample_id")


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of a response file. row: its place, from 1. key: what the file calls its id, None for none. text: what was answered, as
    the file holds it (a benchmark says what it makes of None or a number). fields: the row as it was read."""

    row: int
    key: Any
    text: Any
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Answers(NamedTuple):
    """Rows in the order of the file, and in words what the file was understood to be."""

    rows: tuple[Answer, ...]
    understood: str

    @property
    def texts(self) -> list[Any]:
        return [row.text for row in self.rows]


def read_answers(path: str | Path, *, texts: Sequence[str] = TEXTS, keys: Sequence[str] = KEYS) -> Answers:
    """The rows of a response file; answers are in the first field of `texts` that the first row has, ids in the first of `keys`.

    Raises ValueError that names the file and row for an empty file, one that cannot be read, rows of another kind, and no such
    field; OSError for no file.
    """
    path = Path(path)
    shape, rows = read_rows(path)
    return as_answers(rows, f"{path.name}: {shape}", texts=texts, keys=keys)


def as_answers(
    rows: Sequence[Mapping[str, Any]], what: str = "rows", *, texts: Sequence[str] = TEXTS, keys: Sequence[str] = KEYS
) -> Answers:
    """Rows that are in memory already, as `read_answers` reads them from a file."""
    if not rows:
        raise ValueError(f"{what} holds no answers")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise ValueError(f"{what}, row {number}: expected an object with fields, found {_shown(row)}")
    first = _of_harness(rows[0])
    text = next((name for name in texts if name in first), None)
    if text is None:
        expected = f"expected one of the fields {', '.join(texts[:6])}"
        raise ValueError(f"{what}, row 1: no answer in it; {expected}, found {', '.join(map(str, first))}")
    key = next((name for name in keys if name in first), None)
    told = f"{what}, {len(rows)} rows; answers in `{text}`, " + (f"ids in `{key}`" if key else "no ids")
    return Answers(tuple(_answer(number, _of_harness(row), text, key) for number, row in enumerate(rows, 1)), told)


def read_rows(path: Path) -> tuple[str, list[Any]]:
    """What a file of rows is, in words, and its rows. Raises ValueError that names the file and line, OSError."""
    if path.suffix.lower() == ".xlsx":
        return "an Excel sheet", list(_sheet(path))
    text = read_text(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        return f"{path.suffix[1:].upper()} table", list(_table(path, text, delimiter))
    if not text.strip():
        raise ValueError(f"{path} is empty: expected a response a row")
    try:
        return _whole(json.loads(text))
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"{path} is no JSON: {error}") from error
    return "JSON lines", list(_lines(path, text))


def read_text(path: Path) -> str:
    """A UTF-8 file (a byte order mark is skipped). ValueError where it is none."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}; if it is a table, its name should end in .xlsx") from error


def _whole(content: Any) -> tuple[str, list[Any]]:
    """A JSON document: a list of rows, rows under one key (lmms-eval's `logs`), one row, or {id: answer}."""
    if isinstance(content, list):
        return "a JSON list", content
    if not isinstance(content, dict):
        raise ValueError(f"expected rows, found {_shown(content)}")
    for name in ("logs", "responses", "answers", "results", "data"):
        if isinstance(content.get(name), list):
            return f"a JSON object with rows in `{name}`", content[name]
    if any(name in content for name in (*TEXTS, *KEYS)):
        return "one JSON object", [content]
    if all(isinstance(value, str) for value in content.values()):
        return "a JSON object of answers by id", [{"id": key, "answer": value} for key, value in content.items()]
    return "one JSON object", [content]


def _lines(path: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}: no JSON ({error}): {_shown(line)}") from error


def _table(path: Path, text: str, delimiter: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 30)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in rows:
        if None in row:
            raise ValueError(f"{path}, line {rows.line_num}: more cells than the {len(rows.fieldnames or ())} columns of the head")
        yield row


def _sheet(path: Path) -> Iterator[dict[str, Any]]:
    """The first sheet of a workbook, as pandas reads it: empty cells are None."""
    try:
        import openpyxl  # type: ignore[import-untyped]
    except ImportError as error:
        cure = "install it (pip install 'mm-align[xlsx]') or save the sheet as .tsv"
        raise ValueError(f"{path}: reading .xlsx needs openpyxl; {cure}") from error
    cells = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
    names = [str(name) for name in next(cells, ())]
    for row in cells:
        if any(cell is not None for cell in row):
            yield dict(zip(names, row, strict=False))


def _of_harness(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of an lmms-eval log with the fields of its `doc` beside it; any other row as it is."""
    doc = row.get("doc")
    return {**doc, **row} if isinstance(doc, Mapping) else row


def _answer(number: int, row: Mapping[str, Any], text: str, key: str | None) -> Answer:
    value = row.get(text)
    while text.endswith("resps") and isinstance(value, list) and value:  # lmms-eval keeps lists of lists
        value = value[0]
    return Answer(number, row.get(key) if key else None, value, row)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
