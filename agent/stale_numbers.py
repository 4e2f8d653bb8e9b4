"""Numbers of ports that flows in Open vSwitch's datapath may still take for another port's.

A datapath flow writes the port address of the port that a packet came in by. It is made of the
OpenFlow flows of one moment, and stays until a revalidator of ovs-vswitchd has looked at it again.
A port that is added may get the place in the datapath of one that has gone. Until then its packets
match that one's flow, and carry its number. So a number that a port has left stands for nobody
before all datapath flows have been revalidated.

A value that changes; the asking is `revalidation`'s.
"""

from collections.abc import Collection


class StaleNumbers:
    """Which ofports are stale. All are at first, for nobody knows what was before."""

    def __init__(self) -> None:
        self._all = 0
        self._left: dict[int, int] = {}
        self._rounds = 0
        self._fresh: set[int] = set()

    def __contains__(self, ofport: object) -> bool:
        """Whether a port with this number stands for nobody yet."""
        return self._all >= 0 or ofport in self._left

    def __bool__(self) -> bool:
        """Whether there is any."""
        return self._all >= 0 or bool(self._left)

    def left(self, ofports: Collection[int] | None) -> None:
        """Note numbers that a port has left; None: any may have been."""
        if ofports is None:
            self._all = self._rounds
        else:
            self._left |= dict.fromkeys(ofports, self._rounds)

    def begin(self) -> int:
        """A revalidation of all datapath flows begins now; return its number, for `done`."""
        self._rounds += 1
        return self._rounds

    def done(self, number: int) -> None:
        """It is done: what was left before it began is stale no more."""
        if self._all < number:
            self._all = -1
        still = {ofport: when for ofport, when in self._left.items() if when >= number}
        self._fresh |= self._left.keys() - still.keys()
        self._left = still

    def take_fresh(self) -> set[int]:
        """Return the numbers that had been left and are stale no more, since the last call."""
        fresh, self._fresh = self._fresh, set()
        return fresh
