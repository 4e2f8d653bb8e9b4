"""Messages as bytes: what is written here is what the OpenFlow library writes."""

import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_v1_3 as ofproto
from os_ken.ofproto import ofproto_v1_3_parser as parser
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

from ovs_metadata.flows import oxm, wire
from ovs_metadata.flows.fields import FIELDS, WITHOUT_OXM
from ovs_metadata.flows.nicira import encode_move
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import COOKIE_PREFIX, FILTER_MASK
from ovs_metadata.flows.values import (
    Action,
    Flow,
    GotoTable,
    Match,
    MatchValue,
    Move,
    Output,
    OutputInPort,
    Recirculate,
    SetField,
)
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()
FLOWS = pipeline(OPTIONS, 1, [Port(2, "fa:16:3e:00:00:01"), Port(65279, "fa:16:3e:00:00:03")])
METER_DELETED = 1 << 4
"""OFPRR_METER_DELETE of OpenFlow 1.4."""
OFFLINE = ProtocolDesc(version=ofproto.OFP_VERSION)


def by_the_library(message: Any) -> bytes:
    message.set_xid(0)
    message.serialize()
    return bytes(message.buf)


def oxm_by_the_library(name: str, value: MatchValue) -> bytes:
    number, plain, mask = ofproto.oxm_from_user(name, value)
    buffer = bytearray()
    ofproto.oxm_serialize(number, plain, mask, buffer, 0)
    return bytes(buffer)


def action_by_the_library(action: Action) -> Any:
    match action:
        case SetField(field, value):
            return parser.OFPActionSetField(**{field: value})
        case Move():
            return parser.NXActionUnknown(6, encode_move(action)[10:])
        case Output(ofport):
            return parser.OFPActionOutput(ofport, ofproto.OFPCML_NO_BUFFER)
        case OutputInPort():
            return parser.OFPActionOutput(ofproto.OFPP_IN_PORT, ofproto.OFPCML_NO_BUFFER)
        case _:
            raise AssertionError(action)


def instructions_by_the_library(flow: Flow) -> list[Any]:
    applied = [action_by_the_library(a) for a in flow.actions if not isinstance(a, GotoTable)]
    instructions = [parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, applied)]
    goto = [parser.OFPInstructionGotoTable(a.table) for a in flow.actions if type(a) is GotoTable]
    return (instructions if applied else []) + goto


def match_by_the_library(match: Match) -> Any:
    return parser.OFPMatch(**dict(match.fields))


def is_known_to_the_library(flow: Flow) -> bool:
    return not any(isinstance(a, SetField) and a.field in WITHOUT_OXM for a in flow.actions)


@pytest.mark.parametrize("flow", FLOWS.values(), ids=lambda flow: flow.note)
def test_flows_are_added_as_the_library_does_it(flow: Flow) -> None:
    if is_known_to_the_library(flow):
        assert wire.add_message(OPTIONS, flow) == by_the_library(
            parser.OFPFlowMod(
                OFFLINE,
                cookie=flow.cookie,
                table_id=flow.key.table,
                command=ofproto.OFPFC_ADD,
                priority=flow.key.priority,
                flags=ofproto.OFPFF_SEND_FLOW_REM,
                match=match_by_the_library(flow.key.match),
                instructions=instructions_by_the_library(flow),
            )
        )


def test_most_flows_are_known_to_the_library() -> None:
    known = sum(map(is_known_to_the_library, FLOWS.values()))
    assert known > len(FLOWS) / 2


def test_a_packet_is_looked_at_again_by_a_label_that_is_pushed_and_popped() -> None:
    actions = [parser.OFPActionPushMpls(0x8847), parser.OFPActionPopMpls(0x0806)]
    applied = parser.OFPInstructionActions(ofproto.OFPIT_APPLY_ACTIONS, actions)
    expected = bytearray()
    applied.serialize(expected, 0)
    assert wire.instructions([Recirculate(0x0806)]) == bytes(expected)


@pytest.mark.parametrize("flow", FLOWS.values(), ids=lambda flow: flow.note)
def test_flows_are_deleted_as_the_library_does_it(flow: Flow) -> None:
    assert wire.delete_message(OPTIONS, flow.key, flow.cookie) == by_the_library(
        parser.OFPFlowMod(
            OFFLINE,
            cookie=flow.cookie,
            cookie_mask=2**64 - 1,
            table_id=flow.key.table,
            command=ofproto.OFPFC_DELETE_STRICT,
            priority=flow.key.priority,
            out_port=ofproto.OFPP_ANY,
            out_group=ofproto.OFPG_ANY,
            match=match_by_the_library(flow.key.match),
        )
    )


def _frame_out(in_port: int, out_port: int) -> Any:
    action = parser.OFPActionOutput(out_port, ofproto.OFPCML_NO_BUFFER)
    return parser.OFPPacketOut(OFFLINE, ofproto.OFP_NO_BUFFER, in_port, [action], b"frame")


