"""Response files as other programs write them: what is taken for the answer, the id, the order; errors that name the row."""

import json

import pytest

from mm_align.cli import main
from mm_align.evals.answers import as_answers, read_answers

ASKED = "Is there a dog in the image?\nAnswer the question using a single word or phrase."


def lines(folder, name, rows):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_llava_answers(tmp_path):
    """LLaVA's model_vqa_loader.py."""
    rows = [
        {"question_id": i, "prompt": ASKED, "text": said, "answer_id": "xk7", "model_id": "llava-v1.5-7b", "metadata": {}}
        for i, said in enumerate(("Yes", "no"), 7)
    ]
    found = read_answers(lines(tmp_path, "llava.jsonl", rows))
    assert (found.texts, [row.key for row in found.rows]) == (["Yes", "no"], [7, 8])
    assert found.understood == "llava.jsonl: JSON lines, LLaVA's answers, 2 rows; answers in `text`, ids in `question_id`"


def harness_row(doc_id, said, **more):
    """As lmms-eval writes a row of its samples since v0.3, from POPE; `resps` is left out where it says the same."""
    score = {"question_id": str(100 + doc_id), "score": 0.0, "prediction": said.lower().strip(), "ground_truth": "no"}
    row = {"doc_id": doc_id, "target": "no", "filtered_resps": said, "token_counts": [None], "doc_hash": "74", "pope_accuracy": score}
    return row | {"pope_f1_score": score, "input": ASKED} | more


def test_the_samples_of_lmms_eval_in_the_order_of_their_documents(tmp_path):
    """Two processes write in turn. The answer is the response as it was filtered, the id that of the metric's entry."""
    rows = [harness_row(0, "Yes"), harness_row(2, "No."), harness_row(1, " no", resps=[" no</s>"])]
    found = read_answers(lines(tmp_path, "20260801_samples_pope.jsonl", rows))
    assert (found.texts, [row.key for row in found.rows]) == (["Yes", " no", "No."], ["100", "101", "102"])
    assert [row.row for row in found.rows] == [1, 3, 2]
    assert "lmms-eval's log, 3 rows; answers in `filtered_resps`, ids in `question_id`, put in the order of `doc_id`" in found.understood


def test_the_older_logs_of_lmms_eval_with_documents(tmp_path):
    """One JSON object with `logs`; the truth in `doc.answer` is not the answer."""
    doc = {"question_id": "17", "question": "Is there a dog in the image?", "answer": "no", "category": "popular"}
    rows = [{"doc_id": i, "doc": doc, "target": "no", "arguments": [], "resps": [["Yes"]], "filtered_resps": ["Yes"]} for i in range(2)]
    path = tmp_path / "pope.json"
    path.write_text(json.dumps({"args": {}, "model_configs": {}, "logs": rows, "time": "0801"}))
    found = read_answers(path)
    assert (found.texts, found.rows[0].key, found.rows[0].fields["category"]) == (["Yes", "Yes"], "17", "popular")


SHEET = [
    {"index": 0, "question": "Is there a dog?", "answer": "No", "category": "adversarial", "prediction": "Yes"},
    {"index": 1, "question": "Is there a dog?", "answer": "No", "category": "adversarial", "prediction": ""},
    {"index": 2, "question": "Is there a dog?", "answer": "No", "category": "popular", "prediction": 'no,\n"not" one'},
]


def written(path):
    """The sheet of VLMEvalKit, whose `answer` is the truth, in its three formats."""
    if path.suffix == ".xlsx":
        book = pytest.importorskip("openpyxl").Workbook()
        for row in [list(SHEET[0]), *(list(row.values()) for row in SHEET)]:
            book.active.append([cell or None for cell in row] if row[0] else row)
        book.save(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(SHEET, indent=4))
    else:
        sign = "\t" if path.suffix == ".tsv" else ","
        quoted = ([f'"{str(cell).replace(chr(34), chr(34) * 2)}"' for cell in row] for row in [SHEET[0], *map(dict.values, SHEET)])
        path.write_text("\n".join(sign.join(row) for row in quoted) + "\n")
    return path


