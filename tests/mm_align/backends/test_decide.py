"""Questions behind one prefill against independent whole forwards, on tiny random models of four families."""

from __future__ import annotations

import dataclasses
import logging
import math

import pytest
import torch

from data_tools.calls import Decision
from data_tools.records import Sample
from mm_align.backends import decisions, load_backend
from mm_align.backends.conversations import conversations
from mm_align.backends.decisions import find_verdicts
from mm_align.backends.null import NullBackend
from mm_align.config import UserError

from .conftest import tiny_tokenizer

QUESTIONS = ["Is there a red circle?", "Is it\nyes?", "", "Does a small green star stand left of two blue squares, été ☕?", "no" * 40]


def alone(backend, sample: Sample, question: str) -> Decision:
    """By the processor's own inputs and one forward, summed by hand over the spellings of the test vocabulary."""
    inputs = backend.prompts.encode(conversations(sample, [question]))
    with torch.no_grad():
        shares = backend.model(**inputs).logits[0, -1].softmax(-1)
    yes, no = (backend.tokenizer.convert_tokens_to_ids(words) for words in (["yes", " yes", "Yes"], ["no", " no", "NO"]))
    return Decision(shares[yes].sum().item(), shares[no].sum().item())


def close(found: Decision, expected: Decision, within: float = 1e-6) -> bool:
    return abs(found.p_yes - expected.p_yes) <= within and abs(found.p_no - expected.p_no) <= within


def test_equal_to_independent_forwards(backend, samples):
    """Samples of different numbers of questions, in one batch."""
    asked = [QUESTIONS[: 5 - i] for i in range(5)]
    found = backend.decide(samples, asked)
    assert [len(row) for row in found] == [5, 4, 3, 2, 1]
    for sample, questions, row in zip(samples, asked, found, strict=True):
        for question, decision in zip(questions, row, strict=True):
            assert close(decision, alone(backend, sample, question))
    assert len({d.p_yes for row in found for d in row}) == 15, "the questions are too alike for this test to prove anything"
    assert backend._judge.layout == "packed"


def test_one_question_goes_the_way_of_many(backend, samples):
    many = backend.decide(samples[:1], [QUESTIONS])[0]
    for question, decision in zip(QUESTIONS, many, strict=True):
        assert close(backend.decide(samples[:1], [[question]])[0][0], decision)


def test_one_tower_call_and_one_forward_behind_it(backend, samples, tower_calls):
    backend.decide(samples[:1], [QUESTIONS])
    forwards = []
    handle = backend.model.register_forward_hook(lambda *_: forwards.append(1))
    with tower_calls(backend) as calls:
        backend.decide(samples[:1], [QUESTIONS * 3])
    handle.remove()
    assert (len(calls), len(forwards)) == (1, 2)


def test_many_questions_in_pieces(backend, samples, monkeypatch):
    """Two rows behind the prefill of one sample, one behind that of the other."""
    monkeypatch.setattr(decisions, "ROW_TOKENS", 100)
    found = backend.decide(samples[:2], [QUESTIONS, QUESTIONS[:1]])
    assert close(found[0][4], alone(backend, samples[0], QUESTIONS[4]))
    assert close(found[0][0], alone(backend, samples[0], QUESTIONS[0]))
    assert close(found[1][0], alone(backend, samples[1], QUESTIONS[0]))


@pytest.mark.parametrize("refused", [("packed",), ("packed", "widened")])
def test_another_layout_where_one_does_not_fit(model_folder, samples, caplog, monkeypatch, refused, family):
    """A layout whose probabilities are off is given up and it is said."""
    for name in refused:
        monkeypatch.setitem(decisions.LAYOUTS, name, lambda model, tails, state: torch.zeros(sum(map(len, tails)), model.vocab_size))
    backend = load_backend(str(model_folder(family)), device="cpu", batch_size=8)
    monkeypatch.setattr(type(backend.model), "vocab_size", len(backend.tokenizer), raising=False)
    with caplog.at_level(logging.WARNING):
        found = backend.decide(samples[:2], [QUESTIONS[:3], QUESTIONS[3:]])
    assert backend._judge.layout == ("widened" if len(refused) == 1 else "alone")
    assert caplog.text.count("trying another layout") == len(refused)
    assert close(found[0][1], alone(backend, samples[0], QUESTIONS[1]))
    assert close(found[1][1], alone(backend, samples[1], QUESTIONS[4]))


def test_questions_without_a_picture(backend, samples):
    text_only = dataclasses.replace(samples[0], images=())
    found = backend.decide([text_only, samples[1]], [QUESTIONS[:2], QUESTIONS[:1]])
    assert close(found[0][1], alone(backend, text_only, QUESTIONS[1]))
    assert close(found[1][0], alone(backend, samples[1], QUESTIONS[0]))


def test_two_pictures(backend, samples):
    two = dataclasses.replace(samples[0], images=samples[0].images + samples[1].images)
    assert close(backend.decide([two], [QUESTIONS])[0][3], alone(backend, two, QUESTIONS[3]))


def test_words_that_name_a_picture_stay_words(backend, samples):
    """A question that writes the placeholder shows no further picture."""
    question = "Is <image> or <|image_pad|> red?"
    assert close(backend.decide(samples[:1], [[QUESTIONS[0], question]])[0][1], alone(backend, samples[0], question))


def test_a_question_too_long_for_the_model_gets_no_answer(backends, samples, caplog):
    backend = backends("lvlm")
    found = backend.decide(samples[:1], [["short?", "x" * 2000, "and short?"]])[0]
    assert [math.isnan(d.p_yes) and math.isnan(d.p_no) for d in found] == [False, True, False]
    assert "1 questions are too long" in caplog.text
    assert close(found[2], alone(backend, samples[0], "and short?"))


def test_a_judge_that_says_neither(backends, samples):
    """All mass on another token: both are small, nothing is raised."""
    backend = backends("llava")
    head = backend.model.lm_head
    bias = torch.zeros(head.out_features)
    bias[5] = 100.0
    handle = head.register_forward_hook(lambda module, args, out: out + bias)
    decision = backend.decide(samples[:1], [["Is it?"]])[0][0]
    handle.remove()
    assert decision.p_yes + decision.p_no < 1e-3


def test_every_spelling_is_found():
    tokenizer = tiny_tokenizer()
    words = {"yes": ["yes", " yes", "Yes"], "no": ["no", " no", "NO"]}
    assert find_verdicts(tokenizer)._asdict() == {k: sorted(tokenizer.convert_tokens_to_ids(v)) for k, v in words.items()}


def test_a_tokenizer_without_a_token_for_no():
    with pytest.raises(UserError, match="no single token for no, in any spelling"):
        find_verdicts(tiny_tokenizer(verdicts=("yes", "nope")))


def test_lists_of_different_length_are_refused(backends, samples):
    with pytest.raises(ValueError, match="2 samples but 1 lists"):
        backends("lvlm").decide(samples[:2], [["a"]])


def test_nothing_asked_nothing_answered(backends, samples):
    assert backends("lvlm").decide([], []) == []
    assert backends("lvlm").decide(samples[:2], [[], ["Is it?"]])[0] == []


def test_the_null_model_decides_as_told(samples):
    backend = NullBackend(decision=Decision(0.25, 0.5))
    assert backend.decide(samples[:2], [["a", "b"], []]) == [[Decision(0.25, 0.5)] * 2, []]
    assert load_backend("null:").decide(samples[:1], [["a"]]) == [[Decision(1.0, 0.0)]]
