"""Guests: a network namespace each, joined to the bridge by a veth pair.

The near end has the part of an instance's tap device, with the external_ids that Nova writes.
"""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import LabError, run


@dataclass(frozen=True)
class Guest:
    """An instance with one port. `name` also names its namespace, and its tap device."""

    name: str
    mac: str = "fa:16:3e:00:00:01"
    address: str = "10.0.0.5/24"
    port_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    instance_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    project_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    network_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def tap(self) -> str:
        """The name of the near end (at most 15 characters, as for any device)."""
        return f"tap{self.port_id[:11]}"

    @property
    def ip(self) -> str:
        """Its address without the prefix length."""
        return self.address.partition("/")[0]

    def record(self, **changes: Any) -> dict[str, Any]:
        """The document of its port record."""
        return {
            "port_id": self.port_id,
            "project_id": self.project_id,
            "device_id": self.instance_id,
            "device_owner": "compute:nova",
            "mac_address": self.mac,
            "fixed_ips": [self.ip] if self.ip else [],
            "network_id": self.network_id,
            "revision_number": 1,
            **changes,
        }

    def create(self, ovs: OpenVSwitch) -> None:
        """Make the namespace and the veth pair, with a link-local route to the service."""
        run("ip", "netns", "add", self.name)
        self.attach(ovs)
        self._use_as_eth0()

    def attach(self, ovs: OpenVSwitch) -> None:
        """Make the tap device for an Open vSwitch; the guest does not use its end of it yet."""
        run("ip", "-n", ovs.namespace, "link", "add", self.tap, "type", "veth", "peer", self._far)
        run("ip", "-n", ovs.namespace, "link", "set", self._far, "netns", self.name)
        run("ip", "-n", ovs.namespace, "link", "set", self.tap, "up")

    def move(self) -> None:
        """Go on with the tap device that was attached last; the other one ends."""
        run("ip", "-n", self.name, "link", "del", "eth0")
        self._use_as_eth0()

    @property
    def _far(self) -> str:
        return f"{self.name}-far"[-15:]

    def _use_as_eth0(self) -> None:
        inside = ("ip", "-n", self.name)
        run(*inside, "link", "set", self._far, "name", "eth0", "address", self.mac)
        # Userspace forwarding breaks the checksums a veth leaves to hardware that is not there.
        run("ip", "netns", "exec", self.name, "ethtool", "-K", "eth0", "tx", "off")
        # Link-local addresses are usable at once, without duplicate address detection.
        self.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0")
        self.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        if self.address:
            run(*inside, "addr", "add", self.address, "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        if self.address:
            run(*inside, "route", "add", "169.254.169.254/32", "dev", "eth0")

    def remove(self) -> None:
        """Remove the namespace, and with it both ends of the pair."""
        run("ip", "netns", "del", self.name, check=False)

    def plug(self, ovs: OpenVSwitch, bridge: str, *columns: str, **external_ids: str) -> int:
        """Add its tap device to the bridge as Nova does, with these columns; returns the ofport."""
        ids = {"iface-id": self.port_id, "vm-uuid": self.instance_id, "attached-mac": self.mac}
        settings = [f'external_ids:{key}="{value}"' for key, value in (ids | external_ids).items()]
        ovs.vsctl(
            "add-port", bridge, self.tap, "--", "set", "interface", self.tap, *settings, *columns
        )
        return ovs.ofport(self.tap)

    def unplug(self, ovs: OpenVSwitch) -> None:
        """Take its tap device off the bridge."""
        ovs.vsctl("--if-exists", "del-port", self.tap)

    def run(self, *command: str, timeout: float = 30.0) -> str:
        """Run a command inside the guest."""
        return run("ip", "netns", "exec", self.name, *command, timeout=timeout)

    def curl(
        self, path: str = "/", *options: str, ipv6: bool = False, timeout: float = 10.0
    ) -> tuple[int, str]:
        """Ask the metadata service with curl; returns the status code and the body.

        The status code is 0 when there was no answer.
        """
        host = "[fe80::a9fe:a9fe%25eth0]" if ipv6 else "169.254.169.254"
        try:
            output = self.run(
                *("curl", "--silent", "--show-error", "--max-time", str(timeout)),
                *("--write-out", "\n%{http_code}", *options),
                f"http://{host}{path}",
                timeout=timeout + 5,
            )
        except LabError:
            return 0, ""
        body, _, status = output.rpartition("\n")
        return int(status), body

    def identity(self, *options: str, ipv6: bool = False) -> str | None:
        """The UUID that the metadata service says it has, None when it does not answer 200."""
        status, body = self.curl("/openstack/latest/meta_data.json", *options, ipv6=ipv6)
        return str(json.loads(body)["uuid"]) if status == 200 else None
