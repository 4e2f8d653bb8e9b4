"""Meters: how many packets of one port are served in a second. Pure.

A port has two: one for its requests, one for its questions for the service address's MAC. A meter
has no cookie, so its number and its content identify it. Our numbers are REQUESTS.first +
ofport and QUESTIONS.first + ofport; OVN and Neutron count from 1. A meter with one of our numbers
and other content belongs to another program: it stays as it is, and the port of that number has no
meters.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ovs_metadata.flows.values import ApplyMeter, Flow
from ovs_metadata.host.address import OFPORT_MAX

PACKETS, BURST_GIVEN, STATISTICS = 1 << 1, 1 << 2, 1 << 3
"""Flags of a meter (OFPMF_*): it counts packets, its bands have a burst, it has statistics."""
DROP = 1
"""Type of a band that drops (OFPMBT_DROP)."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one of a port's meters lets pass: so many packets a second, and as many at once.

    The meter's number is `first` + ofport. Open vSwitch's datapaths have room for these: the
    kernel's goes up to 200,000, the userspace one's up to 262,144.
    """

    first: int
    rate: int


REQUESTS = Limit(100_000, 5_000)
"""All connections that a port may have (64) can fetch 64 KiB of user data at the same time: 64
times some 60 packets, one for each segment of 1240 bytes and a few more. As a steady rate it is
some 700 requests a second, each on its own connection. No instance needs that much."""
QUESTIONS = Limit(34_000, 100)
"""An instance asks for the MAC once in some seconds."""


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
        """Whether the port of this number can have its meters."""
        numbers = (meter_number(ofport), question_meter_number(ofport))
        return max(numbers) <= self.highest and self.taken.isdisjoint(numbers)


def meter_number(ofport: int) -> int:
    """The number of the meter of a port's requests."""
    return REQUESTS.first + ofport


def question_meter_number(ofport: int) -> int:
    """The number of the meter of a port's questions."""
    return QUESTIONS.first + ofport


def ofport_of(number: int) -> int:
    """The ofport whose meter has this number; 0 if none has."""
    limit = _limit_of(number)
    return number - limit.first if limit else 0


def _limit_of(number: int) -> Limit | None:
    return next(
        (each for each in (REQUESTS, QUESTIONS) if 0 < number - each.first <= OFPORT_MAX), None
    )


def our_meter(number: int) -> Meter:
    """The meter that we give this number, which must be in one of the ranges."""
    limit = _limit_of(number)
    if limit is None:
        raise ValueError(f"no port's meter has the number {number}")
    bands = (Band(DROP, limit.rate, limit.rate),)
    return Meter(number, PACKETS | BURST_GIVEN | STATISTICS, bands)


def meters_used(flows: Iterable[Flow]) -> frozenset[int]:
    """The numbers of the meters that these flows need."""
    return frozenset(
        each.number for flow in flows for each in flow.actions if isinstance(each, ApplyMeter)
    )


def sort_out(there: Iterable[Meter]) -> tuple[frozenset[int], frozenset[int]]:
    """The numbers of our meters, and the numbers of our range that other programs' meters have."""
    of_our_numbers = [each for each in there if ofport_of(each.number)]
    ours = {each.number for each in of_our_numbers if each == our_meter(each.number)}
    return frozenset(ours), frozenset({each.number for each in of_our_numbers} - ours)
