"""`enhance` with real model classes at toy size: one of ours, and a general one over real pictures."""

import html
import importlib.util
import json
from pathlib import Path

import PIL.Image
import pytest

import mm_align
from data_tools.aitqe import GENERAL_PROMPT

REAL = Path(__file__).resolve().parents[3] / "shared" / "real_images"


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def write_rows(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def builders():
    """The tiny models that the backends' tests build."""
    spec = importlib.util.spec_from_file_location("tiny_models", Path(__file__).parent / "backends" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_lvlm_of_ours_end_to_end(builders, tmp_path):
    """A random model: no readable answer, so every caption stays, with what was resolved stored beside the run."""
    builders.build_lvlm(tmp_path / "model")
    source = write_rows(tmp_path / "src", [{"id": str(i), "image": f"{i}.png", "caption": f"caption {i}"} for i in range(10)])
    for i in range(10):
        PIL.Image.new("RGB", (24 + i, 24), (i * 20, 9, 9)).save(source / f"{i}.png")
    report = mm_align.enhance(source, tmp_path / "out", model=str(tmp_path / "model"), device="cpu", batch_size=4, max_tokens=12)
    assert report.summary.kept == 10
    record = json.loads((tmp_path / "out" / ".mmalign" / "run.json").read_text())
    assert (record["resolved"]["batch_size"], record["resolved"]["device"], record["resolved"]["dtype"]) == (4, "cpu", "float32")
    assert str(tmp_path) not in (tmp_path / "out" / "rows.jsonl").read_text()
    assert rows_of(tmp_path / "out" / "rows.jsonl")[0]["aitqe"]["parse_status"] in ("unparsable", "no_score")


def html_escape(text):
    return html.escape(text, quote=False)


@pytest.mark.skipif(not REAL.is_dir(), reason="the folder of real images is not beside this checkout")
def test_real_images_with_a_general_model(builders, tmp_path):
    """All real pictures with their first question or their name as caption, and two broken ones, through a tiny LLaVA."""
    pictures = [m for m in map(json.loads, (REAL / "manifest.jsonl").read_text().splitlines()) if m["media"] == "image"]
    rows = [{"image": str(REAL / m["path"]), "caption": ((m.get("questions") or [{}])[0].get("question") or m["path"])} for m in pictures]
    folder = write_rows(tmp_path / "src", rows)
    (folder / "cut.jpg").write_bytes((REAL / pictures[0]["path"]).read_bytes()[:3000])
    rows += [{"image": "cut.jpg", "caption": "cut off"}, {"image": "gone.jpg", "caption": "not there"}]
    write_rows(folder, rows)
    builders.build_llava(tmp_path / "model")
    # the long general prompt would be 1,500 tokens of bytes a row
    options = {"device": "cpu", "batch_size": 16, "max_tokens": 4, "prompt": "aitqe"}
    report = mm_align.enhance(folder, tmp_path / "out", model=str(tmp_path / "model"), **options)
    assert report.summary.rows == len(rows)
    assert report.summary.reasons == {"image_missing": 1, "image_truncated": 1}
    assert report.summary.out == len(pictures)
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("data:image/jpeg;base64") >= 6
    assert sum(html_escape(row["caption"])[:30] in page for row in rows[:-2]) >= 6


@pytest.mark.skipif(not REAL.is_dir(), reason="the folder of real images is not beside this checkout")
def test_the_general_prompt_over_real_images(builders, tmp_path):
    """The default for chat models: the long question in words, a few pictures. A random model's answers are unreadable: captions stay."""
    builders.build_llava(tmp_path / "model")
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 4096  # rotary: no weight depends on it
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    rows = [{"image": str(path), "caption": path.stem} for path in sorted((REAL / "datajuicer_tests").glob("*.jpg"))[:3]]
    options = {"device": "cpu", "batch_size": 2, "max_tokens": 3}
    report = mm_align.enhance(write_rows(tmp_path / "src", rows), tmp_path / "out", model=str(tmp_path / "model"), **options)
    out = rows_of(tmp_path / "out/rows.jsonl")
    assert report.summary.kept == 3
    assert [row["caption"] for row in out] == [row["caption"] for row in rows]
    assert {row["aitqe"]["reason"] for row in out} == {"unparsable"}
    assert {row["aitqe"]["prompt_sha"] for row in out} == {GENERAL_PROMPT.sha}
