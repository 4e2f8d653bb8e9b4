"""One look at ports in OVN's southbound database."""

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from ovs_metadata.host.southbound.follower import SouthboundFollower
from ovs_metadata.host.southbound.location import Location
from ovs_metadata.store.errors import StoreUnavailable
from ovs_metadata.store.interface import PortState


@dataclass(frozen=True, slots=True)
class SouthboundView:
    """What there was: the ports' states, and whether OVN knows this host as a chassis."""

    states: Mapping[str, PortState]
    has_chassis: bool


def read_ports(
    locate: Callable[[], Location], port_ids: Collection[str], timeout: float
) -> SouthboundView:
    """Look at ports once.

    Raises:
        StoreUnavailable: the database does not answer within `timeout` seconds.
        StoreError: it is not known where it is.
    """
    location = locate()
    states: dict[str, PortState] = {}
    complete = threading.Event()
    # One that does not exist shows that the database has answered, if nothing else is asked.
    wanted = {*port_ids, str(UUID(int=0))}

    def report(port_id: str, state: PortState) -> None:
        states[port_id] = state
        if states.keys() >= wanted:
            complete.set()

    follower = SouthboundFollower(lambda: location, report, patience=0.0)
    try:
        follower.set_ports(wanted)
        if not complete.wait(timeout):
            raise StoreUnavailable(
                f"OVN's southbound database at {location.remote} does not answer within "
                f"{timeout:g} s"
            )
        return SouthboundView(
            {port_id: states[port_id] for port_id in port_ids}, follower.has_chassis
        )
    finally:
        follower.close()
