"""The real Neutron, private and short-lived: API servers, periodic workers, one database.

`with Neutron(store_url) as neutron:` gives one database and configuration without a server;
`start_api` starts API servers (gunicorn), `start_periodic_workers` the process that reconciles.
Authentication is off, ports are bound without any agent or by a real OVN, and the service plugin
under test is the one of this source tree. Everything is gone after the block. No threads here;
child processes are ended by pid.
"""

import datetime
import json
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from lab.rig.process import LabError, Process, wait_for
from lab.rig.running import Running
from lab.upstream import neutron_install
from lab.upstream.neutron_install import NEWEST, Release
from lab.upstream.ovn import OvnCentral

START_TIMEOUT = 120.0
CALL_TIMEOUT = 60.0
LOADED = "Neutron's API is loaded"
# What Nova's service user may do; without authentication no user has that role.
POLICY = {"create_port_binding": "", "activate": "", "delete_port_binding": ""}
PLUGIN = "ovs_metadata"
SOURCE = Path(__file__).resolve().parents[3] / "src"
HOSTS = ("hypervisor-1", "hypervisor-2")
"""Hosts on which ports can be bound without an agent."""

_ML2_OVS = """\
[ml2]
mechanism_drivers = openvswitch
tenant_network_types = vxlan
type_drivers = vxlan

[ml2_type_vxlan]
vni_ranges = 1:1000
"""

_ML2_OVN = """\
[ml2]
mechanism_drivers = ovn
tenant_network_types = geneve
type_drivers = geneve
extension_drivers = port_security

[ml2_type_geneve]
vni_ranges = 1:1000
max_header_size = 38
"""


class ApiServer:
    """One API server of a `Neutron`: gunicorn's master, which starts its workers again."""

    def __init__(self, process: Process, url: str) -> None:
        self.process = process
        self.url = url

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Make an API call below /v2.0 and return its document.

        Raises:
            LabError: it did not succeed; says with what.
        """
        request = urllib.request.Request(  # noqa: S310 - our own URL
            f"{self.url}/v2.0/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=CALL_TIMEOUT) as answer:  # noqa: S310
                content = answer.read()
        except urllib.error.HTTPError as error:
            detail = error.read().decode(errors="replace")
            raise LabError(f"{method} {path}: {error.code} {detail}") from error
        except OSError as error:
            raise LabError(f"{method} {path}: {error}") from error
        return json.loads(content) if content else None

    def workers(self) -> list[int]:
        """The process ids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill_worker(self, pid: int) -> None:
        """End a worker at once (SIGKILL), and wait until another is there."""
        os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda: self.workers() and pid not in self.workers(), "another worker", START_TIMEOUT
        )


