"""The step with fake models: modes, second pass, guards, bad answers."""

import dataclasses
import math

import pytest

from data_tools.aitqe import AITQE_PROMPT, GENERAL_PROMPT, AitqeStep, Guards, Policy
from data_tools.aitqe.step import BRANCHES, RECAPTION_PREFIX
from data_tools.calls import CallNotSupported
from data_tools.records import Image, Response, Sample, Verdict

NEW = "A red circle beside a blue square."


def run(fakes, generate, captions, **options):
    step = AitqeStep(generate, **options)
    return step([fakes.sample(caption, i) for i, caption in enumerate(captions)])


def test_keeps_and_rewrites_in_order(fakes):
    model = fakes.generate({"good": fakes.answer(9), "bad": fakes.answer(2, NEW)}, p={"good": 0.1, "bad": 0.87654321})
    kept, changed, again = run(fakes, model, ["good", "bad", "good"])
    assert (kept.action, kept.text, kept.reason, kept.scores["overall"], kept.p_rewrite) == ("keep", None, "model", 9.0, 0.1)
    assert (changed.action, changed.text, changed.parse_status, changed.p_rewrite) == ("rewrite", NEW, "ok", 0.87654321)
    assert changed.explanations == {"overall": "because"}
    assert again == kept


def test_one_call_with_the_released_settings(fakes):
    model = fakes.generate({"good": fakes.answer(9)})
    run(fakes, model, ["good", "good"])
    ((_, sampling, questions),) = model.calls
    assert (sampling.temperature, sampling.max_tokens, sampling.stop, sampling.prefix, sampling.branches) == (0.0, 384, (), "", BRANCHES)
    assert questions[0].messages == (AITQE_PROMPT.message("good"),)


def test_general_prompt_takes_more_room(fakes):
    model = fakes.generate({"good": fakes.answer(9)})
    run(fakes, model, ["good"], prompt=GENERAL_PROMPT)
    assert model.calls[0][1].max_tokens == 512


def test_scores_mode_stops_at_the_marker(fakes):
    model = fakes.generate({"bad": fakes.answer(2, NEW)})
    (verdict,) = run(fakes, model, ["bad"], mode="scores")
    assert model.calls[0][1].stop == ("<Overall>",)
    assert (verdict.action, verdict.text, verdict.parse_status, verdict.explanations) == ("rewrite", NEW, "repaired", {})


def test_threshold_asks_again_only_where_no_recaption_came(fakes):
    answers = {"good": fakes.answer(9), "bad": fakes.answer(2, NEW), "silent": fakes.answer(3)}
    model = fakes.generate(answers, forced={"silent": NEW + '", "Overall Score'})
    verdicts = run(fakes, model, ["good", "bad", "silent"], policy=Policy("threshold"))
    assert [v.action for v in verdicts] == ["keep", "rewrite", "rewrite"]
    assert verdicts[2].text == NEW
    assert verdicts[2].scores["overall"] == 3.0
    captions, sampling, _ = model.calls[1]
    assert (captions, sampling.prefix) == (["silent"], RECAPTION_PREFIX)


def test_second_pass_without_a_caption_keeps_the_raw_one(fakes):
    model = fakes.generate({"silent": fakes.answer(3)}, forced={"silent": "never ends"})
    (verdict,) = run(fakes, model, ["silent"], policy=Policy("always"))
    assert (verdict.action, verdict.reason, verdict.proposal) == ("keep", "no_recaption", None)


def test_never_keeps_but_shows_the_proposal(fakes):
    (verdict,) = run(fakes, fakes.generate({"bad": fakes.answer(2, NEW)}), ["bad"], policy=Policy("never"))
    assert (verdict.action, verdict.reason, verdict.text, verdict.proposal) == ("keep", "never", None, NEW)


@pytest.mark.parametrize(
    ("recaption", "reason"),
    [("The image shows a dog.", "guard:banned_opening"), ("", "guard:empty"), (" bad  caption here ", "unchanged")],
)
def test_a_failing_rewrite_keeps_the_raw_caption_and_says_why(fakes, recaption, reason):
    model = fakes.generate({"bad caption here": fakes.answer(2, recaption)})
    (verdict,) = run(fakes, model, ["bad caption here"])
    assert (verdict.action, verdict.text, verdict.reason, verdict.proposal) == ("keep", None, reason, recaption.strip())


def test_guards_are_an_argument(fakes):
    model = fakes.generate({"bad": fakes.answer(2, "The image shows a dog.")})
    (verdict,) = run(fakes, model, ["bad"], guards=Guards(banned_openings=()))
    assert verdict.action == "rewrite"


