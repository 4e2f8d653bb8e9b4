"""The health of Nova's endpoints, and the order to try them. Values and pure functions.

A guest must not decide the health of an endpoint: its request can make a server hang up or time
out. Two things decide. One is whether the endpoint accepts a connection, which involves no byte of
a guest. The other is a trial, a request of the pool's own. A guest's request that fails puts the
endpoint in doubt, and so leads to a trial.

A healthy endpoint that no request uses is probed from time to time: the pool makes a connection and
closes it. So the health of an endpoint does not depend on guests' requests.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

PROBE_INTERVAL = 30.0
"""Seconds between two probes of a healthy endpoint, on average."""


@dataclass(frozen=True, slots=True)
class Health:
    """The health of one endpoint. Times are those of the event loop."""

    healthy: bool = True
    """Whether requests use it first; an endpoint that was never tried is one of those."""
    known: bool = False
    """Whether a connection or a trial has shown that."""
    since: float = 0.0
    """When it became healthy or unhealthy."""
    last_error: str = ""
    """The cause when it last was unhealthy, for operators; empty if it never was."""
    tried_at: float = -math.inf
    """When the last trial began."""
    trial_at: float = math.inf
    """When the next trial is due."""
    probe_at: float = math.inf
    """When the next probe is due, if the endpoint is healthy."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """An endpoint's health as reported to the agent."""

    url: str
    healthy: bool | None
    """None if the worker has not tried the endpoint yet."""
    since: float
    """When `healthy` last changed, in seconds since the epoch."""
    last_error: str
    certificate_until: float | None = None
    """When its certificate expires, in seconds since the epoch; None without TLS."""


def failed(health: Health, error: str, *, now: float, retry_interval: float) -> Health:
    """Return the health after a connection or a trial has failed."""
    return replace(
        health,
        healthy=False,
        known=True,
        since=now if health.healthy else health.since,
        last_error=error,
        # Requests that fail meanwhile do not postpone the trial.
        trial_at=min(health.trial_at, now + retry_interval),
    )


def doubted(health: Health, *, now: float, retry_interval: float) -> Health:
    """Return the health after a guest's request has failed: the same, and a trial is due.

    The interval lies between two trials, however often an endpoint is in doubt.
    """
    due = max(now, health.tried_at + retry_interval)
    return replace(health, trial_at=min(health.trial_at, due))


def tried(health: Health, *, now: float) -> Health:
    """Return the health when a trial begins."""
    return replace(health, tried_at=now, trial_at=math.inf)


def passed(health: Health, *, now: float) -> Health:
    """Return the health after a passed trial."""
    since = health.since if health.healthy and health.known else now
    return replace(health, healthy=True, known=True, since=since, trial_at=math.inf)


def reached(health: Health, *, now: float, chance: float) -> Health:
    """Return the health after a connection was made; `chance`, from 0 to 1, spreads the probes.

    A connection alone does not make an unhealthy endpoint healthy.
    """
    probe_at = now + PROBE_INTERVAL * (0.5 + chance)
    if not health.healthy:
        return replace(health, probe_at=probe_at)
    since = health.since if health.known else now
    return replace(health, known=True, since=since, probe_at=probe_at)


def is_due(health: Health, *, now: float) -> bool:
    """Whether a trial is due."""
    return now >= health.trial_at


def is_probe_due(health: Health, *, now: float, answered_at: float) -> bool:
    """Whether a probe is due; `answered_at`: when the endpoint last answered a request.

    An unhealthy endpoint has trials.
    """
    silent = now - answered_at >= PROBE_INTERVAL
    return health.healthy and silent and now >= health.probe_at


def trial_order(healths: Sequence[Health], *, last: int | None = None) -> list[int]:
    """Return the order to try endpoints, by their index: the healthy ones, then the others.

    If no endpoint is healthy, a request tries them all. ``last`` comes last among endpoints of the
    same health.
    """
    return sorted(
        range(len(healths)),
        key=lambda index: (not healths[index].healthy, index == last, index),
    )
