"""A flow as a value: what it matches, what it does. No I/O, and no OpenFlow library.

Field names are those of OpenFlow's OXM fields as Ryu spells them (`eth_type`, `ipv4_src`, …).
"""

from dataclasses import dataclass, field

MatchValue = int | str | tuple[str, str] | tuple[int, int]
"""An integer or an address, either of them alone or with a mask."""


@dataclass(frozen=True, slots=True)
class Match:
    """The fields a flow matches, ordered by name, so that equal matches are equal values."""

    fields: tuple[tuple[str, MatchValue], ...] = ()

    @classmethod
    def of(cls, **fields: MatchValue) -> "Match":
        """A match on these fields."""
        return cls(tuple(sorted(fields.items())))


@dataclass(frozen=True, slots=True)
class SetField:
    """Write a constant into a field."""

    field: str
    value: int | str


@dataclass(frozen=True, slots=True)
class RemoveOuterTag:
    """Remove the outer VLAN tag; there must be one (OFPAT_POP_VLAN). An inner one stays."""


@dataclass(frozen=True, slots=True)
class Move:
    """Copy a whole field into another of the same width (NXAST_REG_MOVE)."""

    source: str
    destination: str


@dataclass(frozen=True, slots=True)
class SetHopLimit:
    """Write the TTL of IPv4, or the hop limit of IPv6 (OFPAT_SET_NW_TTL)."""

    hops: int


@dataclass(frozen=True, slots=True)
class Output:
    """Send the packet out of a port."""

    ofport: int


@dataclass(frozen=True, slots=True)
class OutputInPort:
    """Send the packet back out of the port it came in by, which plain output never does."""


@dataclass(frozen=True, slots=True)
class ApplyMeter:
    """Drop the packet if it is above a meter's rate. Always the first of a flow's actions."""

    number: int


@dataclass(frozen=True, slots=True)
class Recirculate:
    """Have the datapath look at the packet again, as one of this eth_type, after what comes before.

    A label of MPLS is pushed and popped, which changes nothing in the packet. Open vSwitch makes a
    datapath flow of the fields that it has looked at until then, and another one for the rest.
    """

    eth_type: int


@dataclass(frozen=True, slots=True)
class GotoTable:
    """Go on in another, higher table. Always the last of a flow's actions."""

    table: int


Action = (
    ApplyMeter
    | SetField
    | SetHopLimit
    | RemoveOuterTag
    | Move
    | Output
    | OutputInPort
    | Recirculate
    | GotoTable
)


@dataclass(frozen=True, slots=True)
class FlowKey:
    """What identifies a flow in a switch: a second one with the same key replaces the first."""

    table: int
    priority: int
    match: Match
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Hash it once: a key is looked up over and over, and there are ten for each port."""
        object.__setattr__(self, "_hash", hash((self.table, self.priority, self.match)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow. No actions means drop. `note` says in one phrase what it does, for people."""

    key: FlowKey
    actions: tuple[Action, ...]
    cookie: int
    note: str = field(default="", compare=False)
