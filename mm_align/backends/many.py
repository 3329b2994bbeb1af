"""Many requests to an endpoint at once; answers to a call that failed as a whole are kept for whoever asks again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from data_tools.calls import CallFailed

from .http import Endpoint
from .request_cache import request_key

Read = TypeVar("Read")


class Many:
    """Asks as many requests at a time as the endpoint's pace allows."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._kept: dict[bytes, Any] = {}
        self._keys: list[bytes] = []

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around all requests of one call: when it fails, what was answered is kept; when it succeeds, it is forgotten."""
        self._keys = []
        yield
        for key in self._keys:
            self._kept.pop(key, None)

    def ask(self, path: str, bodies: Sequence[Mapping[str, Any]], read: Callable[[Any], Read]) -> list[Read | CallFailed]:
        """One result a body, in order: what `read` made of the answer, or why there is none.

        When a request is given up for the endpoint's sake, those not begun are not sent. Any other error ends the call at once.
        """
        if not bodies:
            return []
        self.endpoint.closed.clear()
        with ThreadPoolExecutor(min(self.endpoint.pace.most, len(bodies))) as pool:
            futures = [pool.submit(self._one, path, body, read) for body in bodies]
            try:
                for done in as_completed(futures):
                    if getattr(_result(done), "again", False):
                        for future in futures:
                            future.cancel()
            except BaseException:
                self.endpoint.closed.set()  # wakes those that wait between two attempts
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [_result(future) for future in futures]

    def _one(self, path: str, body: Mapping[str, Any], read: Callable[[Any], Read]) -> Read:
        key = request_key(self.endpoint.url, path, body)
        self._keys.append(key)
        if key not in self._kept:
            self._kept[key] = self.endpoint.ask(path, body, read)
        found: Read = self._kept[key]
        return found


def settled(results: Sequence[Read | CallFailed]) -> list[Read]:
    """The results of a call. Raises the first failure, the endpoint's before a row's."""
    failed = [result for result in results if isinstance(result, CallFailed)]
    if failed:
        raise next((failure for failure in failed if failure.again), failed[0])
    return [result for result in results if not isinstance(result, CallFailed)]


def _result(future: Future[Any]) -> Any:
    """What came of a request, failed ones included; other errors are raised."""
    try:
        return future.result()
    except CancelledError:
        return CallFailed("not asked, since the endpoint did not answer another request")
    except CallFailed as failure:
        return failure
