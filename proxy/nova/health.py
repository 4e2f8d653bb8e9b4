"""Which of Nova's endpoints are well, and in which order to try them. Values and pure functions.

A guest does not decide which endpoint is well, for it can have a server hang up or fall silent by
what it asks. Two things decide: whether the endpoint can be connected to, in which no byte of a
guest takes part, and a trial, which is a request of the pool's own. A guest's request that fails
is a reason to doubt the endpoint, and so to hold a trial.
"""

import math
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
    tried_at: float = -math.inf
    """When the last trial began."""
    trial_at: float = math.inf
    """When the next trial is due."""


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """An endpoint's health as told to others."""

    url: str
    healthy: bool
    since: float
    """When it became so; seconds since the epoch."""
    last_error: str


def failed(health: Health, error: str, *, now: float, retry_interval: float) -> Health:
    """Return the health of an endpoint that could not be connected to, or failed its trial."""
    return replace(
        health,
        healthy=False,
        since=now if health.healthy else health.since,
        last_error=error,
        # Requests that fail meanwhile do not put the trial off.
        trial_at=min(health.trial_at, now + retry_interval),
    )


def doubted(health: Health, *, now: float, retry_interval: float) -> Health:
    """Return the health of an endpoint that failed a guest's request: as it was, with a trial due.

    Between two trials is the interval, however often an endpoint is doubted.
    """
    due = max(now, health.tried_at + retry_interval)
    return replace(health, trial_at=min(health.trial_at, due))


def tried(health: Health, *, now: float) -> Health:
    """Return the health of an endpoint whose trial begins."""
    return replace(health, tried_at=now, trial_at=math.inf)


def passed(health: Health, *, now: float) -> Health:
    """Return the health of an endpoint that has passed its trial."""
    since = health.since if health.healthy else now
    return replace(health, healthy=True, since=since, trial_at=math.inf)


def is_due(health: Health, *, now: float) -> bool:
    """Whether a trial is due."""
    return now >= health.trial_at


def trial_order(healths: Sequence[Health], *, last: int | None = None) -> list[int]:
    """In which order to try endpoints, by their index: those that are well, then the others.

    The others stay in it: where no endpoint is well, each request tries them all. ``last`` comes
    last of those that are as well as it is.
    """
    return sorted(
        range(len(healths)),
        key=lambda index: (not healths[index].healthy, index == last, index),
    )
