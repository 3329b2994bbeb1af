"""`mmalign eval` on videos: frames in the place of the video, evenly spaced; a broken or missing file is an error row."""

import json

import numpy as np
import pytest

from data_tools.io import BadImage
from data_tools.records import Image, Message, Part, Response, Sample
from mm_align.cli import main
from mm_align.evals import BENCHMARKS, Benchmark, Judged
from mm_align.jobs.evaluate.videos import with_frames

av = pytest.importorskip("av")
GREYS = tuple(range(0, 240, 24))  # of ten frames


@pytest.fixture
def film(tmp_path):
    """Ten frames of rising grey."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for grey in GREYS:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), grey, np.uint8), format="rgb24")))
        file.mux(stream.encode())
    return path


def sample(path, name="q"):
    return Sample(name, (Message("user", (Part("video"), Part("text", "What happens?"))),), (Image(path=str(path)),))


def test_frames_stand_in_the_place_of_a_video_and_pictures_stay(film):
    asked = Sample("q", (Message("user", (Part("image"), Part("video"), Part("text", "?"))),), (Image(path="a.png"), Image(path=str(film))))
    shown = with_frames(asked, 5)
    assert [part.kind for part in shown.messages[0].parts] == ["image"] * 6 + ["text"]
    assert shown.images[0].path == "a.png"
    greys = [np.asarray(image.pixels).mean() for image in shown.images[1:]]
    assert greys == sorted(greys)
    assert greys[-1] - greys[0] > 100
    assert len(with_frames(sample(film), 99).images) == 10
    still = Sample("q", (Message("user", (Part("image"),)),), (Image(path="a.png"),))
    assert with_frames(still, 5) is still


def test_what_cannot_be_decoded_is_told(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(BadImage, match="video_unreadable"):
        with_frames(sample(tmp_path / "bad.mp4"), 5)
    with pytest.raises(BadImage, match="video_missing"):
        with_frames(sample(tmp_path / "none.mp4"), 5)


class Films(Benchmark):
    """Two questions about a film, one about a film that is broken."""

    main = "seen"

    def __init__(self, data: str) -> None:
        self.data = data

    def samples(self):
        return [sample(f"{self.data}/{name}.mp4", f"{name}{i}") for i, name in enumerate(("film", "film", "bad"))]

    def judged(self, responses):
        return [Judged(s.id, float(s.id in responses)) for s in self.samples()]

    def score(self, responses):
        return {"seen": sum(item.score for item in self.judged(responses)) / 3}


class Counts:
    """Answers with the number of pictures it is shown."""

    faces = frozenset({"generate"})
    batch_size = 8

    def describe(self):
        return {"model": "counts", "revision": "0"}

    def generate(self, samples, sampling):
        return [Response(f"{s.id}:0", s.id, str(len(s.images))) for s in samples]


def test_videos_end_to_end(film, monkeypatch, tmp_path, capsys):
    import mm_align.backends

    (tmp_path / "bad.mp4").write_bytes(b"no video")
    monkeypatch.setitem(BENCHMARKS, "films", Films)
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: Counts())
    words = ["eval", "org/a", "--bench", "films", "--data", f"films={tmp_path}", "--out", str(tmp_path / "out")]
    assert main([*words, "--frames", "4"]) == 0
    told = json.loads((tmp_path / "out/org__a/results.json").read_text())
    assert told["errors"] == {"films": {"video_unreadable": 1}}
    assert told["results"]["films"]["seen,none"] == pytest.approx(2 / 3)
    rows = (tmp_path / "out/org__a/responses/films.jsonl").read_text().splitlines()
    assert [json.loads(row)["text"] for row in rows] == ["4", "4"]
    assert main([*words, "--frames", "5"]) == 2
    assert "bench.films.frames: was 4, now 5" in capsys.readouterr().err


def test_own_shows_a_film_as_the_models_config_says(film, make_model, make_processor, monkeypatch, tmp_path):
    """The answers are those to the film itself, in three frames with their seconds; the broken one is an error row."""
    from mm_align.backends import load_backend

    (tmp_path / "bad.mp4").write_bytes(b"no video")
    monkeypatch.setitem(BENCHMARKS, "films", Films)
    model = make_model(video={"frames": 3, "times": "seconds"})
    model.save_pretrained(tmp_path / "model")
    make_processor(video=model.config.video_of_prompts()).save_pretrained(tmp_path / "model")
    words = ["eval", str(tmp_path / "model"), "--bench", "films", "--data", f"films={tmp_path}", "--device", "cpu"]
    assert main([*words, "--frames", "own", "--out", str(tmp_path / "own")]) == 0
    assert main([*words, "--frames", "3", "--out", str(tmp_path / "three")]) == 0
    said = {name: responses(tmp_path / name) for name in ("own", "three")}
    asked = sample(film)
    expected = load_backend(str(tmp_path / "model"), device="cpu").generate([asked], Films("").sampling)
    assert said["own"] == [expected[0].text] * 2
    assert said["own"] != said["three"]  # which has no times
    told = json.loads(next((tmp_path / "own").glob("*/results.json")).read_text())
    assert told["errors"] == {"films": {"video_unreadable": 1}}


def responses(out) -> list[str]:
    return [json.loads(row)["text"] for row in next(out.glob("*/responses/films.jsonl")).read_text().splitlines()]


def test_own_is_refused_for_a_model_that_is_shown_no_videos(film, monkeypatch, tmp_path, capsys):
    import mm_align.backends

    monkeypatch.setitem(BENCHMARKS, "films", Films)
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: Counts())
    words = ["eval", "org/a", "--bench", "films", "--data", f"films={tmp_path}", "--out", str(tmp_path / "out"), "--frames", "own"]
    assert main(words) == 2
    assert "--frames own: this model is not shown videos" in capsys.readouterr().err


@pytest.mark.parametrize("frames", ["own", "4"])
def test_a_wish_about_videos_is_refused_where_there_are_none(film, monkeypatch, tmp_path, capsys, frames):
    """With a benchmark of films beside it all is well: pictures are shown as they are."""
    import mm_align.backends

    monkeypatch.setitem(BENCHMARKS, "films", Films)
    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: Counts())
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    words = ["eval", "org/a", "--limit", "2", "--out", str(tmp_path / "out")]
    assert main([*words, "--bench", "scenes", "--frames", frames]) == 2
    said = capsys.readouterr().err
    assert f"error: --frames {frames} is about videos, and there is none in " in said
    assert "Traceback" not in said
    assert not (tmp_path / "out/org__a").exists()
    if frames == "4":
        assert main([*words, "--bench", "scenes,films", "--data", f"films={tmp_path}", "--frames", frames]) == 0
        assert main([*words, "--bench", "scenes", "--frames", "8", "--overwrite"]) == 0


def test_questions_about_films_of_ones_own(film, monkeypatch, tmp_path):
    """Conversations that show a film: four frames of it are four pictures, and "4" is the right answer to the first."""
    import mm_align.backends

    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: Counts())
    asked = [{"from": "human", "value": "<video>\nHow many?"}]
    rows = [
        {"id": f"r{i}", "video": str(film), "conversations": [*asked, {"from": "gpt", "value": answer}]} for i, answer in enumerate("47")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["eval", "org/a", "--bench", "qa", "--data", f"qa={tmp_path / 'rows.jsonl'}", "--set", "options.qa.question=null"]
    assert main([*words, "--frames", "4", "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out/org__a/results.json").read_text())
    assert told["results"]["qa"]["accuracy,none"] == pytest.approx(0.5)
