"""`mmalign video sample` through the command line: rules, selectors by an encoder and by colour, plans, sheets, mistakes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mm_align.cli import main
from mm_align.jobs.video.contact_sheet import contact_sheet


def sample(capsys: pytest.CaptureFixture[str], film: Path, out: Path, *words: str) -> dict[str, Any]:
    assert main(["video", "sample", str(film), "--out", str(out), "--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["times"] == pytest.approx([i / 30 for i in found["indices"]])
    assert out.stat().st_size > 1000
    return found


def test_a_rule_places_frames_and_the_sheet_shows_them(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sample(capsys, film, tmp_path / "sheet.png", "--frames", "6", "--columns", "3", "--width", "96")
    assert found["indices"] == [5, 15, 25, 35, 45, 55]
    with PIL.Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 104 + 8, 2 * (64 + 18 + 8) + 26 + 8)
        # the first cell of the upper row is the lowest bit of the frame's number: 5 and 15 are odd, white
        shown = np.asarray(sheet.convert("L"), dtype=float)
        assert shown[26 + 8 + 4 : 26 + 8 + 12, 8 + 2 : 8 + 8].mean() > 200


def test_every_frame_by_sixteen_is_the_default(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(sample(capsys, film, tmp_path / "sheet.jpg")["indices"]) == 16
    short = sample(capsys, film, tmp_path / "short.webp", "--start", "1", "--end", "1.2")
    assert short["indices"] == [30, 31, 32, 33, 34, 35]


@pytest.mark.parametrize("method", ["k_center", "dpp", "mdp3", "scene_changes"])
def test_selectors_by_colour_need_no_model(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    found = sample(capsys, film, tmp_path / "sheet.png", "--frames", "5", "--method", method)
    assert found["how"] == f"{method} by colour"
    assert len(set(found["indices"])) == 5
    assert found["among"] == 10


@pytest.mark.parametrize("method", ["aks", "bolt", "focus", "top_k", "mdp3"])
def test_selectors_by_a_query_ask_the_encoder(
    film: Path, tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    words = ["--frames", "4", "--method", method, "--encoder", encoder, "--query", "a white bar", "--rate", "6", "--device", "cpu"]
    found = sample(capsys, film, tmp_path / "sheet.png", *words)
    assert len(set(found["indices"])) == 4
    assert found["among"] == 12
    assert (found["scores"] is None) == (method == "mdp3")


def test_the_best_are_those_that_the_encoder_likes_best(
    film: Path, tmp_path: Path, encoder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from video.decode import decode
    from vision.pairs import load_pair

    words = ["--method", "top_k", "--encoder", encoder, "--query", "blue", "--rate", "10", "--device", "cpu"]
    found = sample(capsys, film, tmp_path / "sheet.png", "--frames", "3", *words)
    assert found["among"] == 20
    pair = load_pair(encoder)
    everything = sample(capsys, film, tmp_path / "all.png", "--frames", "20")
    frames = decode(film, indices=everything["indices"]).frames.numpy()
    scores = pair.image_embeddings([PIL.Image.fromarray(one.transpose(1, 2, 0)) for one in frames]) @ pair.text_embeddings(["blue"])[0]
    best = sorted(np.array(everything["indices"])[scores.argsort(descending=True)[:3].numpy()].tolist())
    assert found["indices"] == best
    assert sorted(found["scores"]) == pytest.approx(sorted(scores.topk(3).values.tolist()), abs=1e-4)


def test_an_encoder_of_open_clip_in_its_published_layout(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Config and weights in a folder, as its releases look; the scores are those that open_clip itself gives."""
    open_clip = pytest.importorskip("open_clip")
    import torch
    from safetensors.torch import save_file

    from video.decode import decode

    text = {"context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 16}
    sizes = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": text}
    folder = tmp_path / "released"
    folder.mkdir()
    told = {"model_cfg": sizes, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(told))
    words = ["--method", "top_k", "--encoder", str(folder), "--library", "open_clip", "--query", "blue", "--rate", "6", "--device", "cpu"]
    assert main(["video", "sample", str(film), "--out", str(tmp_path / "none.png"), *words]) == 2  # the weights are not there
    assert "cannot load the image-text encoder" in capsys.readouterr().err
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**sizes).state_dict(), folder / "open_clip_model.safetensors")
    found = sample(capsys, film, tmp_path / "sheet.png", "--frames", "3", *words)
    model, transform = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    frames = decode(film, indices=found["indices"]).frames.numpy()
    pixels = torch.stack([transform(PIL.Image.fromarray(one.transpose(1, 2, 0))) for one in frames])
    with torch.no_grad():
        seen = model.encode_image(pixels, normalize=True)
        asked = model.encode_text(open_clip.get_tokenizer(f"local-dir:{folder}")(["blue"]), normalize=True)[0]
    assert found["scores"] == pytest.approx((seen @ asked).tolist(), abs=1e-4)


