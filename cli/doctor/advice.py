"""What to do about a finding: a sentence, and the commands that do it. Values.

A command is complete: who copies it into a shell of root on this host changes what it says. Where
only the operator knows a word, such as the file that holds Nova's secret, the command has a name in
capital letters in its place, and the sentence explains it.
"""

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from ovs_metadata.host.config import DEFAULT_PATH, Config
from ovs_metadata.store.configuration import DEFAULT_TEMPLATE

DEFAULT_OVSDB = "unix:/run/openvswitch/db.sock"
DEFAULT_RUNDIR = "/run/openvswitch"

AGENT_UNIT = "ovs-metadata-agent"


@dataclass(frozen=True, slots=True)
class Command:
    """A command, without the options that lead it to this host's Open vSwitch and store."""

    program: str
    words: tuple[str, ...]
    reads: str = ""
    """The file that it reads from standard input, if any."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do: `text` in a sentence or two, and the commands for it, in order."""

    text: str
    commands: tuple[Command, ...] = ()


@dataclass(frozen=True, slots=True)
class Shell:
    """Writes commands as an operator of this host types them. `store_url`: as --store has it."""

    config: Config | None = None
    store_url: str | None = None

    def line(self, command: Command) -> str:
        """The command on one line, quoted for a shell."""
        match command.program:
            case "ovs-vsctl":
                options = self._to_ovsdb()
            case "ovs-ofctl":
                return self._ofctl(command)
            case "mn-conf" | "ovs-metadata":
                options = self._to_store()
            case _:
                options = []
        reads = f" <{command.reads}" if command.reads else ""
        return _quoted([command.program, *options, *command.words]) + reads

    def _to_ovsdb(self) -> list[str]:
        connection = self.config.ovsdb_connection if self.config else DEFAULT_OVSDB
        return [] if connection == DEFAULT_OVSDB else [f"--db={connection}"]

    def _ofctl(self, command: Command) -> str:
        """The bridge follows the command's name, and flows are named exactly."""
        name, *words = command.words
        bridge = self.config.bridge if self.config else "br-int"
        if self.config and str(self.config.rundir) != DEFAULT_RUNDIR:
            bridge = f"unix:{self.config.management_socket}"
        strict = ["--strict"] if name == "del-flows" else []
        return _quoted([command.program, "-O", "OpenFlow13", *strict, name, bridge, *words])

    def _to_store(self) -> list[str]:
        options = []
        if self.config and self.config.path not in {None, DEFAULT_PATH}:
            options += ["--config", str(self.config.path)]
        if self.store_url is not None:
            options += ["--store", self.store_url]
        return options


def _quoted(words: list[str]) -> str:
    return " ".join(map(shlex.quote, words))


def vsctl(*words: str) -> Command:
    """`ovs-vsctl`, of this host's OVSDB."""
    return Command("ovs-vsctl", words)


def delete_flow(flow: str) -> Command:
    """Remove one flow from the agent's bridge."""
    return Command("ovs-ofctl", ("del-flows", flow))


def open_port(name: str, switches: Iterable[str]) -> tuple[Command, ...]:
    """Let packets through a port again."""
    return tuple(Command("ovs-ofctl", ("mod-port", name, each)) for each in switches)


def from_neutron() -> Command:
    """Make the records those of Neutron's ports; OpenStack's credentials are in the environment."""
    return Command("ovs-metadata", ("port", "sync", "--from-neutron"))


def restart_agent() -> Command:
    """Start the agent, or start it again."""
    return Command("systemctl", ("restart", AGENT_UNIT))


def resume(pid: int) -> Command:
    """Have a process go on that a signal has stopped."""
    return Command("kill", ("-CONT", str(pid)))


def set_value(source: str, key: str, value: str) -> Command:
    """Set a key where it is decided; `value` in HOCON."""
    return Command("mn-conf", ("set", *_where(source), f"{key} : {value}"))


def set_secret(source: str) -> Command:
    """Set the shared secret where it is decided."""
    return Command("mn-conf", ("set", *_where(source), "--secret-file", "SECRET_FILE"))


def set_all(source: str) -> Command:
    """Replace all that a source has by what a dump of it has."""
    return Command("mn-conf", ("set", *_where(source), "--clear"), reads="DUMP_FILE")


def unset_value(source: str, key: str) -> Command:
    """Remove a key from a source, so that the next one decides."""
    return Command("mn-conf", ("unset", *_where(source), key))


def _where(source: str) -> tuple[str, str]:
    """The option for a source, "host compute-1" for example; what nothing sets is set for all."""
    kind, _, name = source.partition(" ")
    return ("-h", name) if kind == "host" else ("-t", name or DEFAULT_TEMPLATE)
