"""Which flows are hooks for new connections; functional tests have the switch and the guests."""

from dataclasses import replace

import pytest

from ovs_metadata.flows.ofctl import render
from ovs_metadata.flows.pipeline import Port, pipeline
from ovs_metadata.flows.withdrawal import Connection, hook_of, takes_new_connections
from ovs_metadata.host.address import place_of
from ovs_metadata.host.config import FlowOptions

OPTIONS = FlowOptions()
PORT = Port(2, "fa:16:3e:00:00:01")


def test_all_hooks_of_instances_and_no_others_are_for_new_connections() -> None:
    flows = pipeline(OPTIONS, 1, [PORT])
    chosen = [flow for key, flow in flows.items() if takes_new_connections(key, flow.cookie)]
    assert {flow.note.partition(":")[0] for flow in chosen} == {"hook"}
    in_table_0 = [key for key in flows if key.table == 0]
    assert len(chosen) == len(in_table_0) - 1, "that of the metadata port is not"


@pytest.mark.parametrize("vlan", [0, 42])
def test_the_hook_of_a_connection_takes_that_one_where_the_others_went(vlan: int) -> None:
    flows = pipeline(OPTIONS, 1, [replace(PORT, vlan=vlan)])
    for version in (4, 6):
        hook = hook_of(OPTIONS, Connection(version, place_of(2, vlan), 40000))
        assert not takes_new_connections(hook.key, hook.cookie)
        (general,) = [
            flow
            for key, flow in flows.items()
            if key.table == 0
            and set(key.match.fields) == set(hook.key.match.fields) - {("tcp_src", 40000)}
        ]
        assert (hook.actions, hook.cookie) == (general.actions, general.cookie)
        assert "tp_src=40000" in render(hook)
