"""The programs in an environment that has the Neutron plugin alone."""

import importlib
import sys

import pytest

from ovs_metadata import commands

PROGRAMS = {
    "mn_conf": "ovs_metadata.cli.mn_conf.command",
    "ovs_metadata": "ovs_metadata.cli.main",
    "ovs_metadata_agent": "ovs_metadata.agent.main",
    "ovs_metadata_flows": "ovs_metadata.flows.launcher",
    "ovs_metadata_proxy": "ovs_metadata.proxy.main",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_the_main_of_its_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(f"{PROGRAMS[name]}.main", lambda: ran.append(name))
    getattr(commands, name)()
    assert ran == [name]


@pytest.mark.parametrize("name", PROGRAMS)
def test_without_its_libraries_a_program_names_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_module: str) -> None:
        raise ModuleNotFoundError("No module named 'click'", name="click")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SystemExit, match=r"click is not installed: .* with its extra \[agent\]"):
        getattr(commands, name)()


def test_a_module_of_our_own_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ovs_metadata.proxy.main", None)
    with pytest.raises(ModuleNotFoundError):
        commands.ovs_metadata_proxy()


def test_an_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or later; this is 3\.9"):
        commands.ovs_metadata()
