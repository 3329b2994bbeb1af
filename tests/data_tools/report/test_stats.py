"""Statistics of a run: by hand, in any order, in bounded space, fast, with pictures."""

import io
import json
import random
import time

import PIL.Image
import pytest

from data_tools.records import Image, Rejected, Sample, Source, Verdict
from data_tools.report import Stats
from data_tools.report.gallery import REASONS, SIZES, thumbnail
from data_tools.report.summary import summarise

SCORES = ("overall", "text_quality", "image_text_matching", "object_detail", "semantic_understanding", "text_chart_description")


def png(side=8, color="red"):
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (side, side), color).save(buffer, "PNG")
    return buffer.getvalue()


def sample(row, caption="a red ball", shard="s0", **more):
    return Sample(id=str(row), caption=caption, source=Source(shard, row), **more)


def judged(row, rng):
    """(sample, verdict, text) of a made-up row; every tenth is a rejected row."""
    source = Source(f"s{row % 5}", row)
    if row % 10 == 9:
        return Rejected(source, f"reason{row % 40}", "detail")
    action = rng.choice(["keep", "keep", "rewrite", "drop", "quarantine"])
    text = " ".join(rng.choices(["red", "blue", "Paris", "ball", "2024", "of"], k=rng.randint(1, 9)))
    new = " ".join(rng.choices(["green", "Paris", "ball", "on", "grass"], k=6)) if action == "rewrite" else None
    scores = {name: rng.choice([None, rng.randint(1, 10), rng.random() * 9 + 1]) for name in SCORES}
    status = rng.choice(["ok", "repaired", "unparsable"])
    verdict = Verdict(action, scores, {"overall": "because"}, new, new, rng.random(), status, rng.choice(["", "quota", "guard"]))
    return Sample(id=str(row), caption=text, source=source, images=(Image(data=png()),)), verdict, new or text


def collect(rows):
    stats = Stats(seed=7)
    for row in rows:
        stats.reject(row) if isinstance(row, Rejected) else stats.add(*row)
    return stats


def as_json(stats):
    return json.dumps(stats.to_dict())


def test_same_bytes_in_any_order_and_any_parts():
    """One pass; a shuffled pass; three parts merged as (a + b) + c and as c + (b + a), some of them through JSON."""
    rng = random.Random(1)
    rows = [judged(i, rng) for i in range(600)]
    whole = as_json(collect(rows))
    shuffled = rows.copy()
    random.Random(2).shuffle(shuffled)
    assert as_json(collect(shuffled)) == whole
    a, b, c = collect(rows[:50]), collect(rows[50:400]), Stats.from_dict(json.loads(as_json(collect(rows[400:]))))
    a.merge(b)
    a.merge(c)
    assert as_json(a) == whole
    a2, b2, c2 = collect(rows[:50]), collect(rows[50:400]), collect(rows[400:])
    b2.merge(a2)
    c2.merge(b2)
    assert as_json(c2) == whole
    assert as_json(Stats.from_dict(json.loads(whole))) == whole


def test_figures_by_hand():
    """Kept `a red ball` (8) and `A B` (4, score only); rewritten `a cat` (2) -> `the cat`.

    Words: 3, 2, 2 (mean 7/3) before and after. Levenshtein of `a cat` and `the cat`: `a` -> `the` costs 3
    of 7 characters. One row is quarantined: 4 = 2 + 1 + 0 + 1.
    """
    stats = Stats()
    stats.add(sample(0), Verdict("keep", {"overall": 8}, parse_status="ok"), "a red ball")
    stats.add(sample(1, "A B"), Verdict("keep", {"overall": 4}, parse_status="ok", reason="quota"), "A B")
    stats.add(sample(2, "a cat"), Verdict("rewrite", {"overall": 2}, text="the cat", p_rewrite=0.75, parse_status="repaired"), "the cat")
    stats.reject(Rejected(Source("s0", 3), "broken_json"))
    stats.duplicate()
    figures = summarise(stats)
    assert figures["counts"] == {
        "rows": 4, "kept": 2, "rewritten": 1, "dropped": 0, "quarantined": 1, "output": 3, "unparsable": 0, "duplicates": 1,
    }  # fmt: skip
    assert figures["reasons"]["kept"] == {"quota": 1, "(no reason given)": 1}
    assert figures["reasons"]["quarantined"] == {"broken_json": 1}
    assert figures["parse_status"] == {"ok": 2, "repaired": 1}
    overall = figures["scores"]["overall"]
    assert overall["raw"]["histogram"] == [0, 1, 0, 1, 0, 0, 0, 1, 0, 0]
    assert overall["raw"]["mean"] == pytest.approx(14 / 3, abs=1e-5)
    assert overall["after"] == {"n": 2, "mean": 6.0, "median": 4, "histogram": [0, 0, 0, 1, 0, 0, 0, 1, 0, 0], "outside": 0}
    text = figures["text"]
    assert text["raw"]["words"] == {"mean": pytest.approx(7 / 3, abs=1e-5), "median": 2, "p95": 3}
    assert text["output"]["words"]["mean"] == pytest.approx(7 / 3, abs=1e-5)
    assert text["edit_distance_rewritten"]["mean"] == pytest.approx(3 / 7, abs=1e-4)
    assert figures["p_rewrite"]["rewritten"]["mean"] == 0.75


