"""Which worker a connection goes to: the one its port's number says, of whatever address family.

Several sockets listen on one address and port, one for each worker, and the kernel would spread
connections over them by a hash of everything. A program of three instructions in classic BPF makes
it a matter of the port alone: the last 16 bits of the source address are the ofport (see
`host.address`), and ofport modulo the number of workers is the worker. So all connections of a
port meet in one worker, and what that worker counts of them is the whole.

Format: socket(7), SO_ATTACH_REUSEPORT_CBPF; struct sock_filter of linux/filter.h.
"""

import ctypes
import logging
import socket
import struct

LOG = logging.getLogger(__name__)

_SO_ATTACH_REUSEPORT_CBPF = 51

# BPF_LD | BPF_H | BPF_ABS, BPF_ALU | BPF_MOD | BPF_K, BPF_RET | BPF_A.
_LOAD_16_BITS, _MODULO, _RETURN = 0x28, 0x94, 0x16

_FROM_NETWORK_HEADER = 0xFFF00000
"""SKF_NET_OFF: what is added to it is an offset from the start of the IP header."""

_SOURCE_ENDS_AT = {socket.AF_INET: 16, socket.AF_INET6: 24}
"""Where in the IP header the source address ends: RFC 791, section 3.1; RFC 8200, section 3."""


def steer_by_ofport(listener: socket.socket, workers: int) -> None:
    """Have a group of sockets that listen on one address and port serve each its share of ports.

    The number of a worker is the order in which its socket began to listen.

    Args:
        listener: any socket of the group.
        workers: how many sockets the group has.
    """
    instructions = (
        (_LOAD_16_BITS, _FROM_NETWORK_HEADER + _SOURCE_ENDS_AT[listener.family] - 2),
        (_MODULO, workers),
        (_RETURN, 0),
    )
    code = b"".join(struct.pack("HBBI", opcode, 0, 0, k) for opcode, k in instructions)
    buffer = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(instructions), ctypes.addressof(buffer))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError as error:
        LOG.warning(
            "connections of one port may go to several workers, and its limits count for each of "
            "them, for this kernel does not take a program that chooses: %s",
            error,
        )
