"""The part of the demonstration that an ML2/OVN cloud has: a real OVN, with ports as Neutron's.

OVN's processes end with the demonstration; see `lab.upstream.ovn`.
"""

import contextlib

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.upstream.ovn import OvnCentral, OvnController
from lab.upstream.ovn_install import Installation

SUITE = "trixie"
"""Of Debian: OVN 25.03 and Open vSwitch 3.5."""


class DemoOvn:
    """A real OVN for a hypervisor, whose agent takes its records from there."""

    def __init__(self, installation: Installation, hypervisor: Hypervisor) -> None:
        self._hypervisor = hypervisor
        self._central = OvnCentral(installation, hypervisor.root / "ovn")

    def start(self, outside: contextlib.ExitStack) -> None:
        """Start its databases, ovn-northd, and ovn-controller on the hypervisor."""
        outside.enter_context(self._central)
        OvnController(self._central, self._hypervisor).start()

    def put(self, guest: Guest) -> None:
        """Write the guest's port as Neutron's ML2/OVN driver does, and nothing else."""
        self._central.add_port(guest)

    def enable(self, guest: Guest, *, enabled: bool) -> None:
        """Enable or disable a guest's port as Neutron does."""
        self._central.nbctl("lsp-set-enabled", guest.port_id, "enabled" if enabled else "disabled")

    def things_to_try(self, guest: Guest) -> dict[str, str]:
        """What there is to see in OVN, and a command for each."""
        program, central = self._central.installation.program, self._central
        nbctl = f"{program('ovn-nbctl')} --db={central.northbound}"
        sbctl = f"{program('ovn-sbctl')} --db={central.southbound}"
        return {
            "what OVN has of a port": f"{sbctl} find port_binding logical_port={guest.port_id}",
            "disable the port": f"{nbctl} lsp-set-enabled {guest.port_id} disabled",
        }
