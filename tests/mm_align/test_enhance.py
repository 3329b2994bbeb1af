"""`mmalign enhance-data` through its door: rewrites, bad input, reruns, stopping, formats, models."""

import errno
import io
import json
import os
import re
import signal
import struct
import tarfile
import zlib

import PIL.Image
import pytest

import mm_align
import mm_align.backends
from data_tools.io import list_shards, read
from data_tools.records import Response, Sample
from mm_align.backends.null import NullBackend
from mm_align.cli import main
from mm_align.config import Stopped, UserError

SCORED = '{{"Overall Score": "{}<Overall>", "Overall Explanation": "plain"}}'
REWRITTEN = '{{"Recaption": "{}", "Overall Score": "2<Overall>", "Overall Explanation": "poor"}}'


class Scripted(NullBackend):
    """Rewrites captions that say "bad", and scores the others 9."""

    def __init__(self, batch_size=4):
        super().__init__(batch_size=batch_size)
        self.rows = []

    def generate(self, samples, sampling):
        self.rows += [s.source.row for s in samples]
        return [Response(f"{s.id}:0", s.id, self.answer(s), branches=dict.fromkeys(sampling.branches, 0.5)) for s in samples]

    @staticmethod
    def answer(sample):
        question = sample.messages[0].parts[1].text
        return REWRITTEN.format("a small square on white ground") if "bad" in question else SCORED.format(9)


@pytest.fixture
def scripted(monkeypatch):
    """The model of every run of the command line in this test."""
    backend = Scripted()
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
    return backend


def encode(picture, format="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def square(color="red", mode="RGB", size=(24, 24)):
    return PIL.Image.new(mode, size, color)


def write_rows(folder, rows, name="rows.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.png").write_bytes(encode(square()))
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def plain_rows(n=10):
    return [{"id": f"r{i}", "image": "x.png", "caption": f"{'bad ' if i % 2 else ''}caption {i}", "more": [i, None]} for i in range(n)]


@pytest.fixture
def source(tmp_path):
    return write_rows(tmp_path / "src", plain_rows())


def command(source, out, *more):
    return main(["enhance-data", str(source), "--out", str(out), *more])


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def snapshot(out):
    """Every file that must not depend on interruptions (report and timings may)."""
    told = ("report.html", "report.json", "config.yaml", "run.json", "lock")
    places = [p for p in out.rglob("*") if p.is_file() and p.name not in told]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in places}


# What comes out


def test_poor_captions_are_rewritten_and_everything_is_told(scripted, source, tmp_path, capsys):
    assert command(source, tmp_path / "out") == 0
    rows = rows_of(tmp_path / "out" / "rows.jsonl")
    assert [r["id"] for r in rows] == [f"r{i}" for i in range(10)]
    good, bad = rows[:2]
    assert list(good) == ["id", "image", "caption", "more", "caption_raw", "aitqe"]
    assert good["caption"] == good["caption_raw"] == "caption 0"
    assert (good["aitqe"]["action"], good["aitqe"]["scores"]["overall"]) == ("keep", 9)
    assert (bad["caption"], bad["caption_raw"]) == ("a small square on white ground", "bad caption 1")
    assert (bad["aitqe"]["action"], bad["aitqe"]["p_rewrite"], bad["aitqe"]["model"]) == ("rewrite", 0.5, "null")
    assert bad["more"] == [1, None]
    assert "10 rows in = 5 kept + 5 rewritten + 0 quarantined" in capsys.readouterr().out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["identity"]["holds"]
    assert report["counts"]["rewritten"] == 5
    assert "bad caption 1" in (tmp_path / "out" / "report.html").read_text()


def test_rows_hold_no_place_and_no_time(scripted, source, tmp_path):
    command(source, tmp_path / "out")
    text = (tmp_path / "out" / "rows.jsonl").read_text()
    assert str(tmp_path) not in text
    assert os.uname().nodename not in text
    assert not re.search(r"20\d\d-\d\d", text)


def test_the_python_face(source, tmp_path):
    report = mm_align.enhance(source, tmp_path / "out", backend=Scripted(), policy="never")
    assert (report.summary.rows, report.summary.kept, report.fresh_rows) == (10, 10, 10)
    with pytest.raises(UserError, match="did you mean 'policy'"):
        mm_align.enhance(source, tmp_path / "other", polcy="never")


