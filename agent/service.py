"""Serving metadata on this host: from when the deployment enables it until it is disabled.

Joins OVSDB and the store into the identity table, and keeps all parts in place. Every change wakes
two tasks of the event loop, from OVSDB's thread or the store's. Each task looks at the present
state: one sends the identity table to the workers, the other reconciles the host's network. The
flow controller and the workers are child processes.
"""

import asyncio
import contextlib
import logging
import os
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.child_process import (
    PYTHON,
    Child,
    child,
    keep_running,
    start_child,
)
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.agent.confirmer import Confirmer
from ovs_metadata.agent.health import FLOW_CONTROLLER
from ovs_metadata.agent.heartbeat import Heartbeat, heartbeat_pipe
from ovs_metadata.agent.identities import NONE_STALE, Identities
from ovs_metadata.agent.network.connections import guests_connections
from ovs_metadata.agent.network.host_plumbing import HostPlumbing
from ovs_metadata.agent.network.reconciler import NetworkReconciler
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.agent.revalidation import revalidated
from ovs_metadata.agent.stale_numbers import StaleNumbers
from ovs_metadata.agent.systemd import Systemd
from ovs_metadata.agent.workers import Workers
from ovs_metadata.flows.withdrawal import withdraw_hooks
from ovs_metadata.host.address import IpVersion
from ovs_metadata.host.config import Config
from ovs_metadata.host.ovsdb import OvsdbUnreachable
from ovs_metadata.host.port_watcher import PortWatcher
from ovs_metadata.host.records import AGENT, followed_records
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

FLOWS_STOP_TIMEOUT = 5.0
"""Seconds between SIGTERM and SIGKILL for the flow controller."""


