"""Pairs as batches: one row or two, the same log-probabilities; pictures once; what cannot be trained on says why."""

import math
from dataclasses import replace

import pytest
import torch

from data_tools.io.refusals import RowError
from data_tools.records import Image, Message, Part, PreferencePair, Sample
from mm_align.losses import answer_logps as module
from mm_align.losses.answer_logps import answer_logps
from mm_align.models.pairs import collate_pairs, prepare_pair


def asked(name: str, question: str, *pictures) -> Sample:
    parts = (*(Part("image") for _ in pictures), Part("text", question))
    return Sample(name, (Message("user", parts),), tuple(Image(pixels=p) for p in pictures))


@pytest.fixture
def pairs(picture, processor):
    """Two questions about one picture, one about another, one about two, and one without."""
    first, second = picture(0), picture(1)
    records = [
        PreferencePair(asked("a", "what? ", first), "a red ball", "a blue cube", 1.0),
        PreferencePair(asked("b", "how many? ", first), "two", "twelve of them"),
        PreferencePair(asked("c", "what? ", second), "a green cone at the left", "a", 2.0),
        PreferencePair(asked("d", "same? ", second, first), "no", "yes"),
        PreferencePair(asked("e", "1 + 1? "), "2", "3"),
    ]
    return [prepare_pair(record, processor) for record in records]


def alone(model, processor, pair, side) -> list[float]:
    """Log-probabilities of one answer by the model's ordinary logits on its own conversation."""
    tokens = getattr(pair, side)
    ids = torch.from_numpy(tokens.ids)
    inputs = {"input_ids": ids[None]}
    if pair.sample.images:
        inputs["pixel_values"] = torch.from_numpy(processor.image_processor.pixels([i.pixels for i in pair.sample.images]))
    scores = model(**inputs).logits[0].log_softmax(-1)
    return [scores[place - 1, ids[place]].item() for place in tokens.trains.nonzero()[0]]


@pytest.mark.parametrize("layout", ["shared", "duplicated"])
@torch.no_grad()
def test_log_probabilities_are_those_of_each_answer_alone(layout, pairs, tiny_model, processor):
    batch = collate_pairs(pairs, processor, layout=layout)
    found = answer_logps(tiny_model, batch)
    expected = [alone(tiny_model, processor, pair, side) for side in ("chosen", "rejected") for pair in pairs]
    assert found.shape == batch["answer_ids"].shape
    for row, mask, wanted in zip(found, batch["answer_mask"], expected, strict=True):
        assert row[mask].tolist() == pytest.approx(wanted, abs=1e-5)
        assert not row[~mask].any()


def test_the_end_of_the_turn_is_a_token_of_the_answer(pairs, processor):
    batch = collate_pairs(pairs, processor)
    ends = batch["answer_ids"].gather(1, batch["answer_mask"].sum(1, keepdim=True) - 1)
    assert (ends == processor.tokenizer.eos_token_id).all()


def gradients(model, batch) -> list[torch.Tensor]:
    model.zero_grad()
    weights = torch.linspace(-1, 1, batch["answer_ids"].numel()).view(batch["answer_ids"].shape)
    (answer_logps(model, batch) * weights).sum().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_both_layouts_give_the_same_gradients(pairs, make_model, processor):
    """The norms of Qwen2 compute in float32 whatever the weights are: equal to their rounding, gradients being around 1."""
    model = make_model().double()
    one, other = (gradients(model, collate_pairs(pairs, processor, layout=name, dtype=torch.double)) for name in ("shared", "duplicated"))
    assert len(one) == len(other) > 20
    assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-5) for a, b in zip(one, other, strict=True))


def test_parts_of_the_head_give_the_same_and_are_never_all_there(pairs, make_model, processor, monkeypatch):
    """With 500 logits at once (one place of the tiny vocabulary of 259), no tensor of answers x vocabulary is made."""
    model = make_model().double()
    batch = collate_pairs(pairs, processor, dtype=torch.double)
    whole = gradients(model, batch)
    monkeypatch.setattr(module, "LOGITS_AT_ONCE", 500)
    with Largest(last=model.config.text_config.vocab_size) as largest:
        parts = gradients(model, batch)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(whole, parts, strict=True))
    assert largest.rows == 1


