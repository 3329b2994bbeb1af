"""A quality model that says what a caption asks for, rows to enhance, and the command itself: for every test of `enhance-data`."""

import io
import json

import PIL.Image

from data_tools.records import Response, Sample
from mm_align.backends.null import NullBackend
from mm_align.cli import main

SCORED = '{{"Overall Score": "{}<Overall>", "Overall Explanation": "plain"}}'
REWRITTEN = '{{"Recaption": "{}", "Overall Score": "2<Overall>", "Overall Explanation": "poor"}}'


class Scripted(NullBackend):
    """Rewrites captions that say "bad", and scores the others 9."""

    def __init__(self, batch_size=4):
        super().__init__(batch_size=batch_size)
        self.rows = []

    def generate(self, samples, sampling):
        self.rows += [s.source.row for s in samples]
        return [Response(f"{s.id}:0", s.id, self.answer(s), branches=dict.fromkeys(sampling.branches, 0.5)) for s in samples]

    @staticmethod
    def answer(sample):
        question = sample.messages[0].parts[1].text
        return REWRITTEN.format("a small square on white ground") if "bad" in question else SCORED.format(9)


def encode(picture, format="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def square(color="red", mode="RGB", size=(24, 24)):
    return PIL.Image.new(mode, size, color)


def write_rows(folder, rows, name="rows.jsonl"):
    """The folder, with the rows and the picture x.png that they name."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "x.png").write_bytes(encode(square()))
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def plain_rows(n=10):
    """Rows whose every second caption is bad."""
    return [{"id": f"r{i}", "image": "x.png", "caption": f"{'bad ' if i % 2 else ''}caption {i}", "more": [i, None]} for i in range(n)]


def command(source, out, *more):
    return main(["enhance-data", str(source), "--out", str(out), *more])


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def stop_at(backend, row, act):
    """Before the backend answers about this row of a shard, `act` is done once."""
    answer = backend.answer

    def acting(sample: Sample):
        if sample.source.row == row:
            backend.answer = answer
            act()
        return answer(sample)

    backend.answer = acting
