"""Upkeep of the metadata port: looks at how things are, again and again, and does what is missing.

One task on the event loop; the looking and doing itself is blocking and runs on a thread. It never
holds up what workers are told of identities, which is another task's business.
"""

import asyncio
import contextlib
import logging
import socket

from ovs_metadata.agent import plumbing
from ovs_metadata.agent.handover import Handover, Place
from ovs_metadata.agent.listeners import options_of
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.address import METADATA_PORT, PROXY_PORT, PROXY_PORT_OF_OTHERS
from ovs_metadata.host.ovsdb import OvsdbRefused
from ovs_metadata.host.watch import PortWatcher

LOG = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks, if nothing else happens."""

MISSING_FOR = 3
"""Looks in a row that must miss the metadata port's device before the port is made anew."""

_PORTS = (PROXY_PORT, PROXY_PORT_OF_OTHERS)


class Upkeep:
    """Keeps the namespace, the metadata port in it, and workers that listen there."""

    def __init__(
        self,
        watcher: PortWatcher,
        workers: Workers,
        handover: Handover,
        namespace: str,
        count: int,
    ) -> None:
        self._watcher = watcher
        self._workers = workers
        self._handover = handover
        self._name = namespace
        self._count = count
        self._wake = asyncio.Event()
        self._namespace: int | None = None
        self._looks_without_device = 0
        self.problem = "the metadata port is not in place yet"
        """What keeps guests from being served here; empty if nothing does."""

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Keep things in place until cancelled."""
        while True:
            self._wake.clear()
            try:
                self.problem = await self._look()
            except (plumbing.PlumbingError, OvsdbRefused, OSError) as error:
                problem = f"the metadata port is not in place: {error}"
                if problem != self.problem:
                    LOG.error("%s; trying again", problem)
                self.problem = problem
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CHECK_INTERVAL)

    async def _look(self) -> str:
        """Do what is missing; return what is missing still."""
        namespace = await asyncio.to_thread(plumbing.ensure_namespace, self._name)
        if namespace != self._namespace:
            await self._listen_in(namespace)
        bridge = self._watcher.bridge
        if bridge is None:
            return "there is no bridge"
        await asyncio.to_thread(plumbing.ensure_metadata_port, self._watcher.ovsdb, bridge)
        if bridge.metadata_ofport is None:
            return "ovs-vswitchd has not made the metadata port's device yet"
        if await asyncio.to_thread(plumbing.ensure_device, self._name):
            self._looks_without_device = 0
            return ""
        # There is a device, but neither here nor in the host's namespace: somebody removed our
        # namespace with the device in it, or moved the device away.
        self._looks_without_device += 1
        if self._looks_without_device >= MISSING_FOR:
            LOG.warning("the device of port %s is gone: making the port anew", METADATA_PORT)
            await asyncio.to_thread(plumbing.remove_metadata_port, self._watcher.ovsdb)
            self._looks_without_device = 0
        return "the metadata port's device is gone"

    async def _listen_in(self, namespace: int) -> None:
        if self._workers.started:
            LOG.warning("network namespace %s is a new one: starting over in it", self._name)
            await self._workers.stop()
        listeners = await asyncio.to_thread(self._listeners, namespace)
        self._workers.start(listeners, self._reopen)
        self._namespace = namespace

    def _listeners(self, namespace: int) -> list[list[socket.socket]]:
        """The sockets of the agent before us, if they are in this namespace, or else new ones."""
        addresses = plumbing.listener_addresses(_PORTS)
        places = [Place(namespace, address, port) for address, port in addresses]
        pristine = plumbing.pristine_options(self._name)
        kept = self._handover.take(
            [places] * self._count, intact=lambda each: options_of(each) == pristine[each.family]
        )
        if kept is not None:
            return kept
        self._handover.forget()
        opened = plumbing.open_listeners(self._name, _PORTS, self._count)
        self._handover.keep(opened)
        return opened

    def _reopen(self, number: int) -> list[socket.socket]:
        opened = plumbing.reopen_listeners(self._name, _PORTS, self._count)
        self._handover.replace(number, opened)
        return opened
