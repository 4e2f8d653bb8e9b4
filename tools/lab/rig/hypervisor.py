"""A hypervisor of the lab: a private Open vSwitch, the agent on it, and guests.

Everything lives below one directory and in network namespaces whose names begin with one prefix;
`close` ends every process by pid and removes all of it, whatever state it is in.
"""

import contextlib
import fcntl
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.rig.guest import Guest
from lab.rig.openvswitch import INSTALLED, OpenVSwitch, Programs
from lab.rig.process import LabError, Process, run, stopped_process, wait_for
from lab.rig.relay import Relay
from lab.rig.zookeeper import ZooKeeper
from lab.stand_ins.metadata_instance import Instance, Interface, dump_instances
from lab.upstream.ryu_install import ryu_python
from ovs_metadata.agent.config.schema import PREFIX
from ovs_metadata.flows.tables import COOKIE_MASK, COOKIE_PREFIX
from ovs_metadata.host.address import PORT_NETWORK_IPV4, port_address
from ovs_metadata.store import open_store
from ovs_metadata.store.configuration import DEFAULT_TEMPLATE
from ovs_metadata.store.documents import change
from ovs_metadata.store.layout import ROOT as ROOT_NODE
from ovs_metadata.store.layout import config_template_path
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.security import PLAIN
from ovs_metadata.store.store import Store

ROOT = Path(__file__).resolve().parents[3]
"""The top of the source tree."""

OURS = f"cookie={COOKIE_PREFIX:#x}/{COOKIE_MASK:#x}"
"""Flows with a cookie like ours, for ovs-ofctl."""

SECRET = "a-secret-of-the-lab"  # noqa: S105 - it protects nothing


def instance_of(guest: Guest) -> Instance:
    """The guest as the metadata services know it."""
    interface = Interface(guest.port_id, guest.network_id, guest.mac, (guest.ip,))
    return Instance(
        uuid=guest.instance_id,
        project_id=guest.project_id,
        name=guest.name,
        hostname=guest.name,
        public_keys={"lab": f"ssh-ed25519 AAAA{guest.instance_id[:8]} {guest.name}"},
        user_data=f"#cloud-config\nhostname: {guest.name}\n".encode(),
        interfaces=(interface,),
    )


