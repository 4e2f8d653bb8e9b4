"""The scripts of the container agree with the unit, the code's defaults and the documentation."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from ovs_metadata.agent.admin import server
from ovs_metadata.agent.network.namespaces import NAMESPACES
from ovs_metadata.host import config

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "etc" / "agent.conf.sample"  # it has the defaults, as comments
RUN = (ROOT / "packaging" / "container" / "run").read_text()
BUILD = (ROOT / "packaging" / "container" / "build").read_text()
UNIT = (ROOT / "packaging" / "systemd" / "ovs-metadata-agent.service").read_text()
PAGE = (ROOT / "docs" / "containers.md").read_text()

NAMING = {"SYS_CHROOT", "SYS_PTRACE"}
"""What the unit needs to name the namespace on the host, which a shared mount does here."""


def options() -> list[str]:
    """The options of both containers, each with its value."""
    lists = re.findall(r"^for_\w+=\(\n(.*?)^\)", RUN, re.MULTILINE | re.DOTALL)
    return [line.strip() for each in lists for line in each.splitlines()]


def test_the_agent_has_the_units_capabilities_but_those_for_the_name_of_the_namespace() -> None:
    (line,) = re.findall(r"^CapabilityBoundingSet=(.*)$", UNIT, re.MULTILINE)
    unit = {name.removeprefix("CAP_") for name in line.split()}
    added = {each.split()[1] for each in options() if each.startswith("--cap-add ")}
    assert added == unit - NAMING
    assert "--cap-drop ALL" in options()
    assert "--privileged" not in RUN


def test_it_mounts_what_the_defaults_name() -> None:
    default = config.load(SAMPLE)
    mounted = {each.split()[1] for each in options() if each.startswith("--volume ")}
    paths = (default.state_dir, default.store.snapshot_dir, default.rundir)
    assert mounted == {
        *(f"{path}:{path}" for path in paths),
        f"{config.DEFAULT_PATH.parent}:{config.DEFAULT_PATH.parent}:ro",
        f"{NAMESPACES}:{NAMESPACES}:rshared",
    }


@pytest.mark.parametrize("option", options())
def test_the_page_says_why_an_option_is_there(option: str) -> None:
    assert f"`{option}`" in PAGE


def test_its_health_is_asked_where_the_agent_answers() -> None:
    default = config.load(SAMPLE)
    (socket, path) = re.findall(r"--unix-socket (\S+) http://localhost(\S+)'", RUN)[0]
    assert Path(socket) == default.admin_socket
    assert f'"{path}"' in Path(server.__file__).read_text()


def test_the_image_runs_a_module_that_there_is() -> None:
    (module,) = re.findall(r'"-m", "(\S+)"', BUILD)
    assert find_spec(module)
