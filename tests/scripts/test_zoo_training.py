"""The bundled models' training data: packed questions equal single ones, batches repeat, labels sit where they should."""

import random
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from zoo.aitqe import HEAD, AitqeStage
from zoo.architecture import model_from
from zoo.batches import Row, pack, visible
from zoo.judge import JudgeStage
from zoo.lvlm import LvlmStage
from zoo.objective import ZooObjective
from zoo.plan import Part
from zoo.tokenizer import build_tokenizer
from zoo.watch import auroc, drawn, rewrite_log_odds

from data_tools.scenes.corrupt import corrupt
from data_tools.scenes.rows import Captioned
from data_tools.scenes.world import Item, Scene
from mm_align.losses import IGNORE
from mm_align.models import LvlmForConditionalGeneration, LvlmProcessor

ZOO = Path(__file__).resolve().parents[2] / "mm_align/zoo/tiny-aitqe"


@pytest.fixture(scope="module")
def processor():
    return LvlmProcessor.from_pretrained(ZOO)


@pytest.fixture(scope="module")
def model():
    return LvlmForConditionalGeneration.from_pretrained(ZOO, dtype=torch.float32).eval()


def test_packed_questions_do_not_see_each_other(model, processor):
    """Logits of each question in a pack equal those of the question alone behind the picture."""
    stage = AitqeStage(processor, Part("test", 4, 1, 4, 1e-3, 0, 0))
    scene, rows = stage.picture(random.Random(3))
    packed = {k: torch.from_numpy(v)[None] for k, v in pack(stage.image, rows).items() if k != "judged"}
    from data_tools.scenes.render import render

    pixels = torch.from_numpy(processor.image_processor.pixels([render(scene)]))
    with torch.no_grad():
        together = model(
            input_ids=packed["input_ids"],
            position_ids=packed["position_ids"],
            attention_mask=visible(packed["question"]),
            pixel_values=pixels,
            use_cache=False,
        ).logits[0]
        start = len(stage.image)
        for row in rows:
            alone = model(input_ids=torch.tensor([stage.image + row.ids]), pixel_values=pixels, use_cache=False).logits[0]
            assert torch.allclose(together[start : start + len(row.ids)], alone[len(stage.image) :], atol=1e-4)
            start += len(row.ids)


def test_visible_by_hand():
    """A picture of one token (0), two questions (1, 2), padding (-1): rows see the picture and their own past."""
    seen = visible(torch.tensor([[0, 1, 1, 2, -1]]))[0, 0].int().tolist()
    assert seen == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 0, 0, 1, 0], [1, 0, 0, 0, 1]]


def test_pack_by_hand():
    packed = pack([7, 7], [Row([1, 2], [0.0, 1.0], [(1, 1.0)]), Row([3], [2.0])])
    assert packed["input_ids"].tolist() == [7, 7, 1, 2, 3]
    assert packed["position_ids"].tolist() == [0, 1, 2, 3, 2]
    assert packed["labels"].tolist() == [IGNORE, IGNORE, IGNORE, 2, 3]
    assert packed["judged"] == [(3, 1.0)]


@pytest.mark.parametrize("kind", [AitqeStage, LvlmStage, JudgeStage])
def test_batches_are_a_function_of_seed_and_number(processor, kind):
    first, again = (kind(processor, Part("x", 8, 2, 2, 1e-3, 0, 0))[5] for _ in range(2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["pixel_values"], kind(processor, Part("y", 8, 2, 2, 1e-3, 0, 0))[5]["pixel_values"])


@pytest.mark.parametrize("kind", [AitqeStage, LvlmStage, JudgeStage])
def test_every_part_that_is_read_learns(model, processor, kind):
    """Gradients reach tower, adapter and decoder through the batches of each stage."""
    output = ZooObjective(128, 128, 8)(model, kind(processor, Part("x", 4, 1, 2, 1e-3, 0, 0))[0])
    output.loss.backward()
    reached = {name.split(".")[1] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    model.zero_grad()
    assert reached == {"vision_tower", "adapter", "language_model"}
    assert ("judge" in output.metrics) == (kind is AitqeStage)


def test_a_model_starts_from_another_with_the_words_both_know(model, processor):
    """Weights are equal; a token keeps its embedding under its new number; unknown tokens get new ones."""
    words = [f" red circle number {k}" for k in range(40)] * 2
    tokenizer = build_tokenizer(words)
    started = model_from(ZOO, tokenizer)
    assert torch.equal(started.model.adapter.linear_1.weight, model.model.adapter.linear_1.weight)
    table, known = started.get_input_embeddings().weight, model.get_input_embeddings().weight
    rows = {name: tok.convert_tokens_to_ids("\u0120red") for name, tok in (("new", tokenizer), ("old", processor.tokenizer))}
    assert torch.equal(table[rows["new"]], known[rows["old"]])
    assert len(table) == len(tokenizer) != len(known)


def test_an_answer_is_what_is_learned(processor):
    """Loss weights: none on the question, 6 on a short answer's decision, 1 on its end and on every token of a long answer."""
    stage = LvlmStage(processor, Part("x", 4, 1, 2, 1e-3, 0, 0))
    short, long = stage.answered("Is it red?", "yes"), stage.answered("What?", "a small red circle")
    assert short.weights == [0.0] * len(processor.text_ids("Is it red?")) + [6.0] + [1.0] * len(processor.text_ids("yes"))
    assert set(long.weights[len(processor.text_ids("What?")) :]) == {1.0}
    assert short.ids[-1] == long.ids[-1] == processor.tokenizer.eos_token_id


def test_wrong_words_are_marked_where_they_stand(processor):
    """A blue circle where the scene's is red: the colour word and the phrase are wrong, and so is the caption."""
    scene = Scene(64, "white", (Item("circle", "red", "small", "plain", "center", 32, 32),))
    stage = AitqeStage(processor, Part("x", 4, 1, 4, 1e-3, 0, 0))
    row = stage.row(Captioned(scene, "At the center a blue circle.", "wrong_color", 0.6), whole=False)
    words = {processor.tokenizer.decode(row.ids[position]): value for position, value in row.judged}
    assert words[" blue"] == words[" circle"] == 1
    good = stage.row(Captioned(scene, "At the center a red circle.", "good", 0.0), whole=False)
    assert {value for _, value in good.judged} == {0}
    assert good.weights[: len(processor.text_ids(HEAD.rstrip()))] == [0.0]


def test_auroc_by_hand():
    """Of 2 x 2 pairs three are in order and one is a tie: 3.5 / 4."""
    assert auroc([3, 2], [1, 2]) == pytest.approx(3.5 / 4)


def test_validation_draws_every_kind_and_the_model_reads_them(model, processor):
    made = drawn("validation", 1, 2, "t")
    assert len(made) == 14
    assert len(rewrite_log_odds(model, processor, made)) == 14
    assert corrupt(made[0].scene, made[0].kind, random.Random(0)) is not None
