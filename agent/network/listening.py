"""Opening the listening sockets of the workers, inside the metadata port's namespace.

A socket stays in the namespace it was made in, whoever uses it. Blocking; a thread for each call.
"""

import contextlib
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ovs_metadata.agent.network.ip_versions import kernel_versions
from ovs_metadata.agent.network.listeners import Options, options_of
from ovs_metadata.agent.network.namespaces import inside_namespace
from ovs_metadata.agent.network.steering import steer_by_ofport
from ovs_metadata.host.address import PROXY_PORT, PROXY_PORT_OF_OTHERS, SERVICE_IPV4, IpVersion

PORTS = (PROXY_PORT, PROXY_PORT_OF_OTHERS)
"""TCP ports that each worker listens on, over each IP version."""

_ADDRESSES: Mapping[IpVersion, str] = {4: SERVICE_IPV4, 6: "::"}

BACKLOG = 1024
"""Connections that may wait for a worker to accept them, on each socket."""

_IP_FREEBIND = 15


@dataclass(frozen=True, slots=True)
class Opened:
    """Listening sockets: `groups` are those of each worker; `missing`: why versions have none."""

    groups: list[list[socket.socket]]
    missing: Mapping[IpVersion, OSError] = field(default_factory=dict)


def open_listeners(namespace: str, count: int) -> Opened:
    """Open listening sockets inside the namespace: for each worker one of each port and version.

    Several listen on one address and port (SO_REUSEPORT), and each of a guest's connections goes to
    the same worker. An IP version that cannot be listened on keeps no other from it.

    Raises:
        OSError: none can.
    """
    opened: dict[IpVersion, list[list[socket.socket]]] = {}
    missing: dict[IpVersion, OSError] = {}
    with inside_namespace(namespace):
        for version in kernel_versions():
            try:
                opened[version] = _listen_over(version, count)
            except OSError as error:
                missing[version] = error
    if not opened:
        raise next(iter(missing.values()))
    groups = [
        [listener for on_port in zip(*of_worker, strict=True) for listener in on_port]
        for of_worker in zip(*opened.values(), strict=True)
    ]
    for listener in groups[0]:
        steer_by_ofport(listener, count)
    return Opened(groups, missing)


def reopen_listeners(
    namespace: str, count: int, versions: Iterable[IpVersion]
) -> list[socket.socket]:
    """Open them for one worker of `count`, while the sockets of all of them are there."""
    with inside_namespace(namespace):
        by_version = [_listen_over(version, 1)[0] for version in versions]
    group = [listener for on_port in zip(*by_version, strict=True) for listener in on_port]
    for listener in group:
        steer_by_ofport(listener, count)
    return group


def pristine_options(namespace: str) -> dict[int, Options]:
    """What options listening sockets have that nobody has changed, by address family."""
    found: dict[int, Options] = {}
    with inside_namespace(namespace):
        for version in kernel_versions():
            # One that cannot be listened on has no socket that could be used again.
            with contextlib.suppress(OSError), _listen(version, 0) as listener:
                found[listener.family] = options_of(listener)  # of a free port: no guest gets there
    return found


def listener_addresses() -> list[tuple[str, int]]:
    """Address and port of each socket of one worker, in the order of its group."""
    return [(_ADDRESSES[version], port) for port in PORTS for version in kernel_versions()]


def can_listen(namespace: str, versions: Iterable[IpVersion]) -> bool:
    """Whether all of these IP versions can be listened on in the namespace, now."""
    try:
        with inside_namespace(namespace):
            for version in versions:
                close(_listen_over(version, 1))
    except OSError:
        return False
    return True


def close(groups: Iterable[Iterable[socket.socket]]) -> None:
    """Close listening sockets."""
    for group in groups:
        for listener in group:
            listener.close()


def _listen_over(version: IpVersion, count: int) -> list[list[socket.socket]]:
    """One socket of each port for each worker; raises OSError, and then leaves none open."""
    groups: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            groups.append([])
            for port in PORTS:
                groups[-1].append(_listen(version, port))
    except BaseException:
        close(groups)
        raise
    return groups


def _listen(version: IpVersion, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6)
    try:
        if version == 4:
            # The address goes away with the device whenever ovs-vswitchd restarts; the listener
            # stays.
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        else:
            # A link-local bind would be tied to one device's index, and the device changes.
            # Nothing else is in this namespace.
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