class Hypervisor:
    """Network namespace `<prefix>-host` with Open vSwitch and the agent; guests beside it.

    `nova` is the metadata URL as reached from that namespace. With `ryu` the flow controller runs
    under Ryu's ryu-manager, and not as the agent's child on os-ken.
    """

    def __init__(
        self,
        prefix: str,
        nova: str = "http://127.0.0.1:8775",
        bridge: str = "br-int",
        root: Path | None = None,
        ryu: bool = False,
        *,
        openvswitch: Programs = INSTALLED,
    ) -> None:
        self.prefix = prefix
        self.bridge = bridge
        self.nova = nova
        self.ryu = ryu
        self.secret = SECRET
        self.root = root or Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.namespace = f"{prefix}-host"
        self.metadata_namespace = f"{prefix}-metadata"
        self.ovs = OpenVSwitch(self.root / "openvswitch", self.namespace, openvswitch)
        self.store_url = f"directory:{self.root}/store"
        self._store_url_here = self.store_url
        self.store_security = PLAIN
        self.config = self.root / "agent.conf"
        self.guests: list[Guest] = []
        self.processes: dict[str, Process] = {}
        self._store: Store | None = None

    # Setting up and taking down.

    def start(self, *bridge_settings: str) -> None:
        """Make the namespace, Open vSwitch and the bridge; the agent is started separately."""
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")
        self.ovs.start()
        self.ovs.add_bridge(self.bridge, *bridge_settings)
        self.configure()

    def configure(self, **changes: dict[str, Any]) -> None:
        """Write the agent's file, `changes` being options by group, and have it enabled."""
        secret = self.root / "shared-secret"
        secret.write_text(self.secret)
        secret.chmod(0o600)
        groups: dict[str, dict[str, Any]] = {
            "ovs": {
                "bridge": self.bridge,
                "ovsdb_connection": self.ovs.connection,
                "rundir": self.ovs.rundir,
            },
            "store": {"url": self.store_url, "snapshot_dir": self.root / "snapshots"},
            "agent": {
                "host": self.prefix,
                "namespace": self.metadata_namespace,
                "state_dir": self.root / "state",
            },
            "proxy": {"workers": 1},
        }
        if self.ryu:
            groups["flows"] = {"controller": "external"}
        for group, options in changes.items():
            groups.setdefault(group, {}).update(options)
        self.config.write_text(
            "".join(
                f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
                for group, options in groups.items()
            )
        )
        self.deploy(enabled=True, nova_metadata_url=self.nova, shared_secret=self.secret)

    def deploy(self, **values: bool | float | str | None) -> None:
        """Set keys of the deployment's configuration, without their prefix; None unsets one.

        As `mn-conf set -t default` does, but unchecked.
        """
        given = {f"{PREFIX}.{name}": value for name, value in values.items()}
        change(
            self.store,
            config_template_path(DEFAULT_TEMPLATE),
            lambda before: {
                name: value for name, value in {**before, **given}.items() if value is not None
            },
        )

    def use_zookeeper(
        self, zookeeper: ZooKeeper, port: int | None = None, chroot: str = ""
    ) -> Relay:
        """Have the agent use a ZooKeeper that runs outside the host's namespace, or a part of it.

        On that port, if it listens on several. `store_security` is for tests that write to it.
        Returns the relay to it, which the caller enters before it writes the configuration.
        """
        self.close_store()
        self.store_url = f"zookeeper://127.0.0.1:2181{chroot}"
        hosts = f"{zookeeper.address}:{port}" if port else zookeeper.hosts
        self._store_url_here = f"zookeeper://{hosts}{chroot}"
        return Relay(self.namespace, 2181, hosts)

    def close(self) -> None:
        """End and remove everything."""
        for process in reversed(self.processes.values()):
            process.stop()
        for guest in self.guests:
            guest.remove()
        self.close_store()
        with contextlib.suppress(LabError):
            self.ovs.vsctl("--if-exists", "del-br", self.bridge)
        self.ovs.stop()
        for name in (self.metadata_namespace, self.namespace):
            if Path("/run/netns", name).exists():
                run("ip", "netns", "del", name, check=False)
        shutil.rmtree(self.root, ignore_errors=True)

    # The agent, and whatever else runs on the host.

    def spawn(self, name: str, *command: str | Path, **env: str) -> Process:
        """Start a process in the host's namespace; its log is `<name>.log`."""
        process = Process(command, self.root / f"{name}.log", env, self.namespace)
        self.processes[name] = process
        return process

    def start_agent(self) -> Process:
        """Start the agent and wait until it serves: its port is up, and so are its flows."""
        if self.ryu and "flows" not in self.processes:
            self.start_ryu_manager()
        agent = self.spawn("agent", *self.command("agent"))
        self.wait_until_serving()
        return agent

    def start_ryu_manager(self) -> Process:
        """Start the flow controller on Ryu."""
        return self.spawn(
            "flows",
            *(ryu_python(), ROOT / "tools/ryu-manager", "--config-file", self.config),
            *("--ofp-listen-host", "127.0.0.1", "ovs_metadata.flows.app"),
            PYTHONPATH=str(ROOT / "src"),
        )

    def children(self) -> dict[str, int]:
        """Pids of the agent's children, by the module they run; of workers, the last one."""
        agent = self.processes["agent"].pid
        pids = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        found = {}
        for pid in pids:
            with contextlib.suppress(FileNotFoundError):  # it has just ended
                for word in Path(f"/proc/{pid}/cmdline").read_text().split("\0"):
                    if word.startswith("ovs_metadata."):
                        found[word] = int(pid)
        return found

    @contextlib.contextmanager
    def stopped_controller(self) -> Iterator[None]:
        """Stop (SIGSTOP) the flow controller, and the agent, which would replace it."""
        controller = self.children()["ovs_metadata.flows.launcher"]
        with contextlib.ExitStack() as stopped:
            with self._no_writer():
                stopped.enter_context(stopped_process(self.processes["agent"].pid))
                stopped.enter_context(stopped_process(controller))
            yield

    @contextlib.contextmanager
    def _no_writer(self) -> Iterator[None]:
        """No process writes to a directory store: one that is stopped must not hold its lock."""
        kind, _, directory = self.store_url.partition(":")
        lock = Path(directory) / ROOT_NODE.lstrip("/") / ".lock"
        if kind != "directory" or not lock.exists():
            yield
            return
        with lock.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX)
            yield

    def mn_conf(self, *args: str) -> list[str | Path]:
        """A command line of `mn-conf`, about this hypervisor's store."""
        module = (sys.executable, "-m", "ovs_metadata.cli.mn_conf.command")
        return [*module, "--config", self.config, "--store", self._store_url_here, *args]

    def command(self, name: str, *args: str) -> list[str | Path]:
        """The command line of one of our commands, with this hypervisor's configuration."""
        return [
            Path(sys.executable).parent / f"ovs-metadata-{name}",
            "--config",
            self.config,
            *args,
        ]

    def wait_until_serving(self, timeout: float = 60.0) -> None:
        """Wait until the metadata port has its addresses and a hook leads from it."""
        wait_for(self._serving, "the agent to serve", timeout)

    def _serving(self) -> bool:
        addresses = run(
            *("ip", "-n", self.metadata_namespace, "route", "show", "table", "local"),
            check=False,
        )
        return f"local {PORT_NETWORK_IPV4} " in addresses and "in_port=metadata " in self.flows(
            "table=0"
        )

    def start_metadata_service(self) -> Process:
        """Start the stand-in for Nova where the agent expects Nova; it knows all guests."""
        instances = self._write_instances()
        service = self.spawn(
            "metadata-service",
            *(sys.executable, "-m", "lab.stand_ins.metadata_service", "--listen", "127.0.0.1:8775"),
            *("--instances", instances, "--secret-file", self.root / "shared-secret"),
            PYTHONPATH=str(Path(__file__).parents[2]),
        )
        wait_for(lambda: "instances at" in service.log.read_text(), "the metadata service")
        return service

    def _write_instances(self) -> Path:
        path = self.root / "instances.json"
        path.write_text(dump_instances(instance_of(guest) for guest in self.guests))
        service = self.processes.get("metadata-service")
        if service and service.alive():
            service.kill(signal.SIGHUP)
        return path

    # Guests and their records.

    @property
    def store(self) -> Store:
        """The store the agent follows."""
        if self._store is None:
            self._store = open_store(self._store_url_here, security=self.store_security)
        return self._store

    def close_store(self) -> None:
        """Let go of the store, before it is taken down for example."""
        if self._store:
            self._store.close()
            self._store = None

    def put(self, guest: Guest, **changes: Any) -> None:
        """Write the guest's port record, or an own version of it."""
        document = json.dumps(guest.record(**changes)).encode()
        self.store.put(PortRecord.from_json(guest.port_id, document), force=True)

    def add_guest(self, suffix: str, *, plug: bool = True, record: bool = True, **of: Any) -> Guest:
        """Make a guest, by default with its record and plugged into the bridge."""
        guest = Guest(f"{self.prefix}-{suffix}", **of)
        self.guests.append(guest)
        self._write_instances()
        guest.create(self.ovs)
        if record:
            self.put(guest)
        if plug:
            guest.plug(self.ovs, self.bridge)
        return guest

    def expect(self, guest: Guest) -> None:
        """Have the metadata service here know a guest of another hypervisor, which will move."""
        self.guests.append(guest)
        self._write_instances()

    def share_store(self, other: "Hypervisor") -> None:
        """Use the store of another hypervisor; the configuration is to be written afterwards."""
        self.close_store()
        self.store_url = self._store_url_here = other.store_url

    def wait_until_served(self, guest: Guest, timeout: float = 30.0) -> int:
        """Wait until the guest's hooks are in place; returns its ofport."""
        ofport = self.ovs.ofport(guest.tap)
        wait_for(lambda: self.flows_of(ofport), f"flows of {guest.name}", timeout)
        return ofport

    def port_address(self, guest: Guest) -> str:
        """The IPv4 port address of the guest's port."""
        return port_address(self.ovs.ofport(guest.tap))

    # What the switch has.

    def flows(self, *match: str) -> str:
        """Our flows, with the names of tables and ports."""
        return self.ovs.ofctl("--names dump-flows", self.bridge, ",".join([OURS, *match]))

    def flows_of(self, ofport: int) -> list[str]:
        """Our flows that serve one port, without statistics."""
        ours = f"cookie={COOKIE_PREFIX | ofport:#x}/{COOKIE_MASK | 0xFFFF:#x}"
        text = self.ovs.ofctl("--no-stats dump-flows", self.bridge, ours)
        return [line.strip() for line in text.splitlines()]

    def static_flows(self) -> list[str]:
        """All our flows, without statistics, in order."""
        text = self.ovs.ofctl("--no-stats --names dump-flows", self.bridge, OURS)
        return sorted(line for line in text.splitlines() if "send_flow_rem" in line)

    def report(self) -> str:
        """The state that a developer needs after a failure, without another run."""
        parts = [self.ovs.report(self.bridge)]
        for namespace in (self.namespace, self.metadata_namespace):
            for what in ("addr", "neigh"):
                text = run("ip", "-n", namespace, what, check=False).rstrip()
                parts.append(f"--- ip {what} in {namespace}\n{text}")
        for guest in self.guests:
            text = run("ip", "-n", guest.name, "neigh", check=False).rstrip()
            parts.append(f"--- neighbours of {guest.name}\n{text}")
        for log in sorted(self.root.glob("*.log")) + sorted(self.root.glob("*/*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-60:])
            parts.append(f"--- {log.name}\n{tail}")
        return "\n".join(parts)
