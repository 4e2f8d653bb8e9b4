"""The wire form of NXAST_REG_MOVE (subtype 6), of Open vSwitch's lib/ofp-actions.c. Pure.

It names its fields by NXM headers, as the switch reports it: what was sent and what is reported
have to be comparable.
"""

import struct

from ovs_metadata.flows.fields import FIELDS
from ovs_metadata.flows.values import Move

_EXPERIMENTER_ACTION, _NICIRA, _REG_MOVE = 0xFFFF, 0x2320, 6
_LENGTH = 24


def encode_move(move: Move) -> bytes:
    """A whole field into another of the same width."""
    source, destination = FIELDS[move.source], FIELDS[move.destination]
    return struct.pack(
        *("!HHIHHHHII", _EXPERIMENTER_ACTION, _LENGTH, _NICIRA, _REG_MOVE),
        *(source.bits, 0, 0, source.nxm, destination.nxm),
    )
