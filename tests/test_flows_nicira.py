"""Bytes of the Nicira actions, against what ovs-ofctl 3.1 itself sends for the same action."""

from ovs_metadata.flows.fields import FIELDS, to_bytes
from ovs_metadata.flows.nicira import encode_move
from ovs_metadata.flows.values import Move


def test_a_move_names_its_fields_by_their_nxm_headers() -> None:
    encoded = encode_move(Move("eth_src", "eth_dst")).hex()
    assert encoded == "ffff00180000232000060030000000000000040600000206"


def test_values_are_in_network_byte_order() -> None:
    assert to_bytes(FIELDS["eth_src"], "fa:16:3e:00:00:01").hex() == "fa163e000001"
    assert to_bytes(FIELDS["ipv4_src"], "10.0.0.5").hex() == "0a000005"
    assert to_bytes(FIELDS["tcp_src"], 80).hex() == "0050"
