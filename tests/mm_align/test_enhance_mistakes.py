"""`mmalign enhance-data` on bad input: rows, shards, sources, targets and wishes that cannot be."""

import io
import json
import struct
import tarfile
import zlib

import PIL.Image
import pytest
from scripted_enhance import command, encode, plain_rows, rows_of, square, write_rows

from mm_align.cli import main


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "src", plain_rows())


def bomb():
    """A PNG whose header says 30,000 x 30,000."""
    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))  # noqa: E731
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def exif_turned():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    return encode(square(size=(30, 10)), "JPEG", exif=exif)


FILES = {
    "cmyk.jpg": lambda: encode(square((9, 9, 9, 9), "CMYK"), "JPEG"),
    "deep.png": lambda: encode(PIL.Image.new("I;16", (8, 8), 40_000)),
    "palette.png": lambda: encode(square().convert("P")),
    "moving.gif": lambda: encode(square(), "GIF", save_all=True, append_images=[square("blue")]),
    "turned.jpg": exif_turned,
    "dot.png": lambda: encode(square(size=(1, 1))),
    "cut.jpg": lambda: encode(square(size=(300, 300)), "JPEG")[:900],
    "zero.png": lambda: b"",
    "bomb.png": bomb,
    "text.png": lambda: b"this is no picture",
}
BROKEN = {"cut.jpg": "image_truncated", "zero.png": "image_empty", "bomb.png": "image_bomb", "text.png": "image_unreadable"}


def test_bad_rows_go_to_quarantine_and_never_stop_the_run(quality_model, tmp_path, capsys):
    folder = write_rows(tmp_path / "src", [])
    lines, reasons = [], []

    def row(value, reason=None):
        lines.append(value if isinstance(value, bytes) else json.dumps(value).encode())
        reasons.append(reason)

    for name, make in FILES.items():
        (folder / name).write_bytes(make())
        row({"id": name, "image": name, "caption": f"a {name}"}, BROKEN.get(name))
    row(b'{"id": "b1", "caption": ', "bad_json")
    row(b'{"id": "b2", "image": "x.png", "caption": "caf\xe9"}', "not_utf8")
    row(b"[1, 2]", "not_an_object")
    row({"id": "b4", "image": "x.png"}, "missing_caption")
    row({"id": "b5", "caption": "no picture named"}, "missing_image")
    row({"id": "b6", "image": "x.png", "caption": 7}, "caption_type")
    row({"id": "b7", "image": 12, "caption": "c"}, "image_type")
    row({"id": "b8", "image": "nowhere.png", "caption": "c"}, "image_missing")
    row({"id": "b9", "image": "http://192.0.2.1/a.png", "caption": "c"}, "image_missing")
    row({"id": "ok1", "image": "x.png", "caption": "word " * 200_000})
    row({"id": "ok2", "image": "x.png", "caption": "bell \a tab \t nul \0 <script>alert(1)</script>"})
    row({"id": "ok2", "image": "x.png", "caption": "the same id again"})
    row({"id": "ok3", "image": "x.png", "caption": None})
    row({"id": "ok4", "image": "x.png", "caption": "late", "aitqe": {}}, "field_collision")
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines))

    assert command(folder, tmp_path / "out") == 0
    gone = rows_of(tmp_path / "out" / "quarantine" / "rows.jsonl")
    assert {g["source"]["row"]: g["reason"] for g in gone} == {i: r for i, r in enumerate(reasons) if r}
    rows = rows_of(tmp_path / "out" / "rows.jsonl")
    assert len(rows) + len(gone) == len(lines)
    assert [r["id"] for r in rows] == [json.loads(line)["id"] for line, reason in zip(lines, reasons, strict=True) if not reason]
    assert len(next(r for r in rows if r["id"] == "ok1")["caption"]) == 1_000_000
    said = capsys.readouterr().out
    assert f"{len(lines)} rows in = " in said
    assert "1 rows have an id that came before: rows row 21: id 'ok2'" in said
    assert "<script>alert" not in (tmp_path / "out" / "report.html").read_text()


