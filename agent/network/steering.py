"""Chooses the worker of a connection by the port's ofport, for both address families.

Several sockets listen on one address and port, one for each worker, and by default the kernel
spreads connections over them by a hash of all addresses and ports. A BPF program of three
instructions chooses by the port alone: the last 16 bits of the destination address are the ofport
(see `host.address`), and ofport modulo the number of workers is the worker. So one worker has all
connections of a port, and its counters of the port are complete.
"""

import logging
import socket

from ovs_metadata.proxy.guest.socket_program import ATTACH_REUSEPORT, attach, load_ofport

LOG = logging.getLogger(__name__)

_MODULO, _RETURN = 0x94, 0x16
"""BPF_ALU | BPF_MOD | BPF_K, BPF_RET | BPF_A"""


def steer_by_ofport(listener: socket.socket, workers: int) -> None:
    """Give each socket of a group that listens on one address and port its share of the ports.

    A worker's number is the position at which its socket began to listen.

    Args:
        listener: any socket of the group.
        workers: how many sockets the group has.
    """
    program = [load_ofport(listener), (_MODULO, 0, 0, workers), (_RETURN, 0, 0, 0)]
    try:
        attach(listener, ATTACH_REUSEPORT, program)
    except OSError as error:
        LOG.warning(
            "this kernel does not accept the program that chooses a worker by port: connections of "
            "one port may go to several workers, and each applies the port's limits by itself: %s",
            error,
        )
