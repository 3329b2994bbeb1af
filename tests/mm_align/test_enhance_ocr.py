"""`mmalign enhance-data --stages ocr` through its door: pictures with text and without, and what is said where it cannot work."""

import json
import shutil
import socket
import sys
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from mm_align.cli import main


@pytest.fixture
def source(tmp_path):
    """Two lines of text, none, a picture too small for any, one line upright only by its EXIF, stripes."""
    folder = tmp_path / "src"
    folder.mkdir()
    written("BIG SUMMER", "half price today").save(folder / "0.png")
    written().save(folder / "1.png")
    PIL.Image.new("RGB", (8, 8), "red").save(folder / "2.png")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    written("Bella Italia").transpose(PIL.Image.Transpose.ROTATE_90).save(folder / "3.jpg", exif=exif)
    stripes = PIL.Image.new("L", (200, 100))
    stripes.putdata([255 * (x // 10 % 2) for _ in range(100) for x in range(200)])
    stripes.convert("RGB").save(folder / "4.png")
    names = ["0.png", "1.png", "2.png", "3.jpg", "4.png"]
    rows = [{"id": f"r{i}", "image": name, "caption": "a picture"} for i, name in enumerate(names)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def written(*lines):
    picture = PIL.Image.new("RGB", (300, 120), (200, 220, 230))
    for i, line in enumerate(lines):
        PIL.ImageDraw.Draw(picture).text((15, 10 + 50 * i), line, fill=(20, 20, 60), font=PIL.ImageFont.load_default(32))
    return picture


def run(source, out, *more):
    return main(["enhance-data", str(source), "--out", str(out), *more])


def signals_of(out, field="filters"):
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    return {row["id"]: row[field]["signals"] for row in rows}


def test_text_is_found_without_a_network_and_rules_use_it(source, tmp_path, monkeypatch):
    pytest.importorskip("rapidocr")
    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, lambda *_, **__: pytest.fail("something asks the network"))
    assert run(source, tmp_path / "all", "--stages", "ocr") == 0
    told = signals_of(tmp_path / "all")
    assert [signals["ocr.lines"] for signals in told.values()] == [2, 0, 0, 1, 0]
    assert [signals["ocr.words"] for signals in told.values()] == [5, 0, 0, 2, 0]
    assert 0.15 < told["r3"]["ocr.area"] < told["r0"]["ocr.area"] < 0.6
    assert told["r1"]["ocr.area"] == 0
    more = ["--stages", "signals,ocr", "--signals", "image.width,ocr.area", "--batch-size", "2"]
    assert run(source, tmp_path / "share", *more, "--drop-if", "ocr.area in top 20%") == 0
    assert signals_of(tmp_path / "share").keys() == {"r1", "r2", "r3", "r4"}
    record = json.loads((tmp_path / "share" / ".mmalign" / "run.json").read_text())["scorers"]["ocr"]
    assert len(record["networks"]) == 16


def test_a_folder_of_networks(source, tmp_path, capsys):
    """The wheel's own as a folder, one of them damaged, and one that finds lines in the place of the one that reads: no alphabet."""
    rapidocr = pytest.importorskip("rapidocr")
    models = tmp_path / "models"
    models.mkdir()
    assert run(source, tmp_path / "out", "--stages", "ocr", "--ocr-model", str(models)) == 2
    assert "should hold one file *det*.onnx; it holds none" in capsys.readouterr().err
    (det,), (rec,) = (list((Path(rapidocr.__file__).parent / "models").glob(f"*{part}*.onnx")) for part in ("det", "rec"))
    (models / "det.onnx").symlink_to(det)
    shutil.copy(det, models / "rec.onnx")
    assert run(source, tmp_path / "out", "--stages", "ocr", "--ocr-model", str(models)) == 2
    assert "lacks its alphabet" in capsys.readouterr().err
    (models / "rec.onnx").write_bytes(b"no network")
    assert run(source, tmp_path / "out", "--stages", "ocr", "--ocr-model", str(models)) == 2
    assert "is no network that onnxruntime can read" in capsys.readouterr().err
    (models / "rec.onnx").unlink()
    (models / "rec.onnx").symlink_to(rec)
    assert run(source, tmp_path / "out", "--stages", "ocr", "--ocr-model", str(models), "--keep-if", "ocr.words == 0") == 0
    assert signals_of(tmp_path / "out").keys() == {"r1", "r2", "r4"}


def test_without_the_extra_it_is_said_how_to_get_it(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    assert run(source, tmp_path / "out", "--stages", "ocr") == 2
    assert "pip install 'mm-align[ocr]'" in capsys.readouterr().err
    assert run(source, tmp_path / "out", "--ocr-model", "x") == 2
    assert "--ocr-model has no effect without its stage: add ocr to --stages" in capsys.readouterr().err
