"""Upkeep of the metadata port: looks at how things are, again and again, and does what is missing.

One task on the event loop; the looking and doing itself is blocking and runs on a thread. It never
holds up what workers are told of identities, which is another task's business.
"""

import asyncio
import contextlib
import logging

from ovs_metadata.agent import plumbing
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.address import METADATA_PORT, PROXY_PORT, PROXY_PORT_OF_OTHERS
from ovs_metadata.host.ovsdb import OvsdbRefused
from ovs_metadata.host.watch import PortWatcher

LOG = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks, if nothing else happens."""

MISSING_FOR = 3
"""Looks in a row that must miss the metadata port's device before the port is made anew."""


class Upkeep:
    """Keeps the namespace, the metadata port in it, and workers that listen there."""

    def __init__(self, watcher: PortWatcher, workers: Workers, namespace: str, count: int) -> None:
        self._watcher = watcher
        self._workers = workers
        self._name = namespace
        self._count = count
        self._wake = asyncio.Event()
        self._namespace: int | None = None
        self._looks_without_device = 0
        self._complaint = ""

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    async def run(self) -> None:
        """Keep things in place until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self._look()
                self._complaint = ""
            except (plumbing.PlumbingError, OvsdbRefused, OSError) as error:
                if str(error) != self._complaint:
                    LOG.error("the metadata port is not in place: %s; trying again", error)
                self._complaint = str(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), CHECK_INTERVAL)

    async def _look(self) -> None:
        namespace = await asyncio.to_thread(plumbing.ensure_namespace, self._name)
        if namespace != self._namespace:
            await self._listen_in(namespace)
        bridge = self._watcher.bridge
        if bridge is None:
            return
        await asyncio.to_thread(plumbing.ensure_metadata_port, self._watcher.ovsdb, bridge)
        if bridge.metadata_ofport is None:
            return  # ovs-vswitchd has not made its device yet
        if await asyncio.to_thread(plumbing.ensure_device, self._name):
            self._looks_without_device = 0
            return
        # There is a device, but neither here nor in the host's namespace: somebody removed our
        # namespace with the device in it, or moved the device away.
        self._looks_without_device += 1
        if self._looks_without_device >= MISSING_FOR:
            LOG.warning("the device of port %s is gone: making the port anew", METADATA_PORT)
            await asyncio.to_thread(plumbing.remove_metadata_port, self._watcher.ovsdb)
            self._looks_without_device = 0

    async def _listen_in(self, namespace: int) -> None:
        if self._workers.started:
            LOG.warning("network namespace %s is a new one: starting over in it", self._name)
            await self._workers.stop()
        listeners = await asyncio.to_thread(
            plumbing.open_listeners, self._name, (PROXY_PORT, PROXY_PORT_OF_OTHERS), self._count
        )
        self._workers.start(listeners)
        self._namespace = namespace
