"""The settings of a proxy worker: limits and timeouts, each with its default and what it means.

A value, sent by the agent over the feed and replaced as a whole when anything changes. The fields
of `Settings` are the schema as well: the deployment's configuration has one key for each of them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ovs_metadata.proxy.nova.endpoint import Endpoint, parse_endpoint

ACCESS_LOGS = ("text", "json", "off")
"""What `Settings.access_log` may be."""


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
        default: its default, which also says its type.
        doc: what it means, with its unit; for operators.
        minimum: the least it may be; without one, a number must be above 0.
        choices: all it may be.
        secret: it must never be shown.
    """
    metadata = {"doc": doc, "minimum": minimum, "choices": choices, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a worker can be told besides identities. Times are in seconds, sizes in bytes.

    Raises:
        ValueError: a value is out of range, or a URL is not one of a metadata endpoint.
    """

    nova_metadata_urls: tuple[str, ...] = setting(
        ("http://localhost:8775",),
        "Nova's metadata endpoints: the first that accepts a connection is asked.",
    )
    nova_ca: str = setting(
        "",
        "Certificates (PEM) of the authorities that Nova's certificate is checked against; empty: "
        "the system's.",
    )
    nova_client_certificate: str = setting(
        "", "Certificate (PEM) the proxy shows Nova, with its chain; empty: none."
    )
    nova_client_key: str = setting("", "Private key (PEM) of that certificate.", secret=True)
    nova_insecure: bool = setting(
        default=False, doc="Do not check Nova's certificate. Anybody in between could be Nova then."
    )

    connect_timeout: float = setting(
        5.0, "Seconds for making a connection to one endpoint, TLS included."
    )
    response_timeout: float = setting(
        60.0, "Seconds Nova may be silent before or within a response."
    )
    unavailable_timeout: float = setting(
        5.0,
        "Seconds a request waits for an endpoint that accepts a connection, where none does; 0: it "
        "does not wait.",
        minimum=0.0,
    )
    endpoint_retry_interval: float = setting(
        5.0, "Seconds an endpoint that failed is left alone, if another is there."
    )
    pending_timeout: float = setting(
        2.0, "Seconds a request waits for the identity of a port that has just appeared."
    )
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
        "Seconds input is still discarded after an error response, so that the guest can read it; "
        "at most max_body bytes of it.",
    )
    drain_timeout: float = setting(
        10.0, "Seconds requests in flight may take to finish when a worker is asked to stop."
    )

    max_head: int = setting(
        64 * 1024, "Bytes of request line and headers together; also of Nova's responses."
    )
    max_headers: int = setting(
        256,
        "Number of header fields in a request; also in a response of Nova's, trailers included.",
    )
    max_body: int = setting(
        1024 * 1024, "Bytes of a request body; it is buffered before anything goes to Nova."
    )
    max_connections_per_port: int = setting(64, "Concurrent connections of one port.")
    quarantine: float = setting(
        5.0,
        "Seconds without new connections for a port that within one second wastes more than twice "
        "as many as it may have at once: by opening too many, by what gets 4xx from the proxy, or "
        "by hanging up without a request.",
    )
    max_connections: int = setting(
        4096,
        "Concurrent connections of guests to one worker. Beyond it, the port that has the most "
        "loses one.",
    )
    max_requests_per_port: int = setting(
        2, "Requests of one port that are served at once; more of them wait for their turn."
    )
    turn_pause: float = setting(
        0.002, "Seconds after a request of a port until the next one that waits has its turn."
    )
    rate_limit: float = setting(
        0.0, "Requests per second one port may make for long; 0: no limit.", minimum=0.0
    )
    rate_limit_burst: int = setting(
        100, "Requests one port may make at once, before its rate limit counts."
    )

    upstream_max_idle: int = setting(64, "Idle connections to Nova a worker keeps for reuse.")
    upstream_idle_timeout: float = setting(30.0, "Seconds such a connection is kept.")
    retry_after: int = setting(1, "Whole seconds in the Retry-After of responses that have one.")
    access_log: str = setting(
        "text", "The line logged for each request: text, json or off.", choices=ACCESS_LOGS
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
        """Return the settings as a JSON object, complete. It holds the private key."""
        return {item.name: getattr(self, item.name) for item in schema()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Settings":
        """Read settings from a JSON object; what is not in it has its default.

        Raises:
            ValueError: an unknown name, or a bad value.
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
    """The settings there are: name, type, default, and `setting`'s metadata."""
    return [item for item in dataclasses.fields(Settings) if item.init]


def split_urls(text: str) -> tuple[str, ...]:
    """Split the comma-separated form of `Settings.nova_metadata_urls`."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def problem(item: "dataclasses.Field[Any]", value: object) -> str | None:
    """Say what a value should be and is not; None if it is. A secret is not repeated."""
    minimum, choices = item.metadata["minimum"], item.metadata["choices"]
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
    # bool is an int to Python, but not to whoever writes a setting; NaN and infinity compare in
    # ways no timeout should.
    fits = (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and not (item.type is int and isinstance(value, float))
        and (value > 0 if minimum is None else minimum <= value)
        and value < float("inf")
    )
    return None if fits else f"{kind} {least}, not {shown}"
