"""The settings of a proxy worker: limits and timeouts, each with its default.

A value, sent by the agent over the feed and replaced as a whole when anything changes.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovs_metadata.proxy.endpoint import Endpoint, parse_endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a worker can be told besides identities. Times are in seconds, sizes in bytes.

    Raises:
        ValueError: a value is out of range, or a URL is not one of a metadata endpoint.
    """

    nova_metadata_urls: tuple[str, ...] = ("http://localhost:8775",)
    """Nova's metadata endpoints, tried in this order until one accepts a connection."""

    connect_timeout: float = 5.0
    """For making a connection to one endpoint, TLS included."""
    response_timeout: float = 60.0
    """How long Nova may be silent before or within an answer."""
    pending_timeout: float = 2.0
    """How long a request waits for the identity of a port that has just appeared."""
    idle_timeout: float = 60.0
    """How long a guest may keep a connection open between requests."""
    head_timeout: float = 10.0
    """From a request's first byte to the end of its headers."""
    body_timeout: float = 30.0
    """From the end of a request's headers to the end of its body."""
    send_timeout: float = 30.0
    """How long a guest may leave an answer unread."""
    linger_timeout: float = 1.0
    """How long input is still discarded after an error answer, so that the guest can read it."""
    drain_timeout: float = 10.0
    """How long requests in flight may take to finish when the worker is asked to stop."""

    max_head: int = 64 * 1024
    """Request line and headers together; also of Nova's answers."""
    max_headers: int = 256
    """Number of header fields in a request."""
    max_body: int = 1024 * 1024
    """Request body; it is buffered before anything goes to Nova."""
    max_connections_per_port: int = 64
    """Concurrent connections of one port to this worker."""

    upstream_max_idle: int = 64
    """Idle connections to Nova kept for reuse."""
    upstream_idle_timeout: float = 30.0
    """How long such a connection is kept."""
    retry_after: int = 1
    """The Retry-After of every 503 answer, in whole seconds."""

    endpoints: tuple[Endpoint, ...] = field(init=False, repr=False, compare=False)
    """`nova_metadata_urls`, parsed."""

    def __post_init__(self) -> None:
        """Check every value; parse the URLs."""
        if not self.nova_metadata_urls:
            raise ValueError("nova_metadata_urls is empty: at least one URL is needed")
        endpoints = tuple(parse_endpoint(url) for url in self.nova_metadata_urls)
        object.__setattr__(self, "endpoints", endpoints)
        for item in dataclasses.fields(self):
            value = getattr(self, item.name, None)
            if item.type is float and not _is_number(value, (int, float), above=0):
                raise ValueError(f"setting {item.name} must be a number above 0, not {value!r}")
            if item.type is int and not _is_number(value, (int,), above=0):
                raise ValueError(f"setting {item.name} must be an integer above 0, not {value!r}")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as a JSON object, complete."""
        names = [item.name for item in dataclasses.fields(self) if item.init]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Settings":
        """Read settings from a JSON object; what is not in it has its default.

        Raises:
            ValueError: an unknown name, or a bad value.
        """
        known = {item.name for item in dataclasses.fields(cls) if item.init}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ValueError(f"unknown setting {unknown[0]!r}; known: {', '.join(sorted(known))}")
        values = dict(data)
        urls = values.get("nova_metadata_urls")
        if urls is not None:
            if not isinstance(urls, list | tuple) or not all(isinstance(url, str) for url in urls):
                raise ValueError("setting nova_metadata_urls must be a list of URLs")
            values["nova_metadata_urls"] = tuple(urls)
        return cls(**values)


def split_urls(text: str) -> tuple[str, ...]:
    """Split the comma-separated form of `Settings.nova_metadata_urls`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _is_number(value: object, kinds: tuple[type, ...], *, above: float) -> bool:
    # bool is an int to Python, but not to whoever writes a setting; NaN and infinity compare
    # in ways no timeout should.
    return (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and isinstance(value, int | float)
        and above < value < float("inf")
    )
