"""Paths of the layout, and its version."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_metadata.store import layout
from ovs_metadata.store.errors import UnknownLayout

PORT = "0a1b2c3d-0000-4000-8000-000000000001"


def test_paths_are_those_of_the_design() -> None:
    assert layout.VERSION_NODE == "/ovs_metadata/v2/version"
    assert layout.port_path(PORT) == f"/ovs_metadata/v2/ports/0a/{PORT}"
    assert layout.config_template_path("default") == "/ovs_metadata/v2/config/templates/default"
    assert layout.config_node_path("hv-1.example") == "/ovs_metadata/v2/config/nodes/hv-1.example"
    assert layout.agent_path("hv-1") == "/ovs_metadata/v2/agents/hv-1"
    assert layout.network_path(PORT) == f"/ovs_metadata/v2/networks/0a/{PORT}"
    assert layout.config_project_path("3b9") == "/ovs_metadata/v2/config/projects/3b9"


@pytest.mark.parametrize(
    "name", ["", PORT.upper(), PORT.replace("-", ""), f"../{PORT}", f"{PORT}\n", f"{PORT}/x"]
)
def test_a_port_is_named_by_its_uuid_alone(name: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        layout.port_path(name)


@pytest.mark.parametrize(
    ("host", "node"),
    [
        ("Compute_1.Example.COM", "Compute_1.Example.COM"),
        ("h" * 255, "h" * 255),
        ("2001:db8::5", "2001%3Adb8%3A%3A5"),
        ("cell1@compute 1", "cell1%40compute%201"),
        ("Südwest", "S%C3%BCdwest"),
        ("%2e%2e", "%252e%252e"),
    ],
)
def test_a_host_is_named_as_nova_names_it(host: str, node: str) -> None:
    assert layout.agent_path(host) == f"/ovs_metadata/v2/agents/{node}"
    assert layout.name_of(node) == host


@given(st.text(max_size=300))
def test_every_name_has_a_node_of_its_own_or_none(name: str) -> None:
    try:
        path = layout.agent_path(name)
    except ValueError:
        return
    node = path.removeprefix(f"{layout.AGENTS}/")
    assert re.fullmatch(r"[A-Za-z0-9_%~-][A-Za-z0-9._%~-]{0,254}", node)
    assert layout.name_of(node) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\nb", ".hidden", "\x7f", "\u202e", "h" * 256, "\udc80"]
)
def test_no_host_leads_to_another_place(name: str) -> None:
    for path in (layout.agent_path, layout.config_node_path, layout.config_template_path):
        with pytest.raises(ValueError, match="not a name"):
            path(name)


def test_a_name_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(ValueError, match="name too long"):
        layout.agent_path("ü" * 100)


def test_the_version_written_is_the_version_known() -> None:
    layout.check_version(layout.version_content())
    layout.check_version(b"2\n")


@pytest.mark.parametrize("content", [b"", b"1", b"3", b"22", b"\xff", b"x" * 1000])
def test_any_other_version_is_refused_in_one_short_line(content: bytes) -> None:
    with pytest.raises(UnknownLayout, match="knows version '2' only") as refused:
        layout.check_version(content)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250
