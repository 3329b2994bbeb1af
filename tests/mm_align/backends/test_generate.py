"""Answers in batches against transformers' own `generate` at batch 1, on tiny random models of three families."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import GenerationConfig

from data_tools.calls import Sampling
from data_tools.records import Image, Message, Part, Sample
from mm_align.backends.branches import find_branches
from mm_align.backends.decoding import WALKED_WHOLE, draw, uniforms
from mm_align.backends.prompts import append, assert_left_padded, left_padded

KEEP, REWRITE = '{"Overall Score": "', '{"Recaption": "'


def upstream(backend, sample: Sample, max_tokens: int, tail: tuple[int, ...] = ()) -> list[int]:
    """New tokens of the library's greedy search on one sample, up to the end token."""
    inputs = append(backend.prompts.encode([sample]), tail)
    config = GenerationConfig(
        max_new_tokens=max_tokens, do_sample=False, repetition_penalty=1.0, eos_token_id=backend.loaded.ends, pad_token_id=0, use_cache=True
    )
    out = backend.model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :].tolist()
    ends = [i for i, token in enumerate(out) if token in backend.loaded.ends]
    return list(tail) + out[: ends[0] if ends else None]


def text_of(backend, tokens: list[int]) -> str:
    return backend.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def test_a_batch_answers_as_single_rows_do(backend, samples):
    answers = backend.generate(samples, Sampling(max_tokens=12))
    assert [a.sample_id for a in answers] == [s.id for s in samples]
    for sample, answer in zip(samples, answers, strict=True):
        expected = upstream(backend, sample, 12)
        assert (answer.text, answer.tokens) == (text_of(backend, expected), len(expected))
    assert len({a.text for a in answers}) == len(answers), "the rows are too alike for this test to prove anything"


def test_the_picture_matters(backend, samples):
    grey = [dataclasses.replace(s, images=samples[1].images) for s in samples[:1]]
    first, other = backend.generate(samples[:1], Sampling(max_tokens=1)), backend.generate(grey, Sampling(max_tokens=1))
    assert abs(first[0].logprob - other[0].logprob) > 1e-4


def test_rows_leave_the_batch_at_their_end_token(backends, samples):
    """The end tokens are set to what three of five rows say first, second and fourth, so that rows end at different steps."""
    backend = backends("lvlm")
    firsts = [upstream(backend, s, 6) for s in samples]
    ends = [firsts[3][0], firsts[4][1], firsts[2][3]]
    loaded = backend.loaded
    backend.loaded = dataclasses.replace(loaded, ends=ends)
    try:
        answers = backend.generate(samples, Sampling(max_tokens=6))
    finally:
        backend.loaded = loaded
    for tokens, answer in zip(firsts, answers, strict=True):
        cut = next((i for i, token in enumerate(tokens) if token in ends), None)
        assert answer.text == text_of(backend, tokens[:cut])
        assert answer.truncated == (cut is None)
    assert len({a.tokens for a in answers}) > 2


def test_logprob_is_that_of_the_answer(backends, samples):
    backend = backends("lvlm")
    answer = backend.generate(samples[:1], Sampling(max_tokens=4))[0]
    tokens = upstream(backend, samples[0], 4)
    inputs = append(backend.prompts.encode(samples[:1]), tokens)
    with torch.no_grad():
        logits = backend.model(**inputs).logits[0].log_softmax(-1)[-5:-1]
    assert answer.logprob == pytest.approx(logits[range(4), tokens].sum().item(), abs=1e-4)


def test_a_prefix_is_forced_and_part_of_the_text(backend, samples):
    answers = backend.generate(samples[:3], Sampling(max_tokens=5, prefix=REWRITE))
    ids = tuple(backend.tokenizer.encode(REWRITE, add_special_tokens=False))
    for sample, answer in zip(samples, answers, strict=False):
        assert answer.text == text_of(backend, upstream(backend, sample, 5, ids))
        assert answer.text.startswith(REWRITE.strip())
        assert answer.tokens == 5 + len(ids)


def first_odds(backend, sample: Sample, tail: tuple[int, ...], choices: list[int]) -> list[float]:
    with torch.no_grad():
        logits = backend.model(**append(backend.prompts.encode([sample]), tail)).logits[0, -1]
    return logits[choices].softmax(-1).tolist()


def test_branches_are_compared_where_they_part(backend, samples):
    """Both openings are single tokens of this vocabulary: they part at the first token."""
    choices = backend.tokenizer.convert_tokens_to_ids([REWRITE, KEEP])
    for sample, answer in zip(samples, backend.generate(samples, Sampling(max_tokens=2, branches=(REWRITE, KEEP))), strict=True):
        assert list(answer.branches) == [REWRITE, KEEP]
        assert list(answer.branches.values()) == pytest.approx(first_odds(backend, sample, (), choices), abs=1e-5)


