"""`mmalign rlaif audit` through its door: bundled models on drawn pools, and what is refused."""

import json

import pytest

import mm_align.backends
from data_tools.records import Image, Message, Part, Response, Sample
from mm_align.cli import main

TEXTS = ("There is a red circle.", "There is a blue square at the top left.", "A drawing.")


@pytest.fixture
def folder(tmp_path, picture):
    """Three prompts: two with three different answers, one with equal ones."""
    samples = []
    for i in range(3):
        picture(i).save(tmp_path / f"{i}.png")
        turn = Message("user", (Part("image"), Part("text", "Describe the image in detail.")))
        samples.append(Sample(f"s{i}", (turn,), (Image(path=f"{i}.png"),)))
    responses = [Response(f"{s.id}:{j}", s.id, TEXTS[j if i else 0]) for i, s in enumerate(samples) for j in range(3)]
    root = tmp_path / "feedback"
    root.mkdir()
    (root / ".mmalign").mkdir()
    (root / ".mmalign/run.json").write_text('{"made_by": "mm-align", "layout": 1, "outputs": []}')
    (root / ".mmalign/finished.json").write_text("{}")
    for name, rows in (("samples", samples), ("candidates", responses)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows).replace('"path": "', '"path": "../'))
    return root


def test_bundled_models_tell_their_flips(folder, capsys, reported):
    words = ["rlaif", "audit", str(folder), "--model", "tiny-judge", "--reference", "tiny-lvlm", "--device", "cpu", "--draws", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert out.startswith("2 of 3 prompts have different answers")
    found = json.loads((folder / "audit.json").read_text())
    assert reported(*words) == found
    assert found["pools"] == 2
    assert len(found["flips"]) == 3 * (2 + 1 + 1)
    assert set(found["mean"]) == {"implicit", "likelihood", "likelihood of the reference"}
    assert all(0 <= row["low"] <= row["mean"] <= row["high"] <= 1 for row in found["flips"])


def test_nothing_to_choose_and_a_model_that_does_not_score(folder, capsys, monkeypatch):
    words = ["rlaif", "audit", str(folder), "--model", "x/y", "--reference", "x/z"]
    assert main([*words, "--limit", "1"]) == 2
    assert "no prompt with two different answers" in capsys.readouterr().err

    class Mute:
        faces = frozenset({"generate"})

    monkeypatch.setattr(mm_align.backends, "load_backend", lambda *a, **k: Mute())
    assert main(words) == 2
    assert "x/y gives no log-probabilities" in capsys.readouterr().err


def test_a_folder_without_candidates(tmp_path, capsys):
    assert main(["rlaif", "audit", str(tmp_path), "--model", "x/y", "--reference", "x/z"]) == 2
    assert "samples.jsonl" in capsys.readouterr().err