@pytest.mark.parametrize(
    ("message", "library"),
    [
        (wire.hello_message, lambda: parser.OFPHello(OFFLINE)),
        (wire.barrier_message, lambda: parser.OFPBarrierRequest(OFFLINE)),
        (wire.dump_of_all_message, lambda: parser.OFPFlowStatsRequest(OFFLINE)),
        (
            wire.dump_message,
            lambda: parser.OFPFlowStatsRequest(
                OFFLINE, cookie=COOKIE_PREFIX, cookie_mask=FILTER_MASK
            ),
        ),
        (
            wire.removals_wanted_message,
            lambda: parser.OFPSetAsync(
                OFFLINE, [0, 0], [0, 0], [1 << ofproto.OFPRR_DELETE | METER_DELETED] * 2
            ),
        ),
        (
            lambda: wire.packet_out_message(5, b"frame"),
            lambda: _frame_out(5, ofproto.OFPP_TABLE),
        ),
        (
            lambda: wire.frame_out_message(5, b"frame"),
            lambda: _frame_out(ofproto.OFPP_CONTROLLER, 5),
        ),
    ],
)
def test_other_messages_are_written_as_the_library_does_it(
    message: Callable[[], bytes], library: Callable[[], Any]
) -> None:
    assert message() == by_the_library(library())


def test_numbers_of_messages_are_the_librarys() -> None:
    for name in ("ERROR", "FLOW_REMOVED", "MULTIPART_REPLY", "BARRIER_REPLY"):
        assert getattr(wire, name) == getattr(ofproto, f"OFPT_{name}")
    assert wire.REMOVED_BY_DELETE == ofproto.OFPRR_DELETE


def test_an_action_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError):
        wire._action(GotoTable(3))


# Matches.


@pytest.mark.parametrize("flow", FLOWS.values(), ids=lambda flow: flow.note)
def test_matches_come_back_as_they_were_sent(flow: Flow) -> None:
    encoded = oxm.encode_match(flow.key.match)
    names = frozenset(name for name, _ in flow.key.match.fields)
    assert oxm.decode_match(encoded, names) == flow.key.match
    if names:
        assert oxm.decode_match(encoded, names - {min(names)}) is None


@given(st.integers(1, 65279), st.binary(min_size=6, max_size=6), st.ip_addresses())
def test_every_value_is_written_as_the_library_does_it(ofport: int, mac: bytes, ip: Any) -> None:
    values: dict[str, MatchValue] = {
        "in_port": ofport,
        "eth_src": mac.hex(":"),
        f"ipv{ip.version}_src": str(ip),
        "tcp_dst": ofport,
    }
    for name, value in values.items():
        assert oxm.encode(name, value) == oxm_by_the_library(name, value)
    match = Match.of(**values)
    assert oxm.decode_match(oxm.encode_match(match), frozenset(values)) == match


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ipv4_dst", ("169.254.0.0", "255.255.0.0")),
        ("ipv4_dst", ("169.254.0.0", "255.255.255.255")),
        ("ipv6_dst", ("fe80::", "ffc0::")),
        ("vlan_vid", (0, 0x0FFF)),
        ("vlan_vid", 0),
        ("tcp_flags", (0x10, 0x10)),
        ("tcp_flags", 0x10),
    ],
)
def test_masks_are_written_as_the_library_does_it(name: str, value: MatchValue) -> None:
    assert oxm.encode(name, value) == oxm_by_the_library(name, value)
    match = Match.of(**{name: value})
    assert oxm.decode_match(oxm.encode_match(match), frozenset({name})) == match


def test_every_field_with_a_name_in_openflow_is_the_librarys() -> None:
    for name in oxm._PLAIN:
        width = FIELDS[name].bits // 8 if name in FIELDS else 2
        number = ofproto.oxm_from_user_header(name)
        buffer = bytearray()
        ofproto.oxm_serialize_header(number, buffer, 0)
        assert oxm._PLAIN[name] == bytes(buffer)
        assert name == "in_port" or buffer[3] in (width, width + 4)


def test_addresses_are_read_in_their_canonical_form() -> None:
    value = socket.inet_pton(socket.AF_INET6, "fe80:0:0::a9fe:0002")
    encoded = oxm.encode("ipv6_dst", "fe80::a9fe:2")
    assert encoded.endswith(value)
    length = 4 + len(encoded)
    match = length.to_bytes(4, "big") + encoded + bytes(-length % 8)
    assert oxm.decode_match(match, frozenset({"ipv6_dst"})) == Match.of(ipv6_dst="fe80::a9fe:2")


def test_a_bundle_is_opened_and_committed_as_the_library_does_it() -> None:
    whole = ofproto.ONF_BF_ATOMIC | ofproto.ONF_BF_ORDERED

    def control(kind: int) -> bytes:
        return by_the_library(parser.ONFBundleCtrlMsg(OFFLINE, 1, kind, whole, []))

    flow = wire.add_message(OPTIONS, next(iter(FLOWS.values())))
    opened, added, committed = wire.in_bundle([flow])
    assert opened == control(ofproto.ONF_BCT_OPEN_REQUEST)
    assert committed == control(ofproto.ONF_BCT_COMMIT_REQUEST)
    inner = parser.OFPBarrierRequest(OFFLINE)
    inner.set_xid(0)
    (_, barrier, _) = wire.in_bundle([wire.barrier_message()])
    assert barrier == by_the_library(parser.ONFBundleAddMsg(OFFLINE, 1, whole, inner, []))
    assert added.endswith(flow)