class Service:
    """What serves, from `start` to `stop`."""

    def __init__(
        self,
        config: Config,
        *,
        store: Store,
        systemd: Systemd,
        ovsdb: OvsdbSession,
        deployment: Deployment,
        statistics: HostStatistics,
        on_end: Callable[[], None],
    ) -> None:
        """Make it; `on_end` is called at its end, also after a failure."""
        self._config = config
        self._store = store
        self._records = followed_records(config, store, AGENT)
        self._systemd = systemd
        self._ovsdb = ovsdb
        self._deployment = deployment
        self._identities = Identities()
        self._stale = StaleNumbers()
        self._is_stale = asyncio.Event()
        self._on_end = on_end
        self._workers = Workers(
            config.proxy_user, deployment.settings, statistics, confirm=self._confirm
        )
        self._confirmer: Confirmer | None = None
        self._reconciler: NetworkReconciler | None = None
        self._statistics = statistics
        self._changed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._flows: Process | None = None
        self._flows_heartbeat = Heartbeat(lambda: statistics.child_hung("flow_controller"))
        self._for_good = False

    def start(self) -> None:
        """Begin to serve."""
        self._running = asyncio.create_task(self._run())
        self._running.add_done_callback(lambda _: self._on_end())

    def network_problems(self) -> Sequence[str]:
        """What is missing in this host's network to serve guests; empty if nothing is."""
        if self._reconciler is None:
            return ["the agent has not read OVSDB yet"]
        return self._reconciler.problems

    @property
    def workers_wanted(self) -> int:
        """The number of workers that should serve."""
        return self._workers.wanted

    def serves(self) -> Mapping[IpVersion, bool]:
        """Whether guests can be served over each IP version that the kernel has switched on."""
        return self._reconciler.serves if self._reconciler else {}

    @property
    def ports_served(self) -> int:
        """The number of served ports: those whose guests get responses from Nova."""
        return self._statistics.ports_by_state()["served"]

    def records_disconnected_for(self) -> float:
        """Seconds for which the source of port records has not been connected; 0 while it is."""
        return self._records.disconnected_for()

    def children(self) -> list[Child]:
        """The child processes."""
        return self._flows_child() + self._workers.children()

    def _flows_child(self) -> list[Child]:
        if self._flows is None:
            return []
        return [child(FLOW_CONTROLLER, self._flows, self._flows_heartbeat)]

    def check(self) -> None:
        """Raise the exception that ended the service, if one did.

        Raises:
            OvsdbUnreachable: OVSDB did not answer.
            StoreError: the store cannot be used.
        """
        if self._running and self._running.done():
            self._running.result()

    async def stop(self, *, for_good: bool = False) -> None:
        """End the children; workers finish their requests first.

        Flows, port and namespace stay. With `for_good` the hooks are removed before the workers
        stop accepting: new connections then reach another service at the service address.
        """
        self._for_good = for_good
        if self._running:
            self._running.cancel()
            await asyncio.wait([self._running])
        self._statistics.table_changed({})
        self._statistics.refused = {}

    def apply(self, deployment: Deployment) -> None:
        """Use this configuration from now on."""
        if deployment.settings != self._deployment.settings:
            self._workers.apply(deployment.settings)
        before = self._deployment
        if (deployment.secret, deployment.options) != (before.secret, before.options):
            self._changed.set()
        self._deployment = deployment

    async def _run(self) -> None:
        """Serve until cancelled."""
        loop = asyncio.get_running_loop()

        def changed() -> None:
            self._changed.set()
            if self._reconciler:
                self._reconciler.wake()

        def wake() -> None:
            loop.call_soon_threadsafe(changed)

        watcher = await self._watch(wake)

        def apply() -> None:
            # A change wakes this loop before the confirmation of that change does.
            if self._changed.is_set():
                self._update_workers(watcher)

        self._confirmer = Confirmer(watcher, self._ovsdb, apply)
        config = self._config
        host = HostPlumbing(watcher.ovsdb, self._systemd, config.namespace, config.workers)
        reconciler = self._reconciler = NetworkReconciler(
            host, self._workers, lambda: watcher.bridge
        )
        keeping_up = asyncio.create_task(reconciler.run())
        updating, flows = (
            asyncio.create_task(self._keep_workers_updated(watcher)),
            self._start_flows(),
        )
        freshening = asyncio.create_task(self._freshen())
        tasks = [keeping_up, updating, freshening, *flows]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # raises the exception of a failed task; none should fail
        finally:
            await _cancel(keeping_up)
            if self._for_good and flows:
                await _cancel(*flows)
                await self._withdraw_hooks()
            # While workers finish their requests, they still get changes.
            await self._workers.stop()
            await _cancel(updating, freshening, *flows)
            self._ovsdb.drop_question()
            host.close()
            await asyncio.to_thread(watcher.close)

    async def _withdraw_hooks(self) -> None:
        """Remove the hooks, so that the switch sends new connections elsewhere."""
        config = self._config
        try:
            await asyncio.to_thread(
                withdraw_hooks, config, lambda: guests_connections(config.namespace)
            )
        except OSError as error:
            LOG.warning(
                "cannot remove the hooks first, so workers refuse new connections for a moment: %s",
                error,
            )

    async def _watch(self, wake: Callable[[], None]) -> PortWatcher:
        config = self._config
        making = asyncio.create_task(
            asyncio.to_thread(
                PortWatcher,
                config.ovsdb_connection,
                config.bridge,
                self._records,
                wake,
                documents=self._store,
            )
        )
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and its result must be closed.
            with contextlib.suppress(OvsdbUnreachable):
                await asyncio.to_thread((await making).close)
            raise

    async def _keep_workers_updated(self, watcher: PortWatcher) -> None:
        """Send every change to the workers, as soon as it is known."""
        while True:
            self._update_workers(watcher)
            await self._changed.wait()

    def _update_workers(self, watcher: PortWatcher) -> None:
        self._changed.clear()
        watcher.policy = self._deployment.options
        host_ports = watcher.state().host_ports
        self._stale.left(watcher.take_left())
        stale = self._stale.ofports
        if stale != NONE_STALE:
            self._is_stale.set()
        table = self._identities.table(host_ports, self._deployment.secret, stale)
        fresh = self._stale.take_fresh()
        if fresh:
            # Connections from these ofports may belong to another port, so they are closed.
            closed = self._identities.addresses_at(fresh)
            self._workers.update(table.with_changes({}, gone=closed))
        self._workers.update(table)
        self._statistics.refused = host_ports.refused

    async def _freshen(self) -> None:
        """Have the datapath's flows revalidated whenever a port has left its ofport."""
        while True:
            await self._is_stale.wait()
            self._is_stale.clear()
            number = self._stale.begin()
            await revalidated(self._config.rundir)
            self._stale.done(number)
            self._changed.set()

    def _confirm(self, on_confirmed: Callable[[], None]) -> None:
        """Call back once the workers have everything that was committed before; see `Confirm`."""
        if self._confirmer is not None:  # workers start after it
            self._confirmer.confirm(on_confirmed)

    def _start_flows(self) -> list[asyncio.Task[None]]:
        if self._config.controller == "external":
            LOG.info("controller = external: the agent starts no flow controller")
            return []
        task = keep_running(
            "flow controller", self._spawn_flows, lambda: FLOWS_STOP_TIMEOUT, self._flows_heartbeat
        )
        return [asyncio.create_task(task)]

    async def _spawn_flows(self) -> Process:
        config = ["--config", str(self._config.path)] if self._config.path else []
        self._statistics.controller_starts()
        signs = await heartbeat_pipe(
            self._flows_heartbeat,
            self._statistics.controller_dropped_lines,
            self._statistics.controller_reports,
        )
        try:
            self._flows = await start_child(
                "flow controller",
                *(*PYTHON, "-m", "ovs_metadata.flows.launcher", "--child", *config),
                *("--heartbeat-fd", str(signs)),
                pass_fds=[signs],
            )
        finally:
            os.close(signs)
        return self._flows


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
