"""Numbers of the pipeline and what each means: tables, priorities, cookies.

Table 0 belongs to everybody; only hooks of ours stand in it, each with an in_port. The tables
from the base up are ours alone.
"""

from enum import IntEnum


class Table(IntEnum):
    """Our tables, as offsets from the table base. In names: Metadata plus the name here."""

    ToProxy = 0
    """From an instance: source := port address, destination port := the proxy's."""
    FromProxy = 1
    """From the metadata port: answers who asks for a port address's MAC, lets TCP through."""
    Responder = 2
    """Answers who asks for the service address's MAC, by ARP or neighbour solicitation."""
    Learned = 3
    """Return flows the switch learned, for sources other than a port's primary address."""
    ToInstance = 4
    """Port address → the instance's primary address and MAC, out of its port."""
    Advertise = 5
    """Puts the MAC into a neighbour advertisement, and sends it back to who asked."""


class Priority(IntEnum):
    """Priorities inside our tables. That of the hooks in table 0 is configured."""

    Primary = 300
    """The port's primary address, sent from the port's own MAC."""
    Other = 200
    """Any other source, and any flow that is alone in its kind."""
    Learned = 100
    """Learned by the switch itself."""
    Rest = 0
    """Everything else, so that what is dropped is counted."""


def table_names(base: int) -> dict[int, str]:
    """Table number → name, as written into OVSDB's Flow_Table."""
    return {base + table.value: f"Metadata{table.name}" for table in Table}


COOKIE_PREFIX = 0xA9FE << 48
"""Upper 16 bits of every cookie of ours. No flow without it is ever touched."""
COOKIE_MASK = 0xFFFF << 48

GENERATION = 1
"""Bits 32 to 47 of the cookie: the pipeline's generation, raised when its layout changes."""


def cookie(ofport: int = 0) -> int:
    """Our cookie for a flow that serves one port (its ofport in the low 16 bits), or all (0)."""
    return COOKIE_PREFIX | GENERATION << 32 | ofport


def is_ours(value: int) -> bool:
    """Whether a flow with this cookie is one of ours, of whatever generation."""
    return value & COOKIE_MASK == COOKIE_PREFIX


def ofport_of(value: int) -> int:
    """The ofport a cookie of ours names, 0 when the flow serves all ports."""
    return value & 0xFFFF
