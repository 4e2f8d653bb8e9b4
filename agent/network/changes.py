"""Notices that something of this host's network has changed, at almost no cost.

The kernel reports each change of links, addresses, routes, rules and permanent neighbours to those
who listen (rtnetlink(7)). To ask whether anything was reported costs two system calls; a look at
everything, through pyroute2, costs a thousand times as much. Blocking only as setns is; `watch` is
called on a thread, `changed` on the event loop.
"""

import socket
from collections.abc import Iterator

from ovs_metadata.agent.network.namespaces import inside_namespace, namespace_id
from ovs_metadata.host.address import METADATA_PORT

_LINKS, _NEIGHBOURS = 1 << 0, 1 << 2
_ADDRESSES = 1 << 4 | 1 << 8
_ROUTES = 1 << 6 | 1 << 10
_RULES = 1 << 7 | 1 << 18
"""Groups of linux/rtnetlink.h, for IPv4 and IPv6; the bit is the group's number less one."""

_INSIDE = _LINKS | _NEIGHBOURS | _ADDRESSES | _ROUTES | _RULES

_NAME = METADATA_PORT.encode() + b"\0"
"""Is in each message about a device of that name (IFLA_IFNAME)."""

_ENOUGH = 65536


class NetworkChanges:
    """Changes of the namespace, and of devices in the host's that have the metadata port's name."""

    def __init__(self, namespace: str) -> None:
        self._name = namespace
        self._namespace: int | None = None
        self._inside: socket.socket | None = None
        self._host: socket.socket | None = None

    def watch(self, namespace: int) -> None:
        """Count changes from now on; the namespace has this identity. Raises OSError."""
        if namespace != self._namespace:
            self.close()
            self._host = _listener(_LINKS)
            with inside_namespace(self._name):
                self._inside = _listener(_INSIDE)
            self._namespace = namespace
        self.changed()

    def changed(self) -> bool:
        """Whether anything may have changed since `watch`, or since the last call."""
        if self._inside is None or self._host is None:
            return True
        # Both are read to their ends in any case.
        inside = list(_reports(self._inside))
        named = [report for report in _reports(self._host) if _NAME in report]
        return bool(inside or named) or namespace_id(self._name) != self._namespace

    def close(self) -> None:
        """Listen no more."""
        for each in (self._inside, self._host):
            if each is not None:
                each.close()
        self._inside = self._host = self._namespace = None


def _listener(groups: int) -> socket.socket:
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        listener.setblocking(False)
        listener.bind((0, groups))
    except BaseException:
        listener.close()
        raise
    return listener


def _reports(listener: socket.socket) -> Iterator[bytes]:
    """What has been reported; a report with every name if reports were lost (ENOBUFS)."""
    while True:
        try:
            yield listener.recv(_ENOUGH)
        except BlockingIOError:
            return
        except OSError:
            yield _NAME
