"""TCP sockets of a network namespace, as the kernel lists them (proc_net_tcp). Blocking."""

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from ovs_metadata.agent.network import namespaces
from ovs_metadata.proxy.accounting.observer import DOCTOR_IPV4

_LISTEN, _SYN_RECEIVED = "0A", "03"


@dataclass(frozen=True, slots=True)
class _Socket:
    """A line of the list. `sent_again`: how often the last packet was."""

    address: str
    port: int
    peer: str
    state: str
    sent_again: int


def listening() -> Iterator[tuple[str, int]]:
    """Address and port of all sockets that listen in this thread's namespace."""
    return ((each.address, each.port) for each in _sockets() if each.state == _LISTEN)


def unaccepted(namespace: str) -> Mapping[str, int]:
    """How many connections wait for who began them to take our answer, by our address.

    Only those are counted for which the answer was sent again, so after a second at the earliest,
    and none of the doctor's own requests.
    """
    if namespaces.namespace_id(namespace) is None:
        return {}
    with namespaces.inside_namespace(namespace):
        return Counter(
            each.address
            for each in _sockets()
            if each.state == _SYN_RECEIVED and each.sent_again and each.peer != DOCTOR_IPV4
        )


def _sockets() -> Iterator[_Socket]:
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            for line in Path("/proc/thread-self/net", name).read_text().splitlines()[1:]:
                yield _parsed(line)


def _parsed(line: str) -> _Socket:
    words = line.split()
    address, _, port = words[1].partition(":")
    return _Socket(
        _address(bytes.fromhex(address)),
        int(port, 16),
        _address(bytes.fromhex(words[2].partition(":")[0])),
        words[3],
        int(words[6], 16),
    )


def _address(data: bytes) -> str:
    """An address as the kernel prints it there: words of 32 bits in the byte order of the host."""
    words = (int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4))
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))
