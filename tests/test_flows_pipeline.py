"""The pipeline, scenario by scenario, as ovs-ofctl would print it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.flow_changes import changes_between
from ovs_metadata.flows import ofctl
from ovs_metadata.flows.ours import is_ours
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.tables import Table, ofport_of, place_of_cookie, table_names
from ovs_metadata.flows.values import (
    ApplyMeter,
    Flow,
    GotoTable,
    Output,
    Recirculate,
    RemoveOuterTag,
    SetField,
)
from ovs_metadata.host import address as address_module
from ovs_metadata.host.address import (
    SERVICE_IPV4,
    SERVICE_IPV6,
    ofport_at,
    place_of,
    port_address,
    vlan_at,
)
from ovs_metadata.host.config import FlowOptions

GOLDEN = Path(__file__).parent / "golden"

OPTIONS = FlowOptions()
METADATA_OFPORT = 1

ONE = Port(2, "fa:16:3e:00:00:01")
SAME_ADDRESSES = Port(3, "fa:16:3e:00:00:01")
HIGHEST_OFPORT = Port(65279, "fa:16:3e:00:00:04")
MANY = [Port(number, f"fa:16:3e:00:01:{number:02x}") for number in range(2, 10)]
WITHOUT_METER = Port(2, "fa:16:3e:00:00:01", metered=False)
CHANGED = Port(2, "fa:16:3e:00:00:99")
"""The port ONE after its record got another MAC."""

LIMITED = Port(2, "fa:16:3e:00:00:01", hop_limit=1)
"""The port ONE with a hop limit."""

TRUNK = [ONE, *(Port(2, f"fa:16:3e:00:02:{vlan:02x}", vlan=vlan) for vlan in (42, 43))]
"""The port ONE and its trunk's sub-ports, which have no interfaces of their own."""

OTHER_OPTIONS = "other-options.flows"

SCENARIOS = {
    "no-ports": [],
    "one-port": [ONE],
    "two-ports-same-addresses": [ONE, SAME_ADDRESSES],
    "without-meters": [WITHOUT_METER],
    "highest-ofport": [HIGHEST_OFPORT],
    "many-ports": [*MANY, HIGHEST_OFPORT],
    "changed-record": [CHANGED],
    "hop-limit": [LIMITED],
    "trunk": TRUNK,
    "sub-port-without-meters": [Port(2, "fa:16:3e:00:02:2a", metered=False, hop_limit=1, vlan=42)],
}

CHANGES = {
    "record-changes": ([ONE, SAME_ADDRESSES], [CHANGED, SAME_ADDRESSES]),
    "hop-limit-is-set": ([ONE, SAME_ADDRESSES], [LIMITED, SAME_ADDRESSES]),
    "port-comes": ([ONE], [ONE, HIGHEST_OFPORT]),
    "port-vanishes": ([ONE, SAME_ADDRESSES], [SAME_ADDRESSES]),
    "ports-vanish": (MANY, MANY[4:5]),
    "ofport-changes": ([ONE], [SAME_ADDRESSES]),
    "sub-port-leaves": (TRUNK, TRUNK[:2]),
}
"""What is sent to the switch when the ports were these and are now those."""

ports = st.lists(
    st.builds(
        Port,
        st.integers(2, 60),
        st.sampled_from(["fa:16:3e:00:00:01", "fa:16:3e:00:00:02"]),
        st.booleans(),
        st.sampled_from([0, 1, 64]),
        st.sampled_from([0, 1, 4094]),
    ),
    max_size=8,
    unique_by=lambda port: (port.ofport, port.vlan),
)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenarios_are_as_in_their_golden_files(
    scenario: str, golden: Callable[[str, str], None]
) -> None:
    flows = pipeline(OPTIONS, METADATA_OFPORT, SCENARIOS[scenario]).values()
    golden(f"{scenario}.flows", ofctl.dump(flows, table_names(OPTIONS.table_base)))


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_sends_what_its_golden_file_says(
    change: str, golden: Callable[[str, str], None]
) -> None:
    before, after = (pipeline(OPTIONS, METADATA_OFPORT, those) for those in CHANGES[change])
    deleted, added = changes_between(before, after)
    names = table_names(OPTIONS.table_base)
    text = f"delete\n{ofctl.dump(deleted, names)}add\n{ofctl.dump(added, names)}"
    golden(f"{change}.changes", text)


def test_numbers_follow_the_options(golden: Callable[[str, str], None]) -> None:
    options = FlowOptions(table_base=100, priority=7)
    golden(OTHER_OPTIONS, ofctl.dump(pipeline(options, 9, [ONE]).values()))


def test_without_a_metadata_port_there_is_nothing() -> None:
    assert pipeline(OPTIONS, None, [ONE]) == {}


@given(ports)
def test_every_flow_is_ours(given_ports: list[Port]) -> None:
    assert all(
        is_ours(OPTIONS, flow.key, flow.cookie)
        for flow in pipeline(OPTIONS, 1, given_ports).values()
    )


@given(ports)
def test_every_flow_says_in_a_phrase_what_it_does(given_ports: list[Port]) -> None:
    for flow in pipeline(OPTIONS, METADATA_OFPORT, given_ports).values():
        assert 0 < len(flow.note) <= 80
        assert flow.note == flow.note.strip(" .")


