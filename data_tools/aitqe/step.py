"""One block of samples in, one verdict each out: ask the quality model, read its answer, apply policy and guards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from ..calls import CallNotSupported, Generate, Likelihood, Sampling
from ..records import Response, Sample, Verdict
from .guards import Guards, unchanged
from .parser import RESCORED, Reply, parse
from .policy import Decision, Policy
from .prompt import AITQE_PROMPT, Prompt
from .similarity_guard import SimilarityGuard

Mode = Literal["full", "scores", "decide"]

# The answer's first key tells the decision: rewriting, then keeping branch [R: key order; using it is this toolkit's choice].
BRANCHES = ('{"Recaption', '{"Overall')
RECAPTION_PREFIX = '{"Recaption": "'
_AFTER_RECAPTION = ('"Overall Score',)
_RAW_CHARS = 2000
_TOO_LONG = "prompt_too_long"


@dataclass(frozen=True, slots=True)
class _Judged:
    """What is known of one row: an answer, or only the two branches' probability, or that the model could not be asked."""

    reply: Reply | None
    p_rewrite: float | None
    flags: tuple[str, ...] = ()

    @property
    def too_long(self) -> bool:
        return _TOO_LONG in self.flags


@dataclass(slots=True)
class AitqeStep:
    """Judge captions and propose rewrites; `step(samples)` gives one `Verdict` a sample, in order.

    mode "full": scores with explanations. "scores": each answer stops behind its overall score (several times cheaper).
    "decide": one prefill a row compares the two branches; text is only written for rows the policy wants rewritten, and for rows where the
    model would start with neither branch (their probabilities together under `min_branch_mass`), which are then answered in full.
    rescore: ask once more about each row that is rewritten, with its new caption, up to the overall score (one extra call a block for those
    rows); the score is `scores["overall_after"]`, None where the answer has none. This toolkit's choice.
    Only the first picture of a sample is looked at; a sample without one is kept with reason "no_image".
    A sample whose prompt is too long for the model, so that nothing was generated, is kept with reason (and flag) "prompt_too_long".
    poor: "drop" lets the rows leave that the policy would have rewritten, with reason "poor:" and the policy's; no rewrite is asked for.
    similarity: one more guard on rewrites, which asks a model about the picture.
    max_tokens: None takes the prompt's.
    Raises ValueError for a mode that lacks what the policy compares, `CallNotSupported` for mode "decide" without a `likelihood`.
    """

    generate: Generate
    likelihood: Likelihood | None = None
    prompt: Prompt = AITQE_PROMPT
    mode: Mode = "full"
    policy: Policy = field(default_factory=Policy)
    guards: Guards = field(default_factory=Guards)
    max_tokens: int | None = None
    min_branch_mass: float = 0.5
    rescore: bool = False
    poor: Literal["rewrite", "drop"] = "rewrite"
    similarity: SimilarityGuard | None = None

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ValueError(f"unknown mode {self.mode!r}; there are {', '.join(get_args(Mode))}")
        if self.mode == "decide" and self.likelihood is None:
            raise CallNotSupported('mode "decide" needs a backend with likelihoods; this one only generates: use mode "scores"')
        if self.mode == "decide" and self.policy.kind == "threshold":
            raise ValueError('policy "threshold" compares scores, which mode "decide" does not ask for: use mode "scores" or "full"')
        if self.mode == "scores" and self.policy.kind == "threshold" and self.policy.floors:
            raise ValueError('floors compare aspect scores, which mode "scores" stops short of: use mode "full"')

    def __call__(self, samples: Sequence[Sample]) -> list[Verdict]:
        seen = [i for i, sample in enumerate(samples) if sample.images]
        questions = [self._question(samples[i]) for i in seen]
        judged = self._judge(questions)
        decisions = [self._decide(row) for row in judged]
        asked = [i for i, decision in enumerate(decisions) if decision.wish == "ask" and self.poor == "rewrite"]
        offers = dict(zip(asked, self._recaption([questions[i] for i in asked]), strict=True))
        verdicts = [Verdict("keep", reason="no_image")] * len(samples)
        for i, at in enumerate(seen):
            verdicts[at] = self._verdict(samples[at].caption or "", judged[i], decisions[i], offers.get(i))
        if self.similarity is not None:
            verdicts = self.similarity(samples, verdicts)
        return self._rescored(samples, verdicts) if self.rescore else verdicts

    def describe(self) -> dict[str, str | bool]:
        """What goes into audits beside the backend's description."""
        return {"policy": self.policy.describe(), "prompt_sha": self.prompt.sha, "rescore": self.rescore, "poor": self.poor}

    def _question(self, sample: Sample) -> Sample:
        return replace(sample, messages=(self.prompt.message(sample.caption or ""),), images=sample.images[:1])

    def _judge(self, questions: Sequence[Sample]) -> list[_Judged]:
        if self.mode != "decide":
            return self._read(questions, stop=self.prompt.stop if self.mode == "scores" else ())
        judged = self._compare_branches(questions)
        missed = [i for i, row in enumerate(judged) if row.p_rewrite is None]
        for i, row in zip(missed, self._read([questions[i] for i in missed], stop=self.prompt.stop), strict=True):
            judged[i] = row if row.too_long else replace(row, flags=("branch_missed",))
        return judged

    def _read(self, questions: Sequence[Sample], stop: tuple[str, ...]) -> list[_Judged]:
        responses = self._ask(questions, Sampling(max_tokens=self.max_tokens or self.prompt.max_tokens, stop=stop, branches=BRANCHES))
        return [_judged(response) for response in responses]

    def _compare_branches(self, questions: Sequence[Sample]) -> list[_Judged]:
        if not questions or self.likelihood is None:
            return []
        tokens = self.likelihood(questions, [BRANCHES] * len(questions))
        return [_Judged(None, _softmax(sum(rewrite), sum(keep), self.min_branch_mass)) for rewrite, keep in tokens]

    def _decide(self, row: _Judged) -> Decision:
        if row.too_long:
            return Decision("keep", _TOO_LONG)
        if row.reply is not None:
            return self.policy.decide(row.reply)
        return self.policy.decide_unread(row.p_rewrite or 0.0)

    def _recaption(self, questions: Sequence[Sample]) -> list[_Judged]:
        """The second pass: the answer's start is forced, and it may end with the caption."""
        limit = self.max_tokens or self.prompt.max_tokens
        responses = self._ask(questions, Sampling(max_tokens=limit, stop=_AFTER_RECAPTION, prefix=RECAPTION_PREFIX))
        return [_judged(response) for response in responses]

    def _rescored(self, samples: Sequence[Sample], verdicts: list[Verdict]) -> list[Verdict]:
        """The verdicts, those of rewritten rows with the overall score of their new caption."""
        changed = [i for i, verdict in enumerate(verdicts) if verdict.action == "rewrite"]
        questions = [self._question(replace(samples[i], caption=verdicts[i].text)) for i in changed]
        again = dict(zip(changed, self._read(questions, stop=self.prompt.stop), strict=True))
        return [self._with_after(verdict, again[i]) if i in again else verdict for i, verdict in enumerate(verdicts)]

    def _with_after(self, verdict: Verdict, again: _Judged) -> Verdict:
        return replace(verdict, scores={**verdict.scores, RESCORED: again.reply.overall if again.reply else None})

    def _ask(self, questions: Sequence[Sample], sampling: Sampling) -> list[Response]:
        if not questions:
            return []
        responses = self.generate(questions, sampling)
        if [r.sample_id for r in responses] != [q.id for q in questions]:
            raise RuntimeError(
                f"{len(questions)} questions got {len(responses)} answers, or in another order; a backend gives one each, in order"
            )
        return responses

    def _verdict(self, raw: str, row: _Judged, decision: Decision, offer: _Judged | None) -> Verdict:
        reply = row.reply
        proposal = next((a.recaption for a in (offer and offer.reply, reply) if a and a.recaption is not None), None)
        action, reason = self._settle(raw, decision, proposal)
        unasked = (_TOO_LONG,) if offer and offer.too_long else ()
        return Verdict(
            action=action,
            scores=reply.all_scores() if reply else {},
            explanations=reply.explanations if reply else {},
            text=proposal if action == "rewrite" else None,
            proposal=proposal,
            p_rewrite=row.p_rewrite,
            parse_status=reply.status if reply else None,
            reason=_TOO_LONG if unasked else reason,
            raw=reply.raw[:_RAW_CHARS] if reply and reply.status == "unparsable" else None,
            flags=(*row.flags, *unasked, *(reply.flags if reply else ()), *(("caption_cut",) if self.prompt.show(raw).cut else ())),
        )

    def _settle(self, raw: str, decision: Decision, proposal: str | None) -> tuple[Literal["keep", "rewrite", "drop"], str]:
        if decision.wish == "keep":
            return "keep", decision.reason
        if self.poor == "drop":
            return "drop", f"poor:{decision.reason}"
        if proposal is None:
            return "keep", "no_recaption"
        if unchanged(raw, proposal):
            return "keep", "unchanged"
        failed = self.guards.refusal(raw, proposal)
        return ("keep", f"guard:{failed}") if failed else ("rewrite", decision.reason)


def _judged(response: Response) -> _Judged:
    """A prompt that does not fit the model is answered with nothing, not even a token; that is no fault of its answer."""
    if response.no_room:
        return _Judged(None, None, (_TOO_LONG,))
    return _Judged(parse(response.text), response.branches.get(BRANCHES[0]))


def _softmax(rewrite: float, keep: float, min_mass: float) -> float | None:
    """Probability of the first branch from two log-probabilities, or None where both are unknown (NaN) or too unlikely together."""
    if not math.exp(rewrite) + math.exp(keep) >= min_mass:
        return None
    return 1 / (1 + math.exp(keep - rewrite)) if keep - rewrite < 700 else 0.0
