"""HTTP from a guest with any source address: sockets made in its namespace, used from here.

curl cannot bind a link-local address with its zone, keep connections of several sources open at
once, or close one half of a connection. For the main thread only, as `lab.rig.inside` is.
"""

import http.client
import json
import select
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Protocol

from netaddr import IPAddress

from lab.rig.guest import Guest
from lab.rig.inside import inside
from lab.rig.process import LabError
from ovs_metadata.host.address import SERVICE_IPV4, SERVICE_IPV6, SERVICE_PORT

ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"
"""As a source: whichever the guest's kernel chooses."""


class Named(Protocol):
    """A guest, or a container in one: a network namespace."""

    @property
    def name(self) -> str:
        """That of the namespace."""


def begin(guest: Named, source: str, device: str = "eth0", port: int = 0) -> socket.socket:
    """Begin a TCP connection to the service address from `source`, without waiting for it.

    The source's family says which service address is meant; the guest must have that address.
    `port` is the TCP port to come from; 0: whichever its kernel chooses.
    """
    ip = IPAddress(source)
    family = socket.AF_INET if ip.version == 4 else socket.AF_INET6
    with inside(guest.name):
        sock = socket.socket(family, socket.SOCK_STREAM)
        zone = socket.if_nametoindex(device)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        if ip.version == 4:
            sock.bind((source, port))
            sock.connect_ex((SERVICE_IPV4, SERVICE_PORT))
        else:
            sock.bind((source, port, 0, zone if ip.is_link_local() else 0))
            sock.connect_ex((SERVICE_IPV6, SERVICE_PORT, 0, zone))
    except OSError as error:
        sock.close()
        raise LabError(f"{guest.name} cannot connect from {source}: {error}") from error
    return sock


def accepted(begun: Iterable[socket.socket], timeout: float) -> list[socket.socket]:
    """Those of the sockets that `begin` returned which were accepted within `timeout` seconds.

    It returns early when all have been accepted or refused.
    """
    deadline = time.monotonic() + timeout
    done: list[socket.socket] = []
    waiting = list(begun)
    while waiting:
        _, ready, _ = select.select([], waiting, [], max(0, deadline - time.monotonic()))
        if not ready:
            break
        waiting = [sock for sock in waiting if sock not in ready]
        done += [sock for sock in ready if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
    return done


class Connection:
    """An HTTP connection of a guest to the service address, from one source address.

    Made at once; to be closed by `close`, or by leaving the `with` block of contextlib.closing.

    Raises:
        LabError: no server accepted it within `timeout` seconds.
    """

    def __init__(
        self,
        guest: Guest,
        source: str,
        device: str = "eth0",
        *,
        port: int = 0,
        timeout: float = 10.0,
    ) -> None:
        self._socket = begin(guest, source, device, port)
        if not accepted([self._socket], timeout):
            self._socket.close()
            raise LabError(f"{guest.name} got no connection from {source}")
        self._socket.settimeout(timeout)
        self.source: str = self._socket.getsockname()[0]
        # Without this it would make a connection of its own, out here, when this one is closed.
        self._http = http.client.HTTPConnection("metadata")
        self._http.auto_open = 0
        self._http.sock = self._socket

    def send(self, path: str = "/") -> None:
        """Send a request; its answer is for `receive`."""
        self._http.request("GET", path)

    def finish_sending(self) -> None:
        """Close this half of the connection: nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Mapping[str, list[str]]:
        """The headers that arrived at the echo service, each name with all its values.

        Raises:
            LabError: there is no answer, or one with another status than 200.
        """
        try:
            answer = self._http.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise LabError(f"no answer to {self.source}: {error!r}") from error
        if answer.status != 200:
            raise LabError(f"{self.source} was answered {answer.status} {answer.reason}: {body!r}")
        headers: dict[str, list[str]] = {}
        for name, value in json.loads(body):
            headers.setdefault(name.lower(), []).append(value)
        return headers

    def ask(self, path: str = "/") -> Mapping[str, list[str]]:
        """Send a request and return what arrived of it."""
        self.send(path)
        return self.receive()

    def close(self) -> None:
        """Close it."""
        self._http.close()
