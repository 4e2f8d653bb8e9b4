"""A crowd of ports on a hypervisor of the lab, each with its record.

They have numbers and flows as the ports of instances have. Pairs of patch ports cost Open vSwitch
least of all; OVN takes only ports with a device for those of instances, such as internal ones.
"""

import uuid

from lab.load.ovsdb_client import NewPort, OvsdbClient
from lab.rig.hypervisor import Hypervisor
from ovs_metadata.store.record import PortRecord

PORTS_AT_ONCE = 250
"""Ports in one transaction."""


class Crowd:
    """The ports, of which there are ever more."""

    def __init__(
        self, hypervisor: Hypervisor, client: OvsdbClient, *, internal: bool = False
    ) -> None:
        self._hypervisor = hypervisor
        self._client = client
        self._internal = internal
        self.records: list[PortRecord] = []

    @property
    def ports(self) -> int:
        """How many there are."""
        return len(self.records)

    def grow(self, ports: int) -> None:
        """Have that many ports on the bridge, each with its number and its record."""
        while self.ports < ports:
            upto = min(ports, self.ports + PORTS_AT_ONCE)
            records = [_record(number) for number in range(self.ports, upto)]
            for record in records:
                self._hypervisor.store.put(record)
            self._client.add(
                NewPort(
                    f"crowd{number}",
                    {"iface-id": record.port_id, "vm-uuid": record.device_id},
                    "internal" if self._internal else "patch",
                    {} if self._internal else {"peer": f"crowd{number ^ 1}"},
                )
                for number, record in enumerate(records, self.ports)
            )
            for number in range(self.ports, upto):
                self._client.wait_for_number(f"crowd{number}", 60)
            self.records += records


def _record(number: int) -> PortRecord:
    return PortRecord(
        port_id=str(uuid.uuid4()),
        project_id=uuid.UUID(int=number).hex,
        device_id=str(uuid.uuid4()),
        device_owner="compute:nova",
        mac_address=f"fa:16:3f:00:{number >> 8:02x}:{number & 0xFF:02x}",
        fixed_ips=(f"10.1.{number >> 8}.{number & 0xFF}",),
        network_id=str(uuid.uuid4()),
        revision_number=1,
    )
