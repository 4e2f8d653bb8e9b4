"""Guests' connections to the proxy, as the kernel has them in the metadata port's namespace.

Blocking; a thread for each call, which enters the namespace.
"""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from pathlib import Path

from ovs_metadata.agent.network.namespaces import inside_namespace
from ovs_metadata.flows.withdrawal import Connection
from ovs_metadata.host.address import place_of_address

_TIME_WAIT = "06"
"""State of a connection that is over: the guest may use its TCP port for another."""


def guests_connections(namespace: str) -> set[Connection]:
    """Those that are there; raises OSError, if there is no such namespace for example."""
    lines: list[str] = []
    with inside_namespace(namespace):
        for name in ("tcp", "tcp6"):
            with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
                lines += Path("/proc/thread-self/net", name).read_text().splitlines()[1:]
    return set(connections_of(lines))


def connections_of(lines: Iterable[str]) -> Iterator[Connection]:
    """The guests' connections among lines of /proc/net/tcp and tcp6, see proc_net_tcp."""
    for line in lines:
        _slot, local, remote, state, *_rest = line.split()
        ip = ip_address(_packed(local.partition(":")[0]))
        place = place_of_address(str(ip))
        if place is not None and state != _TIME_WAIT:
            yield Connection(ip.version, place, int(remote.partition(":")[2], 16))


def _packed(address: str) -> bytes:
    """An address as printed there: words of 32 bits in the byte order of the host."""
    words = (address[at : at + 8] for at in range(0, len(address), 8))
    return b"".join(int(word, 16).to_bytes(4, sys.byteorder) for word in words)
