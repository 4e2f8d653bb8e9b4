"""Looks at this host: processes, what the agent says, the metadata port's namespace. Blocking.

Nothing is touched. Whether somebody holds a lock is read in /proc/locks and not tried out, for an
agent that is just starting would then find it taken.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from pyroute2 import IPRoute

from ovs_metadata.agent.network import namespaces
from ovs_metadata.agent.network.ip_versions import device_versions
from ovs_metadata.agent.network.listening import listener_addresses
from ovs_metadata.cli.admin_client import AgentSilent, AgentStill, ask
from ovs_metadata.cli.doctor.facts import (
    AdminFacts,
    AgentFacts,
    DeviceFacts,
    NamespaceFacts,
    ProcessFacts,
)
from ovs_metadata.host.address import METADATA_PORT, SERVICE_IPV4, SERVICE_IPV6
from ovs_metadata.host.config import Config

PROC = Path("/proc")

_WORKER = b"ovs_metadata.proxy.main"
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
"""Of linux/if.h."""


def look_at_agent(config: Config) -> AgentFacts:
    """The agent, its children, and what it says."""
    facts = look_at_processes(config)
    if facts.agent and not facts.agent.stopped:
        return replace(facts, admin=ask_agent(config.admin_socket))
    return facts


def look_at_processes(config: Config) -> AgentFacts:
    """The agent and its children; raises OSError if one may not look at the lock files."""
    agent = _holder(config.state_dir / "agent.lock")
    return AgentFacts(
        wanted_workers=config.workers,
        agent=agent,
        controller=_holder(config.state_dir / "flows.lock"),
        workers=tuple(_workers_of(agent.pid)) if agent else (),
    )


def _holder(lock: Path) -> ProcessFacts | None:
    """The process that holds a lock file (see `ovs_metadata.host.lock`)."""
    try:
        wanted = lock.stat()
    except FileNotFoundError:
        return None
    for line in (PROC / "locks").read_text().splitlines():
        # "1: FLOCK  ADVISORY  WRITE 2052 fe:00:2195525 0 EOF", see proc(5).
        words = line.split()
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(wanted.st_ino):
            process = _process(int(words[4]))
            if process and _has_open(process.pid, wanted):
                return process
    return None


def _has_open(pid: int, wanted: os.stat_result) -> bool:
    """Whether a process has that file open: inode numbers alone may be another file system's."""
    try:
        descriptors = list((PROC / str(pid) / "fd").iterdir())
    except PermissionError:  # only root may look, and for others the number has to do
        return True
    except OSError:  # it has just ended
        return False
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            if os.path.samestat(descriptor.stat(), wanted):
                return True
    return False


def _process(pid: int) -> ProcessFacts | None:
    try:
        text = (PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The process has chosen its name, which is in brackets, and may be any bytes.
    state = text.rpartition(b")")[2].split()[0].decode("ascii")
    if state in "ZX":
        return None
    return ProcessFacts(pid, stopped=state in "Tt")


def _workers_of(agent: int) -> Iterator[ProcessFacts]:
    for directory in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int((directory / "stat").read_bytes().rpartition(b")")[2].split()[1])
            if parent != agent or _WORKER not in (directory / "cmdline").read_bytes().split(b"\0"):
                continue
            process = _process(int(directory.name))
            if process:
                yield process


def ask_agent(place: Path) -> AdminFacts:
    """What the agent says at its socket of readiness and ports."""
    try:
        status, ports = ask(place, "/status"), ask(place, "/ports")
        return AdminFacts(
            ready=status["ready"],
            problems=tuple(status["problems"]),
            ports=tuple(ports["ports"]),
            enabled=status["enabled"],
        )
    except AgentStill as error:
        return AdminFacts(silent=str(error))
    except AgentSilent as error:
        return AdminFacts(unreachable=str(error))


def look_at_namespace(config: Config) -> NamespaceFacts:
    """The metadata port's network namespace, its device, and who listens in there."""
    if namespaces.namespace_id(config.namespace) is None:
        return NamespaceFacts(config.namespace)
    with namespaces.inside_namespace(config.namespace):
        ipv6 = 6 in device_versions()
        return NamespaceFacts(
            config.namespace,
            exists=True,
            device=_metadata_device(),
            wanted_addresses=(SERVICE_IPV4, SERVICE_IPV6) if ipv6 else (SERVICE_IPV4,),
            listening=frozenset(_listening()),
            wanted_listening=tuple(listener_addresses()),
        )


def _metadata_device() -> DeviceFacts | None:
    with IPRoute() as here:
        for link in here.get_links(ifname=METADATA_PORT):
            addresses = here.get_addr(index=link["index"])
            return DeviceFacts(
                up=bool(link["flags"] & _IFF_UP),
                mac=link.get_attr("IFLA_ADDRESS"),
                mtu=link.get_attr("IFLA_MTU"),
                addresses=frozenset(each.get_attr("IFA_ADDRESS") for each in addresses),
            )
    return None


def _listening() -> Iterator[tuple[str, int]]:
    """Address and port of all TCP sockets that listen in this thread's namespace: proc_net_tcp."""
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in (PROC / "thread-self" / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A":
                    address, _, port = words[1].partition(":")
                    yield _address(bytes.fromhex(address)), int(port, 16)


def _address(data: bytes) -> str:
    """An address as the kernel prints it there: words of 32 bits in the byte order of the host."""
    words = (int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))


def link_problem(device: str) -> str | None:
    """Why a device in this namespace carries nothing; empty if it does, None if it is not here."""
    with IPRoute() as here:
        for link in here.get_links(ifname=device):
            if not link["flags"] & _IFF_UP:
                return "is down"
            return "" if link["flags"] & _IFF_LOWER_UP else "has no carrier"
    return None