def test_a_tar_that_ends_in_the_middle(quality_model, tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key in ("a", "../../outside", "c", "d"):
            for end, data in (("png", encode(square())), ("txt", f"caption of {key}".encode())):
                info = tarfile.TarInfo(f"{key}.{end}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "0.tar").write_bytes(buffer.getvalue()[: 6 * 1024 + 512 + 20])
    assert command(tmp_path / "src", tmp_path / "work" / "out") == 0
    report = json.loads((tmp_path / "work" / "out" / "report.json").read_text())
    assert report["identity"]["holds"]
    assert report["counts"]["output"] >= 2
    assert report["counts"]["quarantined"] >= 1
    assert not list(tmp_path.glob("outside*"))


def test_sources_that_cannot_be_read_are_bad_input(quality_model, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere"):
        assert command(tmp_path / source, tmp_path / "out") == 2
        assert source in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_targets_that_cannot_be_used_are_bad_input(quality_model, source, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rows.jsonl").write_text("precious")
    for target, word in (
        ("file/out", "cannot write"),
        ("mine", "no mmalign run made"),
        ("src", "inside each other"),
        ("src/out", "inside"),
    ):
        assert command(source, tmp_path / target) == 2
        assert word in capsys.readouterr().err
        assert command(source, tmp_path / target, "--overwrite") == 2
    assert (tmp_path / "mine" / "rows.jsonl").read_text() == "precious"


def test_the_output_of_a_run_is_refused_by_the_field(quality_model, source, tmp_path, capsys):
    command(source, tmp_path / "out")
    capsys.readouterr()
    assert command(tmp_path / "out", tmp_path / "again") == 2
    assert "'caption_raw'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--policy", "threshold", "--mode", "decide"], "scores"),
        (["--policy", "threshold", "--set", "floors.beauty=3"], "beauty"),
        (["--policy", "sometimes"], "sometimes"),
        (["--batch-size", "0"], "batch_size"),
        (["--batch-size", "-3"], "batch_size"),
        (["--min-overall", "9"], "--min-overall has no effect with policy 'model': add --policy threshold"),
        (["--set", "floors.object_detail=3"], "floors.object_detail has no effect"),
        (["--set", "guards.language=english"], "no language that can be told"),
        (["--image-root", "nowhere"], "--image-root 'nowhere' is no folder"),
    ],
)
def test_impossible_wishes_are_bad_usage(quality_model, source, tmp_path, flags, said, capsys):
    try:
        code = command(source, tmp_path / "out", *flags)
    except SystemExit as stop:  # argparse's own way
        code = stop.code
    assert code == 2
    told = capsys.readouterr().err
    assert "error" in told
    assert said in told


SIGNALS = ("--stages", "signals")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([*SIGNALS, "--rescore"], "--rescore is about the quality model: add aitqe to --stages"),
        ([*SIGNALS, "--model", "null:"], "--model is about the quality model"),
        ([*SIGNALS, "--policy", "threshold", "--min-overall", "5"], "--policy is about the quality model"),
        ([*SIGNALS, "--max-rewrite-fraction", "0.2"], "--max-rewrite-fraction is about the quality model"),
        ([*SIGNALS, "--mode", "scores"], "--mode is about the quality model"),
        ([*SIGNALS, "--set", "guards.max_ratio=2"], "--guards is about the quality model"),
        (["--report-only"], "--report-only has no effect without the signals"),
        (["--perceptual-radius", "2"], "--perceptual-radius has no effect without the signals"),
        ([*SIGNALS, "--license-allow", ""], "--license-allow holds an empty name"),
        (["--stages", "signals,aitqe,signals"], "--stages signals,aitqe,signals names signals twice"),
        (["--stages", ""], "there are signals, similarity"),
        ([*SIGNALS, "--signals", ""], "no signal is called ''"),
        ([*SIGNALS, "--drop-if", ""], "the rule cannot be read at its end"),
        ([*SIGNALS, "--drop-if", "image.width in bottom 150%"], "at most 100 percent"),
        ([*SIGNALS, "--drop-if", "text.words / 0 > 3"], "cannot be read at '/'"),
        ([*SIGNALS, "--cascade"], "add aitqe to --stages"),
        (["--stages", "signals,aitqe", "--cascade", "--agreement", "1.5"], "a rate from 0.5 to below 1"),
        ([*SIGNALS, "--shard", "0/0"], "into one slice at least"),
        ([*SIGNALS, "--shard", "1/2", "--limit", "3"], "--limit counts rows of the whole source"),
        ([*SIGNALS, "--workers", "0"], "'workers': should be greater than or equal to 1"),
        ([*SIGNALS, "--gpus-per-worker", "1"], "--gpus-per-worker has no effect without --engine ray"),
        (["--stages", "ocr", "--ocr-model", "nowhere"], "'nowhere' should hold one file *det*.onnx"),
        (["--stages", "mlm"], "say which by --mlm-model"),
        (["--stages", "similarity", "--similarity-model", "open_clip:"], "'': its name is empty; give a folder"),
        (["--model", "openai:ftp://x/v1#m"], "is no URL of an endpoint"),
        (["--model", "openai:http://user:secret@127.0.0.1:9/v1#m"], "must hold no user, password or query"),
        (["--model", "openai:http://127.0.0.1:9/v1#m", "--request-cache", "."], "is a folder; give a file, or `off`"),
        (["--price-out", "free"], "'price_out': should be a valid number"),
    ],
)
def test_wishes_that_no_stage_heeds_or_can_fulfil(source, tmp_path, flags, said, capsys):
    """One sentence, and no row is looked at."""
    pytest.importorskip("rapidocr" if "ocr" in flags else "json", reason="the extra `ocr` is not installed")
    out = tmp_path / "out"
    assert main(["enhance-data", str(source), "--out", str(out), *flags, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.count("error: ") == 1
    assert said in told
    assert not any((name in told) for name in ("Traceback", "secret@"))
    assert not [path for path in out.rglob("*") if path.is_file() and ".mmalign" not in path.parts and path.name != "config.yaml"]


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        (["", "--out", "o"], "SOURCE"),
        (["{source}", "--out", ""], "--out"),
        (["{source}", "--out", "{source}/../o", "--caption-key", ""], "--caption-key"),
        (["{source}", "--out", "{source}/../o", "--uid-key", " "], "--uid-key"),
    ],
)
def test_a_shell_variable_that_is_not_set(source, given, flag, capsys):
    assert main(["enhance-data", *(word.format(source=source) for word in given), *SIGNALS]) == 2
    assert f"error: {flag} is empty; is a variable of the shell not set?" in capsys.readouterr().err


