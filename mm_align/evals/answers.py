"""Response files of the usual shapes, read as rows: JSON, JSON lines, CSV, TSV, xlsx; LLaVA answers, lmms-eval logs, VLMEvalKit sheets."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# Of several the one that is never a question or the truth: VLMEvalKit's `answer` is the truth, POPE's `text` a question.
TEXTS = ("prediction", "pred", "response", "model_answer", "output", "answer", "text", "caption", "ans", "outputs", "generated_text")
KEYS = ("sample_id", "question_id", "id", "index", "image_id", "doc_id")
HARNESS = ("filtered_resps", "resps")  # lmms-eval's answers: they come before all others, as its rows hold the truth too


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

    lmms-eval's logs are put in the order of their documents, which several processes write in turn. Raises ValueError that names the
    file and row for an empty file, one that cannot be read, rows of another kind, and no such field; OSError for no file.
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
    seen = [_of_harness(row) for row in rows]
    text = next((name for name in (*HARNESS, *texts) if name in seen[0]), None)
    if text is None:
        expected = f"expected one of the fields {', '.join(texts[:8])}"
        raise ValueError(f"{what}, row 1: no answer in it; {expected}, found {', '.join(map(str, seen[0]))}")
    key = next((name for name in keys if name in seen[0]), None)
    answers = [_answer(number, row, text, key) for number, row in enumerate(seen, 1)]
    told = f"{what}, {_kind(seen[0], text)}{len(rows)} rows; answers in `{text}`, " + (f"ids in `{key}`" if key else "no ids")
    ordered = _ordered(answers) if text in HARNESS else answers
    return Answers(tuple(ordered), told if ordered == answers else f"{told}, put in the order of `doc_id`")


def read_rows(path: Path) -> tuple[str, list[Any]]:
    """What a file of rows is, in words, and its rows. Raises ValueError that names the file and line, OSError."""
    if path.suffix.lower() in (".pkl", ".pickle", ".parquet", ".xls"):
        raise ValueError(f"{path}: files of this kind are not read; save the rows as JSON lines, JSON, CSV, TSV or xlsx")
    if path.suffix.lower() == ".xlsx":
        return "an Excel sheet", list(_sheet(path))
    text = read_text(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        return f"{path.suffix[1:].upper()} table", list(_table(path, text, delimiter))
    if not text.strip():
        raise ValueError(f"{path} is empty: expected a response a row")
    if path.suffix.lower() == ".jsonl" and text.lstrip().startswith("{"):  # a single line is a row, too
        return "JSON lines", list(_lines(path, text))
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip().startswith("["):
            raise ValueError(f"{path} is no JSON: {error}") from error
        return "JSON lines", list(_lines(path, text))
    return _whole(content, path)


def read_text(path: Path) -> str:
    """A UTF-8 file (a byte order mark is skipped). ValueError where it is none."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no UTF-8 text: {error}; if it is a table, its name should end in .xlsx") from error


def parse_json(content: str | bytes, where: str | Path) -> Any:
    """ValueError that names `where` for what is no JSON, no UTF-8, or nested too deeply."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is no JSON: {error}") from error


def _whole(content: Any, path: Path) -> tuple[str, list[Any]]:
    """A JSON document: a list of rows, rows under one key (lmms-eval's `logs`, COCO's `imgToEval`), one row, or {id: answer}."""
    if isinstance(content, list):
        return "a JSON list", content
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected rows, found {_shown(content)}")
    if isinstance(content.get("imgToEval"), dict):
        return "a JSON object of COCO's caption evaluation", list(content["imgToEval"].values())
    for name in ("logs", "responses", "answers", "results", "data", "sentences"):
        if isinstance(content.get(name), list):
            return f"a JSON object with rows in `{name}`", content[name]
    if any(name in content for name in (*TEXTS, *KEYS)):
        return "one JSON object", [content]
    if content and all(isinstance(value, str) for value in content.values()):
        return "a JSON object of answers by id", [{"id": key, "answer": value} for key, value in content.items()]
    if content and all(isinstance(value, dict) for value in content.values()):
        return "a JSON object of rows by id", [{"id": key, **value} for key, value in content.items()]
    return "one JSON object", [content]


def _lines(path: Path, text: str) -> Iterator[Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: no JSON ({error}): {_shown(line)}") from error


def _table(path: Path, text: str, delimiter: str) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(1 << 30)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    for row in rows:
        if None in row:
            raise ValueError(f"{path}, line {rows.line_num}: more cells than the {len(rows.fieldnames or ())} columns of the head")
        yield row


def _sheet(path: Path) -> Iterator[dict[str, Any]]:
    """The first sheet of a workbook; empty cells are empty texts, as in CSV."""
    try:
        import openpyxl
    except ImportError as error:
        cure = "install it (pip install 'mm-align[xlsx]') or save the sheet as .tsv"
        raise ValueError(f"{path}: reading .xlsx needs openpyxl; {cure}") from error
    try:
        cells = openpyxl.load_workbook(path, read_only=True, data_only=True).worksheets[0].iter_rows(values_only=True)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{path} is no Excel file: {error}") from error
    names = [str(name) for name in next(cells, ())]
    for row in cells:
        if any(cell is not None for cell in row):
            yield dict(zip(names, ("" if cell is None else cell for cell in row), strict=False))


def _of_harness(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of an lmms-eval log with the fields of its `doc` beside it, or of its first metric (which holds the question's id) where
    the log has no docs; any other row as it is."""
    if not any(name in row for name in HARNESS):
        return row
    beside = row.get("doc") or next((value for value in row.values() if isinstance(value, Mapping) and "question_id" in value), {})
    return {**beside, **row} if isinstance(beside, Mapping) else row


def _kind(row: Mapping[str, Any], text: str) -> str:
    """The program that wrote such rows, where that can be told."""
    if text in HARNESS:
        return "lmms-eval's log, "
    if text == "prediction" and "index" in row:
        return "VLMEvalKit's sheet, "
    return "LLaVA's answers, " if text == "text" and "question_id" in row and "model_id" in row else ""


def _ordered(answers: list[Answer]) -> list[Answer]:
    """By document, where every row has a number of one."""
    if not all(isinstance(answer.fields.get("doc_id"), int) for answer in answers):
        return answers
    return sorted(answers, key=lambda answer: int(answer.fields["doc_id"]))


def _answer(number: int, row: Mapping[str, Any], text: str, key: str | None) -> Answer:
    value = row.get(text)
    while text in HARNESS and isinstance(value, list) and value:  # lists of lists: of several answers the first
        value = value[0]
    return Answer(number, row.get(key) if key else None, value, row)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
