"""`mmalign enhance-data --stages signals` through its door: no model, no torch, every row told of."""

import io
import json
import shutil
import subprocess
import sys

import PIL.Image
import pytest

from mm_align.cli import main


def picture(size=(40, 20), color="red", format="PNG"):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", size, color).save(buffer, format)
    return buffer.getvalue()


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "src"
    folder.mkdir()
    for i in range(6):
        (folder / f"{i}.png").write_bytes(picture((40 + i, 20)))
    rows = [{"id": f"r{i}", "image": f"{i}.png", "caption": f"a red picture of {i} squares", "more": [i, None]} for i in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(source, out, *more):
    return main(["enhance-data", str(source), "--out", str(out), "--stages", "signals", *more])


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_comes_out_with_its_signals_and_its_caption(source, tmp_path):
    assert command(source, tmp_path / "out") == 0
    before, after = rows_of(source / "rows.jsonl"), rows_of(tmp_path / "out" / "rows.jsonl")
    assert [{k: v for k, v in row.items() if k != "filters"} for row in after] == before
    told = after[3]["filters"]
    assert (told["action"], told["reason"], told["flags"]) == ("keep", "", [])
    assert told["signals"]["image.width"] == 43
    assert told["signals"]["text.words"] == 6


def test_only_the_signals_that_are_wanted(source, tmp_path):
    assert command(source, tmp_path / "out", "--signals", "text.words,image") == 0
    signals = rows_of(tmp_path / "out" / "rows.jsonl")[0]["filters"]["signals"]
    assert "text.words" in signals
    assert "image.width" in signals
    assert "text.chars" not in signals


def test_parquet_keeps_types_of_signals(source, tmp_path):
    import pyarrow.parquet as pq

    assert command(source, tmp_path / "out", "--format", "parquet") == 0
    table = pq.read_table(tmp_path / "out" / "rows.parquet")
    signals = table.column("filters").to_pylist()[2]["signals"]
    assert (signals["image.width"], signals["text.language"]) == (42, "en")


def test_rules_send_rows_to_quarantine_with_their_reason(source, tmp_path, capsys):
    assert command(source, tmp_path / "out", "--drop-if", "image.width < 42", "--keep-if", "text.words == 6") == 0
    assert [row["id"] for row in rows_of(tmp_path / "out" / "rows.jsonl")] == ["r2", "r3", "r4", "r5"]
    gone = rows_of(tmp_path / "out" / "quarantine" / "rows.jsonl")
    assert [(row["reason"], row["detail"]) for row in gone] == [
        ("rule:image.width < 42", "image.width = 40"),
        ("rule:image.width < 42", "image.width = 41"),
    ]
    assert "6 rows in = 4 kept + 0 rewritten + 2 quarantined" in capsys.readouterr().out


def test_report_only_flags_and_drops_nothing(source, tmp_path):
    assert command(source, tmp_path / "out", "--keep-if", "image.width > 41", "--report-only") == 0
    flags = [row["filters"]["flags"] for row in rows_of(tmp_path / "out" / "rows.jsonl")]
    assert flags == [["rule:not (image.width > 41)"]] * 2 + [[]] * 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--signals", "image.widht"], "did you mean 'image.width'"),
        (["--drop-if", "image.widht < 42"], "did you mean image.width"),
        (["--drop-if", "text.language < 42"], "text.language"),
        (["--keep-if", "image.width < "], "cannot be read at its end"),
        (["--stages", "signal"], "there are signals, "),
    ],
)
def test_what_is_misspelt_is_refused(source, tmp_path, capsys, more, said):
    assert command(source, tmp_path / "out", *more) == 2
    assert said in capsys.readouterr().err


def test_signals_without_their_stage_are_refused(source, tmp_path, capsys):
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), "--signals", "image"]) == 2
    assert "add --stages signals" in capsys.readouterr().err


