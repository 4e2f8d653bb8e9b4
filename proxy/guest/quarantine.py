"""Ports that abuse connections get no new ones for a while.

To refuse a connection, or an invalid request, costs about as much as to serve a request, and a
guest can open thousands of connections. So a socket filter on the listening sockets
makes the kernel drop the packets of such a port, and the worker gets none of them. The port's open
connections, and other ports' connections, stay.

Belongs to the event loop's thread and lives as long as the worker.
"""

import ipaddress
import logging
import socket
from collections import Counter
from collections.abc import Iterable, Sequence

from ovs_metadata.proxy.guest.socket_program import ATTACH_FILTER, attach, load_ofport

_log = logging.getLogger(__name__)

_SO_DETACH_FILTER = 27

_JUMP_IF_EQUAL, _RETURN = 0x15, 0x06
"""BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K"""
_DROP, _PASS = 0, 0xFFFFFFFF

_MAX_PORTS = 1024
"""Ports in quarantine at once. A program may have 4096 instructions, and each port takes two."""

_COUNTED_FOR = 1.0
"""Seconds over which abuses are counted."""


class Quarantine:
    """The ports in quarantine, and the listening sockets that are closed to them."""

    def __init__(self) -> None:
        self._listeners: Sequence[socket.socket] = ()
        self._abuses: Counter[int] = Counter()
        self._count_from = 0.0
        self._until: dict[int, float] = {}

    def guard(self, listeners: Sequence[socket.socket]) -> None:
        """Guard these sockets from now on; remove the filter of an earlier worker."""
        self._listeners = listeners
        self._apply()

    def record_abuse(self, address: str, *, now: float, tolerance: int, duration: float) -> None:
        """Count a connection that was refused, or brought nothing but an error.

        Args:
            address: the local address; its last 16 bits identify the port.
            now: the time in seconds, of any clock.
            tolerance: abuses a second that a port may have.
            duration: seconds of quarantine for a port that has more.
        """
        number = int(ipaddress.ip_address(address)) & 0xFFFF
        self._abuses[number] += 1
        if (
            self._abuses[number] > tolerance
            and number not in self._until
            and len(self._until) < _MAX_PORTS
        ):
            _log.warning("%s abuses connections: it gets no new ones for %g s", address, duration)
            self._until[number] = now + duration
            self._apply()

    def __len__(self) -> int:
        """Return the number of ports in quarantine."""
        return len(self._until)

    def sweep(self, now: float) -> None:
        """End the quarantines whose time is over."""
        if now >= self._count_from + _COUNTED_FOR:
            self._abuses.clear()
            self._count_from = now
        over = [number for number, until in self._until.items() if until <= now]
        for number in over:
            del self._until[number]
        if over:
            self._apply()

    def _apply(self) -> None:
        for listener in self._listeners:
            if self._until:
                _attach(listener, self._until)
            else:
                _detach(listener)


def _attach(listener: socket.socket, numbers: Iterable[int]) -> None:
    program = [load_ofport(listener)]
    for number in numbers:
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DROP)]
    program.append((_RETURN, 0, 0, _PASS))
    try:
        attach(listener, ATTACH_FILTER, program)
    except OSError as error:
        _log.warning("the kernel refuses the filter of a listening socket: %s", error)


def _detach(listener: socket.socket) -> None:
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        pass  # there is no filter
    except OSError as error:
        _log.warning("cannot remove the filter of a listening socket: %s", error)
