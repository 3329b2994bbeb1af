"""tiny-lvlm and tiny-judge from their files: frozen by hash, loaded by the Auto classes, and what their cards say on fresh scenes."""

import hashlib
import json
import random
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

import mm_align
from data_tools.calls import Sampling
from data_tools.scenes.render import render
from data_tools.scenes.world import sample_scene
from mm_align.backends import load_backend

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zoo.answering import described, yes_no
from zoo.describing import figures, mixed_share, told
from zoo.judging import by_kind, questions_of
from zoo.lvlm import DETAILED

ZOO = Path(mm_align.__file__).parent / "zoo"
CHATTING = ("tiny-lvlm", "tiny-judge")


@pytest.fixture(scope="module")
def scenes():
    rng = random.Random("test-zoo-chat")  # scenes that no proof measures
    return [sample_scene(rng, "heldout") for _ in range(48)]


@pytest.fixture(scope="module")
def lvlm():
    return load_backend("tiny-lvlm")


@pytest.mark.parametrize("name", CHATTING)
def test_the_weights_are_those_of_the_card(name):
    weights = ZOO / name / "model.safetensors"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in (ZOO / name / "README.md").read_text(encoding="utf-8")
    assert weights.stat().st_size <= {"tiny-lvlm": 4, "tiny-judge": 6}[name] * 2**20


@pytest.mark.parametrize("name", CHATTING)
def test_the_card_shows_what_was_measured(name):
    measured = json.loads((ZOO / name / "figures.json").read_text(encoding="utf-8"))
    card = (ZOO / name / "README.md").read_text(encoding="utf-8")
    assert "SceneWorld" in measured["title"]
    shown = [f"{way['hallucinating']:.1%}" for way in measured["detailed"].values()] if name == "tiny-lvlm" else []
    shown += [f"{measured['whole']['auroc']:.3f}", f"{measured['balanced_accuracy']['existence']:.3f}"] if name == "tiny-judge" else []
    assert all(value in card for value in shown)


@pytest.mark.parametrize("name", CHATTING)
def test_the_auto_classes_load_it_and_it_answers_the_same_twice(name, scenes):
    model = AutoModelForImageTextToText.from_pretrained(ZOO / name, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(ZOO / name)
    inputs = processor(text="<image>\nIs there a red circle in the image?", images=[render(scenes[0])], return_tensors="pt")
    first, again = (model.generate(**inputs, max_new_tokens=4, do_sample=False) for _ in range(2))
    assert torch.equal(first, again)
    assert processor.tokenizer.decode(first[0, -2]) in ("yes", "no")


def test_descriptions_hallucinate_from_habit_and_cover_the_picture(lvlm, scenes):
    """The card's shares come from 300 scenes; on 48 the bounds are wide, but a model without habits or eyes fails."""
    texts = described(lvlm, scenes, DETAILED[0], Sampling(max_tokens=200))
    shares = figures([told(text, scene) for (text,), scene in zip(texts, scenes, strict=True)])
    assert 0.2 <= shares["hallucinating"] <= 0.75
    assert shares["from_habit"] >= 0.5
    assert shares["coverage"] >= 0.85


def test_candidates_of_a_picture_differ(lvlm, scenes):
    few = scenes[:16]
    drawn = described(lvlm, few, DETAILED[0], Sampling(n=8, temperature=1.0, max_tokens=200))
    assert drawn == described(lvlm, few, DETAILED[0], Sampling(n=8, temperature=1.0, max_tokens=200))
    assert mixed_share([[told(t, scene) for t in texts] for texts, scene in zip(drawn, few, strict=True)]) >= 0.4


def test_the_judge_agrees_with_the_truth_and_is_stronger_than_the_model_it_judges(lvlm):
    made = questions_of("heldout", 24, 60, "test")
    judged, own = (by_kind(made, yes_no(backend, made)) for backend in (load_backend("tiny-judge"), lvlm))
    assert judged["statements"] >= 0.75
    assert judged["invented"] >= 0.85
    assert judged["whole"] >= own["whole"] + 0.1
