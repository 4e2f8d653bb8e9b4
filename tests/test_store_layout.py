"""Paths of the layout, and its version."""

import pytest

from ovs_metadata.store import layout
from ovs_metadata.store.errors import UnknownLayout

PORT = "0a1b2c3d-0000-4000-8000-000000000001"


def test_paths_are_those_of_the_design() -> None:
    assert layout.VERSION_NODE == "/ovs_metadata/v2/version"
    assert layout.port_path(PORT) == f"/ovs_metadata/v2/ports/0a/{PORT}"
    assert layout.config_template_path("default") == "/ovs_metadata/v2/config/templates/default"
    assert layout.config_node_path("hv-1.example") == "/ovs_metadata/v2/config/nodes/hv-1.example"
    assert layout.agent_path("hv-1") == "/ovs_metadata/v2/agents/hv-1"


@pytest.mark.parametrize(
    "name", ["", PORT.upper(), PORT.replace("-", ""), f"../{PORT}", f"{PORT}\n", f"{PORT}/x"]
)
def test_a_port_is_named_by_its_uuid_alone(name: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        layout.port_path(name)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\nb", "a b", ".hidden", "é"])
def test_no_host_leads_to_another_place(name: str) -> None:
    for path in (layout.agent_path, layout.config_node_path, layout.config_template_path):
        with pytest.raises(ValueError, match="not a name"):
            path(name)


def test_the_version_written_is_the_version_known() -> None:
    layout.check_version(layout.version_content())
    layout.check_version(b"2\n")


@pytest.mark.parametrize("content", [b"", b"1", b"3", b"22", b"\xff", b"x" * 1000])
def test_any_other_version_is_refused_in_one_short_line(content: bytes) -> None:
    with pytest.raises(UnknownLayout, match="knows version '2' only") as refused:
        layout.check_version(content)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250