def test_copies_are_told_across_shards_and_dropped_on_request(source, tmp_path):
    """The second shard holds the first one's rows again, and one more."""
    rows = rows_of(source / "rows.jsonl")
    more = [{**row, "id": f"again-{row['id']}"} for row in rows] + [{"id": "new", "image": "0.png", "caption": "another caption"}]
    (source / "second.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    assert command(source, tmp_path / "told") == 0
    signals = [row["filters"]["signals"] for row in rows_of(tmp_path / "told" / "second.jsonl")]
    assert [told["exact.pair_repeats"] for told in signals] == [f"rows:{i}" for i in range(6)] + [None]
    assert (signals[-1]["exact.image_repeats"], signals[-1]["exact.image_copies"]) == ("rows:0", 3)
    assert command(source, tmp_path / "dropped", "--drop-if", "exact.pair_repeats is known") == 0
    assert [row["id"] for row in rows_of(tmp_path / "dropped" / "second.jsonl")] == ["new"]
    assert len(rows_of(tmp_path / "dropped" / "quarantine" / "second.jsonl")) == 6


def test_the_report_shows_distributions_and_frequent_captions(source, tmp_path):
    (source / "more.jsonl").write_text("".join(json.dumps({"image": "0.png", "caption": "<b>photo</b>"}) + "\n" for _ in range(5)))
    assert command(source, tmp_path / "out", "--drop-if", "image.width < 42") == 0
    told = json.loads((tmp_path / "out" / "report.json").read_text())["signals"]
    assert told["rows"] == 11
    assert (told["signals"]["image.width"]["min"], told["signals"]["image.width"]["max"]) == (40, 45)
    assert told["frequent_captions"] == {}  # those five rows leave by the rule and take no part in comparisons
    assert command(source, tmp_path / "all") == 0
    assert json.loads((tmp_path / "all" / "report.json").read_text())["signals"]["frequent_captions"] == {"<b>photo</b>": 5}
    page = (tmp_path / "all" / "report.html").read_text()
    assert "image.sharpness" in page
    assert "&lt;b&gt;photo" in page
    assert "<b>photo" not in page


def test_a_broken_picture_leaves_by_the_scan_with_its_reason(source, tmp_path):
    (source / "2.png").write_bytes(b"")
    (source / "3.png").unlink()
    assert command(source, tmp_path / "out") == 0
    gone = rows_of(tmp_path / "out" / "quarantine" / "rows.jsonl")
    assert [(row["reason"], row["source"]["row"]) for row in gone] == [("image_empty", 2), ("image_missing", 3)]
    assert "no file" in gone[1]["detail"]


def test_a_picture_is_not_opened_where_caption_or_fields_let_the_row_leave(source, tmp_path, monkeypatch):
    """Rows 2 and 3: by a short caption and by an opt-out, whatever their broken pictures are; row 4's breakage is told."""
    rows = rows_of(source / "rows.jsonl")
    rows[2]["caption"], rows[3]["noai"] = "red", True
    (source / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in (2, 3, 4):
        (source / f"{row}.png").write_bytes(b"")
    rules = ["--drop-if", "text.chars < 5", "--drop-if", "image.width < 41 and text.chars > 100"]
    assert command(source, tmp_path / "out", *rules) == 0
    gone = {row["source"]["row"]: row["reason"] for row in rows_of(tmp_path / "out" / "quarantine" / "rows.jsonl")}
    assert gone == {2: "rule:text.chars < 5", 3: "rule:rights.opt_out", 4: "image_empty"}
    told = json.loads((tmp_path / "out" / "report.json").read_text())["signals"]["signals"]
    assert (told["text.chars"]["known"], told["image.width"]["known"]) == (5, 3)


@pytest.mark.parametrize("more", [["--report-only"], ["--drop-if", "image.sharpness in bottom 10%"]])
def test_pictures_are_opened_where_all_rows_count(source, tmp_path, more):
    rows = rows_of(source / "rows.jsonl")
    rows[2]["caption"] = "red"
    (source / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command(source, tmp_path / "out", "--drop-if", "text.chars < 5", *more) == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["signals"]["signals"]["image.width"]["known"] == 6


def test_before_the_model_signals_save_calls_and_stay_beside_its_audit(source, tmp_path, monkeypatch):
    import mm_align.backends
    from mm_align.backends.null import NullBackend

    backend = NullBackend(batch_size=4)
    asked = []
    generate = backend.generate
    monkeypatch.setattr(backend, "generate", lambda samples, sampling: asked.extend(samples) or generate(samples, sampling))
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: backend)
    more = ["--stages", "signals,aitqe", "--drop-if", "image.width < 43"]
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), *more]) == 0
    assert [sample.source.row for sample in asked] == [3, 4, 5]
    assert all(sample.images[0].pixels is not None for sample in asked)
    first = rows_of(tmp_path / "out" / "rows.jsonl")[0]["aitqe"]
    assert (first["signals"]["image.width"], first["model"]) == (43, backend.describe()["model"])


