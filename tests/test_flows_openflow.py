"""Matches on the wire: what is written here is what the library writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.flows import openflow
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.values import MatchValue
from ovs_metadata.host.config import FlowOptions


def _by_the_library(name: str, value: MatchValue) -> bytes:
    number, plain, mask = openflow.ofproto.oxm_from_user(name, value)
    buffer = bytearray()
    openflow.ofproto.oxm_serialize(number, plain, mask, buffer, 0)
    return bytes(buffer)


def test_every_field_that_the_pipeline_matches_is_written_as_the_library_does() -> None:
    flows = pipeline(FlowOptions(), 1, [Port(2, "fa:16:3e:00:00:01")])
    fields = {field for key in flows for field in key.match.fields}
    assert len({name for name, _value in fields}) > 10
    for name, value in fields:
        assert openflow._oxm(name, value) == _by_the_library(name, value)


@given(st.integers(1, 65279), st.binary(min_size=6, max_size=6), st.ip_addresses(v=4))
def test_every_port_is_written_as_the_library_does(ofport: int, mac: bytes, ip: object) -> None:
    values: dict[str, MatchValue] = {
        "in_port": ofport,
        "eth_src": mac.hex(":"),
        "ipv4_src": str(ip),
        "tcp_dst": ofport,
    }
    for name, value in values.items():
        assert openflow._oxm(name, value) == _by_the_library(name, value)


@pytest.mark.parametrize("mask", ["255.255.0.0", "255.255.255.255"])
def test_a_masked_address_is_written_as_the_library_does(mask: str) -> None:
    value = ("169.254.0.0", mask)
    assert openflow._oxm("ipv4_dst", value) == _by_the_library("ipv4_dst", value)
