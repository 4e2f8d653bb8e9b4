"""A node of a devstack, as the plugin in `devstack/` sees it, below one directory.

devstack itself takes over a whole machine. `devstack_stand_ins.sh` has what the plugin uses of it:
the functions it documents and the order of its scripts. The plugin is that of a copy of this source
tree, as devstack would have cloned it, and what it does is real: pip installs, ZooKeeper and the
agent run. Services are ended by pid, by the plugin or by `close`.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from lab.rig.process import LabError, run, wait_for
from lab.upstream import neutron_install

ROOT = Path(__file__).resolve().parents[3]
STAND_INS = Path(__file__).with_name("devstack_stand_ins.sh")

MAX_SCRIPT = 600.0
"""Seconds for a whole stack.sh, which installs from the package index."""

STACK_USER = "nobody"
"""Whom services run as that are not root's."""

CONSTRAINTS = """\
eventlet===0.41.2
kazoo===2.11.0
netaddr===1.3.0
os-ken===4.2.2
pyroute2===0.8.1
"""
"""Of OpenStack's upper constraints those on what we use, older than ours ones among them."""


def copy_source(target: Path) -> None:
    """Copy the files of this source tree that git has, or would take."""
    names = run("git", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard").split("\0")
    for name in filter(None, names):
        source = ROOT / name
        # One that was removed is still in git's list until the next commit.
        if source.exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)


class DevstackNode:
    """One node.

    Args:
        services: what is in ENABLED_SERVICES before the plugin's settings are read.
        namespace: network namespace in which the node's services run, and what sudo runs.
        variables: more of what local.conf and devstack's libraries set.
    """

    def __init__(
        self, services: str, *, namespace: str | None = None, **variables: str | Path
    ) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="ovs-metadata-devstack-"))
        # Services of other users are installed in it.
        self.root.chmod(0o755)
        self.services = self.root / "status"
        self.logs = self.root / "logs"
        self.logs.mkdir()
        self.neutron_conf = self.root / "etc" / "neutron.conf"
        self.nova_conf = self.root / "etc" / "nova.conf"
        self.l3_conf = self.root / "etc" / "l3_agent.ini"
        self.conf_dir = self.root / "etc" / "ovs-metadata"
        self.commands = self.root / "bin"
        self.devstack_venv = self.root / "data" / "venv"
        self._namespace = namespace
        self._variables: dict[str, str | Path] = {
            "PLUGIN_DIR": ROOT,
            "ENABLED_SERVICES": services,
            "DATA_DIR": self.root / "data",
            "SERVICE_DIR": self.services,
            "LOG_DIR": self.logs,
            "STACK_USER": STACK_USER,
            "PYTHON": Path(sys.base_prefix) / "bin" / "python3",
            "REQUIREMENTS_DIR": self.root / "requirements",
            "GLOBAL_VENV": "True",
            "DEVSTACK_VENV": self.devstack_venv,
            "NEUTRON_CONF": self.neutron_conf,
            "Q_L3_CONF_FILE": self.l3_conf,
            "NOVA_CONF": self.nova_conf,
            "SERVICE_HOST": "127.0.0.1",
            "NODE_NAMESPACE": namespace or "",
            "OVS_METADATA_CONF_DIR": self.conf_dir,
            "OVS_METADATA_RUN_DIR": self.root / "run",
            "OVS_METADATA_LINK_DIR": self.commands,
            **variables,
        }
        self.commands.mkdir()
        sudo = self.commands / "sudo"
        # The tests run as root.
        sudo.write_text(f'#!/bin/sh\nexec {shlex.join(self._inside())} "$@"\n')
        sudo.chmod(0o755)

    def prepare(self) -> None:
        """Do what stack.sh has done by the time it comes to plugins: clone, install, configure."""
        source = self.root / "ovs-metadata-agent"
        copy_source(source)
        self._variables["PLUGIN_DIR"] = source
        constraints = self.root / "requirements" / "upper-constraints.txt"
        constraints.parent.mkdir()
        constraints.write_text(CONSTRAINTS)
        # devstack's one environment for all services; what Neutron needs is linked into it.
        run(str(self._variables["PYTHON"]), "-m", "venv", self.devstack_venv, timeout=120)
        neutron = neutron_install.install_neutron()
        (packages,) = (neutron.venv / "lib").glob("python3*/site-packages")
        (mine,) = (self.devstack_venv / "lib").glob("python3*/site-packages")
        (mine / "neutron.pth").write_text(f"{packages}\n")
        self.neutron_conf.parent.mkdir()
        self.neutron_conf.write_text("[DEFAULT]\ncore_plugin = ml2\n")
        self.nova_conf.write_text("[DEFAULT]\ndebug = True\n\n[neutron]\nregion_name = RegionOne\n")
        self.l3_conf.write_text("[DEFAULT]\n# enable_metadata_proxy = true\ndebug = True\n")

    def script(self, name: str, *args: str, check: bool = True) -> str:
        """Run `stack`, `unstack` or `clean`, or read `settings`; returns all that was printed.

        Raises:
            LabError: it failed, and `check` is true; says with what.
        """
        node = self.root / "node"
        node.write_text(
            "".join(f"{key}={shlex.quote(str(value))}\n" for key, value in self._variables.items())
        )
        done = subprocess.run(
            [STAND_INS, name, node, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=MAX_SCRIPT,
            env=self._environment(),
            check=False,
        )
        with (self.logs / f"{name}.log").open("a") as log:
            log.write(done.stdout)
        if check and done.returncode:
            raise LabError(f"{name} exited {done.returncode}:\n{done.stdout[-8000:]}")
        return done.stdout

    def settings(self, *names: str) -> dict[str, str]:
        """Variables once the plugin's settings are read."""
        # A line each, NAME="value", after the options of declare.
        lines = self.script("settings", *names).splitlines()
        found = (shlex.split(line)[2].partition("=") for line in lines if "declare " in line[:8])
        return {name: value for name, _, value in found}

    def command(self, name: str, *args: str) -> str:
        """Run one of our commands where an operator would find it."""
        config = ("--config", str(self.conf_dir / "agent.conf"))
        return run(*self._inside(), self.commands / name, *config, *args)

    def running(self) -> dict[str, int]:
        """The services that run, with their process ids."""
        pids = {file.stem: int(file.read_text()) for file in self.services.glob("*.pid")}
        return {name: pid for name, pid in pids.items() if Path(f"/proc/{pid}").exists()}

    def report(self) -> str:
        """The end of each log, to be printed on a failure."""
        parts = []
        for log in sorted(self.logs.glob("*.log")):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
            parts.append(f"--- {log.name}\n{tail}")
        return "\n".join(parts)

    def close(self) -> None:
        """End what still runs, and remove the directory."""
        for pid in self.running().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not self.running(), "the node's services to end", 30)
        shutil.rmtree(self.root)

    def _inside(self) -> list[str]:
        """What a command begins with that is to run in the node's network namespace."""
        return ["nsenter", f"--net=/run/netns/{self._namespace}"] if self._namespace else []

    @staticmethod
    def _without_venv(path: str) -> str:
        """A PATH without this project's own environment, whose commands must not be found."""
        own = str(Path(sys.executable).parent)
        return os.pathsep.join(part for part in path.split(os.pathsep) if part != own)

    def _environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name not in {"PYTHONPATH", "VIRTUAL_ENV"}
        }
        return kept | {"PATH": f"{self.commands}:{self._without_venv(os.environ['PATH'])}"}