def test_opt_outs_and_licences_are_honoured_and_passed_through(source, tmp_path):
    rows = rows_of(source / "rows.jsonl")
    for row, more in zip(
        rows, [{"x_robots_tag": "noai"}, {"noai": False}, {"license": "CC BY 4.0"}, {"license": "cc-by-nc-4.0"}], strict=False
    ):
        row |= more
    (source / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert command(source, tmp_path / "told", "--signals", "text.words") == 0
    kept = rows_of(tmp_path / "told" / "rows.jsonl")
    assert [row["id"] for row in kept] == ["r1", "r2", "r3", "r4", "r5"]
    assert kept[1]["license"] == "CC BY 4.0"
    assert command(source, tmp_path / "allowed", "--license-allow", "cc-by-4.0", "--opt-outs", "keep") == 0
    assert [row["id"] for row in rows_of(tmp_path / "allowed" / "rows.jsonl")] == ["r2"]
    gone = rows_of(tmp_path / "allowed" / "quarantine" / "rows.jsonl")
    assert {row["reason"] for row in gone} == {"rule:not rights.licensed"}


def test_a_rewrite_that_adds_personal_data_is_refused(source, tmp_path, monkeypatch):
    import mm_align.backends
    from mm_align.backends.null import NullBackend

    answer = '{"Recaption": "a red picture, ask ann@example.org", "Overall Score": "2<Overall>", "Overall Explanation": "poor"}'
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: NullBackend(answer))
    assert main(["enhance-data", str(source), "--out", str(tmp_path / "out"), "--stages", "signals,aitqe"]) == 0
    rows = rows_of(tmp_path / "out" / "rows.jsonl")
    assert {row["aitqe"]["reason"] for row in rows} == {"guard:pii"}
    assert [row["caption"] for row in rows] == [row["caption"] for row in rows_of(source / "rows.jsonl")]


def test_data_of_one_domain_say_so_in_the_title(source, tmp_path):
    (source / "domain.json").write_text('{"name": "Toy <b>Land"}')
    assert command(source, tmp_path / "named") == 0
    page = (tmp_path / "named" / "report.html").read_text()
    assert "Toy &lt;b&gt;Land" in page
    assert "<b>Land" not in page
    (source / "domain.json").write_text('{"name": 5}')
    assert command(source, tmp_path / "unnamed") == 0
    assert "domain" not in json.loads((tmp_path / "unnamed" / "report.json").read_text())["run"]


