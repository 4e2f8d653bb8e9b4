"""The network namespaces of OVN's metadata agents (`ovnmeta-…`), and what else they have made.

For each network of its host an agent makes a namespace, a veth pair, whose near end is a port of
the bridge, and a haproxy in the namespace (neutron/agent/ovn/metadata/agent.py). Blocking; needs
root. Nothing is kept between calls.
"""

import os
import re
import select
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ovs_metadata.agent.network.netlink import IPRoute
from ovs_metadata.cli.cleanup.namespace_contents import UUID, Contents, Process, contents
from ovs_metadata.host.join import Interface
from ovs_metadata.host.ovsdb import Ovsdb

NAME = re.compile(f"ovnmeta-({UUID})")
"""ovnmeta- and the network's UUID."""

AGENTS = ("neutron-ovn-metadata-agent", "neutron-ovn-agent")
"""Who makes them; the second one if it has the extension `metadata`."""

PROXY = "haproxy"

PATIENCE = 5.0
"""Seconds that a process has to end after a signal."""


def tap_of(namespace: str) -> str:
    """The name of the interface on the bridge that leads into a namespace."""
    return f"tap{namespace.removeprefix('ovnmeta-')[:10]}0"


def why_in_use(
    namespace: str, contents: Contents, interfaces: Iterable[Interface], own: str
) -> tuple[str, ...]:
    """Why a namespace is not to be removed, in words; nothing when it is stale.

    `interfaces` are those of the bridge; `own` is the namespace of our agent.
    """
    if namespace == own:
        return ("it is the namespace of ovs-metadata-agent",)
    others = [process for process in contents.processes if process.name != PROXY]
    reasons = [str(process) for process in others]
    if contents.sockets and not contents.processes:
        reasons.append(f"{contents.sockets} open sockets")
    tap = tap_of(namespace)
    inner = f"{tap[:-1]}1"
    reasons += [f"device {each.name}" for each in contents.devices if each.name != inner]
    if any(each.name == tap and each.vm_uuid for each in interfaces):
        reasons.append(f"interface {tap} is an instance's")
    return tuple(reasons)


def what_goes(namespace: str, contents: Contents, interfaces: Iterable[Interface]) -> str:
    """What is removed with a namespace, in words."""
    tap = tap_of(namespace)
    there = [f"interface {tap}"] if any(each.name == tap for each in interfaces) else []
    return ", ".join([*map(str, contents.processes), *there])


def living_agents() -> list[Process]:
    """The agents on this host that would make the namespaces again."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                name = _agent((directory / "cmdline").read_text(errors="replace").split("\0"))
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            if name:
                found.append(Process(int(directory.name), name))
    return found


def _agent(words: list[str]) -> str:
    """Which of the agents a command line starts; empty if none.

    An agent's process may have given itself its name as a title, with more behind it.
    """
    program = words[0].partition(" ")[0]
    if Path(program).name.startswith("python"):
        program = next((word for word in words[1:] if not word.startswith("-")), "")
    name = Path(program).name.rstrip(":")
    return name if name in AGENTS else ""


def end(process: Process, namespace: Path) -> None:
    """End a process of a namespace.

    Raises:
        OSError: it does not end, or may not be ended.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        # The number is its own from here on. Before, it may have become another process's.
        if process not in contents(namespace).processes:
            return
        for signum in (signal.SIGTERM, signal.SIGKILL):
            signal.pidfd_send_signal(descriptor, signum)
            if select.select([descriptor], [], [], PATIENCE)[0]:
                return
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)
    raise TimeoutError(f"{process} does not end")


def unplug(ovsdb: Ovsdb, tap: str) -> None:
    """Take an interface off the bridge, and remove its device with the other end of the pair.

    Raises:
        OvsdbRefused: OVSDB did not do it.
        OSError: the device is there and cannot be removed.
    """

    def write(_txn: Any, row: Any, _tables: Any) -> None:
        for port in row.ports if row else ():
            if port.name == tap:
                row.delvalue("ports", port)

    ovsdb.transact(write)
    with IPRoute() as here:
        for index in here.link_lookup(ifname=tap):
            here.link("del", index=index)