def test_a_name_that_no_file_can_have(source, tmp_path, capsys):
    for words in (["enhance-data", str(source), *SIGNALS, "--out"], ["merge"]):
        assert main([*words, str(tmp_path / ("a" * 300))]) == 2
        said = capsys.readouterr().err
        assert said.count("error: ") == 1
        assert "cannot be a path: File name too long; choose another" in said


def test_a_source_without_a_row_is_said(tmp_path, capsys):
    (tmp_path / "rows.jsonl").touch()
    assert main(["enhance-data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"), *SIGNALS]) == 0
    assert "WARNING: the source holds no row, so nothing came out" in capsys.readouterr().err


@pytest.mark.parametrize(("flag", "more"), [("--caption-key", []), ("--image-key", []), ("--caption-key", ["--dry-run"])])
def test_a_misspelt_field_is_bad_usage(quality_model, source, tmp_path, flag, more, capsys):
    assert command(source, tmp_path / "out", flag, "captoin", *more) == 2
    assert f"{flag} captoin: none of the first 10 rows" in (said := capsys.readouterr().err)
    assert "the row has 'id', 'image', 'caption', 'more'" in said
    assert not (tmp_path / "out").exists()


def test_when_nothing_comes_out_a_warning_says_why(quality_model, source, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    assert command(source, tmp_path / "out", "--image-root", str(tmp_path / "elsewhere")) == 0
    said = capsys.readouterr().err
    assert "nothing came out: all 10 rows are in quarantine (10 image_missing)" in said
    assert "fields of the row: id, image, caption, more" in said
    (write_rows(tmp_path / "deep", []) / "rows.jsonl").write_text("[" * 100_000)
    assert command(tmp_path / "deep", tmp_path / "deep_out") == 0
    assert "all 1 rows are in quarantine (1 bad_json)" in capsys.readouterr().err
    assert command(source, tmp_path / "fine") == 0
    assert "nothing came out" not in capsys.readouterr().err


def test_a_script_sees_in_the_report_that_nothing_came_out(quality_model, source, tmp_path, reported):
    """The exit code is that of a command that did its work: rows are no failure of it."""
    (tmp_path / "elsewhere").mkdir()
    words = ["enhance-data", source, "--out", tmp_path / "out", "--image-root", tmp_path / "elsewhere"]
    for _ in range(2):  # a finished run tells the same
        told = reported(*words, code=0)["summary"]
        assert (told["rows"], told["out"], told["quarantined"], told["reasons"]) == (10, 0, 10, {"image_missing": 10})
