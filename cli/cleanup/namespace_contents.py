"""What is in a named network namespace: processes, sockets and network devices.

Blocking; needs root, and the host's process ids. Nothing is kept between calls.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ovs_metadata.agent.network.namespaces import NAMESPACES, inside_namespace
from ovs_metadata.agent.network.netlink import IPRoute, NetlinkError, netns

UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

_SOCKETS = ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "packet")
"""Tables of sockets in /proc/net; those of UNIX sockets say nothing about the network."""

_NOWHERE = (0, 0)
"""Not the device and inode of any namespace."""

_IFF_LOOPBACK = 0x8
_IFF_RUNNING = 0x40
"""Of linux/if.h."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by its id and the name it goes by."""

    pid: int
    name: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name})"


@dataclass(frozen=True, slots=True)
class NamespaceDevice:
    """A network device of a namespace; `connected`: it is up, and so is what is behind it."""

    name: str
    connected: bool


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a namespace: processes, the number of sockets, and devices but loopback."""

    processes: tuple[Process, ...] = ()
    sockets: int = 0
    devices: tuple[NamespaceDevice, ...] = ()


def find(name: re.Pattern[str], directory: Path = NAMESPACES) -> list[Path]:
    """The namespaces of this name in a directory of named namespaces, in order of name."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if name.fullmatch(path.name))


def contents(path: Path) -> Contents:
    """What is in a named namespace. Raises OSError."""
    if not _is_namespace(path):
        # A name that is left of a namespace that is gone.
        return Contents()
    try:
        with inside_namespace(str(path.absolute())), IPRoute() as inside:
            links = list(inside.get_links())
            sockets = sum(_entries(Path("/proc/thread-self/net", kind)) for kind in _SOCKETS)
    except NetlinkError as error:
        raise OSError(f"{path}: {error}") from error
    devices = (
        NamespaceDevice(link.get_attr("IFLA_IFNAME"), bool(link["flags"] & _IFF_RUNNING))
        for link in links
        if not link["flags"] & _IFF_LOOPBACK
    )
    wanted = path.stat()
    processes = (
        process
        for process, namespaces in _processes()
        if (wanted.st_dev, wanted.st_ino) in namespaces
    )
    return Contents(tuple(processes), sockets, tuple(devices))


def opaque_processes() -> list[Process]:
    """Processes of which the kernel does not tell us where they are: they may do more than we may.

    In a container, or under a service manager that takes capabilities away. What they do in a
    namespace shows by their sockets only.
    """
    return [process for process, namespaces in _processes() if not namespaces]


def remove(path: Path) -> None:
    """Remove the name; the namespace ends with it, if nothing is in it. Raises OSError."""
    if _is_namespace(path):
        netns.remove(str(path.absolute()))
    else:
        path.unlink()


def _is_namespace(path: Path) -> bool:
    # The kernel's file of a namespace is on a file system of its own (nsfs).
    return path.stat().st_dev != path.parent.stat().st_dev


def _entries(table: Path) -> int:
    """The number of lines in a table of the kernel's, without its heading."""
    try:
        return len(table.read_text().splitlines()) - 1
    except FileNotFoundError:
        # A kernel without IPv6, say.
        return 0


def _processes() -> Iterator[tuple[Process, set[tuple[int, int]]]]:
    """All processes, and the network namespaces (device, inode) that their threads are in."""
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            name = (directory / "comm").read_text(errors="backslashreplace").removesuffix("\n")
            namespaces = set(_namespaces_of(directory))
        except (FileNotFoundError, ProcessLookupError):
            # It has just ended.
            continue
        yield Process(int(directory.name), name), namespaces


def _namespaces_of(process: Path) -> Iterator[tuple[int, int]]:
    for thread in (process / "task").iterdir():
        try:
            status = (thread / "ns" / "net").stat()
        except (FileNotFoundError, ProcessLookupError):
            # That thread has just ended, or is a zombie, and is nowhere any more.
            yield _NOWHERE
        except PermissionError:
            return
        else:
            yield status.st_dev, status.st_ino
