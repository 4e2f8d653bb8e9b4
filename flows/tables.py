"""Numbers of the pipeline and their meaning: tables, priorities, cookies.

All programs share table 0; our only flows there are hooks, each with an in_port. The tables from
the base up are ours alone.
"""

from enum import IntEnum

from ovs_metadata.host.address import ofport_at, place_of, vlan_at


class Table(IntEnum):
    """Our tables, as offsets from the table base. In names: Metadata plus the name here."""

    ToProxy = 0
    """From an instance: destination := port address, destination port := the proxy's."""
    FromProxy = 1
    """From the metadata port: lets the proxy's answers through, and nothing else."""
    Responder = 2
    """Answers requests for the service address's MAC: ARP and neighbour solicitations."""
    # 3 was another table, up to generation 2.
    ToInstance = 4
    """From a port address: source := service address, to the instance's MAC, out of its port."""
    Advertise = 5
    """Puts the MAC into a neighbour advertisement, and sends it back to the guest that asked."""


class Priority(IntEnum):
    """Priorities inside our tables. That of the hooks in table 0 is configured."""

    Exception = 300
    """Exceptions from a flow of priority 200."""
    Usual = 200
    """Nearly all flows."""
    Rest = 0
    """Everything else, so that what is dropped is counted."""


def table_names(base: int) -> dict[int, str]:
    """Table number → name, as written into OVSDB's Flow_Table."""
    return {base + table.value: f"Metadata{table.name}" for table in Table}


def former_table_names(base: int) -> dict[int, str]:
    """The names that an earlier generation wrote and this one does not."""
    return {base + 3: "MetadataLearned"}


COOKIE_PREFIX = 0x4F564D44 << 32
"""Upper 32 bits of each of our cookies. The top two bits are not 10: older Neutron makes cookies
from half a UUID, where they are."""
COOKIE_MASK = 0xFFFFFFFF << 32

FIRST_PREFIX = 0xA9FE00010000 << 16
"""Upper 48 bits of the cookies of generation 1."""
FIRST_MASK = 0xFFFFFFFFFFFF << 16

FILTER_MASK = COOKIE_MASK & ~(COOKIE_PREFIX ^ FIRST_PREFIX)
"""The bits in which the cookies of all generations agree. A switch that is asked for COOKIE_PREFIX
under this mask reports all our flows, and one in 100,000 of other programs' flows."""

GENERATION = 3
"""Bits 16 to 19 of the cookie: the pipeline's generation, raised when its layout changes."""

_VLAN_AT = 20
"""The lowest bit of the cookie's VLAN."""


def cookie(place: int = 0) -> int:
    """Our cookie for a flow that serves the port at a place, or all ports (0).

    It has the ofport in bits 0 to 15, and the VLAN of a sub-port in bits 20 to 31.
    """
    return COOKIE_PREFIX | vlan_at(place) << _VLAN_AT | GENERATION << 16 | ofport_at(place)


def has_our_cookie(value: int) -> bool:
    """Whether our flow, of any generation, may have this cookie.

    A flow of another program may have it, too: flows/ours.py decides.
    """
    return value & COOKIE_MASK == COOKIE_PREFIX or value & FIRST_MASK == FIRST_PREFIX


def place_of_cookie(value: int) -> int:
    """The place that our cookie names, 0 if the flow serves all ports."""
    return place_of(ofport_of(value), value >> _VLAN_AT & 0xFFF)


def ofport_of(value: int) -> int:
    """The ofport that our cookie names, 0 if the flow serves all ports."""
    return value & 0xFFFF
