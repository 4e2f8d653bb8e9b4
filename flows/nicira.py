"""The wire form of actions that the libraries do not have right.

As the comments in Open vSwitch's lib/ofp-actions.c describe them: NXAST_LEARN2 (subtype 45) is
learn with a limit, which neither Ryu nor os-ken knows. NXAST_REG_MOVE (subtype 6) they write with
OXM headers; the switch reports it with NXM headers, and what was sent and what is reported have to
be comparable. set_field of two neighbour discovery fields is unknown to them, too.

Pure functions. Of the first two they return what follows the subtype, padded so that the whole
action fills a multiple of 8 bytes.
"""

import struct

from ovs_metadata.flows.fields import FIELDS, Field, to_bytes
from ovs_metadata.flows.values import (
    Learn,
    LearnSpec,
    LoadField,
    MatchConstant,
    MatchField,
    Move,
    OutputField,
    SetField,
)

LEARN2 = 45
REG_MOVE = 6

_NICIRA_HEADER_LENGTH = 10
"""Bytes of type, length, vendor and subtype, which stand in front of what is encoded here."""

_DELETE_LEARNED = 1 << 1

_SOURCE_IS_CONSTANT = 1 << 13
_TO_MATCH, _TO_LOAD, _TO_OUTPUT = 0 << 11, 1 << 11, 2 << 11


def encode_move(move: Move) -> bytes:
    """A whole field into another of the same width."""
    source, destination = FIELDS[move.source], FIELDS[move.destination]
    return _padded(struct.pack("!HHHII", source.bits, 0, 0, source.nxm, destination.nxm))


_SET_FIELD = 25
"""OFPAT_SET_FIELD of OpenFlow 1.3."""


def encode_set_field(action: SetField) -> bytes:
    """A whole set_field, header included, of a field that the libraries do not know."""
    field = FIELDS[action.field]
    body = struct.pack("!I", field.nxm) + to_bytes(field, action.value)
    body += bytes(-(4 + len(body)) % 8)
    return struct.pack("!HH", _SET_FIELD, 4 + len(body)) + body


def encode_learn(learn: Learn) -> bytes:
    """Learn, with a limit and with delete_learned."""
    body = struct.pack(
        "!HHHQHBxHHIHxx",
        learn.idle_timeout,
        0,  # no hard timeout
        learn.priority,
        learn.cookie,
        _DELETE_LEARNED,
        learn.table,
        0,  # no timeouts after a FIN: the answer may be slow in coming
        0,
        learn.limit,
        0,  # the outcome is written nowhere
    ) + b"".join(_encode_spec(spec) for spec in learn.specs)
    return _padded(body)


def _padded(body: bytes) -> bytes:
    return body + bytes(-(_NICIRA_HEADER_LENGTH + len(body)) % 8)


def _encode_spec(spec: LearnSpec) -> bytes:
    match spec:
        case MatchConstant(name, value):
            field = FIELDS[name]
            constant = to_bytes(field, value)
            padded = bytes(len(constant) % 2) + constant
            header = _SOURCE_IS_CONSTANT | _TO_MATCH | field.bits
            return struct.pack("!H", header) + padded + _encode_place(field)
        case MatchField(name, source):
            return _encode_copy(_TO_MATCH, FIELDS[source]) + _encode_place(FIELDS[name])
        case LoadField(name, source):
            return _encode_copy(_TO_LOAD, FIELDS[source]) + _encode_place(FIELDS[name])
        case OutputField(source):
            return _encode_copy(_TO_OUTPUT, FIELDS[source])


def _encode_copy(purpose: int, source: Field) -> bytes:
    return struct.pack("!H", purpose | source.bits) + _encode_place(source)


def _encode_place(field: Field) -> bytes:
    """A whole field: its NXM header, and bit offset 0."""
    return struct.pack("!IH", field.nxm, 0)
