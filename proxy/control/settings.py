"""The settings of a proxy worker: limits and timeouts, each with its default and what it means.

A value, which the agent sends over the feed, and which is replaced as a whole on every change. The
fields of `Settings` are the schema too: the deployment's configuration has one key for each.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovs_metadata.proxy.nova.endpoint import Endpoint, parse_endpoint

ACCESS_LOGS = ("text", "json", "off")
"""The values of `Settings.access_log`."""


def setting(
    default: Any,
    doc: str,
    *,
    minimum: float | None = None,
    choices: tuple[str, ...] | None = None,
    secret: bool = False,
) -> Any:
    """A field of the settings.

    Args:
        default: its default, which also determines its type.
        doc: its meaning, with its unit; for operators.
        minimum: its minimum; without one, a number must be above 0.
        choices: all its values.
        secret: no output may show it.
    """
    metadata = {
        "doc": doc,
        "minimum": minimum,
        "maximum": None,
        "choices": choices,
        "secret": secret,
    }
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All that the agent sends a worker besides identities. Times are in seconds, sizes in bytes.

    Raises:
        ValueError: a value is out of range, or a URL is not that of a metadata endpoint.
    """

    nova_metadata_urls: tuple[str, ...] = setting(
        ("http://localhost:8775",),
        "Nova's metadata endpoints: a worker uses the first that accepts a connection.",
    )
    nova_ca: str = setting(
        "",
        "Certificates (PEM) of the authorities that may issue Nova's certificate; empty: the "
        "system's.",
    )
    nova_client_certificate: str = setting(
        "", "Client certificate (PEM) of the proxy, with its chain; empty: none."
    )
    nova_client_key: str = setting("", "Private key (PEM) of that certificate.", secret=True)
    nova_insecure: bool = setting(
        default=False,
        doc="Do not check Nova's certificate. Any host on the path could then pose as Nova.",
    )

    connect_timeout: float = setting(
        5.0, "Seconds to make a connection to one endpoint, TLS included."
    )
    response_timeout: float = setting(
        60.0, "Seconds to wait for Nova's response, and for each next part of it."
    )
    unavailable_timeout: float = setting(
        5.0,
        "Seconds a request waits for an endpoint if none accepts a connection; 0: it does not "
        "wait.",
        minimum=0.0,
    )
    endpoint_retry_interval: float = setting(
        5.0, "Seconds between two attempts to use an endpoint that failed."
    )
    pending_timeout: float = setting(2.0, "Seconds a request waits for the identity of a new port.")
    idle_timeout: float = setting(
        60.0, "Seconds a guest may keep a connection open between requests."
    )
    head_timeout: float = setting(
        10.0, "Seconds from a request's first byte to the end of its headers."
    )
    body_timeout: float = setting(
        30.0, "Seconds from the end of a request's headers to the end of its body."
    )
    send_timeout: float = setting(30.0, "Seconds a guest may leave a response unread.")
    answer_timeout: float = setting(
        600.0, "Seconds a guest may take to read a response, from the request to its last byte."
    )
    linger_timeout: float = setting(
        1.0,
        "Seconds for which a worker discards input after an error response, so that the guest can "
        "read the response; at most max_body bytes.",
    )
    drain_timeout: float = setting(
        10.0, "Seconds for requests in flight to finish when a worker stops."
    )

    max_head: int = setting(
        64 * 1024, "Bytes of request line and headers together; also of Nova's responses."
    )
    max_headers: int = setting(
        256,
        "Number of header fields in a request; also in a response of Nova's, trailers included.",
    )
    max_body: int = setting(
        1024 * 1024, "Bytes of a request body; the worker buffers it before it asks Nova."
    )
    max_connections_per_port: int = setting(64, "Concurrent connections of one port.")
    quarantine: float = setting(
        5.0,
        "Seconds without new connections for a port that within a second abuses more connections "
        "than twice max_connections_per_port: by opening too many, by requests that get 4xx from "
        "the proxy, or by closing without a request.",
    )
    max_connections: int = setting(
        4096,
        "Concurrent connections of guests to one worker. Beyond it, the port with the most "
        "connections loses one.",
    )
    max_requests_per_port: int = setting(
        2,
        "Whole requests of one port that are in flight at once, and also bodies above 32 KiB that "
        "are held at once; the others wait for a slot.",
    )
    turn_pause: float = setting(
        0.002, "Seconds after a request of a port until the next one in the queue gets its slot."
    )
    rate_limit: float = setting(
        0.0, "Requests per second of one port, in the long run; 0: no limit.", minimum=0.0
    )
    rate_limit_burst: int = setting(
        100, "Requests of one port at once, before its rate limit counts."
    )

    upstream_max_idle: int = setting(64, "Idle connections to Nova a worker keeps for reuse.")
    upstream_idle_timeout: float = setting(
        30.0, "Seconds a worker keeps an idle connection to Nova."
    )
    retry_after: int = setting(1, "Whole seconds in the Retry-After header of error responses.")
    access_log: str = setting(
        "text", "The form of the log line for each request: text, json or off.", choices=ACCESS_LOGS
    )

    endpoints: tuple[Endpoint, ...] = field(init=False, repr=False, compare=False)
    """`nova_metadata_urls`, parsed."""

    def __post_init__(self) -> None:
        """Check every value; parse the URLs."""
        if not self.nova_metadata_urls:
            raise ValueError("nova_metadata_urls is empty: at least one URL is needed")
        endpoints = tuple(parse_endpoint(url) for url in self.nova_metadata_urls)
        object.__setattr__(self, "endpoints", endpoints)
        for item in schema():
            wrong = problem(item, getattr(self, item.name))
            if wrong:
                raise ValueError(f"setting {item.name} must be {wrong}")
        if bool(self.nova_client_certificate) != bool(self.nova_client_key):
            raise ValueError("nova_client_certificate and nova_client_key need each other")

    def to_json(self) -> dict[str, Any]:
        """Return all settings as a JSON object, with the private key."""
        return {item.name: getattr(self, item.name) for item in schema()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Settings":
        """Parse settings from a JSON object; missing ones have their defaults.

        Raises:
            ValueError: an unknown name, or an invalid value.
        """
        known = {item.name for item in schema()}
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


def schema() -> list["dataclasses.Field[Any]"]:
    """Return the fields of the settings: name, type, default, and the metadata of `setting`."""
    return [item for item in dataclasses.fields(Settings) if item.init]


def split_urls(text: str) -> tuple[str, ...]:
    """Split the comma-separated form of `Settings.nova_metadata_urls`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def problem(item: "dataclasses.Field[Any]", value: object) -> str | None:
    """Return what a value should be and is not, or None. It does not repeat a secret."""
    minimum, maximum = item.metadata["minimum"], item.metadata["maximum"]
    choices = item.metadata["choices"]
    shown = "what it is" if item.metadata["secret"] else repr(value)
    if item.type is bool:
        return None if isinstance(value, bool) else f"true or false, not {shown}"
    if item.type is str:
        if not isinstance(value, str) or (choices and value not in choices):
            return f"{' or '.join(choices) if choices else 'a text'}, not {shown}"
        return None
    if item.type not in {int, float}:
        return None
    kind = "an integer" if item.type is int else "a number"
    least = "above 0" if minimum is None else f"{minimum:g} or more"
    if maximum is not None:
        least = f"from {minimum:g} to {maximum:g}"
    # In Python a bool is an int, but not in a configuration; NaN and infinity compare in ways that
    # no timeout should.
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not (item.type is int and isinstance(value, float))
        and (value > 0 if minimum is None else minimum <= value)
        and value < float("inf")
        and (maximum is None or value <= maximum)
    )
    return None if fits else f"{kind} {least}, not {shown}"
