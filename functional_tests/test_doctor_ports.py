"""`ovs-metadata doctor` on an instance with two ports, and on two interfaces of one port."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import replace

import pytest
from doctor_support import CONTROLLER, STOPPED_CONTROLLER, Result, Ward, stopped, ward_of_its_own

from lab.rig.guest import Guest
from ovs_metadata.flows.tables import cookie


@pytest.fixture(scope="module")
def first() -> Iterator[Ward]:
    with ward_of_its_own() as made:
        yield made


@pytest.fixture(scope="module")
def second(first: Ward) -> Ward:
    """The instance's other port, which has the same fixed IP, as it may in another network."""
    one = first.guest
    guest = first.hypervisor.add_guest(
        "second", mac=one.mac, instance_id=one.instance_id, project_id=one.project_id
    )
    first.hypervisor.wait_until_served(guest)
    assert guest.identity() == guest.instance_id
    return replace(first, guest=guest)


def seen(found: Result, hop: str) -> str:
    (report,) = (each for each in found.document["hops"] if each["hop"] == hop)
    return str(report["seen"])


@contextlib.contextmanager
def without_flows(ward: Ward, guest: Guest, match: str) -> Iterator[None]:
    """Delete some of the guest's flows while the controller cannot put them back."""
    hypervisor = ward.hypervisor
    ofport = hypervisor.ovs.ofport(guest.tap)
    spec = f"cookie={cookie(ofport):#x}/-1,{match.format(port=ofport)}"
    with stopped(CONTROLLER)(ward):
        hypervisor.ovs.ofctl("del-flows", hypervisor.bridge, spec)
        yield
    hypervisor.wait_until_served(guest)


def test_a_request_is_sent_for_each_port_of_an_instance(first: Ward, second: Ward) -> None:
    for word in (first.guest.instance_id, first.guest.ip):
        found = first.doctor(word)
        assert (found.document["findings"], found.status) == ([], 0)
        by = {
            f"sent in by {', '.join(taps)}, answered with status 200"
            for taps in itertools.permutations((first.guest.tap, second.guest.tap))
        }
        assert seen(found, "request") in by


def test_flows_that_only_the_second_port_lacks(first: Ward, second: Ward) -> None:
    for ill in (first.guest, second.guest):
        with without_flows(first, ill, "table=0,tcp,in_port={port}"):
            found = first.doctor(ill.instance_id)
        assert found.names == STOPPED_CONTROLLER | {"flows-missing"}
        assert found.status == 2
        assert found.finding("flows-missing")["subject"] == ill.port_id


def test_a_foreign_flow_that_only_the_second_port_meets(first: Ward, second: Ward) -> None:
    ovs, bridge = first.hypervisor.ovs, first.hypervisor.bridge
    blocked = f"in_port={ovs.ofport(second.guest.tap)},tcp"
    ovs.ofctl("add-flow", bridge, f"cookie=0x77,table=0,priority=30000,{blocked} actions=drop")
    try:
        found = first.doctor(first.guest.instance_id)
        assert (found.names, found.status) == ({"request-diverted"}, 2)
        assert {
            each["subject"]
            for each in found.document["findings"]
            if each["name"] == "request-diverted"
        } == {second.guest.port_id}
    finally:
        ovs.ofctl("del-flows", bridge, "cookie=0x77/-1")


def test_an_interface_that_is_left_over(first: Ward) -> None:
    """Its device is gone, its row is not, and another interface serves its port."""
    ovs, guest, name = first.hypervisor.ovs, first.guest, "qvoleftover"
    ovs.vsctl(
        *("add-port", first.hypervisor.bridge, name, "--", "set", "interface", name),
        *(
            f'external_ids:iface-id="{guest.port_id}"',
            f'external_ids:vm-uuid="{guest.instance_id}"',
        ),
    )
    try:
        assert ovs.vsctl("get", "interface", name, "ofport").strip() == "-1"
        for word in (guest.port_id, guest.instance_id, ""):
            found = first.doctor(*([word] if word else []))
            assert (found.names, found.status) == ({"ofport-missing"}, 1)
            finding = found.finding("ofport-missing")
            assert finding["severity"] == "warning"
            assert finding["subject"] == f"interface {name}"
            assert guest.tap in finding["why"]
            request = seen(found, "request")
            # Without a name any healthy port represents all.
            assert not word or guest.tap in request
            assert request.endswith("answered with status 200")
    finally:
        ovs.vsctl("del-port", name)
