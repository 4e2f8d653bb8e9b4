"""Opening the listening sockets of the workers, inside the metadata port's namespace.

A socket stays in the namespace it was made in, whichever process uses it. Blocking; a thread for
each call.
"""

import contextlib
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ovs_metadata.agent.network.ip_versions import kernel_versions
from ovs_metadata.agent.network.listeners import Options, options_of
from ovs_metadata.agent.network.namespaces import inside_namespace
from ovs_metadata.agent.network.steering import steer_by_ofport
from ovs_metadata.host.address import PROXY_PORT, IpVersion

_ADDRESSES: Mapping[IpVersion, str] = {4: "0.0.0.0", 6: "::"}

BACKLOG = 1024
"""Connections that may wait for a worker to accept them, on each socket."""

MOST_BACKLOG = Path("/proc/sys/net/core/somaxconn")
"""The kernel's limit of a backlog, in the network namespace of the thread that reads it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """Listening sockets: `groups` are those of each worker; `missing`: why versions have none."""

    groups: list[list[socket.socket]]
    missing: Mapping[IpVersion, OSError] = field(default_factory=dict)


def open_listeners(namespace: str, count: int) -> Opened:
    """Open listening sockets inside the namespace: for each worker one of each IP version.

    Several listen on one address and port (SO_REUSEPORT), and each of a guest's connections goes to
    the same worker. An IP version that cannot be listened on keeps no other from it.

    Raises:
        OSError: none can.
    """
    opened: dict[IpVersion, list[socket.socket]] = {}
    missing: dict[IpVersion, OSError] = {}
    with inside_namespace(namespace):
        allow_backlog()
        for version in kernel_versions():
            try:
                opened[version] = _listen_over(version, count)
            except OSError as error:
                missing[version] = error
    if not opened:
        raise next(iter(missing.values()))
    groups = [list(of_worker) for of_worker in zip(*opened.values(), strict=True)]
    for listener in groups[0]:
        steer_by_ofport(listener, count)
    return Opened(groups, missing)


def reopen_listeners(
    namespace: str, count: int, versions: Iterable[IpVersion]
) -> list[socket.socket]:
    """Open them for one worker of `count`, while the sockets of all of them are there."""
    with inside_namespace(namespace):
        group = [_listen(version, PROXY_PORT) for version in versions]
    for listener in group:
        steer_by_ofport(listener, count)
    return group


def pristine_options(namespace: str) -> dict[int, Options]:
    """The options of unchanged listening sockets, by address family."""
    found: dict[int, Options] = {}
    with inside_namespace(namespace):
        for version in kernel_versions():
            # One that cannot be listened on has no socket that could be used again.
            with contextlib.suppress(OSError), _listen(version, 0) as listener:
                found[listener.family] = options_of(listener)  # of a free port: no guest gets there
    return found


def listener_addresses() -> list[tuple[str, int]]:
    """Address and port of each socket of one worker, in the order of its group."""
    return [(_ADDRESSES[version], PROXY_PORT) for version in kernel_versions()]


def can_listen(namespace: str, versions: Iterable[IpVersion]) -> bool:
    """Whether all of these IP versions can be listened on in the namespace, now."""
    try:
        with inside_namespace(namespace):
            for version in versions:
                _listen(version, PROXY_PORT).close()
    except OSError:
        return False
    return True


def allow_backlog(limit: Path = MOST_BACKLOG) -> None:
    """Raise the kernel's limit if it is below BACKLOG, as it is before Linux 5.4 (128).

    Where that is refused, workers listen with a shorter queue.
    """
    with contextlib.suppress(OSError):
        if int(limit.read_text()) < BACKLOG:
            limit.write_text(str(BACKLOG))


def _listen_over(version: IpVersion, count: int) -> list[socket.socket]:
    """One socket for each worker; raises OSError, and then leaves none open."""
    listeners: list[socket.socket] = []
    try:
        for _ in range(count):
            listeners.append(_listen(version, PROXY_PORT))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen(version: IpVersion, port: int) -> socket.socket:
    """Listen on any address: all port addresses, for nothing else is in this namespace."""
    listener = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    try:
        if version == 6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((_ADDRESSES[version], port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
