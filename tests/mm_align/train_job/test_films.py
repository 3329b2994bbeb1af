"""`mmalign train` on films through its door: rows in the layouts that people have, broken films, workers, packs, a stop on the way."""

import json
import shutil

import PIL.Image
import pytest
import torch
import yaml

from mm_align.cli import main
from mm_align.models import LvlmProcessor
from mm_align.models.films import Filmed
from mm_align.train.data import Collator, training_set
from mm_align.train.sources import Source
from mm_align.train.trainer import ObjectiveTrainer

ASKED = "what number?"
POOLED = {"frames": 3, "times": "none", "reducer": {"type": "average_pool", "kernel": 2}}
CHANGING = {"frames": 3, "times": "none", "reducer": {"type": "diff_fp", "threshold": 20.0}}


@pytest.fixture(scope="module")
def base(tmp_path_factory, make_model, make_processor):
    """A folder with a model that reads 4 x 4 patches a picture."""
    folder = tmp_path_factory.mktemp("base")
    model = make_model(branches=[{"image_size": 32}])
    model.save_pretrained(folder)
    processor = make_processor(num_image_tokens=model.config.num_image_tokens)
    processor.image_processor.size = 32
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def films(tmp_path_factory, painted):
    """Four films of twenty frames, and one picture."""
    folder = tmp_path_factory.mktemp("films")
    for i in range(4):
        painted.write(folder / f"{i}.mp4", range(100 * i, 100 * i + 20))
    PIL.Image.new("RGB", (20, 20), "red").save(folder / "red.png")
    return folder


def talk(asked, **fields):
    return {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": "seven"}], **fields}


def parts(*kinds, **held):
    shown = [{"type": kind, **held} for kind in kinds]
    return {"messages": [{"role": "user", "content": [*shown, {"type": "text", "text": ASKED}]}, {"role": "assistant", "content": "seven"}]}


GOOD = [
    talk(f"<video>\n{ASKED}", id="marked", video="0.mp4"),
    talk(f"<image>\n{ASKED}", id="llava_video", video="1.mp4"),
    talk(ASKED, id="unplaced", video="2.mp4"),
    talk(f"<video>\n<video>\n{ASKED}", id="two", videos=["2.mp4", "3.mp4"]),
    talk(f"<image>\nand <video>\n{ASKED}", id="both", image="red.png", video="3.mp4"),
    talk(f"<image>\n{ASKED}", id="picture", image="red.png"),
    parts("video", video="0.mp4") | {"id": "part"},
    parts("video_url", video_url={"url": "1.mp4"}) | {"id": "address"},
]
BAD = [
    talk(f"<video>\n{ASKED}", id="gone", video="nowhere.mp4"),
    talk(f"<video>\n{ASKED}", id="poem", video="poem.mp4"),
    talk(f"<video>\n<video>\n{ASKED}", id="count", video="0.mp4"),
    talk(f"<video>\n{ASKED}", id="number", video=7),
    talk(f"<video>\n{ASKED}", id="network", video="http://a.b/film.mp4"),
]


@pytest.fixture
def recipe(tmp_path, base, films):
    """Writes rows and a config, and returns the config's path."""

    def write(rows=tuple(GOOD), video=POOLED, **changes):
        folder = tmp_path / "rows"
        if not folder.is_dir():
            shutil.copytree(films, folder)
            (folder / "poem.mp4").write_text("roses are red\n" * 50)
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        plain = {
            "model": {"from": str(base), "video": video}, "data": [{"path": str(folder / "rows.jsonl")}], "lr": 0.01,
            "batch_size": 4, "steps": 4, "save_steps": 2, "log_steps": 1, "max_length": 200, "device": "cpu",
        }  # fmt: skip
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(plain | changes))
        return str(path)

    return write


def train(recipe, out, *more):
    return main(["train", recipe, "--out", str(out), *more])


def losses(out):
    return [entry["loss"] for entry in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in entry]


def test_films_are_trained_on_and_broken_ones_leave_with_a_reason(recipe, tmp_path, capsys):
    held = {"eval_data": [{"path": str(tmp_path / "rows" / "rows.jsonl")}], "eval_steps": 4, "show_answers": 2, "answer_tokens": 3}
    assert train(recipe([*GOOD, *BAD], **held), tmp_path / "out") == 0
    assert "8 rows trained on, 5 quarantined" in capsys.readouterr().out
    gone = [json.loads(line) for line in (tmp_path / "out/quarantine/data.jsonl").read_text().splitlines()]
    assert [row["reason"] for row in gone] == ["video_missing", "video_unreadable", "video_count", "video_type", "video_missing"]
    assert losses(tmp_path / "out")[-1] < losses(tmp_path / "out")[0]
    shown = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    assert [row["prompt"] for row in shown] == [f"<video>{ASKED}"] * 2
    saved = LvlmProcessor.from_pretrained(tmp_path / "out/model")
    assert saved.video_settings.reducer == POOLED["reducer"]