def test_unparsable_answers_keep_the_row_and_the_reply(fakes):
    (verdict,) = run(fakes, fakes.generate({"bad": "I cannot. " * 1000}), ["bad"])
    assert (verdict.action, verdict.reason, verdict.parse_status) == ("keep", "unparsable", "unparsable")
    assert verdict.raw == ("I cannot. " * 200)


def test_raw_is_kept_for_unparsable_answers_only(fakes):
    (verdict,) = run(fakes, fakes.generate({"bad": fakes.answer(2, NEW)}), ["bad"])
    assert verdict.raw is None


def test_long_captions_are_flagged(fakes):
    caption = "x" * 3000
    (verdict,) = run(fakes, fakes.generate({caption: fakes.answer(9)}), [caption])
    assert "caption_cut" in verdict.flags


def test_rows_without_a_picture_are_not_asked_about(fakes):
    model = fakes.generate({"good": fakes.answer(9)})
    bare = Sample("bare", caption="good")
    verdicts = AitqeStep(model)([bare, fakes.sample("good"), bare])
    assert [v.reason for v in verdicts] == ["no_image", "model", "no_image"]
    assert model.calls[0][0] == ["good"]


def test_only_the_first_picture_and_an_empty_caption(fakes):
    model = fakes.generate({None: fakes.answer(2, NEW)})
    sample = Sample("s", images=(Image(path="1.png"), Image(path="2.png")), caption=None)
    (verdict,) = AitqeStep(model)([sample])
    assert verdict.text == NEW
    assert model.calls[0][2][0].images == (Image(path="1.png"),)


def test_rescoring_asks_about_the_new_caption_only_where_there_is_one(fakes):
    answers = {"good": fakes.answer(9), "bad": fakes.answer(2, NEW), NEW: fakes.answer(8)}
    model = fakes.generate(answers)
    good, bad = run(fakes, model, ["good", "bad"], rescore=True)
    first, (captions, sampling, questions) = model.calls
    assert (first[0], captions, sampling.stop, sampling.prefix) == (["good", "bad"], [NEW], ("<Overall>",), "")
    assert questions[0].messages == (AITQE_PROMPT.message(NEW),)
    assert (bad.action, bad.text, bad.scores["overall"], bad.scores["overall_after"]) == ("rewrite", NEW, 2.0, 8.0)
    assert "overall_after" not in good.scores


def test_an_unreadable_second_answer_leaves_the_rewrite_without_a_score(fakes):
    model = fakes.generate({"bad": fakes.answer(2, NEW), NEW: "no idea"})
    (verdict,) = run(fakes, model, ["bad"], rescore=True)
    assert (verdict.action, verdict.parse_status, verdict.scores["overall_after"]) == ("rewrite", "ok", None)


def test_refused_rewrites_are_not_rescored(fakes):
    model = fakes.generate({"bad": fakes.answer(2, "The image shows a dog.")})
    (verdict,) = run(fakes, model, ["bad"], rescore=True)
    assert (verdict.action, len(model.calls)) == ("keep", 1)


def test_decide_mode_rescores_too(fakes):
    model = fakes.generate({NEW: fakes.answer(8)}, forced={"bad": NEW + '", "Overall Score'})
    (verdict,) = run(fakes, model, ["bad"], likelihood=fakes.likelihood({"bad": logs(0.6, 0.2)}), mode="decide", rescore=True)
    assert verdict.scores == {"overall_after": 8.0}


class Cramped:
    """A model for which prompts about `long` captions are too long: an empty response, nothing generated, as the backends give."""

    def __init__(self, model, long, prefixed_only=False):
        self.model, self.long, self.prefixed_only = model, long, prefixed_only

    def __call__(self, samples, sampling):
        return [self._one(s, sampling) for s in samples]

    def _one(self, sample, sampling):
        if sample.caption in self.long and (sampling.prefix or not self.prefixed_only):
            return Response("r", sample.id, "", tokens=0, truncated=True)
        return self.model([sample], sampling)[0]


@pytest.mark.parametrize("policy", [Policy(), Policy("never"), Policy("always"), Policy("threshold")])
def test_a_prompt_too_long_is_no_fault_of_the_answer(fakes, policy):
    model = Cramped(fakes.generate({"good": fakes.answer(9)}, forced={"good": "x"}), {"long"})
    verdict, other = run(fakes, model, ["long", "good"], policy=policy)
    assert (verdict.action, verdict.reason, verdict.flags) == ("keep", "prompt_too_long", ("prompt_too_long",))
    assert (verdict.parse_status, verdict.raw, verdict.scores) == (None, None, {})
    assert other.parse_status == "ok"


def test_an_empty_answer_that_is_the_models_own_stays_unparsable(fakes):
    (verdict,) = run(fakes, fakes.generate({"bad": ""}), ["bad"])
    assert (verdict.reason, verdict.parse_status) == ("unparsable", "unparsable")


