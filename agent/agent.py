"""The agent: joins OVSDB and the store into the identity table, and keeps all parts in place.

One asyncio event loop. Whatever happens anywhere, OVSDB's thread or the store's wakes two tasks,
each of which looks at how things are: one tells the workers who stands behind which address, the
other is the upkeep of the metadata port. The flow controller and the workers are child processes.
"""

import asyncio
import logging
import signal
from asyncio.subprocess import Process
from typing import Any

from ovs_metadata.agent.children import PYTHON, keep_running
from ovs_metadata.agent.identities import identity_table
from ovs_metadata.agent.upkeep import Upkeep
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.config import Config
from ovs_metadata.host.watch import PortWatcher
from ovs_metadata.proxy.settings import Settings
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import Store, StoreError

LOG = logging.getLogger(__name__)

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
        self._ending = asyncio.Event()
        self._failure: StoreError | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end the children. The flows stay.

        Raises:
            OvsdbUnreachable: OVSDB does not answer.
            StoreError: the store cannot be used, its layout being unknown for example.
            AgentError: something came up that makes serving impossible.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._ending.set)

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
        awake: list[Upkeep] = []

        def changed() -> None:
            self._changed.set()
            for upkeep in awake:
                upkeep.wake()

        def wake() -> None:
            loop.call_soon_threadsafe(changed)

        watcher = await asyncio.to_thread(
            PortWatcher, self._config.ovsdb_connection, self._config.bridge, store, wake
        )
        upkeep = Upkeep(watcher, self._workers, self._config.namespace, self._config.workers)
        awake.append(upkeep)
        keeping_up = asyncio.create_task(upkeep.run())
        others = [
            asyncio.create_task(self._ending.wait()),
            asyncio.create_task(self._tell(watcher)),
            *self._start_flows(),
        ]
        try:
            done, _ = await asyncio.wait([keeping_up, *others], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises what a task has failed of, which none should
        finally:
            await _cancel(keeping_up)
            # While workers finish what they have, they are still told of changes.
            await self._workers.stop()
            await _cancel(*others)
            await asyncio.to_thread(watcher.close)

    def _fail(self, error: StoreError) -> None:
        self._failure = error
        self._ending.set()

    async def _tell(self, watcher: PortWatcher) -> None:
        """Tell the workers of every change, as soon as it is known."""
        while True:
            self._changed.clear()
            self._workers.tell(identity_table(watcher.state().bound, self._secret))
            await self._changed.wait()

    def _start_flows(self) -> list[asyncio.Task[None]]:
        if self._config.controller == "external":
            LOG.info("the flow controller is somebody else's to run")
            return []
        task = keep_running("flow controller", self._spawn_flows, FLOWS_PATIENCE)
        return [asyncio.create_task(task)]

    async def _spawn_flows(self) -> Process:
        config = ["--config", str(self._config.path)] if self._config.path else []
        return await asyncio.create_subprocess_exec(
            *(*PYTHON, "-m", "ovs_metadata.flows.launcher", "--child", *config),
            stdin=asyncio.subprocess.DEVNULL,
        )


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
