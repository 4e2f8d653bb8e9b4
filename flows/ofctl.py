"""Flows as text, in the notation of `ovs-ofctl -O OpenFlow13 --no-stats dump-flows`.

What this prints, `ovs-ofctl add-flows` reads. Pure functions.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from netaddr import IPNetwork

from ovs_metadata.flows.family import ACK, MPLS, NO_VLAN, RST_WITHOUT_ACK, in_vlan
from ovs_metadata.flows.fields import FIELDS
from ovs_metadata.flows.values import (
    Action,
    ApplyMeter,
    Flow,
    GotoTable,
    Match,
    MatchValue,
    Move,
    Output,
    OutputInPort,
    Recirculate,
    RemoveOuterTag,
    SetField,
    SetHopLimit,
)

_PROTOCOLS = {
    (0x0800, 6): "tcp",
    (0x0806, None): "arp",
    (0x86DD, 6): "tcp6",
    (0x86DD, 58): "icmp6",
}
"""(eth_type, ip_proto) → the word ovs-ofctl has for the pair."""

_VLAN_TCI: Mapping[MatchValue, str] = {0: "0x0000/0x1fff", NO_VLAN: "0x0000/0x0fff"}
_TCP_FLAGS: Mapping[MatchValue, str] = {ACK: "+ack", RST_WITHOUT_ACK: "+rst-ack"}

_MATCH_ORDER = (
    *("in_port", "vlan_vid", "eth_src", "eth_dst"),
    *("arp_spa", "arp_tpa", "ipv4_src", "ipv4_dst", "ipv6_src", "ipv6_dst", "arp_op"),
    *("tcp_src", "tcp_dst", "tcp_flags", "icmpv6_type", "icmpv6_code", "ipv6_nd_target"),
)
"""The order in which ovs-ofctl prints the fields of a match."""

_ACTION_NAMES = {"ipv4_src": "ip_src", "ipv4_dst": "ip_dst"}
"""Fields that set_field spells differently from OpenFlow."""


def dump(flows: Iterable[Flow], names: Mapping[int, str] | None = None) -> str:
    """Flows as dump-flows prints them: by table, then falling priority, then text.

    `names` are table names, printed instead of numbers as `--names` does.
    """
    ordered = sorted(flows, key=lambda each: (each.key.table, -each.key.priority, render(each)))
    return "".join(f" {render(each, names)}\n" for each in ordered)


def render(flow: Flow, names: Mapping[int, str] | None = None) -> str:
    """One flow, as dump-flows prints it."""
    head = [f"cookie={flow.cookie:#x}"]
    if flow.key.table:
        head.append(f"table={_table(flow.key.table, names)}")
    match = ",".join([f"priority={flow.key.priority}", *_match(flow.key.match)])
    actions = ",".join(_action(each, names) for each in flow.actions) or "drop"
    return f"{', '.join(head)}, send_flow_rem {match} actions={actions}"


def match_text(match: Match) -> str:
    """A match as dump-flows and ofproto/trace print it, without the priority.

    Raises:
        ValueError: it has a field, or a combination of fields, that the pipeline never uses.
    """
    return ",".join(_match(match))


def _table(number: int, names: Mapping[int, str] | None) -> str:
    return (names or {}).get(number, str(number))


def _match(match: Match) -> list[str]:
    fields = dict(match.fields)
    words = []
    eth_type = fields.pop("eth_type", None)
    if eth_type is not None:
        protocol = (eth_type, fields.pop("ip_proto", None))
        if protocol not in _PROTOCOLS:
            raise ValueError(f"no text is known for eth_type and ip_proto {protocol}")
        words.append(_PROTOCOLS[protocol])
    words += [_match_field(name, fields.pop(name)) for name in _MATCH_ORDER if name in fields]
    if fields:
        raise ValueError(f"no text is known for matching {', '.join(fields)}")
    return words


def _match_field(name: str, value: MatchValue) -> str:
    if name == "vlan_vid":
        if value in _VLAN_TCI:
            return f"vlan_tci={_VLAN_TCI[value]}"
        if not isinstance(value, int) or in_vlan(value & 0xFFF) != value:
            raise ValueError(f"no text is known for vlan_vid {value}")
        return f"dl_vlan={value & 0xFFF}"
    if name == "tcp_flags":
        if value not in _TCP_FLAGS:
            raise ValueError(f"no text is known for tcp_flags {value}")
        return f"tcp_flags={_TCP_FLAGS[value]}"
    if isinstance(value, tuple):
        return f"{FIELDS[name].text}={IPNetwork('/'.join(map(str, value)))}"
    return f"{FIELDS[name].text}={value}"


def _change(action: SetField | SetHopLimit | RemoveOuterTag | Move) -> str:
    if isinstance(action, SetHopLimit):
        return f"mod_nw_ttl:{action.hops}"
    if isinstance(action, RemoveOuterTag):
        return "pop_vlan"
    if isinstance(action, Move):
        source, destination = FIELDS[action.source], FIELDS[action.destination]
        return f"move:{source.nxm_name}[]->{destination.nxm_name}[]"
    value = action.value
    if action.field == "vlan_tci" and value:
        value = f"{value:#06x}"
    return f"set_field:{value}->{_ACTION_NAMES.get(action.field, action.field)}"


def _action(action: Action, names: Mapping[int, str] | None) -> str:
    match action:
        case ApplyMeter(number):
            return f"meter:{number}"
        case SetField() | SetHopLimit() | RemoveOuterTag() | Move():
            return _change(action)
        case Output(ofport):
            return f"output:{ofport}"
        case OutputInPort():
            return "IN_PORT"
        case Recirculate(eth_type):
            return f"push_mpls:{MPLS:#06x},pop_mpls:{eth_type:#06x}"
        case GotoTable(table):
            return f"goto_table:{_table(table, names)}"
        case _:
            assert_never(action)
