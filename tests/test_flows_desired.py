"""Which number of the metadata port the flows name, also while the port is away."""

from uuid import uuid4

import pytest

from ovs_metadata.flows.desired import MetadataNumber, metadata_number
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.host.config import FlowOptions
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge, MetadataPort

ROW, OTHER_ROW = uuid4(), uuid4()
BEFORE = MetadataNumber(1, ROW)
OURS = MetadataPort(4, ours=True, isolated=True)


@pytest.mark.parametrize(
    ("bridge", "expected"),
    [
        (Bridge("br-int", row=ROW, metadata_port=OURS), MetadataNumber(4, ROW)),
        # It is being replaced.
        (Bridge("br-int", row=ROW), BEFORE),
        (Bridge("br-int", row=ROW, interfaces=by_name((Interface("tap", 2),))), BEFORE),
        (
            Bridge("br-int", row=ROW, metadata_port=MetadataPort(None, ours=True, isolated=True)),
            BEFORE,
        ),
        # An instance has its number, whether or not it is served.
        (Bridge("br-int", row=ROW, interfaces=by_name((Interface("tap", 1),))), None),
        # On a new bridge an instance may be given it at any moment.
        (Bridge("br-int", row=OTHER_ROW), None),
        (None, None),
    ],
)
def test_the_flows_name_the_metadata_port_or_no_port(
    bridge: Bridge | None, expected: MetadataNumber | None
) -> None:
    assert metadata_number(bridge, BEFORE) == expected


def test_without_one_before_there_is_none_while_it_is_away() -> None:
    assert metadata_number(Bridge("br-int", row=ROW), None) is None


def test_a_port_with_the_metadata_ports_number_gets_no_flows() -> None:
    port = Port(1, "fa:16:3e:00:00:01")
    assert pipeline(FlowOptions(), 1, [port]) == pipeline(FlowOptions(), 1, [])
