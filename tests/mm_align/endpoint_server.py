"""An OpenAI-compatible server of our own on loopback, which answers, errs, stalls and breaks off as told."""

from __future__ import annotations

import base64
import io
import json
import math
import random
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image

from mm_align.backends.endpoint_options import EndpointOptions
from mm_align.backends.http import Endpoint
from mm_align.backends.openai_ import OpenAiBackend

Fault = Callable[[BaseHTTPRequestHandler], None]


def completion(*texts: str, logprobs: object = None, reason: str = "stop") -> dict:
    choices = [{"message": {"content": t}, "finish_reason": reason, **({"logprobs": logprobs} if logprobs else {})} for t in texts]
    return {"choices": choices, "usage": {"completion_tokens": 3 * len(texts)}}


def first_token(**shares: float) -> dict:
    """Log-probabilities of a first token; the likeliest is the one that was drawn, and stands in both places."""
    tops = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    return {"content": [{**tops[0], "top_logprobs": tops}]}


def words(body: dict) -> str:
    return "".join(part.get("text", "") for message in body["messages"] for part in message["content"])


class Server:
    """`answer(body)` gives the JSON answer to a question; `faults` are what happens to the first requests instead."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.asked: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answer: Callable[[dict], dict] = lambda body: completion(*[f"{words(body)} {i}" for i in range(body.get("n", 1))])
        self.paths_too: dict[str, Callable[[dict], object]] = {}
        self.released = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def backend(self, **options) -> OpenAiBackend:
        asked = EndpointOptions(concurrency=4)
        return OpenAiBackend(Endpoint(self.url, asked, **{"timeout": 5.0, "attempts": 3, "first_wait": 0.01, **options}), "m")

    def route(self, path: str, body: dict) -> object:
        """The answer to a question at a path; paths beside chat completions are those of `paths_too`."""
        place = path.rpartition("/")[2]
        if place not in ("completions", *self.paths_too):
            raise Refusal(404, "Not Found")
        return self.paths_too.get(place, self.answer)(body)

    def close(self) -> None:
        self.released.set()
        self.http.shutdown()
        self.http.server_close()

    def _handler(server) -> type:
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._seen({})
                answer_with(self, 200, {"data": [{"id": name} for name in getattr(server, "models", ["m"])]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fault = self._seen(body)
                try:
                    if fault:
                        fault(self)
                    else:
                        answer_with(self, 200, server.route(self.path, body))
                except Faulty as faulty:
                    faulty.fault(self)
                except Refusal as refusal:
                    answer_with(self, refusal.status, {"error": {"message": refusal.message}})

            def _seen(self, body: dict) -> Fault | None:
                with lock:
                    server.asked.append(body)
                    server.headers.append(dict(self.headers))
                    server.paths.append(self.path)
                    return server.faults.pop(0) if server.faults else None

            def log_message(self, *args: object) -> None:
                pass

        return Handler


class Faulty(Exception):
    """What happens instead of an answer."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message


def answer_with(handler: BaseHTTPRequestHandler, status: int, body: object, **headers: str) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def status(code: int, **headers: str) -> Fault:
    return lambda handler: answer_with(handler, code, {"error": {"message": "not now"}}, **headers)


def half(handler: BaseHTTPRequestHandler) -> None:
    answer_with(handler, 200, b'{"choices": [{"mess', Content_Length="500")


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


IDS = {"yes": 1, " yes": 2, "Yes": 3, "no": 4, " No": 5}  # the spellings that are one token of the model that is played
ALL = frozenset({"images", "logprobs", "ids", "assets", "n", "seed", "stop", "structured"})


def brightness(url: str) -> float:
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(url.partition("base64,")[2] or url)))
    return sum(picture.convert("L").resize((1, 1)).tobytes()) / 255


class Model:
    """A model behind an endpoint that has these `skills`; any other option it leaves out without a word."""

    def __init__(self, skills: frozenset[str] = ALL) -> None:
        self.skills = skills

    def chat(self, body: dict) -> dict:
        shown = [part["image_url"]["url"] for m in body["messages"] for part in m["content"] if part["type"] == "image_url"]
        light = brightness(shown[0]) if shown and "images" in self.skills else 0.5
        texts = [self.text(body, light, i) for i in range(body.get("n", 1) if "n" in self.skills else 1)]
        return completion(*texts, logprobs=self.logprobs(body, light))

    def text(self, body: dict, light: float, i: int) -> str:
        if "response_format" in body and "structured" in self.skills:
            return json.dumps({"bright": light > 0.5})
        text = "one two three four" if "Count" in words(body) else f"grey {light:.1f}"
        if body["temperature"] > 0:
            text += f" {random.Random(body['seed'] + i if 'seed' in self.skills else None).random()}"
        stop = (body.get("stop") or [""])[0] if "stop" in self.skills else ""
        return text.partition(stop)[0] if stop else text

    def logprobs(self, body: dict, light: float) -> dict | None:
        if "logprobs" not in self.skills or not body.get("logprobs"):
            return None
        yes = 0.05 + 0.8 * light
        if "ids" in self.skills and "logprob_token_ids" in body:
            shares = {1: yes / 2, 2: yes / 4, 3: yes / 4, 4: 0.06, 5: 0.02}
            tops = [{"token": f"token_id:{i}", "logprob": math.log(shares[i])} for i in body["logprob_token_ids"]]
            return {"content": [{"token": "token_id:9", "logprob": -1.0, "top_logprobs": tops}]}
        return first_token(**{"Yes": yes, "No": 0.08, "well": 0.01}) if body.get("top_logprobs") else {"content": [{"token": "a"}]}

    def systemone(self, body: dict) -> dict:
        """Pictures in `assets` or `images`, whichever is a skill; those in the other are not seen."""
        assets = [asset["data_base64"] for asset in body.get("assets", {}).values()] if "assets" in self.skills else []
        seen = assets or (body.get("images", []) if "listed" in self.skills else [])
        light = brightness(seen[0]) if seen else 0.5
        told = {"label_mass": 0.5} if "mass" in self.skills else {}
        return {"answers": {name: {"type": "noul", "noul": 0.1 + 0.8 * light, **told} for name in body["questions"]}}

    def decisions(self, body: dict) -> dict:
        light = brightness(body["input"][0]["content"][0]["image_url"])
        return {"answers": [{"type": "predicate", "name": q["name"], "probability": 0.2 + 0.6 * light} for q in body["questions"]]}

    def play(self, server) -> None:
        def absent(body: dict) -> dict:
            raise Refusal(404, "Not Found")

        server.answer = self.chat
        typed = self.skills & {"assets", "listed", "blind"}
        server.paths_too = {
            "systemone": self.systemone if typed else absent,
            "decisions": self.decisions if "decisions" in self.skills else absent,
            "tokenize": (lambda body: {"tokens": [IDS.get(body["prompt"], 7)] * (1 + (body["prompt"] not in IDS))}),
        }
