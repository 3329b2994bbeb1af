"""`merge` of slices whose rows are compared or ranked: copies and shares are those of all slices, or it is said what is lacking."""

import io
import json

import PIL.Image
import pytest
from engine_faults import results
from sliced_runs import BAD, command, divided, merge_cut_short, same

from data_tools.disk import durable
from data_tools.engines import slices
from data_tools.run import finalising
from mm_align.cli import main

COPIES = ("--drop-if", "exact.pair_repeats is known or near_text.repeats is known", "--drop-if", "perceptual.repeats is known")
WORDS = [f"{a}{b}" for a in ("red", "blue", "green", "old", "new", "tall", "wide") for b in ("", "ish", "er", "most", "ly")]


def caption(shard, row):
    return " ".join(WORDS[(shard * 13 + row * 11 + k * k * (row + 1)) % len(WORDS)] for k in range(8 + (row + shard) % 5))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Four shards of 24 rows, each with a broken row and a lost picture. Every third caption is one of an earlier shard, half of them with
    a word more; pictures look alike across shards."""
    folder = tmp_path_factory.mktemp("source") / "src"
    folder.mkdir()
    for i in range(80):
        buffer = io.BytesIO()
        PIL.Image.effect_noise((16, 12), 120).resize((96, 72)).convert("RGB").save(buffer, "PNG")
        (folder / f"{i}.png").write_bytes(buffer.getvalue())
    for shard in range(4):
        lines = []
        for row in range(24):
            owner = max(0, shard - 1 - row % 2) if row % 3 == 0 else shard
            said = caption(owner, row) + (" extra" if row % 6 == 0 and owner != shard else "")
            picture = "none" if row == 11 else owner * 20 + row % 20
            lines.append("{ broken" if row == 7 else json.dumps({"id": f"s{shard}r{row}", "image": f"{picture}.png", "caption": said}))
        (folder / f"part-{shard}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return folder


def gone_in(out):
    """Rows that left by rules."""
    lines = (line for path in sorted((out / "quarantine").glob("*.jsonl")) for line in path.read_text().splitlines())
    return [row for row in map(json.loads, lines) if row["reason"].startswith("rule:")]


@pytest.mark.parametrize(
    ("of", "more"),
    [
        (3, COPIES),
        (2, (*COPIES, "--report-only")),
        (2, ("--drop-if", "text.words in bottom 20% or exact.caption_copies > 2")),
    ],
)
def test_copies_and_shares_are_those_of_all_slices(source, tmp_path, of, more):
    divided(source, [tmp_path / "out"], of, "--stages", "signals", *more)
    assert main(["merge", str(tmp_path / "out")]) == 0
    assert command(source, tmp_path / "one", "--stages", "signals", *more) == 0
    same(tmp_path / "out", tmp_path / "one")
    assert gone_in(tmp_path / "out") or "--report-only" in more


def test_copies_of_another_slice_leave_though_the_model_judged_them(source, tmp_path, monkeypatch):
    """Nobody is asked again: each slice's model said what it says."""
    import mm_align.backends

    more = ["--stages", "signals,aitqe", "--model", f"null:{BAD}", "--max-rewrite-fraction", "0.3", "--on-duplicate", "quarantine"]
    more += ["--drop-if", "exact.caption_repeats is known"]
    divided(source, [tmp_path / "out"], 2, *more)
    with monkeypatch.context() as patch:
        patch.setattr(mm_align.backends, "load_backend", lambda *_, **__: pytest.fail("a model is loaded"))
        assert main(["merge", str(tmp_path / "out")]) == 0
    assert command(source, tmp_path / "one", *more) == 0
    same(tmp_path / "out", tmp_path / "one")
    assert len(gone_in(tmp_path / "out")) > 5


@pytest.mark.parametrize(
    "stages",
    [
        ["--stages", "signals,aitqe", "--model", f"null:{BAD}"],
        [
            "--stages",
            "signals,mlm,aitqe",
            "--model",
            f"null:{BAD}",
            "--mlm-model",
            "null:44",
            "--drop-if",
            "mlm.semantic_understanding > 50",
        ],
        ["--stages", "signals,mlm", "--mlm-model", "null:44", "--drop-if", "mlm.semantic_understanding < 50 and text.words in bottom 50%"],
    ],
)
def test_rows_that_stay_among_all_are_judged_where_that_is_allowed(source, tmp_path, stages, capsys):
    """A share ends elsewhere among all rows: rows that left in their slice are to stay, and no model was asked about them."""
    more = [*stages, "--drop-if", "text.chars in bottom 30%"]
    divided(source, [tmp_path / "out"], 2, *more)
    capsys.readouterr()
    assert main(["merge", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "stay among all, so no model was asked about them" in said
    assert "Merge with --judge" in said
    assert main(["merge", str(tmp_path / "out"), "--judge"]) == 0
    assert command(source, tmp_path / "one", *more) == 0
    same(tmp_path / "out", tmp_path / "one")


def test_what_cannot_be_decoded_for_the_model_stays_refused(source, tmp_path, monkeypatch):
    """Captions alone are scanned, so broken pictures are found only where the model is to see them."""
    folder = tmp_path / "src"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for i in (21, 22, 24, 61):
        (folder / f"{i}.png").write_bytes((folder / f"{i}.png").read_bytes()[:200])
    more = ["--stages", "signals,aitqe", "--signals", "exact.caption_repeats", "--drop-if", "exact.caption_repeats is known"]
    more += ["--model", f"null:{BAD}"]
    divided(folder, [tmp_path / "out"], 3, *more)
    assert main(["merge", str(tmp_path / "out")]) == 0
    assert command(folder, tmp_path / "one", *more) == 0
    same(tmp_path / "out", tmp_path / "one")
    assert "image_truncated" in (tmp_path / "out" / "quarantine" / "part-1.jsonl").read_text()


@pytest.mark.parametrize("at", [3, 14, 22])
def test_a_merge_of_compared_rows_that_is_cut_short_goes_on(source, tmp_path, at):
    """It stops before its n-th file is put in place, whoever puts it there."""
    divided(source, [tmp_path / "out"], 2, "--stages", "signals", *COPIES)
    assert merge_cut_short(tmp_path / "out", at, [slices, finalising, durable]) == 130
    assert main(["merge", str(tmp_path / "out")]) == 0
    command(source, tmp_path / "one", "--stages", "signals", *COPIES)
    same(tmp_path / "out", tmp_path / "one")


def test_a_source_that_is_gone_or_changed_is_not_told_of_anew(source, tmp_path, capsys):
    folder = tmp_path / "src"
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    divided(folder, [tmp_path / "out"], 2, "--stages", "signals", *COPIES)
    before = (folder / "part-2.jsonl").read_bytes()
    (folder / "part-2.jsonl").unlink()
    assert main(["merge", str(tmp_path / "out")]) == 2
    assert "is not what it was when the run was started" in capsys.readouterr().err
    (folder / "part-2.jsonl").write_bytes(before.replace(b"extra", b"other"))
    assert main(["merge", str(tmp_path / "out")]) == 2
    (folder / "part-2.jsonl").write_bytes(before)
    assert main(["merge", str(tmp_path / "out")]) == 0
    command(source, tmp_path / "one", "--stages", "signals", *COPIES)
    assert results(tmp_path / "out")["part-2.jsonl"] == results(tmp_path / "one")["part-2.jsonl"]
