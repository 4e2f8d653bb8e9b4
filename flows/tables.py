"""Numbers of the pipeline and what each means: tables, priorities, cookies.

Table 0 belongs to everybody; only hooks of ours stand in it, each with an in_port. The tables
from the base up are ours alone.
"""

from enum import IntEnum


class Table(IntEnum):
    """Our tables, as offsets from the table base. In names: Metadata plus the name here."""

    ToProxy = 0
    """From an instance: destination := port address, destination port := the proxy's."""
    FromProxy = 1
    """From the metadata port: lets the proxy's answers through, and nothing else."""
    Responder = 2
    """Answers who asks for the service address's MAC, by ARP or neighbour solicitation."""
    # 3 was another table, up to generation 2.
    ToInstance = 4
    """From a port address: source := service address, to the instance's MAC, out of its port."""
    Advertise = 5
    """Puts the MAC into a neighbour advertisement, and sends it back to who asked."""


class Priority(IntEnum):
    """Priorities inside our tables. That of the hooks in table 0 is configured."""

    Exception = 300
    """What is to be treated otherwise than a flow of priority 200 would."""
    Usual = 200
    """Nearly all flows."""
    Rest = 0
    """Everything else, so that what is dropped is counted."""


def table_names(base: int) -> dict[int, str]:
    """Table number → name, as written into OVSDB's Flow_Table."""
    return {base + table.value: f"Metadata{table.name}" for table in Table}


def former_table_names(base: int) -> dict[int, str]:
    """Those that an earlier generation had and this one has no more."""
    return {base + 3: "MetadataLearned"}


COOKIE_PREFIX = 0x4F564D44 << 32
"""Upper 32 bits of every cookie of ours. Its top two bits are not 10, as those of half a UUID are:
Neutron made cookies of that."""
COOKIE_MASK = 0xFFFFFFFF << 32

FIRST_PREFIX = 0xA9FE00010000 << 16
"""Upper 48 bits of the cookies of generation 1."""
FIRST_MASK = 0xFFFFFFFFFFFF << 16

FILTER_MASK = COOKIE_MASK & ~(COOKIE_PREFIX ^ FIRST_PREFIX)
"""The bits in which the cookies of all generations agree. A switch that is asked for COOKIE_PREFIX
under this mask reports all flows of ours, and one in 100,000 of somebody else's."""

GENERATION = 3
"""Bits 16 to 31 of the cookie: the pipeline's generation, raised when its layout changes."""


def cookie(ofport: int = 0) -> int:
    """Our cookie for a flow that serves one port (its ofport in the low 16 bits), or all (0)."""
    return COOKIE_PREFIX | GENERATION << 16 | ofport


def has_our_cookie(value: int) -> bool:
    """Whether a flow of ours, of whatever generation, may have this cookie.

    Others may have it, too: flows/ours.py decides.
    """
    return value & COOKIE_MASK == COOKIE_PREFIX or value & FIRST_MASK == FIRST_PREFIX


def ofport_of(value: int) -> int:
    """The ofport a cookie of ours names, 0 when the flow serves all ports."""
    return value & 0xFFFF
