"""Beam search in batches against the library's at batch 1; what it is not combined with is refused."""

import pytest
from transformers import GenerationConfig

from data_tools.calls import Sampling
from mm_align.config import UserError


def upstream(backend, sample, beams, max_tokens):
    """New tokens of the library's beam search on one sample, up to the end token."""
    inputs = backend.prompts.encode([sample])
    config = GenerationConfig(
        max_new_tokens=max_tokens,
        num_beams=beams,
        do_sample=False,
        repetition_penalty=1.0,  # one of the families stores another, which must not come in
        eos_token_id=backend.loaded.ends,
        pad_token_id=0,
        use_cache=True,
    )
    out = backend.model.generate(**inputs, generation_config=config)[0, inputs["input_ids"].shape[1] :].tolist()
    ends = [i for i, token in enumerate(out) if token in backend.loaded.ends]
    return out[: ends[0] if ends else None]


def test_a_batch_answers_as_the_library_does_one_by_one(backend, samples):
    answers = backend.generate(samples, Sampling(max_tokens=8, beams=3))
    greedy = backend.generate(samples, Sampling(max_tokens=8))
    for sample, answer in zip(samples, answers, strict=True):
        expected = upstream(backend, sample, 3, 8)
        text = backend.tokenizer.decode(expected, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        assert (answer.sample_id, answer.text, answer.tokens, answer.logprob) == (sample.id, text, len(expected), None)
        assert answer.sampling["beams"] == 3
    assert [a.text for a in answers] != [a.text for a in greedy], "beams change nothing here, so this test proves nothing"


@pytest.mark.parametrize("other", [{"n": 2}, {"temperature": 0.7}, {"prefix": "x"}, {"stop": ("x",)}])
def test_what_beams_are_not_combined_with(backends, samples, other):
    with pytest.raises(UserError, match=f"leave out {next(iter(other))}"):
        backends("lvlm").generate(samples, Sampling(beams=3, **other))