@pytest.mark.parametrize(
    ("flags", "rewritten"),
    [
        (["--policy", "threshold", "--min-overall", "9.5"], 5),
        (["--policy", "never"], 0),
        (["--max-rewrite-fraction", "0.25"], 2),
        (["--set", "guards.roomy_chars=5", "--set", "guards.max_ratio=0.9"], 0),
    ],
)
def test_policies_and_guards_arrive(scripted, source, tmp_path, flags, rewritten):
    """Of 10 rows the model rewrites 5. A quarter of 10 is 2. A guard that allows no longer text refuses all 5."""
    assert command(source, tmp_path / "out", *flags) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"]["rewritten"] == rewritten


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
def test_impossible_wishes_are_bad_usage(scripted, source, tmp_path, flags, said, capsys):
    try:
        code = command(source, tmp_path / "out", *flags)
    except SystemExit as stop:  # argparse's own way
        code = stop.code
    assert code == 2
    told = capsys.readouterr().err
    assert "error" in told
    assert said in told


def test_a_default_written_out_is_no_wish(scripted, source, tmp_path):
    assert command(source, tmp_path / "out", "--min-overall", "7", "--set", "guards.language=de") == 0


def test_rewrites_are_rescored_on_request(scripted, source, tmp_path):
    """The script says 2 of a bad caption and 9 of its rewrite; kept rows are not asked about again."""
    assert command(source, tmp_path / "out", "--rescore") == 0
    scores = [row["aitqe"]["scores"] for row in rows_of(tmp_path / "out" / "rows.jsonl")]
    assert [(s["overall"], s["overall_after"]) for s in scores] == [(9, None), (2, 9)] * 5
    assert len(scripted.rows) == 15
    assert json.loads((tmp_path / "out" / "report.json").read_text())["scores"]["overall"]["rescored"]["n"] == 5


@pytest.mark.parametrize("format", ["jsonl", "parquet", "webdataset", "folder", "hf"])
def test_every_format_out_and_in_again(scripted, source, tmp_path, format):
    """JSONL to each format; that output without our fields is a source of its own, whose format is kept."""
    out = tmp_path / "out"
    assert command(source, out, "--format", format) == 0
    (shard,) = list_shards(out)
    rows = sorted(read(shard), key=lambda r: r.meta["id"])  # a folder of pictures is in the order of its file names
    assert [r.caption for r in rows][:2] == ["caption 0", "a small square on white ground"]
    assert [r.meta["aitqe"]["action"] for r in rows] == ["keep", "rewrite"] * 5
    assert rows[1].meta["aitqe"]["scores"]["overall"] == 2
    assert rows[1].meta["caption_raw"] == "bad caption 1"
    assert command(out, tmp_path / "again") == 2


# Bad input


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


def test_bad_rows_go_to_quarantine_and_never_stop_the_run(scripted, tmp_path, capsys):
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


def test_a_tar_that_ends_in_the_middle(scripted, tmp_path):
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