def test_the_first_row_as_the_model_sees_it(recipe, tmp_path, capsys):
    """Three frames of 2 x 2 tokens."""
    assert train(recipe(GOOD[:1]), tmp_path / "out", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "<image> x 12" in told
    assert "1 of 1 rows" in told


@pytest.mark.parametrize("video", [POOLED, CHANGING, {"frames": 2}], ids=["pooled", "changing", "pictures"])
def test_workers_and_packs_see_the_same(recipe, tmp_path, video):
    """A pack of rows is what its rows are in a batch: the losses of the first step, before any weight has moved."""
    assert train(recipe(video=video, batch_size=8, micro_batch=8, steps=1), tmp_path / "plain") == 0
    assert train(recipe(video=video, batch_size=8, micro_batch=8, steps=1, workers=2), tmp_path / "workers") == 0
    assert losses(tmp_path / "workers") == losses(tmp_path / "plain")
    packed = {"packing": True, "max_length": 2000, "batch_size": 1, "steps": 1}
    assert train(recipe(video=video, **packed), tmp_path / "packs") == 0
    assert losses(tmp_path / "packs") == pytest.approx(losses(tmp_path / "plain"), abs=1e-4)


def test_a_run_that_was_killed_goes_on_as_if_it_had_not(recipe, tmp_path, monkeypatch):
    path = recipe(video=CHANGING)
    assert train(path, tmp_path / "whole") == 0
    steps, step = [], ObjectiveTrainer.training_step

    def killed(*given, **named):
        steps.append(1)
        if len(steps) > 3:
            raise SystemExit(9)
        return step(*given, **named)

    monkeypatch.setattr(ObjectiveTrainer, "training_step", killed)
    with pytest.raises(SystemExit):
        train(path, tmp_path / "out")
    monkeypatch.undo()
    assert train(path, tmp_path / "out") == 0
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


@pytest.mark.parametrize(("content", "reason"), [("shorter", "video_changed"), ("poem", "video_unreadable"), (None, "video_missing")])
def test_a_film_that_changes_on_the_way_leaves(recipe, base, painted, tmp_path, content, reason):
    """The row behind it takes its place."""
    recipe(GOOD[:2])
    processor = LvlmProcessor.from_pretrained(base)
    source = Source(path=str(tmp_path / "rows" / "rows.jsonl"))
    data = training_set([source], processor, quarantine=tmp_path / "q.jsonl", shuffle=False)
    assert isinstance(data[0].sample, Filmed)
    film = tmp_path / "rows" / "0.mp4"
    film.unlink()
    if content == "shorter":
        painted.write(film, range(2))
    elif content is not None:
        film.write_text("roses are red\n" * 50)
    assert [data[i].sample.id for i in range(2)] == ["llava_video"] * 2
    assert json.loads((tmp_path / "q.jsonl").read_text())["reason"] == reason
    batch = Collator(processor)([data[0]])
    assert torch.isfinite(batch["pixel_values"]).all()


def test_rows_of_one_film_share_its_frames(recipe, base, tmp_path):
    recipe([GOOD[0], {**GOOD[0], "id": "again"}])
    processor = LvlmProcessor.from_pretrained(base)
    data = training_set([Source(path=str(tmp_path / "rows" / "rows.jsonl"))], processor, quarantine=tmp_path / "q.jsonl")
    batch = Collator(processor)(data.__getitems__([0, 1]))
    assert batch["picture_index"].tolist() == [*range(8), *range(8)]
    assert len(batch["pixel_values"]) == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rows": BAD[:1]}, "none of the 1 rows can be trained on (1 video_missing)"),
        ({"max_length": 8}, "too_long"),
        ({"video": {"frame": 3}}, "no key 'frame'; did you mean 'frames'?"),
        ({"objective": {"type": "eeca"}}, "objective eeca is about pictures"),
        ({"objective": {"type": "preference"}, "rows": [{"prompt": f"<video>{ASKED}", "chosen": "a", "rejected": "b", "image": "red.png"}]},
         "preference pairs are about pictures"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_said(recipe, tmp_path, capsys, changes, said):
    assert train(recipe(**changes), tmp_path / "out") == 2
    assert said in capsys.readouterr().err
