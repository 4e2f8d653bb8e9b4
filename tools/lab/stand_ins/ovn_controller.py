"""What ovn-controller does to the integration bridge when it connects, replayed.

It speaks OpenFlow 1.5 on the bridge's management socket and has no controller row. On every connect
it takes the bridge for its own: all groups and meters go, and, in one bundle with the flows it
wants, all flows of all tables (ofctrl.c of OVN). Its flows here are one logical switch in the way
of OVN: port to logical port, a look-up of the MAC, logical port to port.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

from lab.rig.guest import Guest
from lab.rig.openvswitch import OpenVSwitch
from lab.rig.process import LabError, run

# Tables, by the names they have in OVN.
PHY_TO_LOG, LOG_INGRESS, L2_LOOKUP, OUTPUT, LOG_TO_PHY = 0, 8, 35, 37, 65

FLOOD = 0x8000
"""The logical port that means all ports of the logical switch."""

_ALL_MULTICAST = "01:00:00:00:00:00/01:00:00:00:00:00"
_COOKIES = "cookie=0/0xffffffff00000000"
"""A cookie of OVN is half of a UUID: 32 bits."""


class OvnController:
    """Keeps a bridge on which the guests are the ports of one logical switch."""

    def __init__(self, ovs: OpenVSwitch, bridge: str, guests: Sequence[Guest]) -> None:
        self._ovs = ovs
        self._bridge = bridge
        self._guests = guests

    def set_up_bridge(self) -> None:
        """Write what it wants of the bridge's row."""
        self._ovs.vsctl(
            *("set", "bridge", self._bridge, "fail_mode=secure"),
            *("other_config:disable-in-band=true", "protocols=OpenFlow13,OpenFlow15"),
        )

    def connect(self) -> None:
        """Clear the bridge and install its own, as it does on each connect."""
        self._ofctl("del-groups")
        self._ofctl("del-meters")
        bundle = Path(self._ovs.root, "ovn.flows")
        bundle.write_text("\n".join(["delete", *map(_with_cookie, self._wanted()), ""]))
        self._ofctl("--bundle add-flows", str(bundle))
        self._ofctl("add-meter", "meter=1,kbps,band=type=drop,rate=100000")
        buckets = ",".join(f"bucket=output:{port}" for port in self._ports())
        self._ofctl("add-group", f"group_id=1,type=all,{buckets}")

    def flows(self) -> list[str]:
        """Its flows as they are in the switch, without statistics; there are some."""
        dump = self._ofctl("--no-stats dump-flows", _COOKIES)
        flows = sorted(line.strip() for line in dump.splitlines() if "actions=" in line)
        if not flows:
            raise LabError(f"bridge {self._bridge} has no flow of OVN's")
        return flows

    def groups_and_meters(self) -> list[str]:
        """Its groups and its meter as they are in the switch."""
        dumps = self._ofctl("dump-groups") + self._ofctl("dump-meters", "meter=1")
        return [line.strip() for line in dumps.splitlines() if "xid=" not in line]

    def _ports(self) -> list[int]:
        return [self._ovs.ofport(guest.tap) for guest in self._guests]

    def _wanted(self) -> list[str]:
        flows = [
            f"table={LOG_INGRESS},priority=100,metadata=1,vlan_tci=0x1000/0x1000 actions=drop",
            f"table={LOG_INGRESS},priority=50,metadata=1 actions=resubmit(,{L2_LOOKUP})",
            f"table={L2_LOOKUP},priority=70,metadata=1,dl_dst={_ALL_MULTICAST} "
            f"actions=load:{FLOOD}->NXM_NX_REG15[],resubmit(,{OUTPUT})",
            f"table={OUTPUT},priority=0 actions=resubmit(,{LOG_TO_PHY})",
        ]
        flood = []
        for logical, (guest, port) in enumerate(zip(self._guests, self._ports(), strict=True), 1):
            to_it = f"load:{logical}->NXM_NX_REG15[]"
            flood += [to_it, f"resubmit(,{LOG_TO_PHY})"]
            flows += [
                f"table={PHY_TO_LOG},priority=100,in_port={port} actions=load:1->OXM_OF_METADATA[],"
                f"load:{logical}->NXM_NX_REG14[],resubmit(,{LOG_INGRESS})",
                f"table={L2_LOOKUP},priority=50,metadata=1,dl_dst={guest.mac} "
                f"actions={to_it},resubmit(,{OUTPUT})",
                f"table={LOG_TO_PHY},priority=100,reg15={logical},metadata=1 actions=output:{port}",
            ]
        flows.append(
            f"table={OUTPUT},priority=100,reg15={FLOOD},metadata=1 actions={','.join(flood)}"
        )
        return flows

    def _ofctl(self, command: str, *args: str) -> str:
        socket = self._ovs.mgmt(self._bridge)
        return run("ovs-ofctl", "-O", "OpenFlow15", *command.split(), socket, *args)


def _with_cookie(flow: str) -> str:
    return f"add cookie={zlib.crc32(flow.encode()):#x},{flow}"
