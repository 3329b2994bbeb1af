"""Stop strings found on token texts against a naive search in the decoded text."""

from __future__ import annotations

import numpy as np
import pytest

from mm_align.backends.stops import StopMatcher

ENDING = '<Overall>",'


@pytest.fixture
def tokenizer(backends):
    return backends("lvlm").tokenizer


def naive(tokenizer, tokens: list[int], stops: tuple[str, ...]) -> int | None:
    """Tokens up to the first whose text completes a stop string."""
    texts = [tokenizer.decode(tokens[:i], clean_up_tokenization_spaces=False) for i in range(len(tokens) + 1)]
    return next((i for i, text in enumerate(texts) if any(stop in text for stop in stops)), None)


def found(matcher: StopMatcher, tokens: list[int]) -> int | None:
    return next((i for i in range(1, len(tokens) + 1) if matcher.completed(tokens[:i])), None)


@pytest.mark.parametrize("stops", [("<Overall>",), ("ab", "ca"), ("\n",), ("é",), ("aé漢",), ('l>",x',)])
def test_as_a_naive_search(tokenizer, stops):
    rng = np.random.default_rng(0)
    letters = tokenizer.encode('abc<Overall>é漢x\n",', add_special_tokens=False) + tokenizer.convert_tokens_to_ids([ENDING])
    planted = tokenizer.encode(stops[0], add_special_tokens=False)
    hits = 0
    for _ in range(60):
        tokens = rng.choice(letters, 20).tolist()
        at = int(rng.integers(0, 20))
        tokens[at:at] = planted
        expected = naive(tokenizer, tokens, stops)
        assert found(StopMatcher(tokenizer, stops), tokens) == expected
        hits += expected is not None
    assert hits == 60


def test_a_token_that_goes_beyond_the_stop_string_completes_it(tokenizer):
    tokens = [*tokenizer.encode("9", add_special_tokens=False), tokenizer.convert_tokens_to_ids(ENDING)]
    assert StopMatcher(tokenizer, ("<Overall>",)).completed(tokens)


def test_a_stop_string_earlier_in_the_row_does_not_count(tokenizer):
    tokens = tokenizer.encode("ab c", add_special_tokens=False)
    assert not StopMatcher(tokenizer, ("ab",)).completed(tokens)


def test_no_stop_strings(tokenizer):
    assert not StopMatcher(tokenizer, ()).completed(tokenizer.encode("a"))


def test_an_empty_stop_string_is_refused(tokenizer):
    with pytest.raises(ValueError, match="must not be empty"):
        StopMatcher(tokenizer, ("",))
