"""Asks a JSON endpoint as often as it takes: retries with jittered back-off, deadlines, and a key that never leaves by another door."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import logging
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from data_tools.calls import CallFailed

from ..config import UserError
from .endpoint_options import EndpointOptions
from .pace import Pace
from .request_cache import request_key

log = logging.getLogger(__name__)
Read = TypeVar("Read")

KEYS = ("MM_ALIGN_API_KEY", "OPENAI_API_KEY")
AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
CROWDED = frozenset({408, 429, 503, 504, 529})
LONGEST_WAIT = 120.0  # seconds between two attempts, whatever an endpoint asks for
SECRET = 6  # a shorter key may be a word of any answer
SAID = 300  # characters of an endpoint's own words in a message


class Trouble(Exception):
    """One attempt failed and another may not. `wait`: seconds that the endpoint asks for. crowded: it has too much to do."""

    def __init__(self, reason: str, wait: float = 0.0, *, crowded: bool = False) -> None:
        super().__init__(reason)
        self.wait, self.crowded = wait, crowded


class NothingThere(UserError):
    """The endpoint has no such path or model."""


class Closed(Exception):
    """The call that this request belonged to was given up."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would turn the question into another one and carry the key to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Endpoint:
    """`url` with everything before the paths, as in http://localhost:8000/v1. Safe to use from several threads.

    timeout: seconds for one attempt, from sending to the last byte, if not those of the options. The key is read from the environment
    (MM_ALIGN_API_KEY, or OPENAI_API_KEY) and stands in no message.
    """

    def __init__(
        self, url: str, options: EndpointOptions | None = None, *, timeout: float | None = None, attempts: int = 6, first_wait: float = 1.0
    ) -> None:
        self.url = checked(url)
        self.root = self.url.removesuffix("/v1")
        self.options = options or EndpointOptions()
        self.timeout = self.options.timeout if timeout is None else timeout
        self.attempts, self.first_wait = attempts, first_wait
        self.pace = Pace(self.options.concurrency)
        self.pulse: tuple[str, Mapping[str, Any]] | None = None  # path and body of a plain question by which to tell that it is gone
        self._key = next((os.environ[name] for name in KEYS if os.environ.get(name)), "")
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._not_before = 0.0  # by the monotonic clock: an endpoint that asks one to wait asks all
        self.closed = threading.Event()

    def ask(
        self,
        path: str,
        body: Mapping[str, Any] | None,
        read: Callable[[Any], Read],
        *,
        attempts: int | None = None,
        fresh: bool = False,
    ) -> Read:
        """What `read` makes of the JSON answer (GET without a body); `read` raises Trouble for an answer that is none.

        path: behind the URL, or a whole one that begins with `root`. attempts: fewer than usual. fresh: neither from the cache nor into it.
        Raises CallFailed when no attempt succeeded or none ever will, UserError for what the user can mend (key, model, certificate).
        """
        cache = None if fresh or body is None else self.options.cache
        key = request_key(self.url, path, body) if cache is not None and body is not None else b""
        kept = cache.get(key) if cache is not None else None
        if kept is not None:
            with contextlib.suppress(Trouble):  # a reader may ask for more than an earlier one did
                found = read(kept)
                self.options.usage.taken()
                return found
        found, answer = self._until_answered(path, body, read, attempts)
        if cache is not None:
            cache.put(key, answer)
        return found

    def _until_answered(
        self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], Read], attempts: int | None
    ) -> tuple[Read, Any]:
        """What was read, and the answer itself."""
        reason, most = "not asked", min(self.attempts, attempts or self.attempts)
        for attempt in range(most):
            self._wait_for_turn()
            try:
                return self._attempt(path, body, read)
            except Trouble as trouble:
                reason = str(trouble)
                wait = self._pause(attempt, trouble.wait, last=attempt + 1 == most)
                log.info("%s: %s; attempt %d of %d, waiting %.1f s", path, reason, attempt + 1, most, wait)
        failure = CallFailed(f"the endpoint did not answer in {most} attempts: {reason}")
        if attempts is not None or self.pulse is None:
            raise failure
        return self._last(path, body, read, failure)

    def _last(self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], Read], failure: CallFailed) -> tuple[Read, Any]:
        """Is it the request, or the endpoint? One attempt more where a plain question is answered; where it is not, all is gone."""
        assert self.pulse is not None
        try:
            self._attempt(*self.pulse, lambda answer: answer)
        except CallFailed:
            pass  # it refuses the question, which is an answer
        except Trouble:
            raise CallFailed(str(failure), gone=True) from None
        try:
            return self._attempt(path, body, read)
        except Trouble:
            raise failure from None

    def _attempt(self, path: str, body: Mapping[str, Any] | None, read: Callable[[Any], Read]) -> tuple[Read, Any]:
        """One request, when the pace allows it; how it went sets the pace of the next."""
        with self.pace.turn(self.closed):
            if self.closed.is_set():
                raise Closed
            begun = time.monotonic()
            self.options.usage.sent()
            try:
                answer = self._once(path, body)
                found = read(answer)
            except Trouble as trouble:
                if trouble.crowded:
                    self.pace.pushed_back(begun)
                raise
        self.pace.answered((path, (body or {}).get("max_tokens")), time.monotonic() - begun)
        self.options.usage.answered(answer)
        return found, answer

    def _pause(self, attempt: int, asked: float, *, last: bool) -> float:
        """Doubles with each attempt, by half more or less so that requests that failed together do not return together."""
        jitter = self.first_wait * random.uniform(0.5, 1.5)
        wait = min(LONGEST_WAIT, max(asked and asked + jitter, jitter * 2**attempt))
        if last:
            return 0.0
        if asked:
            self._not_before = max(self._not_before, time.monotonic() + min(asked, LONGEST_WAIT))
        if self.closed.wait(wait):
            raise Closed
        return wait

    def _wait_for_turn(self) -> None:
        if self.closed.wait(max(0.0, self._not_before - time.monotonic())):
            raise Closed

    def _once(self, path: str, body: Mapping[str, Any] | None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(path if path.startswith(f"{self.root}/") else f"{self.url}{path}", data, headers)
        deadline = time.monotonic() + self.timeout
        try:
            with self._opener.open(request, timeout=self.timeout) as response:
                return json.loads(self._hidden(self._whole(response, deadline)))
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except ValueError:
            raise Trouble("it answered with something that is no JSON") from None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error) from None

    def _whole(self, response: Any, deadline: float) -> bytes:
        """The body; an endpoint that sends a byte now and then is stopped too."""
        pieces = []
        while piece := response.read1(1 << 16):
            pieces.append(piece)
            if time.monotonic() > deadline:
                raise TimeoutError
        return b"".join(pieces)

    def _hidden(self, data: bytes) -> bytes:
        """Without the key, should an endpoint send it back: answers are stored and shown."""
        return data.replace(self._key.encode(), b"***") if len(self._key) >= SECRET else data

    def _refused(self, error: urllib.error.HTTPError) -> Exception:
        status, said = error.code, self._said(error)
        if status in AGAIN:
            return Trouble(f"HTTP {status}{said}", retry_after(error.headers.get("Retry-After")), crowded=status in CROWDED)
        if status in (401, 403):
            return UserError(
                f"the endpoint {self.url} refuses the key (HTTP {status}); put the right one into the environment as {KEYS[0]}"
            )
        if status == 404 or 300 <= status < 400:
            return NothingThere(f"the endpoint {self.url} has no such model or path (HTTP {status}){said}; give openai:URL/v1#MODEL")
        return CallFailed(f"the endpoint refuses this request: HTTP {status}{said}", again=False)

    def _said(self, error: urllib.error.HTTPError) -> str:
        try:
            words = error.read(4096).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        words = " ".join(words.split())[:SAID]
        return f": {words.replace(self._key, '***') if self._key else words}" if words else ""

    def _broken(self, error: Exception) -> Exception:
        cause = getattr(error, "reason", error)
        if "CERTIFICATE_VERIFY_FAILED" in str(cause):
            return UserError(f"the certificate of {self.url} cannot be verified; set SSL_CERT_FILE to the authority that signed it")
        if isinstance(cause, TimeoutError):
            return Trouble(f"no answer within {self.timeout:g} s", crowded=True)
        return Trouble(f"the connection failed ({' '.join(str(cause).split())[:SAID] or type(cause).__name__})")


def checked(url: str) -> str:
    """The URL without a slash at its end. UserError for one that is none, or that holds a password."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        whole = False
    if not whole or any(c.isspace() for c in url):
        raise UserError(f"{url!r} is no URL of an endpoint; give openai:http://HOST:PORT/v1#MODEL")
    if parts.username or parts.password or parts.query:
        raise UserError(f"the endpoint's URL must hold no user, password or query; keys come from the environment ({' or '.join(KEYS)})")
    return url.rstrip("/")


def retry_after(header: str | None) -> float:
    """Seconds that a Retry-After header asks for, given as such or as a date; 0 where it says nothing of use."""
    if not header:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError, OverflowError):
            return 0.0
    return max(0.0, seconds) if seconds == seconds else 0.0
