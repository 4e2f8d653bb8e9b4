"""The service manager, systemd: listening sockets kept across a restart, and its watchdog.

Sockets: systemd's file descriptor store (sd_notify(3), FDSTORE=1) holds a copy of each listening
socket. The next agent inherits them, also after a crash (sd_listen_fds(3)), and connections that
guests open in between wait in their backlogs. Without a service manager, or if the inherited
sockets do not fit, the agent opens new ones. Blocking, but only for datagrams to a local socket.
One object, from the agent's start to its end.

Watchdog: systemd restarts an agent that sends no pings. The event loop sends them, and it also
handles every change: if it is stuck, the pings end. A task, from the agent's start to its end; none
without a watchdog (sd_watchdog_enabled(3)).
"""

import asyncio
import fcntl
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ovs_metadata.agent.network.listeners import end
from ovs_metadata.problem_log import ProblemLog

LOG = logging.getLogger(__name__)

_FIRST_INHERITED = 3
"""SD_LISTEN_FDS_START of systemd."""

_NAME = re.compile(r"listener-(\d+)-(\d+)")
"""FDNAME of a socket: the number of its worker, and its own number in that worker's group."""

_SIOCGSKNS = 0x894C
"""Of linux/sockios.h: opens the network namespace of a socket. Needs CAP_NET_ADMIN."""

PINGS_PER_TIMEOUT = 3
"""More than one, so that a late or lost ping does no harm."""

Groups: TypeAlias = Sequence[Sequence[socket.socket]]
"""The listening sockets of each worker, in order."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a socket listens."""

    namespace: int
    """Identity (inode) of the network namespace. Not used again while a socket is in it."""
    address: str
    port: int


def names(groups: Sequence[Sequence[object]]) -> list[list[str]]:
    """The names of the sockets in the descriptor store. A name includes the position."""
    return [
        [f"listener-{number}-{index}" for index in range(len(group))]
        for number, group in enumerate(groups)
    ]


def fits(found: Mapping[str, Place], wanted: Sequence[Sequence[Place]]) -> bool:
    """Whether the inherited sockets are exactly the wanted ones.

    All or nothing: connections are spread over the sockets by their number and order.
    """
    expected = {
        name: place
        for group, named in zip(wanted, names(wanted), strict=True)
        for place, name in zip(group, named, strict=True)
    }
    return bool(expected) and found == expected


class Systemd:
    """The agent's side of systemd: notifications, and the file descriptor store."""

    def __init__(self, manager: str, inherited: Mapping[str, socket.socket]) -> None:
        """Make it; `from_environment` is the usual way.

        Args:
            manager: path of the manager's notification socket, or its name behind an @; empty:
                there is none.
            inherited: sockets of the descriptor store, by name.
        """
        self._manager = manager
        self._inherited = dict(inherited)
        self._stored = set(inherited)
        self._problem = ProblemLog(LOG, "cannot notify the service manager: %s")

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str] = os.environ) -> "Systemd":
        """Take what the manager has passed to this process; children do not inherit it."""
        manager = environ.pop("NOTIFY_SOCKET", "")
        pid, count, colon_separated = (
            environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        )
        inherited: dict[str, socket.socket] = {}
        if pid == str(os.getpid()) and count.isdecimal():
            given = colon_separated.split(":")
            for number in range(int(count)):
                descriptor = _FIRST_INHERITED + number
                name = given[number] if number < len(given) else ""
                if _NAME.fullmatch(name):
                    os.set_inheritable(descriptor, False)
                    inherited[name] = socket.socket(fileno=descriptor)
                else:
                    os.close(descriptor)  # unknown: no code would use or close it
        return cls(manager, inherited)

    def take(
        self,
        wanted: Sequence[Sequence[Place]],
        *,
        intact: Callable[[socket.socket], bool] = lambda _: True,
    ) -> list[list[socket.socket]] | None:
        """The inherited sockets if they are the wanted ones; else close them, and return None.

        `intact`: whether a socket is as it was made, and no worker has changed it.
        """
        inherited, self._inherited = self._inherited, {}
        if not inherited:
            return None
        places = {name: _place(each) for name, each in inherited.items()}
        if fits(places, wanted) and all(map(intact, inherited.values())):
            LOG.info("reusing the %d listening sockets of the previous run", len(inherited))
            return [[inherited[name] for name in group] for group in names(wanted)]
        LOG.info("closing the listening sockets of the previous run: they do not fit this one")
        end(inherited.values())
        self.forget()
        return None

    def keep(self, groups: Groups) -> None:
        """Have the manager keep these sockets."""
        for named, group in zip(names(groups), groups, strict=True):
            for name, each in zip(named, group, strict=True):
                if self._send(f"FDSTORE=1\nFDNAME={name}", each.fileno()):
                    self._stored.add(name)

    def replace(self, number: int, group: Sequence[socket.socket]) -> None:
        """Have the manager keep these sockets of a worker instead of the previous ones."""
        for index, each in enumerate(group):
            name = f"listener-{number}-{index}"
            self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
            if self._send(f"FDSTORE=1\nFDNAME={name}", each.fileno()):
                self._stored.add(name)

    def forget(self) -> None:
        """Have the manager drop all sockets; inherited ones that were not taken are closed."""
        inherited, self._inherited = self._inherited, {}
        end(inherited.values())
        for name in sorted(self._stored):
            self._send(f"FDSTOREREMOVE=1\nFDNAME={name}")
        self._stored.clear()

    def ready(self) -> None:
        """Notify the manager that the agent has started."""
        self._send("READY=1")

    def ping(self) -> None:
        """Ping the manager's watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Notify the manager that the agent is stopping."""
        self._send("STOPPING=1")

    def _send(self, message: str, *descriptors: int) -> bool:
        if not self._manager:
            return False
        address = "\0" + self._manager[1:] if self._manager.startswith("@") else self._manager
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.connect(address)
                socket.send_fds(sender, [message.encode()], list(descriptors))
        except OSError as error:
            self._problem.found([str(error)])
            return False
        self._problem.found()
        return True


def namespace_of(sock: socket.socket) -> int:
    """The identity of the network namespace a socket was made in; raises OSError."""
    descriptor = fcntl.ioctl(sock, _SIOCGSKNS)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def _place(sock: socket.socket) -> Place:
    try:
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return Place(0, "", 0)
        address, port = sock.getsockname()[:2]
        return Place(namespace_of(sock), address, port)
    except OSError:
        return Place(0, "", 0)  # nowhere: it fits nothing


def ping_interval(environ: MutableMapping[str, str] = os.environ) -> float | None:
    """Seconds between two pings; None without a watchdog.

    Removes the manager's variables from the environment, so that children do not inherit them.
    """
    microseconds, pid = (environ.pop(name, "") for name in ("WATCHDOG_USEC", "WATCHDOG_PID"))
    if not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    if pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 / PINGS_PER_TIMEOUT


async def send_pings(interval: float, ping: Callable[[], None]) -> None:
    """Send a ping now, and every `interval` seconds until cancelled."""
    while True:
        ping()
        await asyncio.sleep(interval)
