"""Messages about meters as bytes: what is written here is what the OpenFlow library writes."""

import struct

import pytest
from os_ken.ofproto import ofproto_v1_3 as ofproto
from os_ken.ofproto import ofproto_v1_3_parser as parser
from test_flows_wire import OFFLINE, by_the_library

from ovs_metadata.flows import meter_wire, wire
from ovs_metadata.flows.meters import Band, Meter, meter_number, our_meter
from ovs_metadata.flows.values import ApplyMeter, GotoTable

NUMBER = meter_number(2)
KINDS = 1 << ofproto.OFPMBT_DROP
PACKETS_AND_BURST = ofproto.OFPMF_PKTPS | ofproto.OFPMF_BURST


def reply(body: bytes, flags: int = 0) -> bytes:
    return wire.message(wire.MULTIPART_REPLY, struct.pack("!HH4x", 0, flags) + body)


def test_a_meter_is_added_as_the_library_does_it() -> None:
    (band,) = our_meter(NUMBER).bands
    assert meter_wire.add_meter(NUMBER) == by_the_library(
        parser.OFPMeterMod(
            OFFLINE,
            ofproto.OFPMC_ADD,
            PACKETS_AND_BURST | ofproto.OFPMF_STATS,
            NUMBER,
            [parser.OFPMeterBandDrop(band.rate, band.burst)],
        )
    )


def test_a_meter_is_deleted_as_the_library_does_it() -> None:
    deleted = parser.OFPMeterMod(OFFLINE, ofproto.OFPMC_DELETE, flags=0, meter_id=NUMBER)
    assert meter_wire.delete_meter(NUMBER) == by_the_library(deleted)


def test_meters_are_asked_for_as_the_library_does_it() -> None:
    features = parser.OFPMeterFeaturesStatsRequest(OFFLINE)
    assert meter_wire.features_request() == by_the_library(features)
    meters = parser.OFPMeterConfigStatsRequest(OFFLINE)
    assert meter_wire.meters_request() == by_the_library(meters)


@pytest.mark.parametrize(
    ("kinds", "flags", "highest"),
    [
        (KINDS, PACKETS_AND_BURST, 262_144),
        (0, PACKETS_AND_BURST, 0),
        (KINDS, ofproto.OFPMF_KBPS, 0),
    ],
)
def test_a_switch_whose_meters_cannot_drop_packets_has_none(
    kinds: int, flags: int, highest: int
) -> None:
    body = struct.pack(ofproto.OFP_METER_FEATURES_PACK_STR, 262_144, kinds, flags, 8, 0)
    assert meter_wire.highest_number(reply(body)) == highest


@pytest.mark.parametrize("more", [False, True])
def test_meters_are_read_as_the_switch_writes_them(more: bool) -> None:
    two_bands = Meter(7, ofproto.OFPMF_KBPS, (Band(1, 10, 20), Band(2, 30, 40)))
    body = b""
    for meter in (our_meter(NUMBER), two_bands, Meter(8, 0, ())):
        bands = [
            struct.pack("!HHII4x", each.kind, 16, each.rate, each.burst) for each in meter.bands
        ]
        body += struct.pack("!HHI", 8 + 16 * len(bands), meter.flags, meter.number)
        body += b"".join(bands)
    assert meter_wire.meters_of(reply(body, int(more))) == (
        [our_meter(NUMBER), two_bands, Meter(8, 0, ())],
        more,
    )


def test_an_instruction_is_written_as_the_library_does_it() -> None:
    buffer = bytearray()
    parser.OFPInstructionMeter(NUMBER).serialize(buffer, 0)
    parser.OFPInstructionGotoTable(3).serialize(buffer, len(buffer))
    assert wire.instructions((ApplyMeter(NUMBER), GotoTable(3))) == bytes(buffer)
