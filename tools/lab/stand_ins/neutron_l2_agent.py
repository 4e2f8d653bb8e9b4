"""What Neutron's L2 agent does to the integration bridge, replayed with Open vSwitch's own tools.

After `OVSNeutronAgent.setup_integration_br` and `cleanup_stale_flows` of Neutron's Open vSwitch
mechanism driver with the native OpenFlow driver, as of release 29; without its waits, so that
everything happens in one burst. No controller listens at its address, but flows arrive in the same
order and with the same contents as from one.
"""

import re
import secrets

from lab.rig.guest import Guest
from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import LabError

CONTROLLER = "tcp:127.0.0.1:6633"
"""[ovs] of_listen_address and of_listen_port, by default."""

DEAD_VLAN = 4095
"""The tag of a port that the agent has not wired yet."""

# Tables of the integration bridge, by the names they have in neutron_lib.
LOCAL_SWITCHING, CANARY, ARP_SPOOF, MAC_SPOOF, LOCAL_EGRESS, LOCAL_IP = 0, 23, 24, 25, 30, 31
PACKET_RATE_LIMIT, BANDWIDTH_RATE_LIMIT, TRANSIENT, TRANSIENT_EGRESS = 58, 59, 60, 62

SWEPT_TABLES = (
    *(0, 1, 2, 23, 24, 25, 61, 30, 31, 58, 59, 60, 62),
    *(71, 72, 73, 77, 78, 81, 82, 91, 92, 93),
)
"""Tables the agent takes for its own (INT_BR_ALL_TABLES)."""


class NeutronL2Agent:
    """One life of the agent: every start has a cookie of its own, and sweeps all others.

    `cookie` is the random number that it draws.
    """

    def __init__(self, ovs: OpenVSwitch, bridge: str, cookie: int | None = None) -> None:
        self._ovs = ovs
        self._bridge = bridge
        self.cookie = secrets.randbits(64) if cookie is None else cookie

    def set_up_bridge(self, *, drop_flows: bool = False) -> None:
        """All it does to the bridge before its first loop.

        `drop_flows` is its option drop_flows_on_start: it deletes flows of all programs.
        """
        vsctl, bridge = self._ovs.vsctl, self._bridge
        vsctl(
            *("--may-exist", "add-br", bridge, "--", "set", "bridge", bridge),
            *("datapath_type=netdev", "other_config:mac-table-size=50000"),
            *("--", "add", "bridge", bridge, "protocols", "OpenFlow10,OpenFlow13,OpenFlow14"),
        )
        vsctl("set-fail-mode", bridge, "secure")
        vsctl("set", "bridge", bridge, "other_config:disable-in-band=true")
        if CONTROLLER not in vsctl("get-controller", bridge).split():
            vsctl("set-controller", bridge, CONTROLLER)
        vsctl("add", "bridge", bridge, "protocols", "OpenFlow10,OpenFlow13")
        for controller in self._controllers():
            vsctl("set", "controller", controller, "inactivity_probe=10000")
        vsctl(
            *("set", "bridge", bridge, "mcast_snooping_enable=false"),
            "other_config:mcast-snooping-disable-flood-unregistered=true",
        )
        if drop_flows:
            self._ovs.ofctl("del-flows", bridge)
        self._set_up_tables()

    def _controllers(self) -> list[str]:
        rows = self._ovs.vsctl("get", "bridge", self._bridge, "controller")
        return re.findall(r"[0-9a-f-]{36}", rows)

    def _set_up_tables(self) -> None:
        self._add(CANARY, "priority=0 actions=drop")
        self._add(LOCAL_SWITCHING, f"priority=0 actions=goto_table:{PACKET_RATE_LIMIT}")
        self._add(PACKET_RATE_LIMIT, f"priority=0 actions=goto_table:{BANDWIDTH_RATE_LIMIT}")
        self._add(BANDWIDTH_RATE_LIMIT, f"priority=0 actions=goto_table:{TRANSIENT}")
        self._add(TRANSIENT, "priority=1 actions=NORMAL")
        self._add(ARP_SPOOF, "priority=0 actions=drop")
        self._add(LOCAL_SWITCHING, f"priority=65535,dl_vlan={DEAD_VLAN} actions=drop")
        self._add(TRANSIENT_EGRESS, "priority=3 actions=NORMAL")
        self._add(LOCAL_EGRESS, f"priority=0 actions=goto_table:{PACKET_RATE_LIMIT}")
        self._add(LOCAL_IP, f"priority=0 actions=goto_table:{PACKET_RATE_LIMIT}")

    def add_elsewhere(self, table: int, flow: str) -> None:
        """A flow of one of its extensions, in a table of the extension's own choice."""
        self._add(table, flow)

    def wire(self, guest: Guest, vlan: int) -> None:
        """Wire a port: its network's local VLAN, and what keeps it from forging addresses."""
        port = self._ovs.ofport(guest.tap)
        self._ovs.vsctl("set", "port", guest.tap, f"tag={vlan}")
        self._add(
            MAC_SPOOF,
            f"priority=2,in_port={port},dl_src={guest.mac} actions=goto_table:{LOCAL_EGRESS}",
        )
        self._add(LOCAL_SWITCHING, f"priority=9,in_port={port} actions=goto_table:{MAC_SPOOF}")
        self._add(
            ARP_SPOOF,
            f"priority=2,arp,in_port={port},arp_spa={guest.ip} actions=goto_table:{MAC_SPOOF}",
        )
        self._add(LOCAL_SWITCHING, f"priority=10,arp,in_port={port} actions=goto_table:{ARP_SPOOF}")

    def sweep(self, *, all_tables: bool = False) -> None:
        """The end of its first loop: flows with any other cookie than its own are deleted.

        They go from the table they were found in. Earlier releases deleted whatever had that
        cookie in any table, tables of others included: `all_tables`.
        """
        for table in SWEPT_TABLES:
            for cookie in sorted(self._cookies(table) - {self.cookie}):
                where = "" if all_tables else f"table={table},"
                self._ovs.ofctl("del-flows", self._bridge, f"{where}cookie={cookie:#x}/-1")

    def _cookies(self, table: int) -> set[int]:
        dump = self._ovs.ofctl("--no-stats dump-flows", self._bridge, f"table={table}")
        # Open vSwitch leaves out a cookie of 0.
        lines = [line for line in dump.splitlines() if "actions=" in line]
        found = (re.search(r"cookie=(0x[0-9a-f]+)", line) for line in lines)
        return {int(match[1], 16) if match else 0 for match in found}

    def flows(self) -> list[str]:
        """Its flows as they are in the switch, without statistics; there are some."""
        ours = f"cookie={self.cookie:#x}/-1"
        dump = self._ovs.ofctl("--no-stats dump-flows", self._bridge, ours)
        flows = sorted(line.strip() for line in dump.splitlines() if "actions=" in line)
        if not flows:
            raise LabError(f"bridge {self._bridge} has no flow with Neutron's cookie")
        return flows

    def _add(self, table: int, flow: str) -> None:
        self._ovs.ofctl("add-flow", self._bridge, f"cookie={self.cookie:#x},table={table},{flow}")
