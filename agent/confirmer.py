"""Confirms that what is known of this host is up to date.

`proxy.control.confirmation` has the use of it.

On the event loop. Lives as long as the service.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import Protocol

from ovs_metadata.agent.ovsdb_probe import OvsdbProbe

RATE = 200.0
BURST = 50
"""Confirmations begun in a second at most, in the long run, and without a pause at most. Requests
that come closer share one. So an instance that boots waits for none, and confirming takes a few
percent of a processor, whatever workers ask for."""


class Sources(Protocol):
    """What is to be up to date: a `PortWatcher`."""

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """See `PortWatcher`."""

    def confirm_store(self, on_confirmed: Callable[[], None]) -> None:
        """See `PortWatcher`."""

    def needs_store(self) -> bool:
        """See `PortWatcher`."""


class Confirmer:
    """Confirms one thing at a time.

    Args:
        sources: what is to be up to date.
        probe: of the same OVSDB, started.
        apply: takes over what the sources say, if that has changed.
    """

    def __init__(self, sources: Sources, probe: OvsdbProbe, apply: Callable[[], None]) -> None:
        self._sources = sources
        self._probe = probe
        self._apply = apply
        self._allowed = -math.inf  # the theoretical arrival time of the GCRA (ITU-T I.371)

    def confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once everything that the sources had committed before has been applied."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        begin = max(now, self._allowed - BURST / RATE)
        self._allowed = max(now, self._allowed) + 1 / RATE
        if begin > now:
            loop.call_at(begin, self._begin, on_confirmed)
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
            if changed:
                self._probe.seen()
                self._sources.confirm(from_thread)
            elif self._sources.needs_store():
                self._sources.confirm_store(from_thread)
            else:
                confirmed()

        self._probe.ask(answered)
