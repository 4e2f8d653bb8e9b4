"""What has no text in the notation of ovs-ofctl is an error, and not left out."""

import pytest

from ovs_metadata.flows.ofctl import match_text
from ovs_metadata.flows.values import Match


@pytest.mark.parametrize(
    ("match", "named"),
    [
        (Match.of(in_port=1, ct_state=2), "matching ct_state"),
        (Match.of(eth_type=0x1234), "eth_type and ip_proto"),
        (Match.of(vlan_vid=7), "vlan_vid 7"),
        (Match.of(eth_type=0x0800, ip_proto=6, tcp_flags=7), "tcp_flags 7"),
    ],
)
def test_a_match_without_a_text_is_an_error(match: Match, named: str) -> None:
    with pytest.raises(ValueError, match=f"no text is known for {named}"):
        match_text(match)