def test_branches_that_part_later(backends, samples):
    """ "xya" and "xyb" share two byte tokens: odds at the third, and none for an answer that does not begin with "xy"."""
    backend = backends("lvlm")
    x, y, a, b = backend.tokenizer.encode("xyab", add_special_tokens=False)
    expected = first_odds(backend, samples[0], (x, y), [a, b])
    for prefix in ("xy", "xya", "xyb!"):
        answer = backend.generate(samples[:1], Sampling(max_tokens=2, prefix=prefix, branches=("xya", "xyb")))[0]
        assert list(answer.branches.values()) == pytest.approx(expected, abs=1e-5)
    for prefix in ("", "x", "ya"):
        assert backend.generate(samples[:1], Sampling(max_tokens=3, prefix=prefix, branches=("xya", "xyb")))[0].branches == {}


@pytest.mark.parametrize("texts", [("a",), ("a", "a"), ("a", "ab"), ("ab", "ac", "d")])
def test_branches_that_do_not_part(backends, texts):
    if texts == ("ab", "ac", "d"):
        texts = ("ab", "ac", "bb", "bc")
    with pytest.raises(ValueError, match="branches must be"):
        find_branches(backends("lvlm").tokenizer, texts)


def test_stop_keeps_the_overhang(backends, samples):
    """A row ends behind the token that completes the stop string; `<Overall>",` is one token here."""
    backend = backends("lvlm")
    whole = upstream(backend, samples[0], 12)
    stop = backend.tokenizer.decode(whole[3:5])
    answer = backend.generate(samples[:1], Sampling(max_tokens=12, stop=(stop,)))[0]
    assert stop in text_of(backend, whole[: answer.tokens])
    assert stop not in text_of(backend, whole[: answer.tokens - 1])
    assert not answer.truncated


def test_candidates_share_picture_and_prefill(backend, samples, tower_calls):
    sampling = Sampling(n=3, temperature=1.0, max_tokens=6, seed=7)
    with tower_calls(backend) as calls:
        answers = backend.generate(samples[:2], sampling)
    assert len(calls) == 1, "one tower call for the whole micro-batch"
    assert [a.id for a in answers] == ["s0:0", "s0:1", "s0:2", "s1:0", "s1:1", "s1:2"]
    assert len({a.text for a in answers}) > 3


@pytest.fixture
def in_float64(backend):
    """A draw that falls on the edge between two tokens may go either way in float32."""
    backend.model.double()
    yield backend
    backend.model.float()


def test_sampling_depends_on_seed_and_sample_not_on_the_batch(in_float64, samples):
    sampling = Sampling(n=2, temperature=0.8, top_p=0.9, max_tokens=6, seed=3)
    together = [a.text for a in in_float64.generate(samples, sampling)]
    alone = [a.text for s in reversed(samples) for a in reversed(in_float64.generate([s], sampling))]
    assert together == alone[::-1]
    assert together != [a.text for a in in_float64.generate(samples, dataclasses.replace(sampling, seed=4))]


def test_ten_candidates_are_what_ten_samplings_draw(in_float64, samples):
    """Against whole forwards without a cache, one candidate after another, each with its own random numbers."""
    backend, tokens = in_float64, 5
    sampling = Sampling(n=10, temperature=1.0, max_tokens=tokens, seed=1)
    answers = backend.generate(samples[:2], sampling)
    inputs = backend.prompts.encode(samples[:1])
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    for j in range(sampling.n):
        written: list[int] = []
        for uniform in torch.from_numpy(uniforms(sampling, samples[0].id, j)):
            with torch.no_grad():
                logits = backend.model(**append(inputs, written)).logits[:, -1]
            written.append(int(draw(logits, uniform[None], 1.0, 1.0)))
        ends = [i for i, token in enumerate(written) if token in backend.loaded.ends]
        assert answers[j].text == text_of(backend, written[: ends[0] if ends else None])
    assert len({a.text for a in answers[:10]}) > 5


def test_draw_follows_the_nucleus():
    """Shares 0.1, 0.6, 0.3 of tokens 0, 1, 2. top_p 0.7 keeps tokens 1 and 2 (0.6 < 0.7), with 2/3 and 1/3: u = 0.66 -> 1, 0.67 -> 2.
    Without it the edges are 0.1, 0.7, 1."""
    logits = torch.tensor([[0.1, 0.6, 0.3]]).log().repeat(4, 1)
    draws = torch.tensor([0.0, 0.66, 0.67, 0.9999], dtype=torch.float64)
    assert draw(logits, draws, 1.0, 0.7).tolist() == [1, 1, 2, 2]
    assert draw(logits, draws, 1.0, 1.0).tolist() == [0, 1, 1, 2]
    assert draw(logits, draws, 0.01, 1.0).tolist()[1:] == [1, 1, 1]


