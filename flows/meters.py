"""Meters: how many packets of one port reach the proxy's namespace in a second. Pure.

A meter has no cookie, so its number and its content identify its owner. Our numbers are FIRST +
ofport; OVN and Neutron count from 1. A meter with one of our numbers and other content belongs to
another program: it stays as it is, and the port of that number has no meter.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ovs_metadata.flows.values import ApplyMeter, Flow

FIRST = 100_000
"""Our meters have the numbers FIRST + ofport, which Open vSwitch's datapaths have room for: the
kernel's goes up to 200,000, the userspace one's up to 262,144."""

PACKETS, BURST_GIVEN, STATISTICS = 1 << 1, 1 << 2, 1 << 3
"""Flags of a meter (OFPMF_*): it counts packets, its bands have a burst, it has statistics."""
DROP = 1
"""Type of a band that drops (OFPMBT_DROP)."""

RATE = BURST = 5_000
"""Packets in a second, and at once.

All connections that a port may have (64) can fetch 64 KiB of user data at the same time: 64 times
some 60 packets, one for each segment of 1240 bytes and a few more. As a steady rate it is some 700
requests a second, each on its own connection. No instance needs that much.
"""


@dataclass(frozen=True, slots=True)
class Band:
    """What happens above a rate: of OpenFlow's meter bands, its type, rate and burst."""

    kind: int
    rate: int
    burst: int


@dataclass(frozen=True, slots=True)
class Meter:
    """A meter as a switch has it."""

    number: int
    flags: int
    bands: tuple[Band, ...]


@dataclass(frozen=True, slots=True)
class MeterRoom:
    """Which of our meters a switch can have.

    highest: the highest number of a meter; 0 if the switch has no meters. taken: the numbers of our
    range that other programs' meters have.
    """

    highest: int = 0
    taken: frozenset[int] = frozenset()

    def fits(self, ofport: int) -> bool:
        """Whether the port of this number can have its meter."""
        number = meter_number(ofport)
        return number <= self.highest and number not in self.taken


def meter_number(ofport: int) -> int:
    """The number of a port's meter."""
    return FIRST + ofport


def ofport_of(number: int) -> int:
    """The ofport whose meter has this number."""
    return number - FIRST


def our_meter(number: int) -> Meter:
    """The meter that we give this number."""
    return Meter(number, PACKETS | BURST_GIVEN | STATISTICS, (Band(DROP, RATE, BURST),))


def meters_used(flows: Iterable[Flow]) -> frozenset[int]:
    """The numbers of the meters that these flows need."""
    return frozenset(
        each.number for flow in flows for each in flow.actions if isinstance(each, ApplyMeter)
    )


def sort_out(there: Iterable[Meter]) -> tuple[frozenset[int], frozenset[int]]:
    """The numbers of our meters, and the numbers of our range that other programs' meters have."""
    of_our_numbers = [each for each in there if 0 < ofport_of(each.number) <= 0xFFFF]
    ours = {each.number for each in of_our_numbers if each == our_meter(each.number)}
    return frozenset(ours), frozenset({each.number for each in of_our_numbers} - ours)
