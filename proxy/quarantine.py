"""Ports that waste connections by the hundred get none for a while.

Turning a connection away, or answering nonsense, costs about as much as serving a request, and a
guest can open many thousands of connections. So a port that goes on is shut out by the kernel: a
socket filter on the listening sockets drops its packets, and nothing of them reaches the worker.
Connections it has already are not touched, nor is anybody else's.

Belongs to the event loop's thread and lives as long as the worker.
Format: socket(7), SO_ATTACH_FILTER; struct sock_filter of linux/filter.h.
"""

import ctypes
import ipaddress
import logging
import socket
import struct
from collections import Counter
from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)

_SO_ATTACH_FILTER = 26
_SO_DETACH_FILTER = 27

# BPF_LD | BPF_H | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K.
_LOAD_16_BITS, _JUMP_IF_EQUAL, _RETURN = 0x28, 0x15, 0x06
_DROP, _PASS = 0, 0xFFFFFFFF

_FROM_NETWORK_HEADER = 0xFFF00000
"""SKF_NET_OFF: what is added to it is an offset from the start of the IP header."""

_SOURCE_ENDS_AT = {socket.AF_INET: 16, socket.AF_INET6: 24}
"""Where in the IP header the source address ends: RFC 791, section 3.1; RFC 8200, section 3."""

_MOST = 1024
"""Ports at once. A program may have 4096 instructions, and each port takes two."""

_COUNTED_FOR = 1.0
"""Seconds over which wasted connections are counted."""


class Quarantine:
    """Who is shut out of some listening sockets."""

    def __init__(self) -> None:
        self._listeners: Sequence[socket.socket] = ()
        self._turned_away: Counter[int] = Counter()
        self._count_from = 0.0
        self._until: dict[int, float] = {}

    def guard(self, listeners: Sequence[socket.socket]) -> None:
        """Guard these sockets from now on; what a former worker has left on them is removed."""
        self._listeners = listeners
        self._apply()

    def turned_away(self, address: str, *, now: float, tolerance: int, duration: float) -> None:
        """Count a connection that was turned away, or brought nothing but an error.

        Args:
            address: the peer address; its last 16 bits are what tells one port from another.
            now: in seconds, of any clock.
            tolerance: how many of them a second one port may have.
            duration: for how many seconds a port that has more is shut out.
        """
        number = int(ipaddress.ip_address(address)) & 0xFFFF
        self._turned_away[number] += 1
        if (
            self._turned_away[number] > tolerance
            and number not in self._until
            and len(self._until) < _MOST
        ):
            _log.warning("%s wastes connections: it gets no new ones for %g s", address, duration)
            self._until[number] = now + duration
            self._apply()

    def sweep(self, now: float) -> None:
        """Let in again whose time is over."""
        if now >= self._count_from + _COUNTED_FOR:
            self._turned_away.clear()
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
    source = _FROM_NETWORK_HEADER + _SOURCE_ENDS_AT[listener.family] - 2
    instructions = [(_LOAD_16_BITS, 0, 0, source)]
    for number in numbers:
        instructions += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DROP)]
    instructions.append((_RETURN, 0, 0, _PASS))
    code = b"".join(struct.pack("HBBI", *each) for each in instructions)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(instructions), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    except OSError as error:
        _log.warning("the kernel takes no filter for a listening socket: %s", error)


def _detach(listener: socket.socket) -> None:
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        pass  # there is none
    except OSError as error:
        _log.warning("a filter stays on a listening socket: %s", error)