@given(ports)
def test_in_table_0_there_are_only_hooks_of_our_ports(given_ports: list[Port]) -> None:
    ours = {METADATA_OFPORT, *(port.ofport for port in given_ports)}
    for flow in pipeline(OPTIONS, METADATA_OFPORT, given_ports).values():
        if flow.key.table == 0:
            fields = dict(flow.key.match.fields)
            assert fields["in_port"] in ours
            assert fields["in_port"] == METADATA_OFPORT or "vlan_vid" in fields
            of_port = [ApplyMeter, SetField, Recirculate, GotoTable]
            of_sub_port = [ApplyMeter, Recirculate, GotoTable]
            without_meter = [SetField, GotoTable]
            types = [type(action) for action in flow.actions]
            assert types in ([GotoTable], of_port, of_sub_port, without_meter)
        else:
            assert flow.key.table in table_names(OPTIONS.table_base)


@given(ports)
def test_packets_only_ever_go_on_to_later_tables(given_ports: list[Port]) -> None:
    for flow in pipeline(OPTIONS, METADATA_OFPORT, given_ports).values():
        for action in flow.actions:
            if isinstance(action, GotoTable):
                assert action.table > flow.key.table
                assert action is flow.actions[-1]


@given(ports)
def test_what_a_guest_sends_goes_to_the_address_of_its_own_port(given_ports: list[Port]) -> None:
    """Whatever its source is: no flow on the way to the proxy looks at one."""
    for flow in pipeline(OPTIONS, METADATA_OFPORT, given_ports).values():
        fields, written = dict(flow.key.match.fields), _written(flow)
        if Output(METADATA_OFPORT) in flow.actions:
            assert not {"eth_src", "ipv4_src", "ipv6_src"} & (fields.keys() | written.keys())
            (address,) = (each for name, each in written.items() if name.startswith("ip"))
            tagged = fields.get("vlan_vid", 0)
            assert isinstance(tagged, int)
            place = place_of(fields["in_port"], tagged & 0xFFF)  # type: ignore[arg-type]
            assert address in {port_address(place, version) for version in (4, 6)}
            assert (RemoveOuterTag() in flow.actions) == bool(tagged)


@given(ports)
def test_requests_and_questions_of_a_port_pass_a_meter_first(given_ports: list[Port]) -> None:
    """A question does so in table 0, for its answer costs a datapath flow."""
    wanted = {place_of(port.ofport, port.vlan): port.metered for port in given_ports}
    responder = GotoTable(OPTIONS.table_base + Table.Responder)
    numbers = {Output(METADATA_OFPORT): 100_000, responder: 34_000}
    for flow in pipeline(OPTIONS, METADATA_OFPORT, given_ports).values():
        ofport = ofport_of(flow.cookie)
        first = numbers.get(flow.actions[-1]) if flow.actions else None
        metered = [each for each in flow.actions if isinstance(each, ApplyMeter)]
        is_metered = first and wanted[place_of_cookie(flow.cookie)]
        expected = [ApplyMeter(first + ofport)] if first and is_metered else []
        assert metered == expected
        assert metered == list(flow.actions[: len(metered)])


@given(ports)
def test_an_answer_goes_to_the_port_whose_address_it_comes_from(given_ports: list[Port]) -> None:
    macs = {place_of(port.ofport, port.vlan): port.mac for port in given_ports}
    for flow in pipeline(OPTIONS, METADATA_OFPORT, given_ports).values():
        for action in flow.actions:
            if isinstance(action, Output) and action.ofport != METADATA_OFPORT:
                fields, written = dict(flow.key.match.fields), _written(flow)
                (address,) = (each for name, each in fields.items() if name.endswith("_src"))
                place = address_module.place_of_address(str(address))
                assert place is not None
                assert ofport_at(place) == action.ofport
                assert written.pop("eth_dst") == macs[place]
                assert written.pop("vlan_tci", 0) == (vlan_at(place) and 0x1000 | vlan_at(place))
                assert list(written.values()) in ([SERVICE_IPV4], [SERVICE_IPV6])


def _written(flow: Flow) -> dict[str, int | str]:
    return {each.field: each.value for each in flow.actions if isinstance(each, SetField)}


@given(ports, st.data())
def test_a_port_that_goes_takes_just_its_own_flows_along(
    given_ports: list[Port], data: st.DataObject
) -> None:
    before = pipeline(OPTIONS, METADATA_OFPORT, given_ports)
    remaining = [port for port in given_ports if data.draw(st.booleans())]
    after = pipeline(OPTIONS, METADATA_OFPORT, remaining)
    deleted, added = changes_between(before, after)
    gone = {place_of(port.ofport, port.vlan) for port in given_ports if port not in remaining}
    assert added == []
    assert {place_of_cookie(each.cookie) for each in deleted} == gone


def test_no_golden_file_is_left_of_what_is_gone() -> None:
    names = {f"{name}.flows" for name in SCENARIOS} | {f"{name}.changes" for name in CHANGES}
    # The last two are of functional_tests/test_only_our_flows.py.
    names |= {OTHER_OPTIONS, "generation-1.flows", "generation-2.flows"}
    assert {path.name for path in GOLDEN.iterdir()} == names
