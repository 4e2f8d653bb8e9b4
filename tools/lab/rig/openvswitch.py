"""A private Open vSwitch: own directories, own network namespace, userspace datapath.

Nothing of an Open vSwitch that is already on the machine is touched. One ovsdb-server and one
ovs-vswitchd process, from `start` to `stop`; each can be killed and started again.
"""

import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.rig.process import LabError, Process, run, wait_for


@dataclass(frozen=True)
class Programs:
    """Where the programs of an Open vSwitch are, None being PATH, and its database's schema."""

    directory: Path | None = None
    schema: Path = Path("/usr/share/openvswitch/vswitch.ovsschema")

    def path(self, name: str) -> str:
        """The command that starts a program."""
        return str(self.directory / name) if self.directory else name


INSTALLED = Programs()
"""The Open vSwitch that this machine has installed."""


class OpenVSwitch:
    """Open vSwitch below `root`, its ports' devices in network namespace `namespace`."""

    def __init__(self, root: Path, namespace: str, programs: Programs = INSTALLED) -> None:
        self.root = root
        self.programs = programs
        self.namespace = namespace
        self.rundir = root / "run"
        self.database = root / "conf.db"
        self.socket = self.rundir / "db.sock"
        self.env = {
            "OVS_RUNDIR": str(self.rundir),
            "OVS_DBDIR": str(root),
            "OVS_LOGDIR": str(root),
            "OVS_SYSCONFDIR": str(root),
        }
        self._ovsdb: Process | None = None
        self._vswitchd: Process | None = None

    @property
    def connection(self) -> str:
        """Its OVSDB, in OVSDB's connection notation."""
        return f"unix:{self.socket}"

    @property
    def vswitchd_pid(self) -> int:
        """The process id of its ovs-vswitchd, 0 before it was started."""
        return self._vswitchd.pid if self._vswitchd else 0

    @property
    def ovsdb_pid(self) -> int:
        """The process id of its ovsdb-server, 0 before it was started."""
        return self._ovsdb.pid if self._ovsdb else 0

    def start(self) -> None:
        """Create the database and start both daemons."""
        self.rundir.mkdir(parents=True)
        self._run("ovsdb-tool", "create", self.database, self.programs.schema)
        self.start_ovsdb()
        self.vsctl("--no-wait", "init")
        self.start_vswitchd()

    def start_database(self, bridge: str) -> Process:
        """Create the database with a bridge in it, and start ovsdb-server alone."""
        self.rundir.mkdir(parents=True)
        self._run("ovsdb-tool", "create", self.database, self.programs.schema)
        process = self.start_ovsdb()
        self.vsctl("--no-wait", "add-br", bridge)
        return process

    def start_ovsdb(self) -> Process:
        """Start ovsdb-server and wait until it answers."""
        self._ovsdb = Process(
            [
                *(self.programs.path("ovsdb-server"), f"--remote=punix:{self.socket}"),
                *(f"--unixctl={self.rundir}/ovsdb-server.ctl", self.database),
            ],
            self.root / "ovsdb-server.log",
            self.env,
        )
        wait_for(self._takes_connections, "ovsdb-server to take connections")
        return self._ovsdb

    def _takes_connections(self) -> bool:
        """Whether ovsdb-server listens: its socket is there before."""
        with socket.socket(socket.AF_UNIX) as connection:
            return connection.connect_ex(str(self.socket)) == 0

    def start_vswitchd(self) -> None:
        """Start ovs-vswitchd and wait until it has read the database."""
        self._vswitchd = Process(
            [
                *(self.programs.path("ovs-vswitchd"), self.connection, "--disable-system"),
                f"--unixctl={self.rundir}/ovs-vswitchd.ctl",
            ],
            self.root / "ovs-vswitchd.log",
            self.env,
            self.namespace,
        )
        self.vsctl("show")  # waits for nothing, but fails early when OVSDB is gone
        wait_for((self.rundir / "ovs-vswitchd.ctl").exists, "ovs-vswitchd")

    def kill_vswitchd(self) -> None:
        """Kill ovs-vswitchd as a crash would (SIGKILL)."""
        self._end(self._vswitchd, signal.SIGKILL)
        (self.rundir / "ovs-vswitchd.ctl").unlink(missing_ok=True)

    def kill_ovsdb(self) -> None:
        """Kill ovsdb-server as a crash would (SIGKILL)."""
        self._end(self._ovsdb, signal.SIGKILL)
        self.socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """End both daemons and remove their files."""
        for process in (self._vswitchd, self._ovsdb):
            self._end(process, signal.SIGTERM)
        shutil.rmtree(self.root, ignore_errors=True)

    @staticmethod
    def _end(process: Process | None, signum: signal.Signals) -> None:
        if process and process.alive():
            process.kill(signum)
            process.stop(timeout=5)

    def vsctl(self, *args: str, timeout: float = 15.0) -> str:
        """Run ovs-vsctl on this database."""
        return self._run("ovs-vsctl", f"--db={self.connection}", *args, timeout=timeout)

    def ofctl(self, command: str, bridge: str, *args: str) -> str:
        """Run an ovs-ofctl command on a bridge, in OpenFlow 1.3."""
        return self._run(
            "ovs-ofctl", "-O", "OpenFlow13", *command.split(), self.mgmt(bridge), *args
        )

    def mgmt(self, bridge: str) -> str:
        """The bridge's management socket, as the OVS tools name it."""
        return f"unix:{self.rundir}/{bridge}.mgmt"

    def appctl(self, *args: str) -> str:
        """Run ovs-appctl on this ovs-vswitchd."""
        return self._run("ovs-appctl", f"--target={self.rundir}/ovs-vswitchd.ctl", *args)

    def _run(self, program: str, *args: str | Path, timeout: float = 30.0) -> str:
        return run(self.programs.path(program), *args, timeout=timeout)

    def add_bridge(self, name: str, *settings: str) -> None:
        """Add a bridge on the userspace datapath; `settings` are `column=value` pairs."""
        self.vsctl(
            *("add-br", name, "--", "set", "bridge", name, "datapath_type=netdev", *settings)
        )
        wait_for((self.rundir / f"{name}.mgmt").exists, f"bridge {name}")

    def ofport(self, interface: str) -> int:
        """The ofport of an interface; waits until ovs-vswitchd has set it."""

        def ofport() -> int:
            text = self.vsctl("--if-exists", "get", "interface", interface, "ofport").strip()
            return int(text) if text not in ("", "[]") else 0

        return wait_for(ofport, f"the ofport of {interface}")

    def report(self, bridge: str) -> str:
        """The state of a bridge that a developer needs after a failure."""
        readings: dict[str, Callable[[], str]] = {
            "ovs-vsctl show": lambda: self.vsctl("show"),
            f"dump-flows {bridge}": lambda: self.ofctl("dump-flows --names", bridge),
            f"ports of {bridge}": lambda: self.ofctl("dump-ports-desc", bridge),
            f"MAC table of {bridge}": lambda: self.appctl("fdb/show", bridge),
        }
        lines = []
        for title, read in readings.items():
            try:
                text = read()
            except LabError as error:
                text = f"({error})"
            lines.append(f"--- {title}\n{text.rstrip()}")
        return "\n".join(lines)
