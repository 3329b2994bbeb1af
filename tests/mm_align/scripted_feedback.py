"""What the tests of `mmalign rlaif feedback` share: a scripted model, and the command line that asks it."""

import json
import os
import signal
from typing import Any

from data_tools.calls import CallFailed, Decision
from data_tools.records import Response
from mm_align.cli import main

DOG, CAT = "There is a dog.", "There is a dog. There is a cat."
STAGES = ("samples", "candidates", "claims", "questions", "judged", "scores", "pairs")
TWO = ("--set", "candidates.n=2", "--set", "pairs.balance=false")


class Scripted:
    """Answers every prompt with the same `answers`; as a judge, rejects what names one of `absent`. One sample in a block."""

    faces = frozenset({"generate", "decide"})
    batch_size = 1

    def __init__(self, answers=(DOG, CAT), absent=("cat",), name="scripted"):
        self.answers, self.absent, self.name = answers, absent, name
        self.prompts, self.judged, self.questions = [], [], []

    def describe(self):
        return {"model": self.name, "revision": "0"}

    def generate(self, samples, sampling):
        self.prompts += [sample.id for sample in samples]
        texts = [self.answers[j % len(self.answers)] for j in range(sampling.n)]
        return [Response(f"{s.id}:{j}", s.id, text, self.name, tokens=len(text.split())) for s in samples for j, text in enumerate(texts)]

    def decide(self, samples, questions):
        self.judged += [sample.id for sample in samples]
        self.questions += [question for asked in questions for question in asked]
        return [[self.decided(question) for question in asked] for asked in questions]

    def decided(self, question):
        return Decision(0.1, 0.8) if any(word in question for word in self.absent) else Decision(0.9, 0.05)


class Writing(Scripted):
    """Divides and writes questions too."""

    def generate(self, samples, sampling):
        if samples[0].images:
            return super().generate(samples, sampling)
        return [Response(f"{s.id}:0", s.id, self.listed(s.messages[0].parts[0].text)) for s in samples]

    @staticmethod
    def listed(prompt):
        if "Facts:" in prompt:
            answer = prompt.partition("Answer: ")[2].partition("\n\nFacts:")[0]
            return "\n".join(f"- {part}." for part in answer.rstrip(".").split(". "))
        lines = [line for line in prompt.splitlines() if line[:1].isdigit()]
        return "\n".join(line.replace("There is", "Is there").rstrip(".") + "?" for line in lines)


class Stops(Scripted):
    """Is told to stop while it answers or judges the `at`-th sample."""

    def __init__(self, at, face):
        super().__init__()
        self.at, self.face = at, face

    def _perhaps(self, face, n):
        if face == self.face and n == self.at:
            os.kill(os.getpid(), signal.SIGTERM)

    def generate(self, samples, sampling):
        found = super().generate(samples, sampling)
        self._perhaps("generate", len(self.prompts))
        return found

    def decide(self, samples, questions):
        found = super().decide(samples, questions)
        self._perhaps("decide", len(self.judged))
        return found


class Fails(Scripted):
    """An endpoint that breaks at the samples whose id holds one of `bad`."""

    def __init__(self, *bad, again=True):
        super().__init__()
        self.bad, self.again = bad, again

    def decide(self, samples, questions):
        if any(word in str(image.path) for sample in samples for image in sample.images for word in self.bad):
            raise CallFailed("HTTP 500 after 5 tries", again=self.again)
        return super().decide(samples, questions)


def command(pictures: Any, out: Any, *more: str) -> int:
    return main(["rlaif", "feedback", "--images", str(pictures), "--model", "a", "--judge", "b", "--out", str(out), *more])


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def files(out):
    return {name: (out / f"{name}.jsonl").read_bytes() for name in STAGES}
