"""How long guests are without the service after a disturbance of the bridge."""

import time
from collections.abc import Sequence

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import wait_for

_IMPATIENT = ("--connect-timeout", "0.1", "--max-time", "0.5")
"""Options of curl: a request that met no flows is not worth waiting for; the next one is sent."""


def time_to_recover(
    hypervisor: Hypervisor,
    guests: Sequence[Guest],
    flows: list[str] | None = None,
    timeout: float = 10.0,
) -> float:
    """Seconds from now until each guest has been answered, and before that our flows are `flows`.

    The usual timeout is a third of the time between two audits of the switch, so it was not one of
    those that has put them back.

    Raises:
        LabError: it took longer than `timeout` seconds.
    """
    start = time.monotonic()
    if flows is not None:
        wait_for(lambda: hypervisor.static_flows() == flows, "our flows to be back", timeout)
    for guest in guests:
        wait_for(
            lambda guest=guest: guest.identity(*_IMPATIENT) == guest.instance_id,  # type: ignore[misc]
            f"{guest.name} to get its identity",
            timeout,
        )
    return time.monotonic() - start
