"""Log-probabilities that share a prefill against independent whole forwards."""

from __future__ import annotations

import pytest
import torch

from mm_align.backends.prompts import append

TEXTS = [["yes", "no", "a longer one"], ["yes"], ["no", "yes"], ["abc", "abd"], ["x", "y"]]


def alone(backend, sample, text: str) -> list[float]:
    """The tokens of `text` scored by one forward over everything."""
    ids = backend.tokenizer.encode(text, add_special_tokens=False)
    with torch.no_grad():
        logits = backend.model(**append(backend.prompts.encode([sample]), ids)).logits[0].log_softmax(-1)
    return logits[-len(ids) - 1 : -1][range(len(ids)), ids].tolist()


def test_equal_to_independent_forwards(backend, samples):
    scores = backend.likelihood(samples, TEXTS)
    for sample, texts, rows in zip(samples, TEXTS, scores, strict=True):
        for text, row in zip(texts, rows, strict=True):
            assert row == pytest.approx(alone(backend, sample, text), abs=1e-5)


def test_a_shared_beginning_is_scored_in_the_prefill(backend, samples):
    """ "abc" and "abd" part at their last token, so one forward a micro-batch is enough."""
    calls = []
    handle = backend.model.register_forward_hook(lambda *_: calls.append(1))
    scores = backend.likelihood(samples[:2], [["abc", "abd"]] * 2)
    handle.remove()
    assert len(calls) == 1
    for sample, rows in zip(samples, scores, strict=False):
        assert rows == [pytest.approx(alone(backend, sample, text), abs=1e-5) for text in ("abc", "abd")]


def test_many_continuations_in_pieces(backends, samples):
    """Twenty continuations of one sample go through the cache in two pieces."""
    backend = backends("lvlm")
    texts = [f"{i:02d} red" for i in range(20)]
    rows = backend.likelihood(samples[:1], [texts])[0]
    assert rows[19] == pytest.approx(alone(backend, samples[0], texts[19]), abs=1e-5)
    assert rows[0] == pytest.approx(alone(backend, samples[0], texts[0]), abs=1e-5)


def test_agrees_with_the_branches_of_generate(backends, samples):
    from data_tools.calls import Sampling

    backend = backends("lvlm")
    pair = ('{"Recaption": "', '{"Overall Score": "')
    scores = torch.tensor([[row[0] for row in rows] for rows in backend.likelihood(samples, [pair] * len(samples))]).softmax(-1)
    seen = [list(a.branches.values()) for a in backend.generate(samples, Sampling(max_tokens=1, branches=pair))]
    assert scores.tolist() == [pytest.approx(odds, abs=1e-5) for odds in seen]


def test_an_empty_continuation_is_refused(backends, samples):
    with pytest.raises(ValueError, match="at least one token"):
        backends("lvlm").likelihood(samples[:1], [[""]])


def test_lists_of_different_length_are_refused(backends, samples):
    with pytest.raises(ValueError, match="2 samples but 1 lists"):
        backends("lvlm").likelihood(samples[:2], [["a"]])


# -- whole answers -----------------------------------------------------------------------------------------------------


def test_a_whole_answer_ends_with_the_token_that_ends_its_turn(backend, family, samples):
    """The text's own tokens are scored as before; behind them stands one more. A template's end of turn wins over the end token."""
    tokens = backend.prompts.answer_ids(samples[0], "a red <|im_end|> dog")
    closing = {"qwen2_5_vl": "<|im_end|>", "idefics3": "<end_of_utterance>"}.get(family, "<eos>")
    assert backend.tokenizer.convert_ids_to_tokens(tokens[-1]) == closing
    assert tokens.count(tokens[-1]) == 1  # what a user wrote ends no turn
    told, ended = (backend.likelihood(samples[:2], [["a dog"], ["cat"]], ended=e) for e in (False, True))
    for before, after in zip(told, ended, strict=True):
        assert len(after[0]) == len(before[0]) + 1
        assert after[0][:-1] == pytest.approx(before[0], abs=1e-5)


def test_the_end_is_scored_as_one_forward_does(backend, samples):
    ids = backend.prompts.answer_ids(samples[0], "a dog")
    with torch.no_grad():
        logits = backend.model(**append(backend.prompts.encode(samples[:1]), ids)).logits[0].log_softmax(-1)
    expected = logits[-len(ids) - 1 : -1][range(len(ids)), ids].tolist()
    assert backend.likelihood(samples[:1], [["a dog"]], ended=True)[0][0] == pytest.approx(expected, abs=1e-5)


def test_the_tokens_are_those_that_training_counts(backends, samples):
    """Ours: every token that trains, of the sample with the answer as its last turn."""
    from mm_align.backends.prompts import answered

    prompts = backends("lvlm").prompts
    whole = prompts.processor.encode_for_training(answered(samples[0], "a dog").messages)
    assert prompts.answer_ids(samples[0], "a dog") == [i for i, trains in zip(whole.ids, whole.trains, strict=True) if trains]
    assert whole.ids == [*prompts.ids(samples[0]), *prompts.answer_ids(samples[0], "a dog")]


def test_a_scorer_s_temperature_divides_the_logits(backend, samples):
    texts = [["abc", "abd"]]
    cold = backend.likelihood(samples[:1], texts, temperature=0.5)[0]
    ids = [backend.tokenizer.encode(text, add_special_tokens=False) for text in texts[0]]
    for row, tokens in zip(cold, ids, strict=True):
        with torch.no_grad():
            logits = (backend.model(**append(backend.prompts.encode(samples[:1]), tokens)).logits[0] / 0.5).log_softmax(-1)
        assert row == pytest.approx(logits[-len(tokens) - 1 : -1][range(len(tokens)), tokens].tolist(), abs=1e-4)
