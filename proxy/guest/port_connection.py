"""A guest's connection as one of its port's: admitted, counted, given turns, blamed, closed.

What is done for the guest on it is `proxy.guest`'s, built on this. All of it runs on the event
loop's thread.
"""

import asyncio
import functools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from ovs_metadata.proxy.accounting.observer import Observer
from ovs_metadata.proxy.control.confirmation import Confirmations
from ovs_metadata.proxy.control.identity import Entry, IdentityTable, canonical_address
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.proxy.guest.limits import ConnectionRegistry, PortLimits, connection_limit
from ovs_metadata.proxy.guest.quarantine import Quarantine
from ovs_metadata.proxy.guest.state import Phase
from ovs_metadata.proxy.guest.transport import GuestTransport
from ovs_metadata.proxy.nova.pool import UpstreamPool

_log = logging.getLogger(__name__)

# Peer addresses are the bridge's few port addresses, and each is seen again and again.
_canonical = functools.lru_cache(maxsize=4096)(canonical_address)


@dataclass(slots=True)
class GuestContext:
    """What all guest connections of a worker share. The settings are replaced as a whole."""

    settings: Settings
    table: IdentityTable
    pool: UpstreamPool
    registry: ConnectionRegistry
    quarantine: Quarantine
    observer: Observer
    confirmations: Confirmations
    now: Callable[[], float]
    """The event loop's time, in seconds."""
    draining: bool = False
    short_of_files: bool = False
    """Whether connections were cut off for want of file descriptors lately, and the log says so."""

    def make_room(self) -> None:
        """Cut off a connection of the most crowded port if there are too many altogether.

        One without a request goes first.
        """
        wanted, count = self.settings.max_connections, len(self.registry)
        most = connection_limit(wanted)
        if count > most:
            if most < wanted and not self.short_of_files:
                _log.warning(
                    "only %d connections are possible, not %d: this worker may open too few files "
                    "(LimitNOFILE of the unit, or ulimit -n)",
                    *(most, wanted),
                )
                self.short_of_files = True
            self.observer.connection_refused("WORKER_LIMIT")
            min(self.registry.most_crowded().connections, key=lambda each: each.busy).cut_off()
        elif count <= most // 2:
            self.short_of_files = False


class PortConnection(asyncio.Protocol):
    """One accepted connection, and its part in what its port may use."""

    __slots__ = (
        "_context",
        "_has_slot",
        "_now",
        "_phase",
        "_port",
        "_transport",
        "address",
        "deadline",
    )

    def __init__(self, context: GuestContext) -> None:
        self._context = context
        self._now = context.now
        self._transport: GuestTransport | None = None
        self._port: PortLimits | None = None
        self._phase = Phase.READING
        self._has_slot = False  # to have a body read, and to ask Nova
        self.address = ""
        """The peer address."""
        self.deadline = math.inf
        """When the present phase has lasted too long, in the event loop's time."""

    @property
    def busy(self) -> bool:
        """Whether it has a request, or a response to send."""
        return self._phase is not Phase.READING

    # To be said by who serves the guest.

    def identity_changed(self, before: Entry | None, now: Entry | None) -> None:
        """Act on a change of the identity table for this address."""
        raise NotImplementedError

    def slot_granted(self) -> None:
        """Go on: an earlier request of this port is done."""
        raise NotImplementedError

    def deadline_passed(self) -> None:
        """End a phase that has lasted too long, if that still is so."""
        raise NotImplementedError

    def drain(self) -> None:
        """Close as soon as the request in hand, if any, is answered."""
        raise NotImplementedError

    def cut_off(self) -> None:
        """Close at once, whatever is in hand."""
        raise NotImplementedError

    # Coming and going.

    def _join_port(self, transport: asyncio.BaseTransport) -> int:
        """Find out whose connection it is; return how many beyond its limit the port has now."""
        self._transport = GuestTransport(cast("asyncio.Transport", transport))
        peer = transport.get_extra_info("peername")
        if not peer:
            return 0
        context = self._context
        self.address = _canonical(peer[0])
        self._port = port = context.registry.add(self, context.table.get(self.address))
        context.observer.connection_opened()
        beyond = len(port.connections) - context.settings.max_connections_per_port
        if beyond <= 0:
            return 0
        context.observer.connection_refused("PORT_LIMIT")
        return beyond

    def _change_port(self, entry: Entry) -> None:
        """Be one of the port's that has turned out to be behind the address."""
        if self._port is not None and not self._has_slot and self._phase is not Phase.QUEUED:
            self._context.registry.remove(self, self._port)
            self._port = self._context.registry.add(self, entry)

    def _leave_port(self) -> None:
        """Be no connection any more."""
        if self._port is not None:
            self._context.registry.remove(self, self._port)
            self._port = None
        self._transport = None
        self.deadline = math.inf

    def _close(self) -> None:
        """Close once everything written is sent."""
        self._phase = Phase.CLOSING
        self._set_deadline(self._context.settings.send_timeout)
        if self._transport is not None:
            self._transport.close()

    # What its port has.

    def _port_id(self) -> str:
        port = self._port
        return "" if port is None or port.name == self.address else port.name

    def _acquire_slot(self) -> bool:
        """Have this request be one of those its port has under way, or wait until it can be."""
        settings, port = self._context.settings, self._port
        if port is not None and port.acquire_slot(self, settings.max_requests_per_port):
            self._has_slot = True
        else:
            self._phase = Phase.QUEUED
            self._set_deadline(settings.response_timeout)
        return self._has_slot

    def _release_slot(self) -> None:
        """Let the next request of the port begin, or wait no longer."""
        port = self._port
        if port is None:
            return
        if self._has_slot:
            self._has_slot = False
            port.release_slot(self._context.settings.max_requests_per_port)
        elif self._phase is Phase.QUEUED:
            port.leave_queue(self)

    def _rest(self) -> None:
        """Be read no more before the port's reads without a whole request have paused."""
        if self._port is not None and self._transport is not None:
            self._transport.pause_reading_for(self._port.read_delay(self._now()))

    def _record_abuse(self) -> None:
        """Count a connection that was of no use against its port."""
        settings = self._context.settings
        self._context.quarantine.record_abuse(
            self.address,
            now=self._now(),
            tolerance=2 * settings.max_connections_per_port,
            duration=settings.quarantine,
        )

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._now() + seconds