@pytest.mark.parametrize("suffix", ["xlsx", "tsv", "csv", "json"])
def test_the_sheets_of_vlmevalkit(tmp_path, suffix):
    found = read_answers(written(tmp_path / f"model_POPE.{suffix}"))
    assert found.texts == ["Yes", "", 'no,\n"not" one']
    assert [str(row.key) for row in found.rows] == ["0", "1", "2"]
    assert "VLMEvalKit's sheet, 3 rows; answers in `prediction`, ids in `index`" in found.understood


@pytest.mark.parametrize(
    ("rows", "texts", "keys"),
    [
        ([{"question": "Is it?", "answer": "yes"}], ["yes"], [None]),  # POPE
        ([{"question_id": 1, "text": "Is it?", "label": "no", "answer": "yes"}], ["yes"], [1]),  # POPE's questions with answers
        ([{"image_id": 42, "caption": "A dog."}], ["A dog."], [42]),  # COCO captions
        ([{"id": 1, "response": "Yes"}], ["Yes"], [1]),  # AMBER
        ([{"question": "?", "gt_answer": "red", "model_answer": "blue"}], ["blue"], [None]),  # MMHal
        ([{"sample_id": "random/0", "id": "random/0:0", "text": "no"}], ["no"], ["random/0"]),  # responses of `mmalign eval`
    ],
)
def test_which_field_is_the_answer(rows, texts, keys):
    found = as_answers(rows)
    assert (found.texts, [row.key for row in found.rows]) == (texts, keys)


@pytest.mark.parametrize(
    ("content", "shape"),
    [
        ({"1": "yes", "2": "no"}, "a JSON object of answers by id"),
        ({"1": {"pred": "yes"}, "2": {"pred": "no"}}, "a JSON object of rows by id"),
        ({"results": [{"id": "1", "answer": "yes"}, {"id": "2", "answer": "no"}]}, "a JSON object with rows in `results`"),
    ],
)
def test_objects_of_answers(tmp_path, content, shape):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    found = read_answers(path)
    assert (found.texts, [row.key for row in found.rows]) == (["yes", "no"], ["1", "2"])
    assert shape in found.understood


def test_score_says_what_it_understood_and_only_the_error_where_there_is_no_score(tmp_path, capsys):
    good = lines(tmp_path, "good.jsonl", [{"answer": "yes", "category": "random"}, {"answer": "no", "category": "random"}])
    assert main(["score", "pope", "--responses", str(good), "--json"]) == 0
    told = capsys.readouterr()
    assert told.err == "read: good.jsonl: JSON lines, 2 rows; answers in `answer`, no ids\n"
    assert json.loads(told.out)["n"] == 2
    bad = lines(tmp_path, "bad.jsonl", [{"answer": None, "category": "random"}])
    assert main(["score", "pope", "--responses", str(bad)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_windows_files_and_long_answers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfid,answer\r\n1,yes\r\n2," + b"x" * 200_000 + b"\r\n")
    assert [len(text) for text in read_answers(path).texts] == [3, 200_000]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b"", "a.jsonl is empty"),
        ("a.json", b"[]", "a.json: a JSON list holds no answers"),
        ("a.csv", b"id,answer\n", "holds no answers"),
        ("a.jsonl", b'{"answer": "yes"}\n{"answer": \n', r"a.jsonl, line 2: no JSON .*\{\"answer\": "),
        ("a.json", b'[{"answer": "yes"}, 7]', "row 2: expected an object with fields, found 7"),
        ("a.json", b'[{"answer": "yes"', "a.json is no JSON"),
        ("a.jsonl", b'{"reply": "yes", "id": 3}', "row 1: no answer in it; expected one of the fields .*, found reply, id"),
        ("a.csv", b"id,answer\n1,yes,please\n", "line 2: more cells than the 2 columns"),
        ("a.xlsx", b"id,answer\n1,yes\n", "is no Excel file"),
        ("a.pkl", b"\x80\x04", "files of this kind are not read; save the rows as JSON lines"),
        ("a.jsonl", b"PK\x03\x04\xff\xfe", "is no UTF-8 text"),
    ],
)
def test_what_holds_no_answers_is_told(tmp_path, name, content, told):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_answers(tmp_path / name)
