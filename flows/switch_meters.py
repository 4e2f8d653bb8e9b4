"""What is known of the meters of the switch. No I/O, no library.

The application feeds in what arrives. One owner, one thread.
"""

import logging
from collections.abc import Iterable

from ovs_metadata.flows.meters import Meter, MeterRoom, ofport_of, sort_out

LOG = logging.getLogger(__name__)


class SwitchMeters:
    """The meters of one bridge.

    `room` says which of our meters the switch can have, `ours` which it has. Both are as of the
    last complete dump.
    """

    def __init__(self, bridge: str) -> None:
        self._bridge = bridge
        self._highest = 0
        self._arrived: list[Meter] = []
        self.room = MeterRoom()
        self.ours: frozenset[int] = frozenset()

    def features_arrived(self, highest: int) -> None:
        """The highest number of a meter, 0 if the switch has none; asked once in a connection."""
        self._highest = highest
        if not highest:
            LOG.warning(
                "the datapath of bridge %s has no meters: nothing limits the packets that an "
                "instance sends to the proxy",
                self._bridge,
            )

    def asked(self) -> None:
        """A dump begins."""
        self._arrived = []

    def arrived(self, meters: Iterable[Meter]) -> None:
        """A part of the dump is there."""
        self._arrived += meters

    def complete(self) -> None:
        """All parts of the dump are there."""
        self.ours, taken = sort_out(self._arrived)
        self._arrived = []
        for number in sorted(taken - self.room.taken):
            LOG.warning(
                "meter %d of bridge %s belongs to another program: ofport %d has no meter",
                *(number, self._bridge, ofport_of(number)),
            )
        self.room = MeterRoom(self._highest, taken)
