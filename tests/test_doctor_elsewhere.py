"""The other bridges in OVSDB, and the controllers of the agent's bridge: what the rows say."""

import struct
from dataclasses import replace
from typing import Any

from ovs_metadata.cli.doctor import open_vswitch
from ovs_metadata.cli.doctor.elsewhere import (
    Elsewhere,
    OtherInterface,
    TableLimit,
    from_rows,
)
from ovs_metadata.cli.doctor.open_vswitch import SwitchFacts
from ovs_metadata.flows.port_states import OpenFlowPort, in_words, parse
from ovs_metadata.host.config import load
from ovs_metadata.host.ovsdb import Bridge


def row(number: int, **columns: object) -> dict[str, object]:
    return {"_uuid": ["uuid", str(number)], **columns}


def uuids(*numbers: int) -> list[object]:
    return ["set", [["uuid", str(each)] for each in numbers]]


INTERFACES = [
    row(20, name="tap1", external_ids=["map", [["iface-id", "P1"], ["vm-uuid", "I1"]]]),
    row(21, name="eth1", external_ids=["map", []]),
]
PORTS = [row(10, interfaces=["uuid", "20"]), row(11, interfaces=uuids(21))]
CONTROLLERS = [row(30, target="tcp:127.0.0.1:6633", is_connected=False)]


FLOW_TABLES = [row(40, flow_limit=9), row(41, flow_limit=["set", []]), row(42, flow_limit=1)]


def read(fail_mode: object, controllers: list[dict[str, object]]) -> Elsewhere:
    tables = ["map", [[200, ["uuid", "40"]], [201, ["uuid", "40"]], [5, ["uuid", "41"]]]]
    ours = {"name": "br-int", "ports": uuids(), "fail_mode": fail_mode, "flow_tables": tables}
    ours["controller"] = uuids(*([30] if controllers else []))
    other = {"name": "br-ex", "ports": uuids(10, 11), "fail_mode": ["set", []]}
    rows: dict[str, list[Any]] = {
        "Bridge": [ours, other | {"controller": uuids()}],
        "Port": PORTS,
        "Interface": INTERFACES,
        "Controller": controllers,
        "Flow_Table": FLOW_TABLES,
    }
    return from_rows("br-int", rows)


def test_interfaces_of_other_bridges_have_the_names_that_they_give_a_port() -> None:
    found = read("secure", [])
    assert found.bridges == ("br-ex", "br-int")
    tap, uplink = found.interfaces
    assert tap == OtherInterface("br-ex", "tap1", {"iface-id": "P1", "vm-uuid": "I1"})
    assert [tap.is_named(word) for word in ("p1", "i1", "tap1", "eth1")] == [True] * 3 + [False]
    assert not uplink.is_named("P1")


def test_a_bridge_without_its_controller_fails_open_unless_it_is_secure() -> None:
    assert read("standalone", CONTROLLERS).fails_open
    assert read(["set", []], CONTROLLERS).fails_open  # standalone is the default
    assert not read("secure", CONTROLLERS).fails_open
    assert not read("standalone", []).fails_open
    connected = [{**CONTROLLERS[0], "is_connected": True}]
    assert not read("standalone", connected).fails_open


def test_limits_on_flows_are_those_of_our_bridges_tables() -> None:
    assert read("secure", []).limits == (TableLimit((200, 201), 9, "40"),)


def test_a_dead_controller_is_named_with_what_to_do() -> None:
    facts = SwitchFacts(bridge=Bridge("br-int"), elsewhere=read("standalone", CONTROLLERS))
    (found,) = open_vswitch.check(facts, load())
    assert found.fault is open_vswitch.FAIL_OPEN
    assert found.why == (
        "tcp:127.0.0.1:6633 is not connected, so the hidden flow fail-open takes all packets"
    )
    missing = replace(facts, bridge=None)
    (found,) = open_vswitch.check(missing, load())
    assert found.why.endswith("bridges there are: br-ex, br-int")


def test_ports_that_a_switch_reports_as_closed_or_without_a_link() -> None:
    def port(number: int, configuration: int, state: int = 0) -> bytes:
        return struct.pack("!I4x6s2x16sII24x", number, b"", b"tap", configuration, state)

    reply = port(1, 0) + port(2, 0x04, 4) + port(3, 0x24) + port(4, 0x01, 1) + port(5, 0, 1)
    assert dict(parse(reply)) == {
        2: OpenFlowPort(("receive",)),
        3: OpenFlowPort(("receive", "forward")),
        4: OpenFlowPort(("up",), has_link=False),
        5: OpenFlowPort(has_link=False),
    }
    assert in_words(("up", "receive")) == "down, no-receive"
