"""The agent: joins OVSDB and the store into the identity table, and keeps all parts in place.

One asyncio event loop. Whatever happens anywhere, OVSDB's thread or the store's wakes `_serve`,
which looks at how things are, tells the workers what changed, and puts in place what is missing.
Nothing else decides anything. Blocking work runs on a thread of its own, one piece at a time.
"""

import asyncio
import contextlib
import logging
import signal
import sys
from asyncio.subprocess import Process

from ovs_metadata.agent import plumbing
from ovs_metadata.agent.children import keep_running
from ovs_metadata.agent.identities import identity_table
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.address import METADATA_PORT, PROXY_PORT
from ovs_metadata.host.config import Config
from ovs_metadata.host.watch import HostState, PortWatcher
from ovs_metadata.proxy.settings import Settings
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import Store, StoreError

LOG = logging.getLogger(__name__)

CHECK_INTERVAL = 1.0
"""Seconds between two looks at the metadata port and its namespace, if nothing else happens."""

MISSING_FOR = 3
"""Looks in a row that must miss the metadata port's device before the port is made anew."""

FLOWS_PATIENCE = 5.0
"""Seconds the flow controller may take to end."""


class AgentError(Exception):
    """The agent cannot go on; the message is one line that says why."""


class Agent:
    """The agent of one hypervisor. `run` returns when a signal has asked it to end."""

    def __init__(self, config: Config, settings: Settings, secret: bytes) -> None:
        self._config = config
        self._secret = secret
        self._workers = Workers(config.proxy_user, settings)
        self._changed = asyncio.Event()
        self._ending = False
        self._failure: StoreError | None = None
        self._namespace: int | None = None
        self._looks_without_device = 0

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end the children. The flows stay.

        Raises:
            OvsdbUnreachable: OVSDB does not answer.
            StoreError: the store cannot be used, its layout being unknown for example.
            AgentError: something came up that makes serving impossible.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._end)

        def fail(error: StoreError) -> None:
            loop.call_soon_threadsafe(self._fail, error)

        store = await asyncio.to_thread(
            open_store, self._config.store_url, wait=None, on_fatal=fail
        )
        try:
            await self._follow(store)
        finally:
            await asyncio.to_thread(store.close)
        if self._failure:
            raise AgentError(str(self._failure)) from self._failure

    async def _follow(self, store: Store) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        watcher = await asyncio.to_thread(
            PortWatcher, self._config.ovsdb_connection, self._config.bridge, store, wake
        )
        flows = self._start_flows()
        try:
            await self._serve(watcher)
        finally:
            if flows:
                flows.cancel()
                await asyncio.gather(flows, return_exceptions=True)
            await self._workers.stop()
            await asyncio.to_thread(watcher.close)

    def _fail(self, error: StoreError) -> None:
        self._failure = error
        self._end()

    def _end(self) -> None:
        self._ending = True
        self._changed.set()

    async def _serve(self, watcher: PortWatcher) -> None:
        while not self._ending:
            self._changed.clear()
            state = watcher.state()
            self._workers.tell(identity_table(state.bound, self._secret))
            try:
                await self._plumb(watcher, state)
            except (plumbing.PlumbingError, OSError) as error:
                LOG.error("the metadata port is not in place: %s; trying again", error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), CHECK_INTERVAL)

    async def _plumb(self, watcher: PortWatcher, state: HostState) -> None:
        """Have the metadata port, its namespace, and workers that listen in it."""
        name = self._config.namespace
        namespace = await asyncio.to_thread(plumbing.ensure_namespace, name)
        if namespace != self._namespace:
            if self._workers.started:
                LOG.warning("network namespace %s is a new one: starting over in it", name)
                await self._workers.stop()
            listeners = await asyncio.to_thread(
                plumbing.open_listeners, name, PROXY_PORT, self._config.workers
            )
            self._workers.start(listeners)
            self._namespace = namespace
        if state.bridge is None:
            return
        await asyncio.to_thread(plumbing.ensure_metadata_port, watcher.ovsdb, state.bridge)
        if await asyncio.to_thread(plumbing.ensure_device, name):
            self._looks_without_device = 0
        elif state.metadata_ofport is not None:
            # It has a number, so there is a device, but neither here nor in the host's namespace:
            # somebody removed our namespace, or moved the device away.
            self._looks_without_device += 1
            if self._looks_without_device >= MISSING_FOR:
                LOG.warning("the device of port %s is gone: making the port anew", METADATA_PORT)
                await asyncio.to_thread(plumbing.remove_metadata_port, watcher.ovsdb)
                self._looks_without_device = 0

    def _start_flows(self) -> asyncio.Task[None] | None:
        if self._config.controller == "external":
            LOG.info("the flow controller is somebody else's to run")
            return None
        return asyncio.create_task(
            keep_running("flow controller", self._spawn_flows, FLOWS_PATIENCE)
        )

    async def _spawn_flows(self) -> Process:
        config = ["--config", str(self._config.path)] if self._config.path else []
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ovs_metadata.flows.launcher", "--child", *config),
            stdin=asyncio.subprocess.DEVNULL,
        )
