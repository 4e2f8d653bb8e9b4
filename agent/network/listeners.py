"""The workers' listening sockets: used again only as they were made.

A worker that was broken into may have shut its sockets down, connected them, locked a filter on
them or set any option: the next worker would inherit that. So the agent compares the options before
a worker gets another one's sockets, and gives nothing of a worker that it killed for bad behaviour.
It then opens new sockets before it closes the old ones: the kernel puts the last socket of a group
in the place of one that is closed (see `agent.network.steering`), so each worker keeps its ports.

Blocking: opening enters the namespace. One call at a time for a worker.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

LOG = logging.getLogger(__name__)

Options: TypeAlias = Mapping[tuple[int, int], bytes]
"""What the kernel shows of a socket, by level and number of the option."""

_SOCKET_OPTIONS, _PROTOCOL_OPTIONS = range(1, 90), range(1, 64)

_LEFT_OUT = {
    # SO_ERROR, SO_INCOMING_CPU, SO_MEMINFO, SO_INCOMING_NAPI_ID, SO_COOKIE: not settings.
    *((socket.SOL_SOCKET, number) for number in (4, 49, 55, 56, 57)),
    # SO_SNDBUF, SO_RCVBUF, SO_GET_FILTER, SO_BUF_LOCK: each worker sets them when it begins.
    *((socket.SOL_SOCKET, number) for number in (7, 8, 26, 72)),
    (socket.IPPROTO_IP, 52),  # IP_PROTOCOL, which is the port of a TCP socket
    # TCP_INFO, TCP_TIMESTAMP, TCP_CC_INFO: not settings.
    *((socket.IPPROTO_TCP, number) for number in (11, 24, 26)),
}

_MAX_VALUE = 256


def options_of(listener: socket.socket) -> Options:
    """All options of a socket that show whether a process has changed it."""
    protocol = socket.IPPROTO_IPV6 if listener.family == socket.AF_INET6 else socket.IPPROTO_IP
    found = {}
    for level, numbers in (
        (socket.SOL_SOCKET, _SOCKET_OPTIONS),
        (protocol, _PROTOCOL_OPTIONS),
        (socket.IPPROTO_TCP, _PROTOCOL_OPTIONS),
    ):
        for number in numbers:
            if (level, number) not in _LEFT_OUT:
                with contextlib.suppress(OSError):  # there is no such option
                    found[level, number] = listener.getsockopt(level, number, _MAX_VALUE)
    return found


class Listeners:
    """The sockets of all workers, by the workers' numbers."""

    def __init__(
        self,
        groups: Iterable[Sequence[socket.socket]],
        reopen: Callable[[int], Sequence[socket.socket]] | None = None,
    ) -> None:
        """Make it of unused sockets; `reopen` opens new ones for a worker."""
        self._groups = [list(group) for group in groups]
        self._reopen = reopen
        self._made = [[options_of(each) for each in group] for group in self._groups]
        self._distrusted: set[int] = set()

    def __len__(self) -> int:
        """How many workers there are sockets for."""
        return len(self._groups)

    def distrust(self, number: int) -> None:
        """Have a worker's sockets used by no other one."""
        self._distrusted.add(number)

    def of(self, number: int) -> Sequence[socket.socket]:
        """The sockets for a worker that is to start; raises OSError if there are none."""
        changed = [options_of(each) for each in self._groups[number]] != self._made[number]
        if self._reopen and (changed or number in self._distrusted):
            LOG.warning("proxy worker %d gets new listening sockets", number)
            opened = list(self._reopen(number))
            end(self._groups[number])
            self._groups[number] = opened
            self._made[number] = [options_of(each) for each in opened]
            self._distrusted.discard(number)
        return self._groups[number]

    def close(self) -> None:
        """Close all of them here. Who has copies, a service manager for example, keeps those."""
        for group in self._groups:
            for each in group:
                each.close()
        self._groups = []


def end(sockets: Iterable[socket.socket]) -> None:
    """End the listening of sockets, of all copies of them wherever they are."""
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
