"""Which namespaces of DHCP agents there are, and which of them are in use."""

import uuid
from pathlib import Path

import pytest

from ovs_metadata.cli.cleanup.dhcp_namespaces import NAME, why_in_use
from ovs_metadata.cli.cleanup.namespace_contents import Contents, NamespaceDevice, Process, find


def test_only_namespaces_of_dhcp_agents_are_found(tmp_path: Path) -> None:
    an_id = uuid.UUID(int=1)
    ours = [f"qdhcp-{an_id}", f"qdhcp-{an_id}-2"]
    for name in (*ours, f"qrouter-{an_id}", "qdhcp-", f"qdhcp-{an_id}-", "ovs-metadata"):
        (tmp_path / name).touch()
    assert [path.name for path in find(NAME, tmp_path)] == ours
    assert find(NAME, tmp_path / "missing") == []


@pytest.mark.parametrize(
    ("contents", "plugged", "reasons"),
    [
        (Contents(), set(), ()),
        (Contents(), None, ()),
        (Contents(processes=(Process(7, "dnsmasq"),), sockets=4), set(), ("process 7 (dnsmasq)",)),
        (Contents(sockets=4), set(), ("4 open sockets",)),
        (Contents(devices=(NamespaceDevice("tap1", False),)), {"tap2"}, ()),
        (
            Contents(devices=(NamespaceDevice("tap1", False),)),
            {"tap1"},
            ("device tap1 is plugged into br-int",),
        ),
        (
            Contents(devices=(NamespaceDevice("ns-1", False),)),
            {"tap1"},
            ("device ns-1 is plugged into br-int",),
        ),
        (Contents(devices=(NamespaceDevice("tap1", True),)), set(), ("device tap1 is connected",)),
        (
            Contents(devices=(NamespaceDevice("tap1", False),)),
            None,
            ("device tap1, and OVSDB cannot be asked whether it is plugged",),
        ),
    ],
)
def test_why_one_is_in_use(
    contents: Contents, plugged: set[str] | None, reasons: tuple[str, ...]
) -> None:
    assert why_in_use(contents, "br-int", plugged) == reasons
