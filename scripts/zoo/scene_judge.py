"""A judge that knows the truth of SceneWorld, to be asked as any other: a backend here, and an endpoint on this machine.

python scripts/zoo/scene_judge.py scenes --port 8123
mmalign aitqe data scenes --judge openai:http://127.0.0.1:8123/v1 --out quality

It answers the questions of `data_tools/aitqe/construction`, exactly and always alike. It cannot see: it knows pictures by their pixels.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import PIL.Image

from data_tools.aitqe.construction import BETTER, SCORING, WORSE
from data_tools.aitqe.parser import SCORE_KEYS, TITLES
from data_tools.calls import Sampling
from data_tools.io import decode, list_shards, read
from data_tools.records import Response, Sample
from data_tools.scenes.captions import short_caption
from data_tools.scenes.corrupt import Poor, corrupt
from data_tools.scenes.extract import agreement
from data_tools.scenes.opinion import opinion
from data_tools.scenes.rows import Captioned
from data_tools.scenes.spec import SPEC
from data_tools.scenes.world import Scene

NAME = "sceneworld-truth"
SHOWN_WRONG = ("wrong_object", "wrong_color", "wrong_count", "wrong_relation", "missing_detail")
DAMAGES = {"wrong": SHOWN_WRONG, "irrelevant": ("other_image",), "poor": ("file_name", "boilerplate", "broken_grammar", "repetition")}


class SceneJudge:
    """`Generate` over rows of `mmalign scenes make`. Raises KeyError for a picture that is none of theirs."""

    faces = frozenset({"generate"})
    batch_size = 32

    def __init__(self, rows: Sequence[Sample]) -> None:
        self.scenes: dict[str, Scene] = {}
        self.known: dict[tuple[str, str], Captioned] = {}
        for row in rows:
            truth, key = row.meta["sceneworld"], digest(decode(row.images[0]).pixels)
            scene = self.scenes[key] = Scene.from_dict(truth["scene"])
            for made in self._captions(key, scene, row.caption or "", truth):
                self.known.setdefault((key, made.text), made)

    @staticmethod
    def _captions(key: str, scene: Scene, raw: str, truth: Mapping[str, Any]) -> list[Captioned]:
        """What is known of captions beforehand: the row's, true ones, and the damaged ones that this judge itself would write."""
        true = [Captioned(scene, text, "good", 0.0) for text in (truth["short"], truth["detailed"], *truth["captions"])]
        damaged = [poor for style in DAMAGES if (poor := worse(key, scene, style)) is not None]
        return [
            Captioned(scene, raw, truth["kind"], truth["severity"]),
            *true,
            *(Captioned(scene, p.text, p.kind, p.severity) for p in damaged),
        ]

    def describe(self) -> dict[str, Any]:
        return {"model": NAME, "revision": str(SPEC["version"])}

    def generate(self, samples: Sequence[Sample], sampling: Sampling) -> list[Response]:
        texts = [self.answer(digest(decode(s.images[0]).pixels), s.messages[-1].parts[-1].text) for s in samples]
        return [Response(f"{s.id}:0", s.id, text, NAME, tokens=len(text.split())) for s, text in zip(samples, texts, strict=True)]

    def answer(self, key: str, question: str) -> str:
        """The answer to one question about the picture `key`. ValueError for a question of another kind."""
        scene = self.scenes[key]
        for template in SCORING:
            if (caption := slot(question, template)) is not None:
                return scores(self.known.get((key, caption)) or guessed(scene, caption))
        for style, template in [(style, t) for style, templates in WORSE.items() for t in templates]:
            if slot(question, template) is not None:
                poor = worse(key, scene, style)
                return json.dumps({"Caption": poor.text if poor else ""})
        if any(slot(question, template) is not None for template in BETTER):
            return json.dumps({"Caption": short_caption(scene)})
        raise ValueError(f"this judge knows the questions of `mmalign aitqe data` alone, not {question[:80]!r}")


def digest(pixels: PIL.Image.Image | None) -> str:
    assert pixels is not None
    return hashlib.sha256(pixels.convert("RGB").tobytes()).hexdigest()


def slot(question: str, template: str) -> str | None:
    """The caption inside a question that was made of `template`; None where it was made of another."""
    before, _, after = template.partition("{caption}")
    inside = question[len(before) : len(question) - len(after)]
    return json.loads(inside) if question == before + inside + after else None


def worse(key: str, scene: Scene, style: str) -> Poor | None:
    """The damaged caption of a style, always the same for one picture; None where the scene has no room for any of its kinds."""
    rng = random.Random(f"judge-{key}-{style}")
    kinds = rng.sample(DAMAGES[style], len(DAMAGES[style]))
    return next((poor for kind in kinds if (poor := corrupt(scene, kind, rng)) is not None), None)


def guessed(scene: Scene, caption: str) -> Captioned:
    """A caption of another origin, by its objects alone."""
    found = agreement(caption, scene)
    right = found.claimed == found.right and found.claimed == found.truth > 0
    return Captioned(scene, caption, "good", 0.0) if right else Captioned(scene, caption, "wrong_object", 0.5)


def scores(made: Captioned) -> str:
    """The truth's opinion as a general model writes it: whole numbers, no marker, no recaption."""
    reply = replace(opinion(made), recaption=None)
    said: dict[str, Any] = {}
    for key in SCORE_KEYS:
        said |= {f"{TITLES[key]} Score": reply.all_scores()[key], f"{TITLES[key]} Explanation": reply.explanations[key]}
    return json.dumps(said)


# -- as an endpoint ----------------------------------------------------------------------------------------------------


def rows_of(folder: str) -> list[Sample]:
    return [row for shard in list_shards(folder) for row in read(shard) if isinstance(row, Sample)]


def server(judge: SceneJudge, port: int) -> ThreadingHTTPServer:
    """An OpenAI-compatible endpoint of this judge on this machine; 0 takes any free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, {"object": "list", "data": [{"id": NAME, "object": "model"}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                text = judge.answer(*asked(body))
            except (KeyError, ValueError, TypeError, OSError, StopIteration) as error:
                self._send(400, {"error": {"message": f"{type(error).__name__}: {error}"}})
                return
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            self._send(200, {"model": NAME, "choices": [choice], "usage": {"completion_tokens": len(text.split())}})

        def _send(self, status: int, answer: Any) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64  # who asks opens many connections at once
        daemon_threads = True

    return Server(("127.0.0.1", port), Handler)


def asked(body: Mapping[str, Any]) -> tuple[str, str]:
    """The picture and the words of a chat request."""
    parts = body["messages"][-1]["content"]
    url = next(p["image_url"]["url"] for p in parts if p["type"] == "image_url")
    with PIL.Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as opened:
        key = digest(opened.convert("RGB"))
    return key, "".join(p["text"] for p in parts if p["type"] == "text")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="what `mmalign scenes make` wrote")
    parser.add_argument("--port", type=int, default=8123)
    options = parser.parse_args()
    with server(SceneJudge(rows_of(options.data)), options.port) as http:
        print(f"judge: openai:http://127.0.0.1:{http.server_port}/v1", flush=True)
        http.serve_forever()


if __name__ == "__main__":
    main()