@pytest.mark.parametrize("size", [WALKED_WHOLE, WALKED_WHOLE + 1, 3 * WALKED_WHOLE])
def test_a_large_vocabulary_is_walked_in_blocks(size):
    """The same tokens as by one sum over all of it; the ends of the range give tokens that can be drawn."""
    random = torch.Generator().manual_seed(size)
    logits = torch.randn(200, size, generator=random) * torch.linspace(1, 40, 200)[:, None]
    draws = torch.rand(200, dtype=torch.float64, generator=random)
    edges = logits.double().softmax(-1).cumsum(-1)
    expected = torch.searchsorted(edges, (draws * edges[:, -1])[:, None], right=True)[:, 0]
    assert (draw(logits, draws, 1.0, 1.0) == expected).float().mean() > 0.98  # the others fell on an edge
    for end in (0.0, 1 - 2**-53):
        chosen = draw(logits, torch.full((200,), end, dtype=torch.float64), 1.0, 1.0)
        assert (logits.softmax(-1).gather(1, chosen[:, None]) > 0).all()
    assert draw(logits.fill_(torch.nan), draws, 1.0, 1.0).max() < size


def test_draws_are_fixed():
    """A changed stream would change every sampled data set: the first number for seed 0, sample "a", candidate 0 is golden."""
    assert uniforms(Sampling(max_tokens=2), "a", 0)[0] == pytest.approx(uniforms(Sampling(max_tokens=9), "a", 0)[0])
    assert uniforms(Sampling(max_tokens=1), "a", 0)[0] != uniforms(Sampling(max_tokens=1), "a", 1)[0]


def test_a_prompt_too_long_for_the_model_gets_no_answer(backends, samples, caplog):
    backend = backends("lvlm")
    long = dataclasses.replace(samples[0], id="long", messages=(Message("user", (Part("image"), Part("text", "x" * 5000))),))
    answers = backend.generate([samples[0], long, samples[1]], Sampling(max_tokens=3))
    assert [(a.sample_id, a.text, a.truncated) for a in answers][1] == ("long", "", True)
    assert [a.no_room for a in answers] == [False, True, False]
    assert answers[0].tokens == answers[2].tokens == 3
    assert "1 of 3 prompts are too long" in caplog.text
    assert all(v != v for v in backend.likelihood([long], [["a"]])[0][0])


def test_an_empty_answer_of_the_model_s_own_is_no_want_of_room(backends, samples, monkeypatch):
    """Tokens that show no text up to the limit: special ones, as of a model whose end token is not known as one."""
    backend = backends("lvlm")
    monkeypatch.setattr(type(backend.tokenizer), "decode", lambda *_, **__: " ")
    (answer,) = backend.generate(samples[:1], Sampling(max_tokens=3))
    assert (answer.text, answer.tokens, answer.truncated, answer.no_room) == ("", 3, True, False)


def test_samples_and_pictures_must_agree(backend, samples):
    two = dataclasses.replace(samples[0], images=samples[0].images * 2)
    with pytest.raises(ValueError, match="name 1 pictures, but it has 2"):
        backend.generate([two], Sampling(max_tokens=1))


def test_text_alone(backend):
    answer = backend.generate([Sample("t", (Message("user", (Part("text", "hello"),)),))], Sampling(max_tokens=2))[0]
    assert answer.tokens == 2


def test_nothing_asked_nothing_answered(backend):
    assert backend.generate([], Sampling()) == []
    assert backend.likelihood([], []) == []


def test_encoded_pictures_are_decoded(backends, samples, tmp_path):
    backend = backends("lvlm")
    samples[0].images[0].pixels.save(tmp_path / "a.png")
    from_file = dataclasses.replace(samples[0], images=(Image(path=str(tmp_path / "a.png")),))
    assert backend.generate([from_file], Sampling(max_tokens=3)) == backend.generate(samples[:1], Sampling(max_tokens=3))


def test_left_padding_is_asserted():
    assert_left_padded(left_padded([[1], [2, 3]], 0)["attention_mask"])
    for mask in ([[1, 1, 0]], [[1, 0, 1]]):
        with pytest.raises(ValueError, match="padded on the left"):
            assert_left_padded(torch.tensor(mask))
