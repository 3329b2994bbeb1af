"""The bench of decoding through its door, on small films and a part of the zoo: figures for every way, and a way that is wrong ends it."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch):
    spec = importlib.util.spec_from_file_location("bench_video", ROOT / "scripts/bench/video.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_video", module)
    spec.loader.exec_module(module)
    films = [film._replace(size=(128, 224), frames=40, gop=20, shrink=film.shrink and (64, 112)) for film in module.FILMS[:2]]
    monkeypatch.setattr(module, "FILMS", films)
    return module


def test_speed_is_told_for_every_way_that_is_there(bench, capsys, tmp_path):
    bench.main(["--only", "speed", "--rounds", "1", "--clips", str(tmp_path)])
    told = capsys.readouterr().out
    assert re.search(r"\| 720p, 30 s, GOP 250 \| \d\.\d\d \[", told)
    assert re.search(r"\| the same, shrunk to 252 x 448 \| \d\.\d\d \[", told)
    assert (tmp_path / "720p-gop250.mp4").exists()


def test_a_way_that_gives_other_frames_ends_the_bench(bench, monkeypatch, tmp_path):
    right = bench.WAYS["ours, auto"]
    monkeypatch.setitem(bench.WAYS, "ours, auto", lambda path, places, size: right(path, [*places[1:], places[0]], size))
    with pytest.raises(RuntimeError, match="ours, auto gave other frames than those asked for"):
        bench.main(["--only", "speed", "--rounds", "1", "--clips", str(tmp_path)])


def test_accuracy_counts_right_frames(bench, capsys, tmp_path):
    clips = bench.painted()
    kinds = ["H.264, rotated by 90", "damaged in its second GOP"]
    bench.bench_accuracy(tmp_path, clips, kinds)
    told = capsys.readouterr().out
    ways = re.search(r"\| file \| (.*) \|", told)[1].split(" | ")
    rows = {
        row[0]: dict(zip(ways, row[1:], strict=True)) for line in told.splitlines() if (row := line.strip("| ").split(" | "))[0] in kinds
    }
    assert {row["ours, auto"] for row in rows.values()} == {"16/16"}
    assert rows[kinds[0]]["PyAV, in order"] == "0/16"
    assert "| all right | 2 of 2 files |" in told
