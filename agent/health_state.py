"""The states of a host's health and of its processes. Values, which commands know too."""

from collections.abc import Mapping
from enum import Enum
from typing import Any


class HealthState(Enum):
    """The state of this host in one word."""

    READY = "ready"
    """It serves its instances and would serve new ones."""
    NOT_READY = "not ready"
    """It serves its instances; new ones would get no metadata."""
    NOT_SERVING = "not serving"
    """It does not serve its instances, all or some."""
    DISABLED = "disabled"
    """It does not serve, and the deployment's configuration wants that."""


class ChildState(Enum):
    """The state of a child process of the agent in one word."""

    RUNNING = "running"
    HANGS = "hangs"
    """It runs, and sends no heartbeats."""
    ENDED = "ended"
    """The agent is about to start it again."""


def child_state(child: Mapping[str, Any]) -> ChildState:
    """Return the state of one of the `children` in the admin listener's /status."""
    if not child["running"]:
        return ChildState.ENDED
    return ChildState.HANGS if child["still"] else ChildState.RUNNING
