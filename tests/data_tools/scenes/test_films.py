"""Films: every answer is true of the frames, every film can be made alone, what happens is seen at the right times."""

import json
import random

import pytest

from data_tools.scenes.captions import NUMBERS
from data_tools.scenes.film_rows import film_rows, frames, make_film
from data_tools.scenes.films import DURATION, FLASH, KINDS, Film, sample_film
from data_tools.scenes.render import render
from mm_align.cli import main


def seen(film: Film, times: list[float]) -> list[set[str]]:
    """The names of what is drawn at each time."""
    return [{f"{item.color} {item.shape}" for item in film.scene(time).items} for time in times]


@pytest.mark.parametrize("index", range(8))
def test_every_answer_is_true_of_what_is_drawn(index):
    """Found from densely drawn frames alone: when each object is first and last seen, and where."""
    row, film = make_film(3, "train", index)
    times = [k / 20 for k in range(int(20 * DURATION))]
    drawn = seen(film, times)
    first = {a.name: next(t for t, names in zip(times, drawn, strict=True) if a.name in names) for a in film.actors}
    asked = {question["question"]: question["answer"] for question in row["sceneworld"]["questions"]}
    visitors = sorted((a.name for a in film.of("visitor")), key=first.__getitem__)
    (traveller,) = film.of("traveller")
    where = f"at the {film.of('visitor')[0].place}"
    colors = [name.split()[0] for name in visitors]
    assert asked[f"How many objects come {where}?"] == NUMBERS[len(visitors)]
    assert (asked[f"What color comes first {where}?"], asked[f"What color comes last {where}?"]) == (colors[0], colors[-1])
    flashed = [film.scene(time).background for time in times if film.scene(time).background != film.background]
    assert set(flashed) == {asked["In which color does the background flash up?"]}
    assert len(flashed) == pytest.approx(20 * DURATION * FLASH, abs=1)
    places = [next(i for i in film.scene(t).items if f"{i.color} {i.shape}" == traveller.name) for t in (0, DURATION - 0.01)]
    assert (places[0].x, places[0].y) != (places[1].x, places[1].y)
    assert asked[f"From where does the {traveller.name} move?"] == traveller.place


def test_the_film_stays_what_it_is_and_comes_back_from_json():
    row, film = make_film(0, "train", 0)
    assert Film.from_dict(json.loads(json.dumps(row))["sceneworld"]["film"]) == film
    assert [actor.name for actor in film.actors] == ["purple ring", "yellow square", "cyan triangle"]
    assert make_film(0, "train", 0)[0] == row
    assert next(iter(film_rows(1))).meta["sceneworld"] == row["sceneworld"]


def test_splits_share_no_film_and_all_kinds_are_asked():
    rows = [make_film(0, split, index) for split in ("train", "heldout") for index in range(40)]
    assert all(film.split() == row["sceneworld"]["split"] for row, film in rows)
    assert {q["kind"] for row, _ in rows for q in row["sceneworld"]["questions"]} == set(KINDS)
    assert len({len(film.of("visitor")) for _, film in rows}) == 3
    with pytest.raises(ValueError, match="expected one of train, validation, heldout"):
        sample_film(random.Random(0), "test")


def test_videos_on_disk_show_the_film(tmp_path, capsys):
    av = pytest.importorskip("av")
    out = tmp_path / "films"
    assert main(["scenes", "make", "--family", "films", "--n", "2", "--questions", "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "scenes-00000.jsonl").read_text().splitlines()]
    assert rows[0]["conversations"][0]["value"].startswith("<video>\n")
    film = Film.from_dict(rows[1]["sceneworld"]["film"])
    with av.open(str(out / rows[1]["video"])) as video:
        decoded = [frame.to_image() for frame in video.decode(video=0)]
    assert len(decoded) == 8 * DURATION
    for k in (0, 60, 127):
        true = frames(film, [k / 8])[0]
        difference = [abs(a - b) for a, b in zip(decoded[k].tobytes(), true.tobytes(), strict=True)]
        assert sum(difference) / len(difference) < 3
    assert render(film.scene(0)).size == (64, 64)
    assert main(["scenes", "make", "--family", "films", "--n", "2", "--format", "parquet", "--out", str(tmp_path / "x")]) == 2
    assert "written as jsonl" in capsys.readouterr().err
