"""Real virtual machines, with a kernel of their own and a tap device, get their own metadata."""

import pytest
from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.virtual_machine import boot, create_tap, machine_image, printed_metadata


@pytest.fixture(scope="module", autouse=True)
def _image() -> None:
    """Make the image outside the tests' time limit: it may have to be downloaded."""
    machine_image()


@pytest.mark.timeout(120, func_only=True)
def test_machines_with_the_same_addresses_print_their_own_metadata(
    lab_hypervisor: Factory,
) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    twins = [Guest(f"{hypervisor.prefix}-{name}") for name in ("one", "two")]
    hypervisor.guests += twins
    hypervisor.start_metadata_service()
    hypervisor.start_agent()
    # Networks are VLANs on the bridge. On one and the same, each would find that the other has
    # its address already.
    for vlan, guest in enumerate(twins, start=1):
        hypervisor.put(guest)
        create_tap(guest, hypervisor.ovs)
        guest.plug(hypervisor.ovs, hypervisor.bridge)
        hypervisor.ovs.vsctl("set", "port", guest.tap, f"tag={vlan}")
        hypervisor.wait_until_served(guest)
    machines = [boot(guest, hypervisor) for guest in twins]
    for guest, machine in zip(twins, machines, strict=True):
        assert machine.wait(timeout=50) == 0
        console = machine.log.read_text()
        assert f"link/ether {guest.mac}" in console
        assert f"inet {guest.address}" in console
        metadata = printed_metadata(console)
        assert {family: of["uuid"] for family, of in metadata.items()} == {
            "IPv4": guest.instance_id,
            "IPv6": guest.instance_id,
        }
