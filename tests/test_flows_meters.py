"""Which meters are ours, and which port has one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.flows.meters import (
    DROP,
    PACKETS,
    Band,
    Meter,
    MeterRoom,
    meter_number,
    ofport_of,
    our_meter,
    question_meter_number,
    sort_out,
)
from ovs_metadata.host.address import OFPORT_MAX

OURS = our_meter(meter_number(7))
KERNELS_HIGHEST = 200_000
"""DP_METER_NUM_MAX of Linux, the lowest there is."""


@given(st.integers(1, OFPORT_MAX))
def test_a_number_says_its_port_and_every_datapath_has_room_for_it(ofport: int) -> None:
    assert ofport_of(meter_number(ofport)) == ofport
    assert ofport_of(question_meter_number(ofport)) == ofport
    assert MeterRoom(KERNELS_HIGHEST).fits(ofport)
    assert not MeterRoom().fits(ofport)


@pytest.mark.parametrize(
    "other",
    [
        Meter(OURS.number, OURS.flags, ()),
        Meter(OURS.number, OURS.flags, (*OURS.bands, *OURS.bands)),
        Meter(OURS.number, PACKETS, OURS.bands),
        Meter(OURS.number, OURS.flags, (Band(DROP, 1, OURS.bands[0].burst),)),
        Meter(OURS.number, OURS.flags, (Band(DROP, OURS.bands[0].rate, 1),)),
        Meter(OURS.number, OURS.flags, (Band(2, OURS.bands[0].rate, OURS.bands[0].burst),)),
    ],
)
def test_a_meter_of_our_number_with_other_content_is_anothers(other: Meter) -> None:
    ours, taken = sort_out([other, our_meter(meter_number(8))])
    assert ours == {meter_number(8)}
    assert taken == {OURS.number}
    assert not MeterRoom(KERNELS_HIGHEST, taken).fits(7)
    assert MeterRoom(KERNELS_HIGHEST, taken).fits(8)


OTHER_NUMBERS = [
    *(1, meter_number(0), meter_number(OFPORT_MAX + 1), 0xFFFFFFFE),
    *(question_meter_number(0), question_meter_number(OFPORT_MAX + 1)),
]


@pytest.mark.parametrize("number", OTHER_NUMBERS)
def test_meters_of_other_numbers_do_not_concern_us(number: int) -> None:
    there = Meter(number, OURS.flags, OURS.bands)
    assert sort_out([there]) == (frozenset(), frozenset())
    with pytest.raises(ValueError, match=str(number)):
        our_meter(number)


@given(st.sets(st.integers(1, OFPORT_MAX), max_size=5), st.integers(1, OFPORT_MAX))
def test_a_port_has_both_meters_or_none(ofports: set[int], asked: int) -> None:
    """Questions' meters are taken; no two meters of ports have one number."""
    taken = frozenset(map(question_meter_number, ofports))
    assert MeterRoom(KERNELS_HIGHEST, taken).fits(asked) == (asked not in ofports)
    assert meter_number(asked) not in set(map(question_meter_number, range(1, OFPORT_MAX + 1)))