def test_a_source_that_was_written_to_between_two_starts_is_named(source, tmp_path, monkeypatch, capsys):
    """The edit keeps the size, and lies between the ends by which a shard is known."""
    import data_tools.pipeline

    def full(*_):
        raise OSError(28, "No space left on device")

    rows = [{**row, "id": f"{row['id']}-{i}", "pad": "x" * 1000} for i in range(60) for row in rows_of(source / "rows.jsonl")]
    (source / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with monkeypatch.context() as patch:
        patch.setattr(data_tools.pipeline, "finalise_shard", full)
        assert command(source, tmp_path / "out", "--signals", "text") == 75
        assert command(source, tmp_path / "out", "--signals", "text") == 75
    assert "WARNING" not in capsys.readouterr().err
    text = (source / "rows.jsonl").read_text()
    at = text.index("of 3 squares", len(text) // 2)
    (source / "rows.jsonl").write_text(text[:at] + "of 9 squares" + text[at + len("of 9 squares") :])
    assert command(source, tmp_path / "out", "--signals", "text") == 0
    said = capsys.readouterr().err
    assert "WARNING: written to since this run was first started: rows." in said
    assert "start anew with --overwrite" in said


def test_dry_run_writes_nothing(source, tmp_path, capsys):
    assert command(source, tmp_path / "out", "--dry-run") == 0
    assert "6 rows" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_no_torch_is_imported(source, tmp_path):
    line = (
        "import sys; from mm_align.cli import main; "
        f"code = main(['enhance-data', {str(source)!r}, '--out', {str(tmp_path / 'out')!r}, '--stages', 'signals']); "
        "print(code, sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_fast_pictures_change_nothing_that_is_told(source, tmp_path):
    pytest.importorskip("simplejpeg")
    for i in range(3):
        noise = PIL.Image.effect_noise((300 + i, 200), 90).convert("RGB")
        noise.save(source / f"{i}.png", "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    ways = {"slow": ["--no-fast-pictures"], "fast": ["--fast-pictures"], "default": []}
    for name, flags in ways.items():
        assert command(source, tmp_path / name, "--signals", "image,perceptual", *flags) == 0
    slow, fast, default = ((tmp_path / name / "rows.jsonl").read_bytes() for name in ways)
    assert slow == fast == default
    assert json.loads(fast.splitlines()[0])["filters"]["signals"]["image.width"] == 200  # turned upright


def test_fast_pictures_without_the_extra_are_refused(source, tmp_path, capsys, monkeypatch):
    from data_tools.io import fast_jpeg

    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    fast_jpeg.library.cache_clear()
    try:
        assert command(source, tmp_path / "out", "--fast-pictures") == 2
    finally:
        fast_jpeg.library.cache_clear()
    assert "pip install 'mm-align[fast]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_that_look_alike_are_told_and_dropped(source, tmp_path):
    """The first stands for the others, also where it is in another shard."""
    (source / "rows.jsonl").rename(source / "a.jsonl")
    shutil.copy(source / "a.jsonl", source / "b.jsonl")
    for i in range(6):
        PIL.Image.effect_noise((200, 200), 60 + i).resize((500 - 40 * i, 300)).save(source / f"{i}.png")
    PIL.Image.open(source / "0.png").resize((250, 150)).convert("RGB").save(source / "3.png", "JPEG", quality=70)
    assert command(source, tmp_path / "out", "--signals", "perceptual.repeats", "--drop-if", "perceptual.repeats is known") == 0
    assert [row["id"] for row in rows_of(tmp_path / "out" / "a.jsonl")] == ["r0", "r1", "r2", "r4", "r5"]
    assert rows_of(tmp_path / "out" / "b.jsonl") == []
    gone = rows_of(tmp_path / "out" / "quarantine" / "a.jsonl")
    assert [row["detail"] for row in gone] == ["perceptual.repeats = a:0"]
    assert len(rows_of(tmp_path / "out" / "quarantine" / "b.jsonl")) == 6


def test_the_same_pixels_in_other_files_are_told_across_shards_and_dropped(source, tmp_path):
    """One picture as PNG, as BMP, as PNG with a comment, and lying on its side with EXIF that turns it; a fifth differs in one point.
    What costs much is told where --signals or a rule names it."""
    (source / "rows.jsonl").rename(source / "a.jsonl")
    shutil.copy(source / "a.jsonl", source / "b.jsonl")
    one = PIL.Image.effect_noise((600, 400), 80).convert("RGB")
    one.save(source / "0.png")
    one.save(source / "1.png", "BMP")
    one.save(source / "2.png", pnginfo=comment("another file"))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    one.transpose(PIL.Image.Transpose.ROTATE_90).save(source / "3.png", exif=exif)
    one.putpixel((599, 399), tuple(255 - value for value in one.getpixel((599, 399))))
    one.save(source / "4.png")
    asked = ["--signals", "exact,exact.pixels_repeats,perceptual", "--drop-if", "exact.pixels_repeats is known"]
    assert command(source, tmp_path / "out", *asked) == 0
    assert [row["id"] for row in rows_of(tmp_path / "out" / "a.jsonl")] == ["r0", "r4", "r5"]
    assert rows_of(tmp_path / "out" / "b.jsonl") == []
    gone = [rows_of(tmp_path / "out" / "quarantine" / f"{name}.jsonl") for name in "ab"]
    assert [row["detail"] for row in gone[0]] == ["exact.pixels_repeats = a:0"] * 3
    assert [row["detail"] for row in gone[1]] == [f"exact.pixels_repeats = a:{row}" for row in (0, 0, 0, 0, 4, 5)]
    assert rows_of(tmp_path / "out" / "a.jsonl")[0]["filters"]["signals"]["exact.image_copies"] == 2
    assert command(source, tmp_path / "unasked") == 0
    assert command(source, tmp_path / "by rule", "--drop-if", "exact.pixels_repeats is known") == 0
    usual, more = (set(rows_of(tmp_path / name / "a.jsonl")[0]["filters"]["signals"]) for name in ("unasked", "by rule"))
    assert more - usual == {"exact.pixels_repeats"}
    assert usual < more


def comment(text):
    import PIL.PngImagePlugin

    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("comment", text)
    return info


@pytest.mark.parametrize("stages", ["signals", "aitqe"])
def test_a_lost_shard_is_told_at_the_end_and_by_the_exit_code(source, tmp_path, capsys, stages, monkeypatch):
    import mm_align.backends
    from mm_align.backends.null import NullBackend

    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: NullBackend())
    (source / "gone.jsonl").symlink_to(source / "nowhere")
    line = ["enhance-data", str(source), "--out", str(tmp_path / "out"), "--stages", stages]
    assert main(line) == 2
    said = capsys.readouterr().out
    assert "7 rows in = 6 kept + 0 rewritten + 1 quarantined" in said
    assert "1 shard could not be read to the end" in said
    assert len(rows_of(tmp_path / "out" / "rows.jsonl")) == 6
    assert main(line) == 2  # finished, and still without that shard


def test_a_changed_source_forgets_what_was_told_of_it_and_goes_on_once_restored(source, tmp_path, monkeypatch):
    """The picture's row changes while its shard is scanned."""
    from data_tools.filters import scan

    rows, original, pack = source / "rows.jsonl", (source / "rows.jsonl").read_text(), scan._entries

    def meanwhile(block, plan):
        rows.write_text(original.replace("of 5 squares", "of 9 squares"))
        return pack(block, plan)

    monkeypatch.setattr(scan, "_entries", meanwhile)
    assert command(source, tmp_path / "out") == 2
    monkeypatch.setattr(scan, "_entries", pack)
    rows.write_text(original)
    assert command(source, tmp_path / "out") == 0
    assert len(rows_of(tmp_path / "out" / "rows.jsonl")) == 6
