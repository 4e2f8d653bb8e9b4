"""Makes guests forget our MAC address: asks for the service address in their name. Blocking.

A guest whose route to the service is link-local has learnt our MAC, and sends to it until its
neighbour entry expires, up to a minute later. So when our flows are removed, the switch gets the
guest's next question from us, as if it came in by the guest's port: an ARP request (RFC 826) and a
neighbour solicitation (RFC 4861). Another host with the service address, such as a DHCP namespace
of Neutron, answers the guest, and the guest replaces its entry. Where no host answers, nothing
changes.
"""

from collections.abc import Iterable, Iterator

from netaddr import EUI, IPAddress

from ovs_metadata.flows import wire
from ovs_metadata.flows.connection import OpenFlowConnection
from ovs_metadata.flows.packets import arp_request, neighbor_solicitation
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import ServedPort

ASK_AGAIN_AFTER = 1.2
"""Seconds after which guests are to be asked for once more. Linux keeps to an answer for a second
before it believes another (locktime, see arp(7)), and may have had ours just before."""


def ask_for_guests(config: Config, ports: Iterable[ServedPort]) -> None:
    """Ask on behalf of the guests behind these ports; the answers go to them.

    Raises:
        OSError: the management socket cannot be reached, or refuses.
    """
    with OpenFlowConnection(config.management_socket) as switch:
        for port in ports:
            for frame in questions(port):
                switch.send(wire.packet_out_message(port.ofport, frame))
        switch.send(wire.barrier_message())
        switch.receive(wire.BARRIER_REPLY)


def questions(port: ServedPort) -> Iterator[bytes]:
    """The frames in which a guest asks who has the service address."""
    mac = port.record.mac_address
    primary = next((each for each in port.record.fixed_ips if IPAddress(each).version == 4), None)
    if primary is not None:
        yield arp_request(mac, primary)
    yield neighbor_solicitation(mac, str(EUI(mac).ipv6_link_local()))
