"""Which interfaces of the bridge are served, and the reasons why others are not."""

import itertools
import uuid
from collections.abc import Callable, Iterator

import pytest

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for

_number = itertools.count()


@pytest.fixture
def guest(hypervisor: Hypervisor) -> Iterator[Guest]:
    """A guest that is not plugged in yet."""
    guest = hypervisor.add_guest(f"w{next(_number)}", plug=False)
    yield guest
    guest.unplug(hypervisor.ovs)


def _logged(hypervisor: Hypervisor, *words: str) -> Callable[[], bool]:
    """Whether one line of the agent's log has all of these words."""
    log = hypervisor.processes["agent"].log

    def logged() -> bool:
        return any(
            all(word in line for word in words)
            for line in log.read_text().splitlines()
            if "not served" in line
        )

    return logged


def _add_port(hypervisor: Hypervisor, name: str, *settings: str) -> None:
    hypervisor.ovs.vsctl(
        "add-port", hypervisor.bridge, name, "--", "set", "interface", name, *settings
    )


def test_a_port_is_served_once_it_is_wired(hypervisor: Hypervisor, guest: Guest) -> None:
    vsctl = hypervisor.ovs.vsctl
    vsctl(
        *(
            "add-port",
            hypervisor.bridge,
            guest.tap,
            "tag=4095",
            "--",
            "set",
            "interface",
            guest.tap,
        ),
        *(f"external_ids:iface-id={guest.port_id}", f"external_ids:vm-uuid={guest.instance_id}"),
    )
    ofport = hypervisor.ovs.ofport(guest.tap)
    # What comes after it has been seen, and served: so this one was seen as well.
    hypervisor.wait_until_served(hypervisor.add_guest(f"after{next(_number)}"))
    assert hypervisor.flows_of(ofport) == []
    vsctl("set", "port", guest.tap, "tag=7")
    wait_for(lambda: hypervisor.flows_of(ofport), "the flows of a wired port")
    assert guest.identity() == guest.instance_id
    vsctl("set", "port", guest.tap, "tag=4095")
    wait_for(lambda: not hypervisor.flows_of(ofport), "the flows of an unwired port to go")


def test_a_hybrid_plugged_port_is_served(hypervisor: Hypervisor, guest: Guest) -> None:
    """Its interface on the bridge is the end (qvo) of a veth pair towards a Linux bridge."""
    bridge, near, far = (f"{kind}{guest.port_id[:8]}" for kind in ("qbr", "qvb", "qvo"))
    link = ("ip", "-n", hypervisor.namespace, "link")
    run(*link, "add", bridge, "type", "bridge")
    run(*link, "add", near, "type", "veth", "peer", far)
    run(*link, "set", near, "master", bridge)
    run(*link, "set", guest.tap, "master", bridge)
    for device in (bridge, near, far):
        run(*link, "set", device, "up")
    try:
        _add_port(
            *(hypervisor, far, f"external_ids:iface-id={guest.port_id}"),
            f"external_ids:vm-uuid={guest.instance_id}",
        )
        ofport = hypervisor.ovs.ofport(far)
        wait_for(lambda: hypervisor.flows_of(ofport), "its flows")
        assert guest.identity() == guest.instance_id
        assert guest.identity(ipv6=True) == guest.instance_id
    finally:
        hypervisor.ovs.vsctl("--if-exists", "del-port", far)
        run(*link, "del", near)
        run(*link, "del", bridge)


def test_a_trunks_sub_port_is_served(hypervisor: Hypervisor, guest: Guest) -> None:
    """Its interface on the integration bridge is a patch port (spi) from the trunk's bridge.

    So is its parent's (tpi), and Nova's vm-uuid is on the instance's device, on the trunk's bridge.
    """
    trunk = f"tbr-{guest.port_id[:8]}"
    parent = Guest(f"{guest.name}-parent", instance_id=str(uuid.uuid4()))
    spt, spi, tpt, tpi = (f"{kind}-{guest.port_id[:8]}" for kind in ("spt", "spi", "tpt", "tpi"))
    vsctl = hypervisor.ovs.vsctl
    hypervisor.ovs.add_bridge(trunk)
    hypervisor.put(guest, device_owner="trunk:subport", device_id=parent.port_id)
    try:
        # The trunk's bridge tags what the guest sends, for a guest that has no VLAN devices.
        vsctl("add-port", trunk, guest.tap, "tag=42")
        for inner, outer, port, settings in (
            (spt, spi, guest, ("tag=42",)),
            (tpt, tpi, parent, ()),
        ):
            vsctl(
                *("add-port", trunk, inner, *settings, "--", "set", "interface", inner),
                *("type=patch", f"options:peer={outer}"),
            )
            _add_port(
                *(hypervisor, outer, "type=patch", f"options:peer={inner}"),
                f"external_ids:iface-id={port.port_id}",
            )
        ofport = hypervisor.ovs.ofport(spi)
        assert guest.identity("--max-time", "1") is None
        assert not hypervisor.flows_of(ofport)

        # The metadata service knows the guest of old: its instance is the parent's from now on.
        hypervisor.put(parent, device_id=guest.instance_id, project_id=guest.project_id)
        wait_for(lambda: hypervisor.flows_of(ofport), "its flows")
        assert guest.identity() == guest.instance_id

        hypervisor.store.delete(parent.port_id)
        wait_for(lambda: not hypervisor.flows_of(ofport), "its flows to go with the parent's")
    finally:
        vsctl("--if-exists", "del-port", spi, "--", "--if-exists", "del-port", tpi)
        vsctl("del-br", trunk)


