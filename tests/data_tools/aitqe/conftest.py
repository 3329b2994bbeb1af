"""Fake models: answers and likelihoods looked up by caption, every call remembered."""

import json

import pytest

from data_tools.records import Image, Response, Sample


def answer(overall, recaption=None, **aspects):
    """An answer in the released format; aspects by title word, e.g. `detail=3`."""
    said = {} if recaption is None else {"Recaption": recaption}
    said |= {"Overall Score": f"{overall}<Overall>", "Overall Explanation": "because"}
    return json.dumps(said | {"Object Detail Score": aspects["detail"]} if aspects else said)


class FakeGenerate:
    """`answers`: caption -> text.  `forced`: caption -> what follows a forced prefix.  `p`: caption -> branch probability."""

    def __init__(self, answers, forced=None, p=None):
        self.answers, self.forced, self.p, self.calls = answers, forced or {}, p or {}, []

    def __call__(self, samples, sampling):
        self.calls.append(([s.caption for s in samples], sampling, list(samples)))
        return [self._respond(s, sampling) for s in samples]

    def _respond(self, sample, sampling):
        if sampling.prefix:
            return Response("r", sample.id, sampling.prefix + self.forced[sample.caption])
        text = self.answers[sample.caption]
        for stop in sampling.stop:
            text = text[: text.index(stop) + len(stop)] + '",' if stop in text else text
        p = self.p.get(sample.caption)
        branches = {} if p is None else dict(zip(sampling.branches, (p, 1 - p), strict=True))
        return Response("r", sample.id, text, branches=branches)


class FakeLikelihood:
    """`logs`: caption -> token log-probabilities of the two branches."""

    def __init__(self, logs):
        self.logs, self.asked = logs, []

    def __call__(self, samples, continuations):
        self.asked += [tuple(c) for c in continuations]
        return [list(self.logs[s.caption]) for s in samples]


@pytest.fixture(scope="session")
def fakes():
    """The fake classes and the answer writer, as a namespace."""

    class Fakes:
        generate, likelihood = FakeGenerate, FakeLikelihood
        answer = staticmethod(answer)

        @staticmethod
        def sample(caption, number=0):
            return Sample(f"id{number}", images=(Image(path="x.png"),), caption=caption)

    return Fakes
