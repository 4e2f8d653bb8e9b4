"""Ordinary traffic between two guests, without a pause for as long as a `with` block lasts.

UDP and TCP over IPv4 and IPv6. Each round is a question and its answer on each of the four, so a
single lost datagram, or a connection that breaks, is found, and counts of packets can be foretold.
The sockets are made inside the guests' namespaces; one thread out here speaks for both.
"""

import socket
import threading
from typing import Self

from lab.rig.guest import Guest
from lab.rig.inside import inside
from lab.rig.process import LabError, wait_for

UDP_PORT, TCP_PORT = 7007, 7008

TIMEOUT = 2.0
"""Seconds after which a datagram is lost. More than TCP needs to send a segment again."""

_PAUSE = 0.005
"""Seconds between two rounds, to leave the machine to others."""

IPV6 = ("fd00::1", "fd00::2")
"""The addresses that the guests get for it."""


class GuestTraffic:
    """Two guests talk. `rounds` is the number of rounds that ended well."""

    def __init__(self, one: Guest, other: Guest) -> None:
        self.rounds = 0
        self._pairs: list[tuple[str, socket.socket, socket.socket]] = []
        self._stop = threading.Event()
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._talk, name="guest-traffic")
        guests = one, other
        for guest, address in zip(guests, IPV6, strict=True):
            guest.run("ip", "addr", "replace", f"{address}/64", "dev", "eth0", "nodad")
        for family, ends in (
            (socket.AF_INET, (one.ip, other.ip)),
            (socket.AF_INET6, IPV6),
        ):
            self._pairs.append(("UDP", *_udp(family, guests, ends)))
            self._pairs.append(("TCP", *_tcp(family, guests, ends)))

    def __enter__(self) -> Self:
        self._thread.start()
        self.go_on()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for _name, near, far in self._pairs:
            near.close()
            far.close()
        if kind is None and self._failure:
            raise LabError(self._failure)

    def go_on(self, rounds: int = 20) -> None:
        """Wait until they have talked for some more rounds.

        Raises:
            LabError: something of theirs was lost, now or before.
        """
        goal = self.rounds + rounds
        wait_for(lambda: self._failure or self.rounds >= goal, "the guests to talk")
        if self._failure:
            raise LabError(self._failure)

    def _talk(self) -> None:
        while not self._stop.wait(_PAUSE):
            message = f"round {self.rounds}".encode()
            for name, near, far in self._pairs:
                try:
                    near.sendall(message)
                    far.sendall(far.recv(100))
                    answer = near.recv(100)
                except OSError as error:
                    self._failure = f"{name} {near.family.name}, round {self.rounds}: {error!r}"
                    return
                if answer != message:
                    self._failure = f"{name} {near.family.name}: {answer!r} for {message!r}"
                    return
            self.rounds += 1


def _udp(
    family: socket.AddressFamily, guests: tuple[Guest, Guest], ends: tuple[str, str]
) -> tuple[socket.socket, socket.socket]:
    sockets = []
    for guest, own, peer in zip(guests, ends, reversed(ends), strict=True):
        with inside(guest.name):
            end = socket.socket(family, socket.SOCK_DGRAM)
        end.settimeout(TIMEOUT)
        end.bind((own, UDP_PORT))
        end.connect((peer, UDP_PORT))
        sockets.append(end)
    return sockets[0], sockets[1]


def _tcp(
    family: socket.AddressFamily, guests: tuple[Guest, Guest], ends: tuple[str, str]
) -> tuple[socket.socket, socket.socket]:
    one, other = guests
    with inside(other.name):
        listener = socket.create_server((ends[1], TCP_PORT), family=family)
    with inside(one.name):
        near = socket.create_connection((ends[1], TCP_PORT), timeout=TIMEOUT)
    with listener:
        far, _peer = listener.accept()
    far.settimeout(TIMEOUT)
    return near, far
