"""`mmalign eval` over backends of every kind: four families of transformers from their folders, and an endpoint."""

import json

import PIL.Image
import pytest

from mm_align.cli import main


@pytest.fixture
def questions(tmp_path):
    """Folder with four of POPE's questions about two pictures."""
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(2):
        PIL.Image.new("RGB", (32, 32), (90 * i, 200, 9)).save(folder / f"p{i}.png")
    labels = ("yes", "no", "yes", "no")
    rows = [{"question_id": i, "image": f"p{i // 2}.png", "text": f"Is {i} there?", "label": label} for i, label in enumerate(labels)]
    (folder / "q.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def evaluated(questions, model, out, *more):
    where = ["--data", f"pope={questions / 'q.json'}", "--images", f"pope={questions}"]
    return main(["eval", model, "--bench", "pope", *where, "--out", str(out), *more])


def answers(out):
    (path,) = out.glob("*/responses/pope.jsonl")
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("beams", [1, 2])
def test_models_of_every_family_from_their_folder(model_folder, family, questions, tmp_path, beams):
    more = ["--set", f"sampling.beams={beams}", "--set", "sampling.max_tokens=4", "--device", "cpu"]
    assert evaluated(questions, str(model_folder(family)), tmp_path / "out", *more) == 0
    assert len(set(answers(tmp_path / "out"))) > 1
    (told,) = (json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/results.json"))
    assert told["n-samples"]["pope"] == {"original": 4, "effective": 4}
    assert len(told["config"]["model_args"]["revision"]) == 16
