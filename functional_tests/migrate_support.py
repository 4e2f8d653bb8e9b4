"""A hypervisor on the way from Neutron's metadata agent to ours, and back."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import run

CLIENTS = 4
"""Connections of the guest at any time, and so the most requests in flight."""

MAX_GAP = 3.0
"""Seconds on the way back that an answer may take, on a busy machine."""


def migrate_command(hypervisor: Hypervisor, *arguments: str | Path) -> list[str | Path]:
    """The command line that runs `ovs-metadata migrate` on that host."""
    return [
        *("nsenter", f"--net=/run/netns/{hypervisor.namespace}"),
        *(Path(sys.executable).parent / "ovs-metadata", "--config", hypervisor.config),
        *("migrate", *arguments),
    ]


@dataclass(frozen=True)
class Cloud:
    """A hypervisor whose guest Neutron serves; our agent runs, and is not enabled.

    `ini` is the file of Neutron's agent, `haproxy` returns the process id of its haproxy.
    """

    hypervisor: Hypervisor
    guest: Guest
    ini: Path
    haproxy: Callable[[], int]

    def migrate(self, *arguments: str | Path) -> str:
        """Run the command on the host; returns what it printed."""
        return run(*migrate_command(self.hypervisor, *arguments), timeout=120)

    def warnings_of(self, *arguments: str | Path) -> str:
        """Run the command on the host; returns what it printed on standard error."""
        words = migrate_command(self.hypervisor, *arguments)
        return run("sh", "-c", 'exec "$@" 2>&1 >/dev/null', "sh", *words, timeout=120)

    def connections_of_neutron(self) -> int:
        """How many connections Neutron's haproxy has been sent: PassiveOpens of proc_net_snmp."""
        text = Path(f"/proc/{self.haproxy()}/net/snmp").read_text()
        names, values = (line.split() for line in text.splitlines() if line.startswith("Tcp:"))
        return int(values[names.index("PassiveOpens")])

    def served_by_neutron(self) -> bool:
        """Whether the guest gets its own answer, and by haproxy."""
        before = self.connections_of_neutron()
        served = self.guest.identity("--max-time", "2") == self.guest.instance_id
        return served and self.connections_of_neutron() > before
