"""Programs in classic BPF that the kernel runs for a socket, such as those that distinguish ports.

Formats: socket(7), SO_ATTACH_FILTER and SO_ATTACH_REUSEPORT_CBPF; struct sock_fprog and struct
sock_filter of linux/filter.h.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import TypeAlias

Instruction: TypeAlias = tuple[int, int, int, int]
"""Operation, instructions to jump if true and if false, operand."""

ATTACH_FILTER = 26
ATTACH_REUSEPORT = 51
"""Socket options: of a program that decides how much of a packet to keep, and of one that chooses
among the sockets that share an address."""

_LOAD_16_BITS = 0x28
"""BPF_LD | BPF_H | BPF_ABS"""

_FROM_NETWORK_HEADER = 0xFFF00000
"""SKF_NET_OFF: an offset added to it counts from the start of the IP header."""

_DESTINATION_ENDS_AT = {socket.AF_INET: 20, socket.AF_INET6: 40}
"""Where in the IP header the destination ends: RFC 791, section 3.1; RFC 8200, section 3."""


def load_ofport(listener: socket.socket) -> Instruction:
    """Return the instruction that loads the last 16 bits of the local address: the ofport."""
    return _LOAD_16_BITS, 0, 0, _FROM_NETWORK_HEADER + _DESTINATION_ENDS_AT[listener.family] - 2


def attach(sock: socket.socket, option: int, program: Sequence[Instruction]) -> None:
    """Have the kernel run a program instead of the present one; raises OSError if it refuses.

    Args:
        sock: a socket; one that listens for `ATTACH_REUSEPORT`.
        option: `ATTACH_FILTER` or `ATTACH_REUSEPORT`.
        program: at most 4096 instructions.
    """
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    value = struct.pack("HL", len(program), ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, option, value)
