"""Which tokens of two answers differ: the weights of DDPO."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

SHORTEST_MATCH = 3  # ids; shorter common runs inside a change are part of it
PROMPT = (-1, -2, -3)  # what both answers come after: their common start is no short run


class TokenWeights(NamedTuple):
    """One weight for each token of the two answers."""

    chosen: list[float]
    rejected: list[float]


def token_diff_weights(chosen: Sequence[int], rejected: Sequence[int], weight: float) -> TokenWeights:
    """`weight` for tokens in spans that are replaced on both sides, 1 for all others: DDPO (arXiv 2312.00849) as released.

    Spans are what lies between the common runs of at least 3 ids that `difflib.SequenceMatcher` finds. What only one answer
    has (an insertion) keeps weight 1. The ids are those of the answers alone, the end-of-turn token included, so that the weights
    fit any expansion of the picture. SequenceMatcher's rule for ids that are very frequent in more than 200 is left on, as there.
    """
    a, b = [*PROMPT, *chosen], [*PROMPT, *rejected]
    weights = TokenWeights([1.0] * len(a), [1.0] * len(b))
    blocks = SequenceMatcher(None, a, b).get_matching_blocks()
    common = [(0, 0, 0), *(block for block in blocks[:-1] if block.size >= SHORTEST_MATCH), blocks[-1]]
    for (a_start, b_start, size), (a_next, b_next, _) in pairwise(common):
        a_from, b_from = a_start + size, b_start + size
        if a_from < a_next and b_from < b_next:
            weights.chosen[a_from:a_next] = [weight] * (a_next - a_from)
            weights.rejected[b_from:b_next] = [weight] * (b_next - b_from)
    return TokenWeights(weights.chosen[len(PROMPT) :], weights.rejected[len(PROMPT) :])
