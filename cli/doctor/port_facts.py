"""One interface of the bridge, as the hop "port" sees it: record, OpenFlow, device. Blocking."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ovs_metadata.agent.network.netlink import IPRoute
from ovs_metadata.cli.host_view import Host
from ovs_metadata.cli.port_status import PortStatus
from ovs_metadata.flows.port_states import OpenFlowPort
from ovs_metadata.host.address import OFPORT_MAX, why_unservable
from ovs_metadata.host.config import OVN
from ovs_metadata.host.join import Interface
from ovs_metadata.host.option_documents import paths_of
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.record import PortRecord

_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
"""Of linux/if.h."""


IS_DOWN = "is down"


@dataclass(frozen=True, slots=True)
class PortFacts:
    """One interface of the bridge, and what is known of its port.

    status: as all commands have it. state: what the store has of the port. rivals: other interfaces
    that claim the same port. left_over: those of all of them that Nova has not plugged. spare: an
    OpenFlow number that no interface has. closed: what the port's OpenFlow configuration has
    switched off. link: why its device carries nothing. mtu: of its device; None if that is not
    here. agent_view: what the agent says of it; None if it says nothing, or was not asked (see
    `asked`). unusable: the documents of its options that cannot be used. from_ovn: its record comes
    from OVN's southbound database.
    """

    status: PortStatus
    state: PortState = None
    rivals: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    spare: int = 0
    closed: tuple[str, ...] = ()
    link: str = ""
    mtu: int | None = None
    agent_view: Mapping[str, Any] | None = None
    asked: bool = False
    unusable: tuple[str, ...] = ()
    from_ovn: bool = False

    @property
    def interface(self) -> Interface:
        """The interface."""
        return self.status.interface

    @property
    def port_id(self) -> str | None:
        """The Neutron port, if the interface names one."""
        return self.status.port_id

    @property
    def record(self) -> PortRecord | None:
        """Its record, if there is one that can be used."""
        return self.status.record

    @property
    def title(self) -> str:
        """What to call it."""
        return self.port_id or f"interface {self.interface.title}"


def port_facts(host: Host, status: PortStatus, openflow: Mapping[int, OpenFlowPort]) -> PortFacts:
    """Read what is known of the port of one interface."""
    interface = status.interface
    known = openflow.get(interface.ofport or 0, OpenFlowPort())
    device = read_device(interface.name)
    link = "" if known.has_link else "has no link, as Open vSwitch sees it"
    link = device.problem if device else link
    rivals = tuple(_rivals(interface, host.bridge.interfaces.values()))
    return PortFacts(
        status,
        host.records.get(status.port_id) if status.port_id else None,
        rivals=tuple(other.name for other in rivals),
        left_over=tuple(each.name for each in (interface, *rivals) if each.vm_uuid is None),
        spare=_spare(
            {each.ofport or 0 for each in host.bridge.interfaces.values()}
            | {host.metadata_ofport or 0}
        ),
        # A device that is down is a finding of its own.
        closed=tuple(each for each in known.closed if each != "up" or not link),
        link=link,
        mtu=device.mtu if device else None,
        unusable=_unusable(host, status.record),
        from_ovn=host.config.records == OVN,
    )


def _unusable(host: Host, record: PortRecord | None) -> tuple[str, ...]:
    """The paths of the documents with a port's options that cannot be used."""
    read = host.documents.read
    if record is None or read is None:
        return ()
    return tuple(
        each for each in paths_of(record.project_id, record.network_id) if each not in read
    )


def _rivals(interface: Interface, every: Iterable[Interface]) -> Iterator[Interface]:
    """The other interfaces that claim the same port and have a number."""
    port_id = interface.port_id
    for other in every:
        same = port_id is not None and other.port_id == port_id
        if same and other.name != interface.name and (other.ofport or 0) > 0:
            yield other


def _spare(taken: Collection[int]) -> int:
    """The lowest number that no interface has and that can be served; 0 if there is none."""
    free = (each for each in range(1, OFPORT_MAX + 1) if each not in taken)
    return next((each for each in free if not why_unservable(each)), 0)


@dataclass(frozen=True, slots=True)
class TapDevice:
    """A device in this namespace. problem: why it carries nothing; empty if it does."""

    problem: str
    mtu: int


def read_device(name: str) -> TapDevice | None:
    """The device of that name in this namespace; None if it is not here."""
    with IPRoute() as here:
        for link in here.get_links(ifname=name):
            problem = "" if link["flags"] & _IFF_LOWER_UP else "has no carrier"
            if not link["flags"] & _IFF_UP:
                problem = IS_DOWN
            return TapDevice(problem, link.get_attr("IFLA_MTU"))
    return None
