"""Sub-ports of a trunk whose frames come in at their parent's interface, as under OVN.

The instance is a bridge with a port for each of its networks: the kernel need not have VLAN
devices. Its sub-ports have one MAC and one address.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.rig.frames import ETH_VLAN, Frame
from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from ovs_metadata.flows import vswitchd
from ovs_metadata.flows.trace import parse
from ovs_metadata.host.address import METADATA_PORT_MAC, SERVICE_IPV4
from ovs_metadata.store.record import SubPort

INSIDE, OUTSIDE = "vm", "vm-nic"
"""The instance's bridge, and the instance's end of its interface's device."""


@dataclass
class Trunk:
    """The parent's network is untagged inside the instance; the others are by VLAN."""

    hypervisor: Hypervisor
    parent: Guest
    others: dict[int, Guest]

    def put_parent(self, *vlans: int) -> None:
        """Write the parent's record, with these sub-ports."""
        ports = [SubPort(vlan, self.others[vlan].port_id) for vlan in vlans]
        self.hypervisor.put(self.parent, sub_ports=ports)

    def headers(self, guest: Guest, *, ipv6: bool = False) -> dict[str, str] | None:
        """What arrives at Nova when this network's part of the instance asks; None if nothing."""
        status, body = guest.curl("/", "--max-time", "2", ipv6=ipv6)
        return {name.lower(): value for name, value in json.loads(body)} if status == 200 else None

    def is_served(self, vlan: int) -> bool:
        return self.headers(self.others[vlan]) is not None

    def command(self, *words: str) -> Any:
        """The JSON that `ovs-metadata` prints."""
        program = Path(sys.executable).parent / "ovs-metadata"
        inside = ("ip", "netns", "exec", self.hypervisor.namespace)
        words = ("--config", str(self.hypervisor.config), *words, "--format", "json")
        return json.loads(run(*inside, program, *words, check=False))


@pytest.fixture
def trunk(echoing: Hypervisor) -> Trunk:
    """Sub-ports in VLANs 42 and 43; none has VLAN 44."""
    parent = echoing.add_guest("parent", plug=False, record=False)
    others = {
        vlan: echoing.add_guest(f"vlan{vlan}", plug=False, record=False) for vlan in (42, 43, 44)
    }
    vsctl, host = echoing.ovs.vsctl, ("ip", "-n", echoing.namespace, "link")
    run(*host, "add", OUTSIDE, "type", "veth", "peer", "vm-tap")
    for device in (OUTSIDE, "vm-tap"):
        run(*host, "set", device, "up")
    echoing.ovs.add_bridge(INSIDE)
    vsctl("add-port", INSIDE, OUTSIDE, "vlan_mode=native-untagged", "tag=1")
    vsctl("add-port", INSIDE, parent.tap, "tag=1")
    for vlan, guest in others.items():
        vsctl("add-port", INSIDE, guest.tap, f"tag={vlan}")
        echoing.put(
            guest,
            device_owner="trunk:subport",
            device_id=parent.port_id,
            fixed_ips=[f"10.{vlan}.0.5", guest.ip],
        )
    made = Trunk(echoing, parent, others)
    made.put_parent(42)
    vsctl(
        *("add-port", echoing.bridge, "vm-tap", "--", "set", "interface", "vm-tap"),
        f"external_ids:iface-id={parent.port_id}",
        f"external_ids:vm-uuid={parent.instance_id}",
    )
    echoing.start_agent()
    return made


def test_sub_ports_are_served_behind_their_parents_interface(trunk: Trunk) -> None:
    def asked(guest: Guest, fixed_ip: str, *, ipv6: bool) -> bool:
        headers = trunk.headers(guest, ipv6=ipv6)
        if headers is None:
            return False
        assert headers["x-instance-id"] == trunk.parent.instance_id
        assert headers["x-tenant-id"] == trunk.parent.project_id
        assert headers["x-forwarded-for"] == fixed_ip
        return True

    def by(guest: Guest, fixed_ip: str, *, ipv6: bool) -> Callable[[], bool]:
        return lambda: asked(guest, fixed_ip, ipv6=ipv6)

    for ipv6 in (False, True):
        wait_for(by(trunk.parent, trunk.parent.ip, ipv6=ipv6), "the parent to be served")
        wait_for(by(trunk.others[42], "10.42.0.5", ipv6=ipv6), "the sub-port to be served")
    assert not trunk.is_served(43)

    trunk.put_parent(42, 43)
    for ipv6 in (False, True):
        wait_for(by(trunk.others[43], "10.43.0.5", ipv6=ipv6), "the new sub-port to be served")
        assert asked(trunk.others[42], "10.42.0.5", ipv6=ipv6)
    assert not trunk.is_served(44), "no sub-port has this VLAN"

    trunk.put_parent(43)
    wait_for(lambda: not trunk.is_served(42), "the sub-port that left to get no answer")
    assert asked(trunk.others[43], "10.43.0.5", ipv6=False)
    assert asked(trunk.parent, trunk.parent.ip, ipv6=False)


def test_commands_know_sub_ports_and_nested_tags_get_no_answer(trunk: Trunk) -> None:
    guest = trunk.others[42]
    wait_for(lambda: trunk.is_served(42), "the sub-port to be served")
    (here,) = (
        each["here"]
        for each in trunk.command("port", "list", "--here")
        if each["port_id"] == guest.port_id
    )
    ofport = trunk.hypervisor.ovs.ofport("vm-tap")
    assert (here["ofport"], here["vlan"], here["state"]) == (ofport, 42, "served")
    shown = trunk.command("port", "show", guest.port_id)
    assert (shown["VLAN"], shown["served"], shown["findings"]) == ("42", "yes", "none")
    (flows,) = trunk.command("flows", guest.port_id)["ports"]
    assert {each["state"] for each in flows["flows"]} == {"installed"}
    assert len(flows["flows"]) == 10
    for family in ("--ipv4", "--ipv6"):
        assert trunk.command("trace", guest.port_id, family)["right"]
    doctor = trunk.command("doctor", guest.port_id)
    assert [each["name"] for each in doctor["findings"]] == ["nova-not-nova"], "it is no Nova"
    states = {each["hop"]: each["state"] for each in doctor["hops"]}
    assert (states["port"], states["flows"]) == ("right", "right"), doctor["hops"]
    assert trunk.command("trace", trunk.parent.port_id)["right"]

    # Where Open vSwitch looks below two tags: the inner one stays, and the kernel has no device
    # for it.
    trunk.hypervisor.ovs.vsctl("set", "Open_vSwitch", ".", "other_config:vlan-limit=2")
    tags = ((ETH_VLAN, 42), (ETH_VLAN, 43))
    nested = Frame(guest.mac, METADATA_PORT_MAC, guest.ip, SERVICE_IPV4, "tcp", 80, tags)
    words = (trunk.hypervisor.bridge, f"in_port={ofport}", nested.serialize().hex())
    traced = parse(vswitchd.ask(trunk.hypervisor.ovs.rundir, "ofproto/trace", *words))
    assert traced.vlan == 43