class Neutron(Running):
    """A Neutron deployment on this machine.

    Args:
        store_url: where the plugin publishes; None leaves the plugin out.
        reconcile_interval: seconds, 0 for no reconciliation.
        agent_down_time: seconds after which an agent that says nothing is dead.
        ovn: the OVN of an ML2/OVN cloud; without it, it is one of ML2/OVS.
        release: which Neutron.
    """

    def __init__(
        self,
        store_url: str | None,
        *,
        reconcile_interval: int = 300,
        agent_down_time: int = 75,
        ovn: OvnCentral | None = None,
        release: Release = NEWEST,
    ) -> None:
        self._store_url = store_url
        self._reconcile_interval = reconcile_interval
        self._agent_down_time = agent_down_time
        self._ovn = ovn
        self._release = release
        self._root = Path()
        self._processes: list[Process] = []

    def start(self) -> None:
        """Install if need be, and write the configuration and an empty database."""
        self._installation = neutron_install.install_neutron(self._release)
        self._root = Path(tempfile.mkdtemp(prefix="ovs-metadata-neutron-"))
        self._installation.copy_database(self._root)
        if self._ovn is None:
            self._add_agents()
        (self._root / "policy.yaml").write_text(json.dumps(POLICY))
        (self._root / "neutron.conf").write_text(self._neutron_conf())

    def stop(self) -> None:
        """End its processes and remove its directory."""
        for process in reversed(self._processes):
            process.stop()
        self._processes.clear()
        if self._root != Path():
            shutil.rmtree(self._root)

    def start_api(self, workers: int = 1) -> ApiServer:
        """Start an API server and wait until it answers; raises LabError if it does not."""
        name = f"api-{len(self._processes)}"
        # Neutron reads the same sys.argv as gunicorn, so gunicorn's options must be elsewhere.
        config = self._root / f"{name}.conf.py"
        config.write_text(
            f'wsgi_app = "{self._release.application}"\n'
            'bind = "127.0.0.1:0"\n'
            f"workers = {workers}\n"
            f"{self._release.worker}"
            # Longer than a start on a busy machine takes.
            "timeout = 120\n"
            "graceful_timeout = 5\n"
            # It would lie in the user's home directory.
            "control_socket_disable = True\n"
            f'worker_tmp_dir = "{self._root}"\n'
            f'post_worker_init = lambda worker: worker.log.info("{LOADED}")\n'
        )
        process = self._spawn(
            [self._installation.program("gunicorn")],
            name,
            {
                "GUNICORN_CMD_ARGS": f"--config {config}",
                "OS_NEUTRON_CONFIG_DIR": str(self._root),
                "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
                # By which OVN's driver knows that all workers share in its events.
                "ASGI_WORKERS": str(workers),
            },
        )
        wait_for(
            lambda: len(self._found(process, f"({LOADED})")) >= workers,
            "Neutron to load",
            START_TIMEOUT,
        )
        (url,) = set(self._found(process, r"Listening at: (http://\S+)"))
        return ApiServer(process, url)

    def start_periodic_workers(self) -> Process:
        """Start neutron-periodic-workers."""
        return self._spawn(
            [
                self._installation.program("neutron-periodic-workers"),
                f"--config-file={self._root / 'neutron.conf'}",
            ],
            f"periodic-{len(self._processes)}",
            {},
        )

    def logs(self, lines: int) -> str:
        """The last lines each of its processes logged."""
        return "\n".join(
            f"== {process.log.name}\n{process.log_tail(lines)}" for process in self._processes
        )

    def _spawn(self, command: list[str | Path], name: str, env: dict[str, str]) -> Process:
        # Neutron leaves files in the directory for temporary ones.
        env = {"PYTHONPATH": str(SOURCE), "TMPDIR": str(self._root), **env}
        process = Process(command, self._root / f"{name}.log", env)
        self._processes.append(process)
        return process

    @staticmethod
    def _found(process: Process, pattern: str) -> list[str]:
        """The first groups of `pattern` in a process' log."""
        if not process.alive():
            raise RuntimeError(f"Neutron ended early:\n{process.log_tail()}")
        return re.findall(pattern, process.log.read_text(errors="replace"))

    def add_agent(
        self,
        kind: str,
        binary: str,
        host: str,
        configurations: Mapping[str, object] | None = None,
        *,
        alive: bool = True,
    ) -> str:
        """Have Neutron know an agent that does not run; returns its id.

        Its last heartbeat is in the future or, if it is not alive, long ago.
        """
        seen = datetime.datetime(2100 if alive else 2000, 1, 1).isoformat(" ")
        row = {
            "id": str(uuid.uuid4()),
            "host": host,
            "agent_type": kind,
            "binary": binary,
            "topic": "N/A",
            "admin_state_up": 1,
            "created_at": seen,
            "started_at": seen,
            "heartbeat_timestamp": seen,
            "configurations": json.dumps(configurations or {}),
            "load": 0,
        }
        columns, marks = ", ".join(row), ", ".join("?" * len(row))
        with closing(sqlite3.connect(self._root / neutron_install.DATABASE)) as database, database:
            database.execute(
                f"INSERT INTO agents ({columns}) VALUES ({marks})",  # noqa: S608 - our names
                tuple(row.values()),
            )
        return str(row["id"])

    def _add_agents(self) -> None:
        """Have ports bound: an L2 agent per host."""
        configurations = {"bridge_mappings": {}, "tunnel_types": ["vxlan"], "datapath_type": ""}
        for host in HOSTS:
            self.add_agent("Open vSwitch agent", "neutron-openvswitch-agent", host, configurations)

    def _neutron_conf(self) -> str:
        # The first group of it is [DEFAULT], to which the lines after its heading belong as well.
        heading, rest = neutron_install.database_config(self._root).split("\n", 1)
        plugins = [
            *(["ovn-router"] if self._ovn else []),
            "trunk",
            *([PLUGIN] if self._store_url else []),
        ]
        return f"""\
{heading}
auth_strategy = noauth
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
api_paste_config = {self._installation.paste_config}
default_log_levels = neutron=WARNING, stevedore=CRITICAL
agent_down_time = {self._agent_down_time}
service_plugins = {",".join(plugins)}
{rest}
[ovs_metadata]
store_url = {self._store_url}
reconcile_interval = {self._reconcile_interval}

[oslo_policy]
policy_file = {self._root / "policy.yaml"}

{_ML2_OVS if self._ovn is None else _ML2_OVN + _ovn_conf(self._ovn)}
"""


def _ovn_conf(ovn: OvnCentral) -> str:
    return f"""
[ovn]
ovn_nb_connection = {ovn.northbound}
ovn_sb_connection = {ovn.southbound}
ovn_metadata_enabled = true
"""