def test_options_reach_the_method(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = sample(capsys, film, tmp_path / "sheet.png", "--frames", "3", "--set", "options.at=ends")
    assert found["indices"] == [0, 29, 59]


def test_seconds_and_plans_are_taken_as_they_are(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample(capsys, film, tmp_path / "a.png", "--at", "1.5", "--at", "0.1")["indices"] == [45, 3]
    plan = tmp_path / "plan.json"
    assert main(["video", "plan", str(film), "--window", "500", "--out", str(plan), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)["plan"]
    found = sample(capsys, film, tmp_path / "b.png", "--plan", str(plan))
    assert found["indices"] == planned["indices"]
    assert found["how"] == "plan plan.json"


def test_a_sheet_that_is_there_stays(film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    sheet.write_bytes(b"mine")
    assert main(["video", "sample", str(film), "--out", str(sheet)]) == 2
    assert "is there already; --overwrite replaces it" in capsys.readouterr().err
    assert sheet.read_bytes() == b"mine"
    assert main(["video", "sample", str(film), "--out", str(sheet), "--overwrite"]) == 0
    assert "times: 0.03" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["film.mp4", "--frames", "0"], "greater than or equal to 1"),
        (["film.mp4", "--frames", "61"], "61 frames were asked for and there are 60"),
        (["film.mp4", "--start", "1", "--end", "1.1", "--frames", "9"], "9 frames were asked for and there are 3"),
        (["film.mp4", "--start", "-1"], "greater than or equal to 0"),
        (["film.mp4", "--start", "7"], "no frames from 7 to"),
        (["film.mp4", "--start", "1", "--end", "0.5"], "no frames from 1 to 0.5 s"),
        (["film.mp4", "--at", "-3"], "-3 s was asked for; it lasts from 0 to 2 s"),
        (["film.mp4", "--at", "1", "--frames", "3"], "give one of --frames with a method, --at and --plan"),
        (["film.mp4", "--set", "method=akz"], "'method': should be 'fps', "),
        (["film.mp4", "--method", "aks"], "give --encoder NAME and --query TEXT"),
        (["film.mp4", "--method", "aks", "--query", "a car"], "name one with --encoder"),
        (["film.mp4", "--query", "a car"], "the sampler 'uniform' looks at times alone"),
        (["film.mp4", "--method", "k_center", "--encoder", "./absent"], "no folder ./absent"),
        (["film.mp4", "--set", "options.pace=2"], "has no option 'pace'"),
        (["film.mp4", "--plan", "absent.json"], "is no plan of"),
        (["film.mp4", "--plan", "poem.mp4"], "is no plan of"),
        (["film.mp4", "--plan", "split.json"], "made without a video"),
        (["poem.mp4"], "no video that can be opened"),
        (["absent.mp4"], "absent.mp4: no such file"),
        (["http://a.b/film.mp4"], "a network path is read only when it is asked for: --network"),
        ([], "no video"),
    ],
)
def test_mistakes_are_said(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "film.mp4").write_bytes(film.read_bytes())
    (tmp_path / "poem.mp4").write_text("roses are red\n" * 50)
    (tmp_path / "split.json").write_text(json.dumps({"plan": {"times": [], "tokens_a_frame": 9, "visual_tokens": 0}}))
    assert main(["video", "sample", *words, "--out", "sheet.png"]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize(("out", "said"), [("sheet.tiff", "should name a .png"), ("nowhere/sheet.png", "there is no folder nowhere")])
def test_a_place_that_cannot_be_is_said(film: Path, capsys: pytest.CaptureFixture[str], out: str, said: str) -> None:
    assert main(["video", "sample", str(film), "--out", out]) == 2
    assert said in capsys.readouterr().err


def test_a_sheet_of_one_and_a_long_title() -> None:
    sheet = contact_sheet([PIL.Image.new("RGB", (10, 10))], ["0.00 s"], title="word " * 200, width=64, height=48)
    assert sheet.size == (64 + 16, 48 + 18 + 8 + 26 + 8)
