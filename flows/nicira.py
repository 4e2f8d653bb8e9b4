"""The wire form of actions that the libraries do not have right.

NXAST_REG_MOVE (subtype 6) they write with OXM headers; the switch reports it with NXM headers, and
what was sent and what is reported have to be comparable. set_field of two neighbour discovery
fields is unknown to them. The formats are those of the comments in Open vSwitch's
lib/ofp-actions.c.

Pure functions.
"""

import struct

from ovs_metadata.flows.fields import FIELDS, to_bytes
from ovs_metadata.flows.values import Move, SetField

REG_MOVE = 6


def encode_move(move: Move) -> bytes:
    """A whole field into another of the same width: what follows the subtype."""
    source, destination = FIELDS[move.source], FIELDS[move.destination]
    return struct.pack("!HHHII", source.bits, 0, 0, source.nxm, destination.nxm)


_SET_FIELD = 25
"""OFPAT_SET_FIELD of OpenFlow 1.3."""


def encode_set_field(action: SetField) -> bytes:
    """A whole set_field, header included, of a field that the libraries do not know."""
    field = FIELDS[action.field]
    body = struct.pack("!I", field.nxm) + to_bytes(field, action.value)
    body += bytes(-(4 + len(body)) % 8)
    return struct.pack("!HH", _SET_FIELD, 4 + len(body)) + body
