"""Which rows each policy rewrites, and the quota over a shard."""

import pytest

from data_tools.aitqe import Policy, Reply, quota
from data_tools.records import Verdict

GOOD = Reply("ok", None, 9.0, {"object_detail": 8.0})
POOR = Reply("ok", "A red circle.", 3.0, {"object_detail": 2.0})
POOR_SILENT = Reply("ok", None, 3.0)
GOOD_OFFERED = Reply("ok", "A red circle.", 8.0, {"object_detail": 4.0})
NO_SCORE = Reply("no_score", "A red circle.")
CUT = Reply("truncated", flags=("cut:recaption",))
OFF_SCALE = Reply("ok", "A red circle.", 85.0)
UNPARSABLE = Reply("unparsable", raw="no")


@pytest.mark.parametrize(
    ("policy", "reply", "wish", "reason"),
    [
        (Policy(), GOOD, "keep", "model"),
        (Policy(), POOR, "rewrite", "model"),
        (Policy(), GOOD_OFFERED, "rewrite", "model"),
        (Policy(), POOR_SILENT, "keep", "model"),
        (Policy(), NO_SCORE, "rewrite", "model"),
        (Policy(), OFF_SCALE, "rewrite", "model"),
        (Policy(), CUT, "keep", "recaption_cut"),
        (Policy("threshold"), GOOD, "keep", "score_above_threshold"),
        (Policy("threshold"), GOOD_OFFERED, "keep", "score_above_threshold"),
        (Policy("threshold"), POOR, "rewrite", "score_below_threshold"),
        (Policy("threshold"), POOR_SILENT, "ask", "score_below_threshold"),
        (Policy("threshold", second_pass=False), POOR_SILENT, "keep", "no_recaption"),
        (Policy("threshold", min_overall=3), POOR, "keep", "score_above_threshold"),
        (Policy("threshold", min_overall=9), GOOD, "keep", "score_above_threshold"),
        (Policy("threshold", floors={"object_detail": 5}), GOOD_OFFERED, "rewrite", "score_below_threshold"),
        (Policy("threshold", floors={"text_quality": 5}), GOOD_OFFERED, "keep", "score_above_threshold"),
        (Policy("threshold"), NO_SCORE, "keep", "no_score"),
        (Policy("threshold"), OFF_SCALE, "keep", "score_out_of_range"),
        (Policy("always"), GOOD, "ask", "always"),
        (Policy("always"), GOOD_OFFERED, "rewrite", "always"),
        (Policy("never"), POOR, "keep", "never"),
        (Policy("score-only"), POOR, "keep", "score-only"),
        *((Policy(kind), UNPARSABLE, "keep", "unparsable") for kind in ("model", "threshold", "always", "never", "score-only")),
    ],
)
def test_decisions(policy, reply, wish, reason):
    assert policy.decide(reply) == (wish, reason)


@pytest.mark.parametrize(
    ("kind", "p", "wish"), [("model", 0.5, "ask"), ("model", 0.49, "keep"), ("always", 0.0, "ask"), ("never", 1.0, "keep")]
)
def test_decisions_from_the_branches_alone(kind, p, wish):
    assert Policy(kind).decide_unread(p).wish == wish


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sometimes"}, "unknown policy 'sometimes'; there are model, threshold"),
        ({"floors": {"beauty": 3}}, "unknown aspects"),
        ({"floors": {"text_quality": 11}}, "text_quality is 11"),
        ({"min_overall": 0}, "min_overall is 0"),
        ({"max_rewrite_fraction": 1.5}, "share from 0 to 1"),
    ],
)
def test_options_off_their_scale(options, message):
    with pytest.raises(ValueError, match=message):
        Policy(**options)


def test_descriptions():
    assert Policy().describe() == "model"
    assert Policy("threshold", 6, {"text_quality": 4}).describe() == "threshold(min_overall=6, text_quality>=4)"
    assert Policy(max_rewrite_fraction=0.2).describe() == "model(max_rewrite_fraction=0.2)"


def test_shard_rule_only_with_a_fraction():
    assert Policy().shard_rule() is None
    assert Policy(max_rewrite_fraction=0.5).shard_rule() is not None


def rewrite(p):
    return Verdict("rewrite", text="new", proposal="new", p_rewrite=p, reason="model")


def rewritten(fraction, verdicts):
    rows = list(enumerate(verdicts))
    settle = quota(fraction)(iter(rows))
    return [row for row, verdict in rows if settle(row, verdict).action == "rewrite"]


def test_quota_takes_the_surest_and_ties_by_row():
    """Ten rows judged, fraction 0.3: three rewrites. Ranking: row 4 (.9), then .8 in rows 1, 3, 5 by number: 4, 1, 3."""
    verdicts = [Verdict("keep")] * 4 + [rewrite(0.9), rewrite(0.8)] + [Verdict("keep")] * 4
    verdicts[1] = verdicts[3] = rewrite(0.8)
    assert rewritten(0.3, verdicts) == [1, 3, 4]


def test_unknown_probability_ranks_last():
    assert rewritten(0.5, [rewrite(None), rewrite(0.01), rewrite(None), Verdict("keep")]) == [0, 1]
    assert rewritten(0.25, [rewrite(None), rewrite(0.01), rewrite(None), Verdict("keep")]) == [1]


@pytest.mark.parametrize(("fraction", "n", "allowed"), [(0.29, 100, 29), (0.1, 9, 0), (0.7, 10, 7), (0.0, 10, 0), (1.0, 10, 10)])
def test_quota_is_the_floor_in_decimal(fraction, n, allowed):
    """0.29 * 100 is 28.999999999999996 in binary floating point; the quota is 29."""
    assert len(rewritten(fraction, [rewrite(0.5)] * n)) == allowed


def test_rows_dropped_elsewhere_do_not_count():
    verdicts = [rewrite(0.5), rewrite(0.6), Verdict("quarantine"), Verdict("drop")]
    assert rewritten(0.5, verdicts) == [1]


def test_beyond_the_quota_the_raw_caption_stays_and_the_proposal_is_kept():
    settle = quota(0)([(0, rewrite(0.9))])
    refused = settle(0, rewrite(0.9))
    assert (refused.action, refused.text, refused.proposal, refused.reason) == ("keep", None, "new", "quota")
    assert settle(1, Verdict("keep", reason="model")).reason == "model"


def test_quota_of_an_empty_shard():
    assert rewritten(0.5, []) == []


def test_fraction_outside_the_scale():
    with pytest.raises(ValueError, match="share from 0 to 1"):
        quota(-0.1)
