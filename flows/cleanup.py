"""Removes every flow of ours from the bridge, without an application or a hub.

One blocking conversation over the management socket: hello, delete, barrier, reply.
"""

import logging
import socket
import struct
from typing import Any

from ovs_metadata.flows import openflow
from ovs_metadata.host.config import Config

LOG = logging.getLogger(__name__)

TIMEOUT = 10.0
"""Seconds the switch may take to answer."""

_HEADER = struct.Struct("!BBHI")
"""OpenFlow header: version, type, length, transaction ID."""


def remove_flows(config: Config) -> None:
    """Delete all flows with our cookie; returns once the switch has done it.

    Raises:
        OSError: the management socket cannot be reached, or falls silent.
    """
    offline = openflow.offline_datapath()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(str(config.management_socket))
        for message in (
            openflow.hello_message(offline),
            openflow.delete_all_message(offline),
            openflow.barrier_message(offline),
        ):
            sock.sendall(openflow.to_bytes(message))
        _await(sock, openflow.BARRIER_REPLY)
    LOG.info("bridge %s: every flow of ours is removed", config.bridge)


def _await(sock: Any, wanted: int) -> None:
    while True:
        _version, kind, length, _xid = _HEADER.unpack(_read(sock, _HEADER.size))
        _read(sock, length - _HEADER.size)
        if kind == wanted:
            return


def _read(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise ConnectionError("the switch closed the connection")
        data += chunk
    return data
