"""Ofports that flows in Open vSwitch's datapath may still attribute to another port.

A datapath flow writes the port address of the port by which a packet came in. It is compiled from
the OpenFlow flows of one moment, and stays until a revalidator of ovs-vswitchd checks it. A new
port may get the datapath's number of a removed one. Until the check its packets match the removed
port's flow, and carry that port's ofport. So an ofport that a port has left has no identity until
all datapath flows have been revalidated.

A mutable value; `revalidation` does the I/O.
"""

from collections.abc import Collection


class StaleNumbers:
    """Which ofports are stale. At first all are, because their past is unknown."""

    def __init__(self) -> None:
        self._all = 0
        self._left: dict[int, int] = {}
        self._rounds = 0
        self._fresh: set[int] = set()

    @property
    def ofports(self) -> frozenset[int] | None:
        """The ofports whose ports have no identity for now; None: all."""
        return None if self._all >= 0 else frozenset(self._left)

    def left(self, ofports: Collection[int] | None) -> None:
        """Note ofports that a port has left; None: any of them."""
        if ofports is None:
            self._all = self._rounds
        else:
            self._left |= dict.fromkeys(ofports, self._rounds)

    def begin(self) -> int:
        """A revalidation of all datapath flows begins now; return its number for `done`."""
        self._rounds += 1
        return self._rounds

    def done(self, number: int) -> None:
        """The revalidation has ended: ofports that were left before its begin are fresh."""
        if self._all < number:
            self._all = -1
        still = {ofport: when for ofport, when in self._left.items() if when >= number}
        self._fresh |= self._left.keys() - still.keys()
        self._left = still

    def take_fresh(self) -> set[int]:
        """Return the ofports that became fresh since the last call."""
        fresh, self._fresh = self._fresh, set()
        return fresh
