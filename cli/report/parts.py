"""What a report has: its parts, in the order in which they are collected. Data."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from ovs_metadata.host.config import Config

JOURNAL_LINES = 5000

_OWN = "import sys; sys.argv[0] = '{0}'; from ovs_metadata.commands import {1}; {1}()"


@dataclass(frozen=True, slots=True)
class ReportPart:
    """A file of the archive, and the command that prints it."""

    name: str
    command: tuple[str, ...]


def parts(config: Config, config_file: str | None, store_url: str | None) -> Iterator[ReportPart]:
    """All parts that a program prints.

    config: the host's, or the defaults if its file cannot be read. config_file, store_url: as the
    command line has them.
    """
    options = [
        *(["--config", config_file] if config_file else []),
        *(["--store", store_url] if store_url else []),
    ]

    def ours(program: str, *words: str) -> tuple[str, ...]:
        code = _OWN.format(program, program.replace("-", "_"))
        return (sys.executable, "-c", code, *options, *words)

    bridge = f"unix:{config.management_socket}"
    openflow = ("ovs-ofctl", "-O", "OpenFlow13", "--timeout=10")
    ovsdb = f"--db={config.ovsdb_connection}"
    inside = ("ip", "netns", "exec", config.namespace)
    yield ReportPart("doctor.txt", ours("ovs-metadata", "doctor"))
    yield ReportPart("doctor.json", ours("ovs-metadata", "doctor", "--format", "json"))
    yield ReportPart("status.json", ours("ovs-metadata", "status", "--format", "json"))
    yield ReportPart("flows.txt", ours("ovs-metadata", "flows"))
    yield ReportPart("agents.json", ours("ovs-metadata", "agent", "list", "--format", "json"))
    yield ReportPart(
        "ports.json", ours("ovs-metadata", "port", "list", "--here", "--format", "json")
    )
    yield ReportPart("configuration.txt", ours("mn-conf", "dump", "-h", config.host, "-c"))
    yield ReportPart("journal.txt", _journal("ovs-metadata-agent"))
    yield ReportPart("journal-open-vswitch.txt", _journal("ovs-vswitchd", "ovsdb-server"))
    yield ReportPart("ovs-vsctl-show.txt", ("ovs-vsctl", ovsdb, "--timeout=10", "show"))
    yield ReportPart("ovsdb.txt", ("ovsdb-client", "dump", config.ovsdb_connection, "Open_vSwitch"))
    yield ReportPart("openflow-flows.txt", (*openflow, "dump-flows", bridge))
    yield ReportPart("openflow-ports.txt", (*openflow, "dump-ports-desc", bridge))
    yield ReportPart("openflow-meters.txt", (*openflow, "dump-meters", bridge))
    yield ReportPart("datapath-flows.txt", ("ovs-appctl", "--timeout=10", "dpctl/dump-flows", "-m"))
    yield ReportPart("network.txt", ("ip", "-details", "address"))
    yield ReportPart("network-of-metadata-port.txt", (*inside, "ip", "-details", "address"))
    yield ReportPart(
        "routes-of-metadata-port.txt", (*inside, "ip", "route", "show", "table", "all")
    )
    yield ReportPart("sockets-of-metadata-port.txt", (*inside, "ss", "-tan"))
    yield ReportPart("firewall.txt", ("nft", "-a", "list", "ruleset"))
    yield ReportPart("firewall-of-metadata-port.txt", (*inside, "nft", "-a", "list", "ruleset"))
    yield ReportPart("processes.txt", ("ps", "-eo", "pid,ppid,user,stat,etime,time,rss,comm"))
    yield ReportPart("memory.txt", ("cat", "/proc/meminfo", "/proc/loadavg"))
    yield ReportPart("clock.txt", ("timedatectl",))
    yield ReportPart("ovs-version.txt", ("ovs-vswitchd", "--version"))
    yield ReportPart("kernel.txt", ("uname", "-a"))
    yield ReportPart("system.txt", ("cat", "/etc/os-release"))


def _journal(*units: str) -> tuple[str, ...]:
    """The last lines of the journal, the newest first: what is too long is cut at the end."""
    return (
        *("journalctl", "--no-pager", "--quiet", "--reverse", "--output=short-iso"),
        f"--lines={JOURNAL_LINES}",
        *(f"--unit={unit}" for unit in units),
    )
