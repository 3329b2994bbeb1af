"""Parts of a round that only pretend: answers that get better by the round, feedback and training that write files and ask no model."""

import json
from pathlib import Path

from data_tools.records import Claim, PreferencePair, Response, Sample
from mm_align.jobs.feedback.feedback import FeedbackReport
from mm_align.jobs.rounds.rounds import Parts
from mm_align.jobs.train.results import TrainReport

START = "somebody/start"


class Killed(BaseException):
    """The process ended here."""


class Model:
    """Says "dog" of every picture, and with each round of fewer "cat" too, which is not there. Log-probabilities grow by 1 a round."""

    faces = frozenset({"generate", "likelihood"})

    def __init__(self, number: int) -> None:
        self.number = number

    def generate(self, samples, sampling):
        texts = ["a dog and a cat" if int(s.id[1:]) % 4 >= self.number else "a dog <b>" for s in samples]
        return [Response(f"{s.id}:0", s.id, text) for s, text in zip(samples, texts, strict=True)]

    def likelihood(self, samples, continuations, *, ended=False, temperature=1.0):
        return [[(self.number - 3.0 * ("cat" in text), -1.0) for text in texts] for texts in continuations]


class World:
    """Fake parts over real files. `fail`: (part, how often it has been called) at which the process is killed."""

    def __init__(self, fail=None, pairs=6) -> None:
        self.fail, self.pairs = fail, pairs
        self.calls: list[str] = []
        self.seen: dict[str, list] = {"feedback": [], "train": []}

    @property
    def parts(self) -> Parts:
        return Parts(self.feedback, self.train, self.load)

    def note(self, part: str) -> None:
        self.calls.append(part)
        if self.fail == (part, self.calls.count(part)):
            raise Killed

    def load(self, name):
        self.note("load")
        return Model(int(name.split("round-")[1][0]) if "round-" in name else 0)

    def feedback(self, config):
        self.note("feedback")
        self.seen["feedback"].append(config)
        out = Path(config.out)
        out.mkdir(exist_ok=True)
        rows = lines(Path(config.data))
        for row in rows:  # told from the feedback's folder, one below
            row["images"][0]["path"] = f"../{row['images'][0]['path']}"
        prompts = [Sample.from_dict(row) for row in rows]
        pairs = [PreferencePair(sample, "a dog", "a dog and a cat", 1.0).to_dict() for sample in prompts[: self.pairs]]
        write(out / "scores.jsonl", [{"subject_id": "x", "name": "rejected", "value": -0.5}])
        claims = [Claim("x", i, "c", "c?", p_yes, 1 - p_yes).to_dict() for i, p_yes in enumerate((0.9, 0.2))]
        write(out / "judged.jsonl", claims)
        write(out / "pairs.jsonl", pairs)
        return FeedbackReport(out, out / "pairs.jsonl")

    def train(self, config):
        self.note("train")
        self.seen["train"].append(config)
        out = Path(config.out)
        (out / "model").mkdir(parents=True, exist_ok=True)
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / ".mmalign").mkdir(exist_ok=True)
        (out / ".mmalign/finished.json").write_text(json.dumps({"step": 3, "selected_by": "objects/hallucinating", "selected_value": 0.5}))
        return TrainReport(out)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def hallucinating(report) -> list[float]:
    return [one["figures"]["objects/hallucinating"] for one in report.rounds]
