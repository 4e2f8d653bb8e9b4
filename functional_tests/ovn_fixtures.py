"""Fixtures with the real OVN of several Debian suites, as a pytest plugin module."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypervisor_fixtures import close_hypervisor, make_hypervisor

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.upstream.ovn import OvnCentral, OvnController
from lab.upstream.ovn_install import SUITES, install_ovn


@dataclass(frozen=True)
class OvnHypervisor:
    """A hypervisor with ovn-controller and the agent on one bridge, and OVN's databases."""

    suite: str
    hypervisor: Hypervisor
    central: OvnCentral
    controller: OvnController

    def add_guest(self, suffix: str, *pairs: str, **of: Any) -> Guest:
        """A guest with a port of its network's logical switch, once it is served."""
        guest = self.hypervisor.add_guest(suffix, plug=False, **of)
        self.central.add_port(guest, *pairs)
        guest.plug(self.hypervisor.ovs, self.hypervisor.bridge)
        self.hypervisor.wait_until_served(guest)
        self.central.wait_for_controllers()
        return guest


@contextlib.contextmanager
def ovn_hypervisor(suite: str) -> Iterator[OvnHypervisor]:
    """A hypervisor with the OVN of a suite; its bridge, ovn-controller and agent do not run yet."""
    installation = install_ovn(suite)
    hypervisor = make_hypervisor(openvswitch=installation.openvswitch)
    try:
        hypervisor.start()
        hypervisor.start_metadata_service()
        with OvnCentral(installation, hypervisor.root / "ovn") as central:
            yield OvnHypervisor(suite, hypervisor, central, OvnController(central, hypervisor))
    finally:
        close_hypervisor(hypervisor)


@pytest.fixture(scope="module", params=SUITES)
def ovn(request: pytest.FixtureRequest) -> Iterator[OvnHypervisor]:
    """One for each suite, shared by the module; tests leave it as they found it, but for guests."""
    with ovn_hypervisor(request.param) as running:
        running.controller.start()
        running.hypervisor.start_agent()
        yield running


def cli(hypervisor: Hypervisor, *args: str, check: bool = True) -> str:
    """What `ovs-metadata` prints on a hypervisor."""
    program = Path(sys.executable).parent / "ovs-metadata"
    inside = ("ip", "netns", "exec", hypervisor.namespace)
    return run(*inside, program, "--config", hypervisor.config, *args, check=check)


def listed(hypervisor: Hypervisor, port_id: str) -> dict[str, Any]:
    """A port as `ovs-metadata port list` shows it on a hypervisor."""
    every = json.loads(cli(hypervisor, "port", "list", "--format", "json"))
    found: dict[str, Any] = next(each for each in every if each["port_id"] == port_id)
    return found


def wait_until_not_served(hypervisor: Hypervisor, guest: Guest) -> None:
    """Wait until the switch has no flow that serves a guest."""
    ofport = hypervisor.ovs.ofport(guest.tap)
    wait_for(lambda: not hypervisor.flows_of(ofport), "its flows to go")
