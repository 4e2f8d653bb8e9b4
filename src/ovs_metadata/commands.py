"""The programs this distribution installs.

Neutron's own environment has them too, because the plugin is in the same distribution, but neither
their libraries nor, on older systems, their Python. There they print that in one line. This module
imports on every Python that the plugin supports.
"""

from __future__ import annotations

import importlib
import sys

_PYTHON = (3, 11)


def mn_conf() -> None:
    """Run `mn-conf`."""
    _run("ovs_metadata.cli.mn_conf.command")


def ovs_metadata() -> None:
    """Run `ovs-metadata`."""
    _run("ovs_metadata.cli.main")


def ovs_metadata_agent() -> None:
    """Run `ovs-metadata-agent`."""
    _run("ovs_metadata.agent.main")


def ovs_metadata_flows() -> None:
    """Run `ovs-metadata-flows`."""
    _run("ovs_metadata.flows.launcher")


def ovs_metadata_proxy() -> None:
    """Run `ovs-metadata-proxy`."""
    _run("ovs_metadata.proxy.main")


def _run(module: str) -> None:
    if sys.version_info < _PYTHON:
        found = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"needs Python 3.11 or later; this is {found}, which suffices for the plugin only")
    try:
        importlib.import_module(module).main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "ovs_metadata":
            raise
        sys.exit(
            f"{error.name} is not installed: this environment has Neutron's plugin alone. For the "
            "agent and its commands install ovs-metadata-agent with its extra [agent]."
        )