def test_names_and_numbers_kept():
    """Of `Shop in Paris 2024`, `Paris` and `2024` count (`Shop` only begins the text); the rewrite keeps one of the two."""
    stats = Stats()
    stats.add(sample(0, "Shop in Paris 2024"), Verdict("rewrite", text="A tower in Paris"), "A tower in Paris")
    assert summarise(stats)["text"]["names_kept_rewritten"]["mean"] == 0.5


def test_rescored_rewrites_enter_the_scores_after():
    stats = Stats()
    stats.add(sample(0), Verdict("rewrite", {"overall": 2, "overall_after": 9}, text="x"), "x")
    figures = summarise(stats)["scores"]
    assert list(figures) == ["overall"]
    assert figures["overall"]["after"]["mean"] == figures["overall"]["rescored"]["mean"] == 9.0
    assert figures["overall"]["rewritten"]["mean"] == 2.0


def test_scores_off_the_scale_are_counted_apart():
    stats = Stats()
    stats.add(sample(0), Verdict("keep", {"overall": 10.4}), "x")
    stats.add(sample(1), Verdict("keep", {"overall": 50}), "x")
    raw = summarise(stats)["scores"]["overall"]["raw"]
    assert (raw["histogram"][9], raw["outside"], raw["n"]) == (1, 1, 2)


def test_worst_and_best_are_by_score():
    stats = Stats()
    for row in range(200):
        stats.add(sample(row), Verdict("keep", {"overall": row % 10 + 1}), "a red ball")
    shown = stats.gallery.shown
    assert {i.facts["scores"]["overall"] for _, i in shown["worst"].items} == {1}
    assert {i.facts["scores"]["overall"] for _, i in shown["best"].items} == {10}


def test_state_is_bounded():
    """Thousands of reasons, long captions and replies, every row with a picture: the JSON stays below 2 MB."""
    stats = Stats()
    picture = Image(data=png(64))
    for row in range(3000):
        stats.reject(Rejected(Source("s" * 500, row), f"reason {row}", "d" * 5000, "r" * 5000))
        verdict = Verdict(
            "keep", {"overall": 1}, {"overall": "e" * 5000}, proposal="p" * 5000, parse_status="unparsable", reason=f"{row}", raw="z" * 5000
        )
        stats.add(sample(row, "c" * 5000, images=(picture,)), verdict, "c" * 5000)
    assert len(as_json(stats)) < 2_000_000
    assert len(stats.gallery.quarantine) == REASONS
    assert all(len(r.items) <= SIZES[name] for name, r in stats.gallery.shown.items())
    assert summarise(stats)["reasons"]["quarantined"]["(other)"] == 3000 - 256


def test_pictures_are_opened_only_for_rows_that_are_shown(monkeypatch):
    """2,000 rows with pictures on the way, none decoded until the end, and then only those in a reservoir."""
    opened = []
    monkeypatch.setattr("data_tools.report.gallery.thumbnail", lambda image: opened.append(image))
    stats = Stats()
    for row in range(2000):
        stats.add(sample(row, images=(Image(data=b"x"),)), Verdict("rewrite", text="new"), "new")
    assert opened == []
    stats.to_dict()
    assert len(opened) == SIZES["rewritten"]


def test_thumbnails_are_small_and_bad_pictures_are_none(tmp_path):
    small, large = thumbnail(Image(data=png(64))), thumbnail(Image(data=png(400)))
    assert (small.media, small.width, large.media, large.width) == ("image/png", 64, "image/jpeg", 160)
    assert thumbnail(Image(pixels=PIL.Image.new("RGB", (300, 100)))).height == 53
    assert thumbnail(Image(data=b"not a picture")) is None
    assert thumbnail(Image(path=str(tmp_path / "absent.png"))) is None


def test_a_sample_without_source_caption_or_picture_is_fine():
    stats = Stats()
    stats.add(Sample(id="x"), Verdict("keep", {"overall": None}), "")
    assert stats.rows == 1
    assert summarise(stats)["scores"] == {}


def test_another_schema_is_refused():
    with pytest.raises(ValueError, match=r"schema 99.*--overwrite"):
        Stats.from_dict({"schema": 99})


def test_add_is_fast():
    """60 microseconds a row is the budget; four times that is allowed here for a busy machine."""
    rng = random.Random(0)
    rows = [row for row in (judged(i, rng) for i in range(3000)) if not isinstance(row, Rejected)]
    stats, start = Stats(), time.process_time()
    for row in rows:
        stats.add(*row)
    assert (time.process_time() - start) / len(rows) < 240e-6
