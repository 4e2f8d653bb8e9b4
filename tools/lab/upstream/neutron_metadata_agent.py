"""Neutron's real metadata service for one network, to be compared with: its agent and a haproxy.

`with NeutronMetadataAgent(…) as neutron:` installs Neutron if need be
(lab.upstream.neutron_install) and starts two processes: Neutron's metadata agent, with no server
behind it (lab.upstream.neutron_metadata_program), and haproxy with the configuration Neutron's own
classes write. Both run in the foreground, and are gone after the block, as is their directory. No
threads here.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lab.rig.process import LabError, Process, run, wait_for
from lab.rig.running import Running
from lab.upstream import neutron_install

NETWORK_ID = "5eab1e0f-0000-4000-8000-000000000001"

START_TIMEOUT = 60.0
"""Importing Neutron takes some seconds, and more on a busy machine."""

_PROGRAM = Path(__file__).with_name("neutron_metadata_program.py")


@dataclass(frozen=True)
class NeutronPort:
    """What Neutron's server would say of the port with an address."""

    device_id: str
    project_id: str


class NeutronMetadataAgent(Running):
    """Neutron's metadata agent, and the haproxy in front of it.

    Args:
        ports: by the address that requests come from.
        nova_url: Nova's metadata API, ``http://host:port`` or https.
        secret: what Nova shares with the agent.
        listen: address and port on which haproxy takes requests.
        namespace: the network namespace haproxy runs in; the caller's if None. The agent is reached
            over a UNIX socket.
        agent_namespace: the one the agent runs in, and reaches Nova from; the caller's if None.
        threads: requests the agent relays at once; None: as many as Neutron itself would allow,
            half the number of processors.
        ca: certificate (PEM) that an https `nova_url` is checked against.

    Attributes `agent` and `haproxy` are the two processes.
    """

    agent: Process
    haproxy: Process

    def __init__(
        self,
        ports: Mapping[str, NeutronPort],
        *,
        nova_url: str,
        secret: str,
        listen: tuple[str, int],
        namespace: str | None = None,
        agent_namespace: str | None = None,
        threads: int | None = None,
        ca: Path | None = None,
    ) -> None:
        self._ports = dict(ports)
        self._nova_url = nova_url
        self._secret = secret
        self._listen = listen
        self._namespace = namespace
        self._agent_namespace = agent_namespace
        self._threads = threads
        self._ca = ca
        self._root = Path()
        self._processes: list[Process] = []

    def start(self) -> None:
        """Start, and wait until both listen; raises LabError if they do not."""
        installation = neutron_install.install_neutron()
        self._root = Path(tempfile.mkdtemp(prefix="ovs-metadata-neutron-"))
        self._start(installation.program("python"))

    def stop(self) -> None:
        """End the processes and remove their directory."""
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        if self._root != Path():
            shutil.rmtree(self._root)

    @property
    def config(self) -> Path:
        """The agent's metadata_agent.ini."""
        return self._root / "metadata_agent.ini"

    @property
    def processes(self) -> tuple[Process, ...]:
        """The processes, whose cost is that of this service."""
        return tuple(self._processes)

    def _start(self, python: Path) -> None:
        config = self.config
        config.write_text(self._options())
        ports = self._root / "ports.json"
        ports.write_text(
            json.dumps(
                {
                    address: {"device_id": port.device_id, "project_id": port.project_id}
                    for address, port in self._ports.items()
                }
            )
        )
        # Without -P, other modules beside the program would be found before Neutron's own.
        program: list[str | Path] = [python, "-P", _PROGRAM]
        self.agent = self._spawn(
            [*program, "agent", ports, config], "agent.log", self._agent_namespace
        )
        address, port = self._listen
        written = run(
            *(*program, "haproxy", NETWORK_ID, address, str(port), config), timeout=START_TIMEOUT
        )
        haproxy: list[str | Path] = ["haproxy", "-db", "-f", written.strip().splitlines()[-1]]
        self.haproxy = self._spawn(haproxy, "haproxy.log", self._namespace)
        listening = f"{port:04X} 00000000:0000 0A"
        wait_for(
            lambda: self._has(self.agent, "net/unix", f" {self._socket}\n"),
            "Neutron's metadata agent to listen",
            START_TIMEOUT,
        )
        wait_for(
            lambda: self._has(self.haproxy, "net/tcp", f":{listening}"), "its haproxy to listen"
        )

    def _spawn(self, command: list[str | Path], log: str, namespace: str | None = None) -> Process:
        process = Process(command, self._root / log, {"PYTHONPATH": ""}, namespace)
        self._processes.append(process)
        return process

    @property
    def _socket(self) -> Path:
        return self._root / "metadata_proxy"

    def _options(self) -> str:
        nova = urlsplit(self._nova_url)
        threads = "" if self._threads is None else f"metadata_workers = {self._threads}\n"
        ca = f"auth_ca_cert = {self._ca}\n" if self._ca else ""
        return f"""\
[DEFAULT]
transport_url = fake://
state_path = {self._root}
metadata_proxy_socket = {self._socket}
metadata_proxy_shared_secret = {self._secret}
nova_metadata_protocol = {nova.scheme}
nova_metadata_host = {nova.hostname}
nova_metadata_port = {nova.port}
{threads}{ca}
[AGENT]
# There is no server to report to.
report_interval = 0
"""

    @staticmethod
    def _has(process: Process, table: str, text: str) -> bool:
        """Whether a table in /proc of the process' network namespace has that text."""
        if not process.alive():
            raise LabError(f"{' '.join(process.command)} ended early:\n{process.log_tail()}")
        return text in Path(f"/proc/{process.pid}/{table}").read_text()
