"""How many Python calls the flow controller takes for one change, by the number of ports.

Of `Decision`, `SwitchFlows` and the messages that are sent; benchmarks/change.py has what precedes
them, in the agent too. A count is the same on any machine. `make bench-change`.
"""

import gc
import sys
from collections.abc import Callable
from uuid import UUID

from ovs_metadata.flows.decision import Decision
from ovs_metadata.flows.flow_message import (
    cookie_of,
    deletion_message,
    key_of,
    messages_in,
)
from ovs_metadata.flows.meters import MeterRoom
from ovs_metadata.flows.switch import SwitchFlows
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.ovsdb import Bridge, MetadataPort
from ovs_metadata.host.port_watcher import HostState
from ovs_metadata.host.shared_map import SharedMap
from ovs_metadata.store.record import PortRecord

PORTS = (50, 4000)

OPTIONS = FlowOptions()
METERS = MeterRoom(1 << 18)
METADATA_OFPORT = 1
FIRST = 2
"""The first port's number; the metadata port has the one before."""


class Controller:
    """What the flow controller knows of host and switch, without its connections."""

    def __init__(self, ports: int) -> None:
        self.served = SharedMap({each: served(each) for each in range(FIRST, FIRST + ports)})
        self.flows = SwitchFlows()
        self._bridge = Bridge(
            "br-int",
            metadata_port=MetadataPort(METADATA_OFPORT, ours=True, isolated=True),
            row=UUID(int=1),
        )
        self._decision = Decision(OPTIONS)
        self.flows.dump_may_start()
        self.flows.dump_ended()
        self.change()

    def change(self, *now: ServedPort, without: int = 0) -> None:
        """Have these ports changed, and one not served any more; send what that takes."""
        self.served = self.served.with_changes({each.ofport: each for each in now}, [without])
        state = HostState(self._bridge, HostPorts(served=self.served))
        self._decision.look(state, METERS, lambda _bridge: None)
        self.flows.desired = self._decision.flows or {}
        self.send()

    def send(self) -> None:
        """Make the messages that the switch needs."""
        for each in self.flows.changes().delete:
            deletion_message(OPTIONS, *each)

    def loses_one_flow(self) -> None:
        """Another program deletes a flow of the first port."""
        lost = next(messages_in((self.flows.desired or {})[FIRST]))
        self.flows.removed(key_of(lost), cookie_of(lost))
        self.send()


def main() -> None:
    """Print a row of benchmarks/README.md for each change."""
    calls = [calls_of_changes(ports) for ports in PORTS]
    for change in calls[0]:
        print(f"| {change} | {' | '.join(f'{each[change]:,}' for each in calls)} |")


def calls_of_changes(ports: int) -> dict[str, int]:
    """The calls by what changes of a port, on a host with so many."""
    controller = Controller(ports)
    controller.change(without=FIRST + ports - 1)  # what is computed once in a process
    last = FIRST + ports
    return {
        "a port is plugged": _calls(lambda: controller.change(served(last))),
        "its record, without a change of its flows": _calls(
            lambda: controller.change(served(last, revision=2))
        ),
        "its MAC": _calls(lambda: controller.change(served(last, mac="fa:16:3e:00:00:02"))),
        "it is unplugged": _calls(lambda: controller.change(without=last)),
        "another program deletes a flow": _calls(controller.loses_one_flow),
        "nothing": _calls(controller.change),
    }


def served(ofport: int, *, mac: str = "fa:16:3e:00:00:01", revision: int = 1) -> ServedPort:
    """A served port."""
    record = PortRecord(
        port_id=str(UUID(int=ofport)),
        project_id="project",
        device_id=str(UUID(int=ofport)),
        device_owner="compute:nova",
        mac_address=mac,
        fixed_ips=("10.0.0.5",),
        network_id=str(UUID(int=1)),
        revision_number=revision,
    )
    return ServedPort(ofport, f"tap{ofport}", record)


def _calls(action: Callable[[], object]) -> int:
    """Count the calls of Python functions that an action takes."""
    count = 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    gc.disable()  # another library may have it call functions
    sys.setprofile(called)
    try:
        action()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


if __name__ == "__main__":
    main()
