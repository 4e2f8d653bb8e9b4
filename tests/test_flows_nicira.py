"""Bytes of the Nicira actions, against what ovs-ofctl 3.1 itself sends for the same action."""

from ovs_metadata.flows.fields import FIELDS, to_bytes
from ovs_metadata.flows.nicira import encode_learn, encode_move
from ovs_metadata.flows.values import (
    Learn,
    LoadField,
    MatchConstant,
    MatchField,
    Move,
    OutputField,
)


def test_a_move_names_its_fields_by_their_nxm_headers() -> None:
    assert encode_move(Move("eth_src", "eth_dst")).hex() == "0030000000000000040600000206"


def test_a_learn_is_laid_out_as_open_vswitch_reads_it() -> None:
    learn = Learn(
        table=203,
        priority=100,
        cookie=0xA9FE000100000005,
        idle_timeout=90,
        limit=256,
        specs=(
            MatchConstant("ipv4_dst", "169.254.0.5"),
            MatchField("tcp_dst", "tcp_src"),
            LoadField("eth_dst", "eth_src"),
            OutputField("in_port"),
        ),
    )
    head = "005a00000064a9fe0001000000050002cb0000000000"
    limit = "0000010000000000"
    specs = (
        "2020"
        "a9fe0005"
        "00001004"
        "0000"  # 32 constant bits, to match nw_dst
        "0010"
        "00001202"
        "0000"
        "00001402"
        "0000"  # 16 bits of tp_src, to match tp_dst
        "0830"
        "00000406"
        "0000"
        "00000206"
        "0000"  # 48 bits of dl_src, into dl_dst
        "1010"
        "00000002"
        "0000"  # 16 bits of in_port, to output to
    )
    body = encode_learn(learn).hex()
    assert body.startswith(head + limit + specs)
    assert set(body[len(head + limit + specs) :]) <= {"0"}
    assert (10 + len(body) // 2) % 8 == 0


def test_one_byte_constants_are_aligned_to_two() -> None:
    learn = Learn(203, 1, 1, 1, 1, (MatchConstant("ip_proto", 6),))
    assert "2008000600000c010000" in encode_learn(learn).hex()


def test_values_are_in_network_byte_order() -> None:
    assert to_bytes(FIELDS["eth_src"], "fa:16:3e:00:00:01").hex() == "fa163e000001"
    assert to_bytes(FIELDS["ipv4_src"], "10.0.0.5").hex() == "0a000005"
    assert to_bytes(FIELDS["tcp_src"], 80).hex() == "0050"
