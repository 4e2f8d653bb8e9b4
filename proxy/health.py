"""Which of Nova's endpoints are well, and in which order to try them. Values and pure functions.

Endpoints are judged by what requests meet. One that fails is left alone for a while and then tried
again, by the pool and not at a guest's expense. Once it accepts a connection it is well, and if it
is the first of the list, it is the one that is asked again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of an endpoint. Times are those of the event loop."""

    healthy: bool = True
    since: float = 0.0
    """When it became healthy, or ceased to be."""
    last_error: str = ""
    """Why it last was not, for logs and operators; empty if it always was."""
    connects: bool = True
    """Whether it accepts connections, whatever it then answers."""
    retry_at: float = 0.0
    """When it is to be tried again, if it is not healthy."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """An endpoint's health as told to others."""

    url: str
    healthy: bool
    since: float
    """When it became so; seconds since the epoch."""
    last_error: str


def failed(
    health: Health, error: str, *, now: float, retry_interval: float, connected: bool
) -> Health:
    """Return the health of an endpoint that has just failed.

    ``connected`` says that it accepted a connection, with its TLS, and failed after that.
    """
    return Health(
        healthy=False,
        since=now if health.healthy else health.since,
        last_error=error,
        connects=connected,
        retry_at=now + retry_interval,
    )


def tried(health: Health, *, now: float, retry_interval: float) -> Health:
    """Return the health of an endpoint that is just being tried again."""
    return replace(health, retry_at=now + retry_interval)


def accepted(health: Health, *, now: float, on_trial: bool = False) -> Health:
    """Return the health of an endpoint that has accepted a connection.

    That is no news of one that accepts connections and answers nonsense: it is left alone until it
    is ``on_trial``.
    """
    if health.healthy or (health.connects and not on_trial):
        return health
    return replace(health, healthy=True, since=now, connects=True)


def is_due(health: Health, *, now: float) -> bool:
    """Whether an endpoint has been left alone for long enough."""
    return not health.healthy and now >= health.retry_at


def trial_order(healths: Sequence[Health]) -> list[int]:
    """In which order to try endpoints, by their index: those that are well, then the others.

    The others stay in it: where no endpoint is well, each request tries them all.
    """
    return sorted(range(len(healths)), key=lambda index: (not healths[index].healthy, index))