def test_the_head_runs_at_no_place_of_prompt_or_picture(pairs, make_model, processor):
    batch = collate_pairs(pairs, processor)
    with Largest(last=259) as largest:
        gradients(make_model(), batch)
    assert largest.rows <= batch["answer_mask"].sum() < batch["input_ids"].numel()


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the most rows of any tensor [rows, last] that is made (the head's weights have `last` rows, not columns)."""

    def __init__(self, last: int) -> None:
        super().__init__()
        self.last, self.rows = last, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim >= 2 and tensor.shape[-1] == self.last:
                rows = tensor.numel() // self.last
                self.rows = max(self.rows, 0 if rows == 32 else rows)  # [32, 259] is the head's weight, transposed
        return made


def test_each_picture_is_passed_once(pairs, processor):
    shared, duplicated = (collate_pairs(pairs, processor, layout=name) for name in ("shared", "duplicated"))
    assert len(shared["pixel_values"]) == len(duplicated["pixel_values"]) == 2
    assert shared["picture_index"].tolist() == [0, 0, 1, 1, 0]
    assert duplicated["picture_index"].tolist() == [0, 0, 1, 1, 0] * 2


def test_the_prompt_is_there_once_and_so_is_what_both_answers_begin_with(pairs, processor):
    """Pair c: 'a green ...' and 'a': the letter is in the row once, and neither end of turn is read."""
    pair = pairs[2]
    prompt = int(pair.chosen.trains.argmax())
    batch = collate_pairs([pair], processor)
    assert batch["input_ids"].shape == (1, prompt + len("a green cone at the left"))


def test_what_is_known_of_a_pair_comes_along(pairs, processor):
    lengths = [(int(pair.chosen.trains.sum()), int(pair.rejected.trains.sum())) for pair in pairs]
    known = [replace(p, reference=tuple(torch.full((n,), -float(n)).numpy() for n in size)) for p, size in zip(pairs, lengths, strict=True)]
    batch = collate_pairs(known, processor)
    assert batch["margins"].tolist() == [1.0, 0.0, 2.0, 0.0, 0.0]
    sums = [-float(n * n) for column in zip(*lengths, strict=True) for n in column]
    assert batch["reference_logps"].sum(1).tolist() == pytest.approx(sums)
    with pytest.raises(ValueError, match="1 of 2 pairs have scores"):
        collate_pairs([known[0], pairs[1]], processor)


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("equal_answers", {"rejected": "yes"}),
        ("empty_answer", {"rejected": "  "}),
        ("bad_margin", {"margin": math.nan}),
        ("image_count", {"sample": Sample("x", (Message("user", (Part("image"), Part("text", "?"))),))}),
        ("too_long", {"rejected": "no" * 20}),
    ],
)
def test_a_pair_that_cannot_be_trained_on_says_why(reason, changes, processor):
    pair = PreferencePair(asked("x", "is it? "), "yes", "no")
    prepare_pair(pair, processor, max_length=30)
    with pytest.raises(RowError) as caught:
        prepare_pair(replace(pair, **changes), processor, max_length=30)
    assert caught.value.reason == reason


def test_a_batch_that_is_none_of_pairs_is_refused(tiny_model):
    with pytest.raises(ValueError, match="answer_ids.*collate_pairs"):
        answer_logps(tiny_model, {"input_ids": torch.zeros(1, 4, dtype=torch.long)})


def test_contrast_reads_the_other_pictures(pairs, tiny_model, processor):
    batch = collate_pairs(pairs, processor)
    with pytest.raises(ValueError, match="contrast_pixel_values"):
        answer_logps(tiny_model, batch, contrast=True)
    batch["contrast_pixel_values"] = torch.zeros_like(batch["pixel_values"])
    with torch.no_grad():
        plain, other = answer_logps(tiny_model, batch), answer_logps(tiny_model, batch, contrast=True)
        swapped = answer_logps(tiny_model, batch | {"pixel_values": batch["contrast_pixel_values"]})
    assert torch.equal(other, swapped)
    differs = (plain != other).any(1)
    assert differs.tolist() == [True, True, True, True, False] * 2  # the last pair shows no picture
