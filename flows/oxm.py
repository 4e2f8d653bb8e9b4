"""Matches and set_field as they go over the wire: OXM of OpenFlow 1.3. Pure functions.

An OXM header is class (16 bits), field (7), has-mask (1), length of what follows (8). In class
0xffff an experimenter's number follows it, and counts to that length (OpenFlow 1.3.5, 7.2.3).
"""

import ipaddress
import struct
from functools import lru_cache

from ovs_metadata.flows.fields import FIELDS, WITHOUT_OXM, to_bytes
from ovs_metadata.flows.values import Match, MatchValue

_BASIC, _EXPERIMENTER = 0x8000, 0xFFFF
_ONF = 0x4F4E4600
_HAS_MASK = 0x100
_HEADER = 4
_MATCH_HEADER = 4
_OXM_MATCH = 1
"""OFPMT_OXM."""

_WIDTHS = {
    "in_port": (0, 4),
    "eth_dst": (3, 6),
    "eth_src": (4, 6),
    "eth_type": (5, 2),
    "vlan_vid": (6, 2),
    "ip_proto": (10, 1),
    "ipv4_src": (11, 4),
    "ipv4_dst": (12, 4),
    "tcp_src": (13, 2),
    "tcp_dst": (14, 2),
    "arp_op": (21, 2),
    "arp_spa": (22, 4),
    "arp_tpa": (23, 4),
    "arp_sha": (24, 6),
    "arp_tha": (25, 6),
    "ipv6_src": (26, 16),
    "ipv6_dst": (27, 16),
    "icmpv6_type": (29, 1),
    "icmpv6_code": (30, 1),
    "ipv6_nd_target": (31, 16),
    "ipv6_nd_tll": (33, 6),
}
"""Field → its number in the basic class, and the bytes of its value."""

_TCP_FLAGS = ("tcp_flags", 42, 2)
"""An extension that the ONF has registered (EXT-109)."""

_PLAIN = {
    name: struct.pack("!HBB", _BASIC, number << 1, width)
    for name, (number, width) in _WIDTHS.items()
} | {
    _TCP_FLAGS[0]: struct.pack("!HBBI", _EXPERIMENTER, _TCP_FLAGS[1] << 1, 4 + _TCP_FLAGS[2], _ONF),
}
"""Field → what precedes its value on the wire, if there is no mask."""

_NAMES = {header: name for name, header in _PLAIN.items()}

_ADDRESSES = frozenset(
    name for name in _PLAIN if name.startswith(("ipv4_", "ipv6_", "arp_spa", "arp_tpa"))
)
_MACS = frozenset({"eth_src", "eth_dst", "arp_sha", "arp_tha", "ipv6_nd_tll"})


def encode(name: str, value: MatchValue) -> bytes:
    """A field and its value, or its value and mask."""
    if isinstance(value, tuple):
        return _with_mask(name, value)
    header = _PLAIN[name]
    return header + _to_bytes(name, value, header)


@lru_cache(maxsize=128)
def _with_mask(name: str, value: tuple[str, str] | tuple[int, int]) -> bytes:
    header = _PLAIN[name]
    plain, mask = (_to_bytes(name, each, header) for each in value)
    first, length = struct.unpack_from("!HxB", header)
    number = header[2] | _HAS_MASK >> 8
    masked = struct.pack("!HBB", first, number, length + len(mask)) + header[_HEADER:]
    return masked + plain + mask


def _to_bytes(name: str, value: int | str, header: bytes) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(header[3] - (len(header) - _HEADER), "big")
    return to_bytes(FIELDS[name], value)


def encode_set_field(name: str, value: int | str) -> bytes:
    """A field and its value as set_field has them; see fields.WITHOUT_OXM."""
    if name not in WITHOUT_OXM:
        return encode(name, value)
    field = FIELDS[name]
    return struct.pack("!I", field.nxm) + to_bytes(field, value)


def encode_match(match: Match) -> bytes:
    """A match: OFPMT_OXM with its padding.

    In the order of their numbers, with which each begins, prerequisites come first.
    """
    body = b"".join(sorted(encode(*each) for each in match.fields))
    length = _MATCH_HEADER + len(body)
    return struct.pack("!HH", _OXM_MATCH, length) + body + bytes(-length % 8)


def in_our_order(encoded: bytes) -> bytes:
    """A match as `encode_match` has it: a switch has the fields in an order of its own."""
    (length,) = struct.unpack_from("!2xH", encoded)
    fields = []
    at = _MATCH_HEADER
    while at < length:
        end = at + _HEADER + encoded[at + 3]
        fields.append(encoded[at:end])
        at = end
    fields.sort()
    return encoded[:_MATCH_HEADER] + b"".join(fields) + bytes(-length % 8)


EMPTY_MATCH = encode_match(Match())


def decode_match(encoded: bytes, names: frozenset[str]) -> Match | None:
    """A match as a value; None if it is not on these fields alone.

    What others match may be of a kind that no table here knows.
    """
    (length,) = struct.unpack_from("!2xH", encoded)
    fields: dict[str, MatchValue] = {}
    at = _MATCH_HEADER
    while at < length:
        end = at + _HEADER + encoded[at + 3]
        field = _decode(encoded[at:end])
        if field is None or field[0] not in names:
            return None
        fields[field[0]] = field[1]
        at = end
    return Match.of(**fields)


def _decode(oxm: bytes) -> tuple[str, MatchValue] | None:
    is_experimenters = oxm[:2] == b"\xff\xff"
    body_at = _HEADER + (4 if is_experimenters else 0)
    has_mask = oxm[2] & 1
    body = oxm[body_at:]
    width = len(body) // 2 if has_mask else len(body)
    plain = bytes((oxm[2] & ~1, width + body_at - _HEADER))
    name = _NAMES.get(oxm[:2] + plain + oxm[_HEADER:body_at])
    if name is None or (has_mask and len(body) != 2 * width):
        return None
    if not has_mask:
        return name, _from_bytes(name, body)
    value, mask = _from_bytes(name, body[:width]), _from_bytes(name, body[width:])
    return name, (value, mask)  # type: ignore[return-value] # both are of one type


def _from_bytes(name: str, value: bytes) -> int | str:
    if name in _MACS:
        return value.hex(":")
    if name in _ADDRESSES:
        return str(ipaddress.ip_address(value))
    return int.from_bytes(value, "big")