def test_two_interfaces_of_one_port_are_both_refused(hypervisor: Hypervisor, guest: Guest) -> None:
    first = guest.plug(hypervisor.ovs, hypervisor.bridge)
    wait_for(lambda: hypervisor.flows_of(first), "its flows")
    thief = hypervisor.add_guest(f"thief{next(_number)}", plug=False, record=False)
    second = thief.plug(hypervisor.ovs, hypervisor.bridge, **{"iface-id": guest.port_id})
    wait_for(_logged(hypervisor, guest.tap, "2 interfaces claim"), "the log line")
    wait_for(lambda: not hypervisor.flows_of(first), "the first one's flows to go")
    assert hypervisor.flows_of(second) == []
    assert thief.identity("--max-time", "1") is None
    thief.unplug(hypervisor.ovs)
    wait_for(lambda: guest.identity("--max-time", "1") == guest.instance_id, "service again")


def test_an_iface_id_that_is_no_port_is_refused(hypervisor: Hypervisor, guest: Guest) -> None:
    ofport = guest.plug(hypervisor.ovs, hypervisor.bridge, **{"iface-id": "not-a-port"})
    wait_for(_logged(hypervisor, guest.tap, "not-a-port"), "the log line")
    assert hypervisor.flows_of(ofport) == []


def test_an_interface_without_iface_id_is_not_served(hypervisor: Hypervisor, guest: Guest) -> None:
    _add_port(hypervisor, guest.tap, "external_ids:something=else")
    ofport = hypervisor.ovs.ofport(guest.tap)
    hypervisor.wait_until_served(hypervisor.add_guest(f"after{next(_number)}"))
    assert hypervisor.flows_of(ofport) == []
    assert not _logged(hypervisor, guest.tap)()


def test_an_interface_that_could_not_be_added_is_refused(
    hypervisor: Hypervisor, guest: Guest
) -> None:
    name = f"none{guest.port_id[:8]}"
    # ovs-vsctl says that there is no such device, and still exits 0.
    _add_port(hypervisor, name, f"external_ids:iface-id={guest.port_id}")
    try:
        wait_for(_logged(hypervisor, name, "-1"), "the log line")
    finally:
        hypervisor.ovs.vsctl("del-port", name)


def test_the_ofport_of_the_service_address_is_refused(hypervisor: Hypervisor, guest: Guest) -> None:
    _add_port(
        *(hypervisor, guest.tap, "ofport_request=43518"),
        f"external_ids:iface-id={guest.port_id}",
    )
    assert hypervisor.ovs.ofport(guest.tap) == 43518
    wait_for(_logged(hypervisor, guest.tap, "43518", "plug"), "the log line")
    assert hypervisor.flows_of(43518) == []
    # Plugged again it gets another number, and is served.
    guest.unplug(hypervisor.ovs)
    assert guest.plug(hypervisor.ovs, hypervisor.bridge) != 43518
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id


def test_a_record_changes_under_way_and_others_notice_nothing(
    hypervisor: Hypervisor, guest: Guest
) -> None:
    other = hypervisor.add_guest(f"calm{next(_number)}")
    guest.plug(hypervisor.ovs, hypervisor.bridge)
    hypervisor.wait_until_served(guest)
    before = hypervisor.flows_of(hypervisor.wait_until_served(other))
    hypervisor.put(guest, mac_address="fa:16:3e:99:99:99", revision_number=2)
    ofport = hypervisor.ovs.ofport(guest.tap)
    wait_for(
        lambda: any("fa:16:3e:99:99:99" in flow for flow in hypervisor.flows_of(ofport)),
        "flows for the new MAC",
    )
    # The guest still has its old MAC, and answers are for the new one.
    assert guest.curl(timeout=2) == (0, "")
    assert hypervisor.flows_of(hypervisor.ovs.ofport(other.tap)) == before
    assert other.identity() == other.instance_id


def test_a_reassigned_port_gets_its_new_instance(hypervisor: Hypervisor, guest: Guest) -> None:
    donor = hypervisor.add_guest(f"donor{next(_number)}", plug=False, record=False)
    guest.plug(hypervisor.ovs, hypervisor.bridge)
    hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    hypervisor.ovs.vsctl("set", "interface", guest.tap, f"external_ids:vm-uuid={donor.instance_id}")
    # vm-uuid and record differ: the guest is not served until they agree.
    wait_for(_logged(hypervisor, guest.tap, donor.instance_id), "the log line")
    # The line may be the flow controller's, which is a moment ahead.
    wait_for(
        lambda: guest.curl("/latest/meta-data/instance-id", "--max-time", "5")[0] == 503,
        "no guest to be served",
    )
    hypervisor.put(
        *(guest,),
        device_id=donor.instance_id,
        project_id=donor.project_id,
        revision_number=2,
    )
    wait_for(lambda: guest.identity() == donor.instance_id, "the new identity")
