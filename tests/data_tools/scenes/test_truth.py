"""SceneWorld version 1 is fixed: its truth by golden hashes, its pixels within a tolerance, its promises by counting."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from data_tools.scenes.captions import detailed_caption, good_caption, short_caption
from data_tools.scenes.extract import agreement
from data_tools.scenes.render import render
from data_tools.scenes.rows import captioned_scene, make_row, scene_rows
from data_tools.scenes.spec import COLORS, KINDS, SHAPES, SIZES, SPEC, TEXTURES
from data_tools.scenes.world import HABITS, Scene, sample_scene

GOLDEN = Path(__file__).parent / "golden"


def truth_hash(split: str, rows: int = 50) -> str:
    made = [make_row(0, split, i)[0] for i in range(rows)]
    return hashlib.sha256(json.dumps(made, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


@pytest.mark.parametrize("split", SPEC["splits"])
def test_truth_is_that_of_version_1(split):
    assert truth_hash(split) == json.loads((GOLDEN / "truth.json").read_text())[split]


def contact_sheet() -> PIL.Image.Image:
    rng = random.Random("golden-pixels")
    sheet = PIL.Image.new("RGB", (6 * 96, 4 * 96))
    for k in range(24):
        sheet.paste(render(sample_scene(rng, "train")), (k % 6 * 96, k // 6 * 96))
    return sheet


def test_pixels_are_those_of_version_1_within_a_tolerance():
    """Anti-aliasing may differ by a little between Pillow versions; a moved or recoloured object differs by far more."""
    golden = np.asarray(PIL.Image.open(GOLDEN / "pictures.png").convert("RGB"), np.float32)
    drawn = np.asarray(contact_sheet(), np.float32)
    assert np.abs(drawn - golden).mean() < 1.0
    assert (np.abs(drawn - golden).max(-1) > 60).mean() < 0.002


def test_spec_promises():
    assert len(SHAPES) >= 8
    assert len(COLORS) >= 8
    assert len(SIZES) == 2
    assert len(TEXTURES) == 3
    assert set(SPEC["sizes_px"]) == {"64", "96"}
    shares = SPEC["corruptions"]
    assert sum(c["share"] for c in shares.values()) == pytest.approx(1)
    assert sum(c["share"] for c in shares.values() if c["needs_image"]) >= 0.6


def test_true_captions_are_true_and_whole():
    rng = random.Random(1)
    for _ in range(400):
        scene = sample_scene(rng, "train")
        for text in (good_caption(scene, rng), short_caption(scene), detailed_caption(scene)):
            found = agreement(text, scene)
            assert found.claimed == found.right == found.truth == len(scene.items), text
            assert found.invented == 0


def test_poor_captions_are_poor_and_their_shares_those_of_the_spec():
    """2,000 poor captions; a share p has standard error sqrt(p (1-p) / 2000) <= 0.008, so 0.035 is over four of them."""
    rng = random.Random(2)
    made = [captioned_scene(rng, "validation", poor_share=1.0) for _ in range(2000)]
    for kind, count in Counter(m.kind for m in made).items():
        assert count / len(made) == pytest.approx(SPEC["corruptions"][kind]["share"], abs=0.035)
    for m in made:
        assert 0 < m.severity <= 1
        found = agreement(m.text, m.scene)
        if m.kind in ("wrong_object", "wrong_color", "wrong_count", "missing_detail", "other_image", "file_name", "empty"):
            assert found.right < max(found.truth, found.claimed), (m.kind, m.text)
        if m.kind in ("wrong_object", "wrong_color"):
            assert found.invented >= 1
    assert {m.kind for m in made} == set(KINDS)


def test_half_of_the_rows_are_good():
    kinds = Counter(make_row(5, "train", i)[1].kind == "good" for i in range(600))
    assert kinds[True] / 600 == pytest.approx(0.5, abs=0.08)


def test_splits_share_no_scene_and_heldout_breaks_the_habits():
    rng = random.Random(3)
    scenes = {split: [sample_scene(rng, split) for _ in range(300)] for split in SPEC["splits"]}
    contents = {split: {s.content() for s in found} for split, found in scenes.items()}
    assert not contents["train"] & contents["heldout"]
    assert not contents["train"] & contents["validation"]
    assert not contents["validation"] & contents["heldout"]
    assert habit_rate(scenes["train"]) > 0.4
    assert habit_rate(scenes["heldout"]) == 0


def habit_rate(scenes: list[Scene]) -> float:
    """Of scenes of several objects with a trigger of habit, the share that holds its companion too."""
    kinds = [{(i.color, i.shape) for i in s.items} for s in scenes if len(s.items) > 2]
    triggered = [(k, t) for k in kinds for t in k if t in HABITS]
    return sum(HABITS[t] in k for k, t in triggered) / len(triggered)


def test_rows_hold_the_whole_truth_and_any_row_can_be_made_alone():
    rows = list(scene_rows(5, seed=9, split="heldout"))
    alone, made = make_row(9, "heldout", 4)
    assert rows[4].meta["sceneworld"] == alone["sceneworld"]
    truth = rows[4].meta["sceneworld"]
    assert Scene.from_dict(truth["scene"]) == made.scene
    assert len(truth["boxes"]) == len(made.scene.items)
    assert {"captions", "short", "detailed", "questions", "distractors", "kind", "severity", "needs_image"} <= set(truth)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="expected one of train, validation, heldout"):
        sample_scene(random.Random(0), "test")
