"""Neutron's real agents for metadata on ML2/OVN, beside the real OVN of the lab.

`with NeutronOvnAgent(…) as neutron:` installs Neutron if need be and starts one of the two, with no
server behind it: for the ports of its chassis it asks OVN's southbound database. It makes a
namespace for each network, and a haproxy there that outlives it. All is gone after the block.
"""

import contextlib
import os
import signal
from pathlib import Path
from urllib.parse import urlsplit

from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run, wait_for
from lab.rig.running import Running
from lab.upstream.neutron_install import install_neutron
from lab.upstream.ovn import OvnCentral

AGENTS = ("neutron-ovn-metadata-agent", "neutron-ovn-agent")

START_TIMEOUT = 90.0
"""It starts a helper for each of its privileges, and each imports Neutron."""

_PROGRAM = Path(__file__).with_name("neutron_ovn_program.py")


class NeutronOvnAgent(Running):
    """One of AGENTS, and its haproxy of one network."""

    def __init__(
        self, name: str, central: OvnCentral, hypervisor: Hypervisor, network_id: str
    ) -> None:
        self._name = name
        self._central = central
        self._hypervisor = hypervisor
        self.namespace = f"ovnmeta-{network_id}"

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self._hypervisor.root / f"{self._name}.ini"

    def start(self) -> None:
        """Start it, and wait until haproxy listens."""
        installation = install_neutron()
        self.config.write_text(self._options())
        program = self._hypervisor.root / self._name
        if not program.exists():
            program.symlink_to(_PROGRAM)
        self._hypervisor.spawn(
            self._name,
            *(installation.program("python"), "-P", program, "--config-file", self.config),
            PATH=f"{installation.program('python').parent}:{os.environ['PATH']}",
            PYTHONPATH="",
        )
        wait_for(self.haproxy, f"{self._name} to start haproxy", START_TIMEOUT)

    def stop_agent(self) -> None:
        """End the agent alone."""
        self._hypervisor.processes[self._name].stop()

    def stop(self) -> None:
        """End the agent and haproxy, and remove the namespace."""
        self.stop_agent()
        if Path("/run/netns", self.namespace).exists():
            if pid := self.haproxy():
                os.kill(pid, signal.SIGKILL)
            run("ip", "netns", "del", self.namespace)

    def haproxy(self) -> int:
        """The process id of haproxy; 0 while it does not listen."""
        for pid in run("ip", "netns", "pids", self.namespace).split():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                name = Path(f"/proc/{pid}/comm").read_text()
                listening = ":0050 00000000:0000 0A" in Path(f"/proc/{pid}/net/tcp").read_text()
                if name == "haproxy\n" and listening:
                    return int(pid)
        return 0

    def _options(self) -> str:
        nova = urlsplit(self._hypervisor.nova)
        root = self._hypervisor.root
        northbound, southbound = self._central.northbound, self._central.southbound
        return f"""\
[DEFAULT]
transport_url = fake://
state_path = {root}/neutron
metadata_proxy_socket = {root}/metadata_proxy
metadata_proxy_shared_secret = {self._hypervisor.secret}
nova_metadata_host = {nova.hostname}
nova_metadata_port = {nova.port}
metadata_workers = 0

[agent]
extensions = metadata
# There is no sudo, and no need for it.
root_helper = env

[ovs]
ovsdb_connection = {self._hypervisor.ovs.connection}

[ovn]
ovn_nb_connection = {northbound}
ovn_sb_connection = {southbound}
"""