def test_a_second_pass_that_is_too_long_says_so(fakes):
    model = Cramped(fakes.generate({"silent": fakes.answer(3)}), {"silent"}, prefixed_only=True)
    (verdict,) = run(fakes, model, ["silent"], policy=Policy("threshold"))
    assert (verdict.action, verdict.reason, verdict.parse_status, verdict.scores["overall"]) == ("keep", "prompt_too_long", "ok", 3.0)


def test_decide_mode_does_not_take_unknown_for_keep(fakes):
    """A backend gives NaN for what does not fit; NaN is no probability of 0."""
    likelihood = fakes.likelihood({"long": [(math.nan, math.nan), (math.nan, math.nan)]})
    (verdict,) = run(fakes, Cramped(fakes.generate({}), {"long"}), ["long"], likelihood=likelihood, mode="decide")
    assert (verdict.reason, verdict.p_rewrite, verdict.flags) == ("prompt_too_long", None, ("prompt_too_long",))


def test_no_samples_no_call(fakes):
    model = fakes.generate({})
    assert AitqeStep(model)([]) == []
    assert model.calls == []


def logs(rewrite, keep):
    """Token log-probabilities: `{"` surely, then the branch word."""
    return [(0.0, math.log(rewrite)), (0.0, math.log(keep))]


def test_decide_mode_by_hand(fakes):
    """exp sums 0.6 and 0.2: p_rewrite = 0.6 / 0.8 = 0.75, rewritten by the forced pass; 0.1 and 0.8: 1/9, no text at all."""
    likelihood = fakes.likelihood({"bad": logs(0.6, 0.2), "good": logs(0.1, 0.8)})
    model = fakes.generate({}, forced={"bad": NEW + '", "Overall Score'})
    good, bad = run(fakes, model, ["good", "bad"], likelihood=likelihood, mode="decide")
    assert likelihood.asked == [BRANCHES, BRANCHES]
    assert (good.action, good.reason, good.parse_status, good.scores) == ("keep", "model", None, {})
    assert good.p_rewrite == pytest.approx(1 / 9)
    assert (bad.action, bad.text, bad.p_rewrite) == ("rewrite", NEW, pytest.approx(0.75))
    assert [call[0] for call in model.calls] == [["bad"]]


def test_decide_mode_with_never_writes_nothing(fakes):
    model = fakes.generate({})
    likelihood = fakes.likelihood({"bad": logs(0.9, 0.05)})
    (verdict,) = run(fakes, model, ["bad"], likelihood=likelihood, mode="decide", policy=Policy("score-only"))
    assert (verdict.action, verdict.reason, model.calls) == ("keep", "score-only", [])


def test_decide_mode_falls_back_to_an_answer_where_neither_branch_is_likely(fakes):
    likelihood = fakes.likelihood({"bad": [(-9.0, -math.inf), (-9.0, -0.1)], "good": logs(0.1, 0.8)})
    model = fakes.generate({"bad": "```json\n" + fakes.answer(2, NEW) + "\n```"})
    good, bad = run(fakes, model, ["good", "bad"], likelihood=likelihood, mode="decide")
    assert good.reason == "model"
    assert (bad.action, bad.text, bad.p_rewrite) == ("rewrite", NEW, None)
    assert "branch_missed" in bad.flags


def test_decide_mode_needs_likelihoods(fakes):
    with pytest.raises(CallNotSupported, match='use mode "scores"'):
        AitqeStep(fakes.generate({}), mode="decide")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fast"}, "unknown mode 'fast'"),
        ({"mode": "scores", "policy": Policy("threshold", floors={"text_quality": 3})}, "floors"),
        ({"mode": "decide", "policy": Policy("threshold"), "likelihood": lambda s, c: []}, "compares scores"),
    ],
)
def test_options_that_do_not_go_together(fakes, options, message):
    with pytest.raises(ValueError, match=message):
        AitqeStep(fakes.generate({}), **options)


def test_a_model_that_loses_answers_is_an_error(fakes):
    with pytest.raises(RuntimeError, match="2 questions got 1 answers"):
        run(fakes, lambda samples, sampling: fakes.generate({"a": "x"})(samples[:1], sampling), ["a", "a"])


def test_description_and_round_trip(fakes):
    step = AitqeStep(fakes.generate({"good": fakes.answer(9)}))
    assert step.describe() == {"policy": "model", "prompt_sha": AITQE_PROMPT.sha, "rescore": False, "poor": "rewrite"}
    (verdict,) = step([fakes.sample("good")])
    assert Verdict.from_dict(dataclasses.asdict(verdict)) == verdict
