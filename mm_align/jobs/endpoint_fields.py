"""What verbs that ask models may be told of endpoints, and the options that come of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from ..config import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..backends.endpoint_options import EndpointOptions

log = logging.getLogger(__name__)

Concurrency = Annotated[int, Field(ge=1, le=1024, description="of an endpoint: requests under way at once, at most; it finds its own pace")]
Timeout = Annotated[float, Field(gt=0, description="of an endpoint: seconds for one whole answer")]
Cache = Annotated[
    str, Field(description="of an endpoint: `off`, or a file in which its answers are kept and found again by later commands")
]
PriceIn = Annotated[float | None, Field(ge=0, description="of an endpoint: a million tokens of prompts cost this much")]
PriceOut = Annotated[float | None, Field(ge=0, description="of an endpoint: a million tokens of answers cost this much")]


class EndpointFields(Protocol):
    """A config with these fields."""

    @property
    def concurrency(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    @property
    def request_cache(self) -> str: ...


class Priced(Protocol):
    """A config with prices."""

    @property
    def price_in(self) -> float | None: ...
    @property
    def price_out(self) -> float | None: ...


def endpoint_options(config: EndpointFields, of_run: Path | None = None) -> EndpointOptions:
    """`of_run`: the file that request_cache "run" means. UserError where the cache cannot be a file."""
    from ..backends.endpoint_options import EndpointOptions
    from ..backends.request_cache import RequestCache

    path = of_run if config.request_cache == "run" else None if config.request_cache == "off" else Path(config.request_cache)
    if path is not None and path.is_dir():
        raise UserError(f"--request-cache {path} is a folder; give a file, or `off`")
    cache = None if path is None else RequestCache(path)
    return EndpointOptions(concurrency=config.concurrency, timeout=config.timeout, cache=cache)


def told_of_costs(config: Priced, counts: Mapping[str, int]) -> dict[str, Any]:
    """The counts, and their cost where prices are given."""
    from ..backends.usage import cost

    price = cost(counts, config.price_in, config.price_out) if counts else None
    return dict(counts) | ({} if price is None else {"cost": round(price, 6)})


def usage_line(told: Mapping[str, Any]) -> str:
    """For people."""
    kept = f", {told['kept']} answers from the request cache" if told["kept"] else ""
    untold = f"; answers without token counts: {told['untold']}" if told["untold"] else ""
    price = f", cost {told['cost']:.4f}" if "cost" in told else ""
    tokens = f"{told['prompt_tokens']} tokens of prompts and {told['completion_tokens']} of answers"
    return f"endpoint: {told['requests']} requests{kept}, {tokens}{price}{untold}"


def tell_usage(config: Priced, options: EndpointOptions) -> None:
    """A line in the log where an endpoint was asked, or the request cache in its place."""
    counts = options.usage.to_dict()
    if counts["requests"] or counts["kept"]:
        log.info("%s", usage_line(told_of_costs(config, counts)))
