"""Which worker a connection goes to: the one its port's number says, of whatever address family.

Several sockets listen on one address and port, one for each worker, and the kernel would spread
connections over them by a hash of everything. A program of three instructions makes it a matter of
the port alone: the last 16 bits of the destination address are the ofport (see `host.address`), and
ofport modulo the number of workers is the worker. So all connections of a port meet in one worker,
and what that worker counts of them is the whole.
"""

import logging
import socket

from ovs_metadata.proxy.guest.socket_program import ATTACH_REUSEPORT, attach, load_ofport

LOG = logging.getLogger(__name__)

_MODULO, _RETURN = 0x94, 0x16
"""BPF_ALU | BPF_MOD | BPF_K, BPF_RET | BPF_A"""


def steer_by_ofport(listener: socket.socket, workers: int) -> None:
    """Have a group of sockets that listen on one address and port serve each its share of ports.

    The number of a worker is the order in which its socket began to listen.

    Args:
        listener: any socket of the group.
        workers: how many sockets the group has.
    """
    program = [load_ofport(listener), (_MODULO, 0, 0, workers), (_RETURN, 0, 0, 0)]
    try:
        attach(listener, ATTACH_REUSEPORT, program)
    except OSError as error:
        LOG.warning(
            "connections of one port may go to several workers, and its limits count for each of "
            "them, for this kernel does not take a program that chooses: %s",
            error,
        )