def test_sources_that_cannot_be_read_are_bad_input(scripted, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere"):
        assert command(tmp_path / source, tmp_path / "out") == 2
        assert source in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_targets_that_cannot_be_used_are_bad_input(scripted, source, tmp_path, capsys):
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


def test_the_output_of_a_run_is_refused_by_the_field(scripted, source, tmp_path, capsys):
    command(source, tmp_path / "out")
    capsys.readouterr()
    assert command(tmp_path / "out", tmp_path / "again") == 2
    assert "'caption_raw'" in capsys.readouterr().err


# Again


def test_a_finished_run_says_so(scripted, source, tmp_path, capsys):
    command(source, tmp_path / "out")
    before, judged = snapshot(tmp_path / "out"), len(scripted.rows)
    assert command(source, tmp_path / "out") == 0
    assert "already finished" in capsys.readouterr().err
    assert (snapshot(tmp_path / "out"), len(scripted.rows)) == (before, judged)


@pytest.mark.parametrize("name", ["rows.jsonl", "quarantine/rows.jsonl"])
def test_a_finished_run_without_its_output_is_not_finished(scripted, source, tmp_path, name, capsys):
    command(source, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    assert command(source, tmp_path / "out") == 2
    assert f"lacks what its run made: {name}" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--overwrite") == 0
    assert (tmp_path / "out" / name).exists()


def test_another_configuration_or_source_is_refused(scripted, source, tmp_path, capsys):
    command(source, tmp_path / "out")
    assert command(source, tmp_path / "out", "--policy", "never") == 2
    assert "config.policy: was 'model', now 'never'" in capsys.readouterr().err
    write_rows(source, plain_rows(11))
    assert command(source, tmp_path / "out") == 2
    assert "the source changed" in capsys.readouterr().err
    assert command(source, tmp_path / "out", "--overwrite") == 0
    assert len(rows_of(tmp_path / "out" / "rows.jsonl")) == 11


def test_another_model_is_refused(scripted, source, tmp_path, monkeypatch, capsys):
    stop_at(scripted, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert command(source, tmp_path / "out") == 75
    monkeypatch.setattr(Scripted, "describe", lambda self: {"model": "null", "revision": "other"})
    assert command(source, tmp_path / "out") == 2
    assert "model.revision: was '0', now 'other'" in capsys.readouterr().err


def stop_at(backend, row, act):
    answer = backend.answer

    def acting(sample: Sample):
        if sample.source.row == row:
            backend.answer = answer
            act()
        return answer(sample)

    backend.answer = acting


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_after_the_block_and_the_same_command_continues(scripted, source, tmp_path, number, capsys):
    """Blocks of 4 rows: a signal in row 5 still commits rows 4 to 7, and the next start begins with row 8."""
    command(source, tmp_path / "whole")
    stop_at(scripted, 5, lambda: os.kill(os.getpid(), number))
    scripted.rows.clear()
    assert command(source, tmp_path / "out") == 75
    assert "run the same command to continue" in capsys.readouterr().err
    assert max(scripted.rows) == 7
    assert not (tmp_path / "out" / "rows.jsonl").exists()
    scripted.rows.clear()
    assert command(source, tmp_path / "out") == 0
    assert scripted.rows == [8, 9]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["run"]["timing"]["this_start_rows_judged"] == 2
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_a_full_disk_stops_and_the_same_command_continues(scripted, source, tmp_path, monkeypatch, capsys):
    command(source, tmp_path / "whole")
    write = os.write

    def full(fd, data):
        if len(data) > 200:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr(os, "write", full)
    code = command(source, tmp_path / "out")
    monkeypatch.setattr(os, "write", write)
    assert code == 75
    assert "free some space" in capsys.readouterr().err
    assert command(source, tmp_path / "out") == 0
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")


def test_stopping_in_python(source, tmp_path):
    backend = Scripted()
    stop_at(backend, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="continue"):
        mm_align.enhance(source, tmp_path / "out", backend=backend)
    assert mm_align.enhance(source, tmp_path / "out", backend=backend).fresh_rows == 6


def test_less_memory_is_remembered(source, tmp_path, monkeypatch):
    """The backend went from 4 rows to 2; a continued run keeps blocks of 4 and asks the backend for 2."""
    backend, asked = Scripted(batch_size=4), []

    def shrink():
        backend.batch_size = 2
        os.kill(os.getpid(), signal.SIGTERM)

    def load(model, **options):
        asked.append(options["batch_size"])
        return backend

    monkeypatch.setattr(mm_align.backends, "load_backend", load)
    stop_at(backend, 1, shrink)
    assert [command(source, tmp_path / "out") for _ in range(2)] == [75, 0]
    assert asked == ["auto", 2]


def test_dry_run_writes_nothing(scripted, tmp_path, capsys):
    folder = write_rows(tmp_path / "src", plain_rows(50))
    assert command(folder, tmp_path / "out", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "'bad caption 1' -> 'a small square on white ground'" in said
    assert "dry run: 20 rows" in said
    assert "50 rows in all" in said
    assert not (tmp_path / "out").exists()


def test_dry_run_shows_what_would_leave_and_why(scripted, tmp_path, capsys):
    rows = [*plain_rows(2), {"id": "r2", "image": "x.png"}, {"id": "r3", "image": "gone.png", "caption": "bad gone"}, *plain_rows(1)]
    assert command(write_rows(tmp_path / "src", rows), tmp_path / "out", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["keep", "rewrite", "gone", "gone", "keep", "dry"]
    assert "row 2 would go to quarantine: missing_caption: none of caption, text, txt" in lines[2]
    assert "row 3 would go to quarantine: image_missing" in lines[3]


@pytest.mark.parametrize(("flag", "more"), [("--caption-key", []), ("--image-key", []), ("--caption-key", ["--dry-run"])])
def test_a_misspelt_field_is_bad_usage(scripted, source, tmp_path, flag, more, capsys):
    assert command(source, tmp_path / "out", flag, "captoin", *more) == 2
    assert f"{flag} captoin: none of the first 10 rows" in (said := capsys.readouterr().err)
    assert "the row has 'id', 'image', 'caption', 'more'" in said
    assert not (tmp_path / "out").exists()


def test_when_nothing_comes_out_a_warning_says_why(scripted, source, tmp_path, capsys):
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


def test_a_limit_ends_early(scripted, source, tmp_path):
    assert command(source, tmp_path / "out", "--limit", "3") == 0
    assert len(rows_of(tmp_path / "out" / "rows.jsonl")) == 3


def test_foreign_data_is_warned_about_only_when_foreign(source, tmp_path, caplog):
    """A model that says its domain is known by the field `more` is silent here; one that looks for `toy` is not."""
    for key, warned in (("more", False), ("toy", True)):
        backend = Scripted()
        backend.domain = {"name": "Toys", "row_key": key, "message": "knows only toys; choose another with --model"}
        caplog.clear()
        mm_align.enhance(source, tmp_path / key, backend=backend)
        assert ("knows only toys" in caplog.text) == warned
        assert ("knows only toys" in (tmp_path / key / "report.html").read_text()) == warned
