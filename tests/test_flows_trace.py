"""Packets for ofproto/trace, and what is read from its answer."""

from hypothesis import example, given
from hypothesis import strategies as st

from ovs_metadata.flows.family import IPV4, IPV6
from ovs_metadata.flows.pipeline import Port
from ovs_metadata.flows.tables import cookie
from ovs_metadata.flows.trace import (
    ANY_IPV4,
    TraceStep,
    answer_packet,
    likely_source,
    parse,
    request_packet,
)

PORT = Port(2, "fa:16:3e:00:00:01")

SERVED = """\
Flow: tcp,in_port=2,vlan_tci=0x0000,dl_src=fa:16:3e:00:00:01,nw_src=10.0.0.5,tp_src=9,tp_dst=80

bridge("br-int")
----------------
 0. tcp,in_port=2,vlan_tci=0x0000/0x1fff,nw_dst=169.254.169.254,tp_dst=80, priority 20000, cookie \
0x4f564d4400030002
    goto_table:200
200. tcp,in_port=2, priority 200, cookie 0x4f564d4400030002
    set_field:169.254.0.2->ip_dst
     >> a side remark
    output:1

Final flow: tcp,in_port=2,vlan_tci=0x0000,nw_src=10.0.0.5,nw_dst=169.254.0.2,tp_dst=9699
Megaflow: recirc_id=0,eth,tcp,in_port=2
Datapath actions: set(ipv4(dst=169.254.0.2)),set(tcp(dst=9699)),2
"""

NOT_SERVED = """\
Flow: tcp6,in_port=4,ipv6_src=fe80::1,ipv6_dst=fe80::a9fe:a9fe,tp_src=9,tp_dst=80,tcp_flags=syn

bridge("br-int")
----------------
 0. priority 0
    NORMAL
     -> no learned MAC for destination, flooding

Final flow: unchanged
Megaflow: recirc_id=0
Datapath actions: 1,3,4
"""

NO_MATCH = """\
Flow: tcp,in_port=2
 0. in_port=2, priority 7
    resubmit(,60)
    60. No match.
            drop
Final flow: unchanged
Datapath actions: drop
"""


def test_each_flow_is_a_step_with_its_actions() -> None:
    trace = parse(SERVED)
    mine = cookie(2)
    assert trace.steps[0] == TraceStep(
        0,
        "tcp,in_port=2,vlan_tci=0x0000/0x1fff,nw_dst=169.254.169.254,tp_dst=80",
        20000,
        mine,
        ("goto_table:200",),
    )
    assert (trace.steps[1].table, trace.steps[1].match) == (200, "tcp,in_port=2")
    assert trace.steps[1].actions == ("set_field:169.254.0.2->ip_dst", "output:1")
    assert len(trace.steps) == 2
    assert trace.outputs == (1,)


def test_the_packet_in_the_end_is_the_final_flow() -> None:
    trace = parse(SERVED)
    assert trace.address("ipv4_dst") == "169.254.0.2"
    assert trace.port("dst") == 9699
    assert trace.port("src") is None


def test_an_unchanged_packet_is_as_it_came() -> None:
    trace = parse(NOT_SERVED)
    assert trace.address("ipv6_dst") == "fe80::a9fe:a9fe"
    assert trace.port("dst") == 80
    assert trace.outputs == ()
    assert trace.does("NORMAL")
    assert not trace.does("CONTROLLER")
    assert trace.steps == (TraceStep(0, "", 0, 0, ("NORMAL",)),)


def test_a_table_without_a_match_is_a_step_without_priority() -> None:
    assert parse(NO_MATCH).steps[-1] == TraceStep(60, actions=("drop",))


@given(st.text() | st.lists(st.sampled_from(SERVED.splitlines() + NO_MATCH.splitlines())))
@example(" 0. priority 0, cookie 0x\n x")
@example("Final flow: ,=,\n9. a, priority 1, cookie 0xg")
def test_whatever_it_prints_is_read(text: str | list[str]) -> None:
    trace = parse(text if isinstance(text, str) else "\n".join(text))
    assert all(isinstance(number, int) for number in trace.outputs)


def test_the_request_is_the_instances_first_packet() -> None:
    assert request_packet(PORT, "10.0.0.5", IPV4) == (
        "tcp,in_port=2,dl_src=fa:16:3e:00:00:01,dl_dst=02:00:a9:fe:a9:fe,tp_src=9,tp_dst=80,"
        "tcp_flags=syn,nw_src=10.0.0.5,nw_dst=169.254.169.254,nw_ttl=64"
    )
    six = request_packet(PORT, "2001:db8::5", IPV6)
    assert six.startswith("tcp6,in_port=2,")
    assert "ipv6_src=2001:db8::5,ipv6_dst=fe80::a9fe:a9fe" in six


def test_the_answer_is_from_the_port_address() -> None:
    assert answer_packet(1, 2, "10.0.0.5", IPV4) == (
        "tcp,in_port=1,dl_src=02:00:a9:fe:a9:fe,dl_dst=02:00:a9:fe:00:00,tp_src=9699,tp_dst=9,"
        "tcp_flags=syn|ack,nw_src=169.254.0.2,nw_dst=10.0.0.5,nw_ttl=64"
    )
    assert "ipv6_src=fe80::a9fe:2,ipv6_dst=fe80::1" in answer_packet(1, 2, "fe80::1", IPV6)


def test_an_instance_most_likely_asks_from_its_first_fixed_ip_or_its_macs_address() -> None:
    assert likely_source(PORT.mac, "10.0.0.5", IPV4) == "10.0.0.5"
    assert likely_source(PORT.mac, None, IPV4) == ANY_IPV4
    assert likely_source(PORT.mac, None, IPV6) == "fe80::f816:3eff:fe00:1"


METERED_QUESTION = """\
Flow: arp,in_port=2,dl_src=fa:16:3e:00:00:01

bridge("br-int")
----------------
 0. arp,in_port=2, priority 20000, cookie 0x4f564d4400030002
    meter:34002
    set_field:0->vlan_tci
    push_mpls:0x8847
    pop_mpls:0x0806

Final flow: unchanged
"""
REST = """\
Flow: arp,in_port=2,dl_src=fa:16:3e:00:00:01

bridge("br-int")
----------------
    resubmit(,202)
202. arp, priority 200, cookie 0x4f564d4400030000
    IN_PORT

Final flow: arp,in_port=2,dl_src=02:00:a9:fe:a9:fe
"""


def test_a_trace_goes_on_where_the_datapath_looks_again() -> None:
    first, rest = parse(METERED_QUESTION), parse(REST)
    assert first.recirculates
    assert not rest.recirculates
    whole = first.followed_by(rest)
    assert [step.table for step in whole.steps] == [0, 202]
    assert whole.does("IN_PORT")
    assert whole.final["dl_src"] == "02:00:a9:fe:a9:fe"


def test_a_trace_without_steps_does_not_go_on() -> None:
    assert not parse("").recirculates
