"""What verbs that ask models may be told of endpoints, and the options that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from ..config import UserError

if TYPE_CHECKING:
    from ..backends.endpoint_options import EndpointOptions

Concurrency = Annotated[int, Field(ge=1, le=1024, description="of an endpoint: requests under way at once, at most; it finds its own pace")]
Timeout = Annotated[float, Field(gt=0, description="of an endpoint: seconds for one whole answer")]
Cache = Annotated[
    str, Field(description="of an endpoint: `off`, or a file in which its answers are kept and found again by later commands")
]


class EndpointFields(Protocol):
    """A config with these fields."""

    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def request_cache(self) -> str: ...


def endpoint_options(config: EndpointFields, of_run: Path | None = None) -> EndpointOptions:
    """`of_run`: the file that request_cache "run" means. UserError where the cache cannot be a file."""
    from ..backends.endpoint_options import EndpointOptions
    from ..backends.request_cache import RequestCache

    path = of_run if config.request_cache == "run" else None if config.request_cache == "off" else Path(config.request_cache)
    if path is not None and path.is_dir():
        raise UserError(f"--request-cache {path} is a folder; give a file, or `off`")
    cache = None if path is None else RequestCache(path)
    return EndpointOptions(concurrency=config.concurrency, timeout=config.timeout, cache=cache)
