"""Confirms that what is known of this host is up to date.

`proxy.control.confirmation` has the use of it.

On the event loop. Lives as long as the service.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from ovs_metadata.agent.allowance import Allowance
from ovs_metadata.agent.ovsdb_session import OvsdbSession

PER_SECOND = 2000.0
AT_ONCE = 500
"""What may be spent on confirmations in the long run, and at once. It keeps a worker that asks
without need from taking more than a part of a processor from the agent and from ovsdb-server. One
that asks for guests comes close only if Nova answers within half a millisecond, for it has one
confirmation under way at a time."""

PRICE = 1
DEARER_PRICE = 10
"""Of a confirmation by the probe alone, and of one by the replica or the store: each is a round
trip, and the latter may be one to a ZooKeeper that all hosts share."""


class Sources(Protocol):
    """What is to be up to date: a `PortWatcher`."""

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """See `PortWatcher`."""

    def confirm_store(self, on_confirmed: Callable[[], None]) -> None:
        """See `PortWatcher`."""

    def needs_store(self) -> bool:
        """See `PortWatcher`."""


class Confirmer:
    """Confirms one thing at a time. Make it within a running event loop.

    Args:
        sources: what is to be up to date.
        ovsdb: the session with the same OVSDB, started.
        apply: takes over what the sources say, if that has changed.
    """

    def __init__(self, sources: Sources, ovsdb: OvsdbSession, apply: Callable[[], None]) -> None:
        self._sources = sources
        self._ovsdb = ovsdb
        self._apply = apply
        self._now = asyncio.get_running_loop().time
        self._allowance = Allowance(AT_ONCE, PER_SECOND, self._now())

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once everything that the sources had committed before has been applied."""
        now = self._now()
        pause = self._allowance.wait(now)
        self._allowance.spend(PRICE, now)
        if pause:
            asyncio.get_running_loop().call_later(pause, self._begin, on_confirmed)
        else:
            self._begin(on_confirmed)

    def _begin(self, on_confirmed: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()

        def confirmed() -> None:
            self._apply()
            on_confirmed()

        def from_thread() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the agent has ended
                loop.call_soon_threadsafe(confirmed)

        def answered(changed: bool) -> None:
            if not changed and not self._sources.needs_store():
                confirmed()
                return
            self._allowance.spend(DEARER_PRICE - PRICE, self._now())
            if changed:
                self._ovsdb.seen()
                self._sources.confirm(from_thread)
            else:
                self._sources.confirm_store(from_thread)

        self._ovsdb.ask(answered)
