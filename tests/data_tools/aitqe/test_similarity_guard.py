"""The guard on similarity with a made-up score: which rewrites are compared, and what becomes of those that fall."""

import PIL.Image
import pytest

from data_tools.aitqe import SimilarityGuard
from data_tools.records import Image, Sample, Verdict

COSINES = {"raw": 0.3, "less": 0.25, "far less": 0.1, "more": 0.4}


def sample(caption, pixels=True):
    return Sample("s", images=(Image(pixels=PIL.Image.new("RGB", (2, 2)) if pixels else None),), caption=caption)


def rewrite(text):
    return Verdict("rewrite", text=text, proposal=text, reason="model", flags=("caption_cut",))


def test_only_rewrites_are_compared_and_only_a_fall_beyond_the_margin_is_refused():
    """The falls: 0.05, 0.2, -0.1, and none for a blank caption; the second is over 0.1. A kept row is not asked about."""
    asked = []

    def score(pictures, texts):
        asked.append(list(texts))
        return [COSINES[text] for text in texts]

    samples = [sample("raw"), sample("raw"), sample("raw"), sample(" "), sample("raw")]
    verdicts = [rewrite("less"), rewrite("far less"), rewrite("more"), rewrite("far less"), Verdict("keep", reason="model")]
    told = SimilarityGuard(score, 0.1)(samples, verdicts)
    assert asked == [["raw", "raw", "raw", "less", "far less", "more"]]
    assert [told[i] for i in (0, 2, 3, 4)] == [verdicts[i] for i in (0, 2, 3, 4)]
    refused = told[1]
    assert (refused.action, refused.text, refused.proposal, refused.reason) == ("keep", None, "far less", "guard:similarity")
    assert refused.flags == ("caption_cut", "similarity_fell:0.2000")


def test_nothing_is_asked_where_nothing_is_rewritten_and_a_picture_must_be_decoded():
    guard = SimilarityGuard(lambda pictures, texts: pytest.fail("asked"), 0.1)
    assert guard([sample("raw")], [Verdict("keep")]) == [Verdict("keep")]
    with pytest.raises(ValueError, match="is not decoded"):
        guard([sample("raw", pixels=False)], [rewrite("less")])
