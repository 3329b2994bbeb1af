"""How endpoints are asked, whichever they are: what a command may say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from .request_cache import RequestCache
from .usage import Usage

CONCURRENT = 16
TIMEOUT = 120.0


@dataclass(frozen=True)
class EndpointOptions:
    """concurrency: requests under way at once, at most. timeout: seconds for one whole answer. cache: answers are sought and kept
    there. usage: counts, shared by all endpoints that are opened with these options."""

    concurrency: int = CONCURRENT
    timeout: float = TIMEOUT
    cache: RequestCache | None = None
    usage: Usage = field(default_factory=Usage)
