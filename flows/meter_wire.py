"""Messages about meters, as bytes: those that are sent, and what is read of replies. Pure.

Formats are those of the OpenFlow 1.3.5 specification.
"""

import struct

from ovs_metadata.flows import wire
from ovs_metadata.flows.meters import DROP, PACKETS, Band, Meter, our_meter

METER_MOD = 29
_ADD, _DELETE = 0, 2
"""Type of the message, and its commands."""

_CONFIG, _FEATURES = 10, 11
"""OFPMP_METER_CONFIG, OFPMP_METER_FEATURES."""

_ALL_METERS = 0xFFFFFFFF

_HEAD = struct.Struct("!HHI")
"""Of a METER_MOD: command, flags, number. Of a reported meter: length, flags, number."""
_BAND = struct.Struct("!HHII4x")
"""Type, length, rate, burst."""
_MOST = struct.Struct("!III4x")
"""Features: highest number, types of bands, flags."""


def features_request() -> bytes:
    """The message that asks which meters the switch can have."""
    return wire.multipart_request(_FEATURES)


def meters_request() -> bytes:
    """The message that asks for all meters, our own and those of other programs."""
    return wire.multipart_request(_CONFIG, struct.pack("!I4x", _ALL_METERS))


def add_meter(number: int) -> bytes:
    """The message that adds our meter of this number; the switch refuses it if there is one."""
    meter = our_meter(number)
    bands = (_BAND.pack(band.kind, _BAND.size, band.rate, band.burst) for band in meter.bands)
    return wire.message(METER_MOD, _HEAD.pack(_ADD, meter.flags, number) + b"".join(bands))


def delete_meter(number: int) -> bytes:
    """The message that deletes a meter, and with it the flows that use it."""
    return wire.message(METER_MOD, _HEAD.pack(_DELETE, 0, number))


def highest_number(reply: bytes) -> int:
    """The highest number of a meter, from a reply about features; 0 if no meter can drop."""
    highest, bands, flags = _MOST.unpack_from(reply, wire.BODY_OF_MULTIPART)
    return int(highest) if bands & 1 << DROP and flags & PACKETS else 0


def meters_of(reply: bytes) -> tuple[list[Meter], bool]:
    """The meters of one part of a reply, and whether further parts follow."""
    entries, more = wire.entries_of(reply)
    return [_meter(entry) for entry in entries], more


def _meter(entry: bytes) -> Meter:
    _length, flags, number = _HEAD.unpack_from(entry)
    bands = []
    at = _HEAD.size
    while at < len(entry):
        kind, length, rate, burst = _BAND.unpack_from(entry, at)
        bands.append(Band(kind, rate, burst))
        at += length
    return Meter(number, flags, tuple(bands))
