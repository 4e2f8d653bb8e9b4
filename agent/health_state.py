"""The states of a host's health. A value, which commands know too."""

from enum import Enum


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
