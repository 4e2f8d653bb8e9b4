"""The agent of one hypervisor: does what the deployment's configuration says, as it changes.

One asyncio event loop. Enabled, it runs the `Service`; disabled, it removes every trace of it, and
waits. Until the store has sent the configuration it changes nothing: flows in the switch stay.
"""

import asyncio
import contextlib
import logging
import signal

from tornado.ioloop import PeriodicCallback

from ovs_metadata.agent.admin.server import AdminListener
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.admin.status import with_workers
from ovs_metadata.agent.certificates import Certificate, CertificateFiles, of_store
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.agent.config.effective import SCHEMA
from ovs_metadata.agent.config.live import LiveDeployment
from ovs_metadata.agent.config.schema import ENABLED
from ovs_metadata.agent.config.world_readable_secret import WorldReadableSecretCheck
from ovs_metadata.agent.health import AgentView, HostHealth, health
from ovs_metadata.agent.health_state import HealthState
from ovs_metadata.agent.network import cleanup
from ovs_metadata.agent.network.cleanup import CleanupError
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.agent.presence import Presence, Status, bounded
from ovs_metadata.agent.reconciliation import ReconciliationFollower
from ovs_metadata.agent.service import Service
from ovs_metadata.agent.systemd import Systemd, ping_interval, send_pings
from ovs_metadata.host.config import OVN, Config, as_text
from ovs_metadata.host.listen import UnixSocket
from ovs_metadata.host.ovsdb import COLUMNS, OvsdbUnreachable
from ovs_metadata.host.store import open_configured_store
from ovs_metadata.logs import standard_error
from ovs_metadata.store.interface import StoreError
from ovs_metadata.store.store import Store

LOG = logging.getLogger(__name__)

REFRESH_INTERVAL = 10.0
"""Seconds between two looks at the configuration without a change in the store: files that keys
name may have changed, and a removal that failed is tried again."""

LOCK_TIMEOUT = 2.0
"""Seconds that the agent waits at its start for OVSDB to say whether another agent is there."""

LOG_INTERVAL = 1.0
"""Seconds after which waiting log lines are written again, if no other line is logged."""


ANOTHER_AGENT = (
    "another ovs-metadata-agent works on this host's Open vSwitch, with another [agent] state_dir: "
    "stop one of the two; until then this one changes nothing"
)
STARTING = "the agent is starting or stopping"


class AgentError(Exception):
    """The agent cannot continue; the message is one line with the reason."""


class Agent:
    """The agent of one hypervisor. `run` returns after SIGTERM or SIGINT."""

    def __init__(self, config: Config, systemd: Systemd) -> None:
        self._config = config
        self._systemd = systemd
        self._changed = asyncio.Event()
        self._ending = False
        self._failure: StoreError | None = None
        self._service: Service | None = None
        self._live: LiveDeployment | None = None
        self._store: Store | None = None
        self._statistics = HostStatistics()
        self._ovsdb = OvsdbSession(config.ovsdb_connection, COLUMNS, self._changed.set)
        self._idle_because = ""
        self._certificates: tuple[Certificate, ...] = ()
        self._reconciliation: ReconciliationFollower | None = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then end the children. The flows stay.

        Raises:
            OvsdbUnreachable: OVSDB does not answer.
            StoreError: the store cannot be used, its layout being unknown for example.
            AgentError: the agent cannot continue to serve.
        """
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._end)
        loop.add_signal_handler(signal.SIGHUP, self._look_again)

        def fail(error: StoreError) -> None:
            loop.call_soon_threadsafe(self._fail, error)

        def wake() -> None:
            loop.call_soon_threadsafe(self._changed.set)

        async with contextlib.AsyncExitStack() as opened:
            interval = ping_interval()
            if interval is not None:
                signs = asyncio.create_task(send_pings(interval, self._systemd.ping))
                opened.callback(signs.cancel)
            flushing = PeriodicCallback(standard_error().flush, LOG_INTERVAL * 1000)
            flushing.start()
            opened.callback(flushing.stop)
            self._open_admin_listener(opened)
            self._ovsdb.start()
            opened.callback(self._ovsdb.close)
            store = await asyncio.to_thread(
                open_configured_store, self._config, wait=None, on_fatal=fail, snapshot="agent"
            )
            opened.push_async_callback(asyncio.to_thread, store.close)
            self._store = store
            live = await asyncio.to_thread(LiveDeployment, store, self._config.host, wake)
            opened.push_async_callback(asyncio.to_thread, live.close)
            self._live = live
            if self._config.records != OVN:
                reconciliation = await asyncio.to_thread(ReconciliationFollower, store)
                opened.push_async_callback(asyncio.to_thread, reconciliation.close)
                self._reconciliation = reconciliation
            opened.callback(WorldReadableSecretCheck(store, self._config.host).close)
            presence = Presence(self._config, store, lambda: self._status(live))
            opened.push_async_callback(presence.close)
            opened.push_async_callback(self._stop_serving)
            await self._follow(store, live)
        if self._failure:
            raise AgentError(str(self._failure)) from self._failure

    def _end(self) -> None:
        self._systemd.stopping()
        self._ending = True
        self._changed.set()

    def _look_again(self) -> None:
        """Read what may have changed without an event: files that the configuration names."""
        LOG.info("SIGHUP: reading the deployment's configuration and the files it names again")
        self._changed.set()

    def _fail(self, error: StoreError) -> None:
        self._failure = error
        self._end()

    def _open_admin_listener(self, opened: contextlib.AsyncExitStack) -> None:
        """Listen for questions about this host; guests are served without it too."""
        places = [UnixSocket(self._config.admin_socket), self._config.admin_listen]
        listener = AdminListener(self._statistics, self._view)
        opened.push_async_callback(listener.close)
        for place in places:
            if place is None:
                continue
            try:
                listener.listen(place, self._config.admin)
            except (OSError, ValueError) as error:
                LOG.error("the admin listener cannot listen at %s: %s", place, error)

    def _health(self) -> HostHealth:
        """The health of this host."""
        return health(with_workers(self._view(), self._statistics))

    def _view(self) -> AgentView:
        """What the admin listener shows of this agent."""
        current = self._live.current if self._live else None
        shown = self._store.server_certificate() if self._store else None
        service = self._service
        return AgentView(
            host=self._config.host,
            bridge=self._config.bridge,
            enabled=current.enabled if current else None,
            generation=self._live.generation if self._live else "",
            generation_wanted=self._live.wanted if self._live else "",
            children=tuple(service.children()) if service else (),
            serves=service.serves() if service else {},
            file=as_text(self._config),
            store_disconnected=self._disconnected_for(),
            ovsdb_silent=self._ovsdb.silent_for(),
            idle_because="" if service else self._idle_because or STARTING,
            network=tuple(service.network_problems()) if service else (),
            certificates=(*self._certificates, *of_store(shown)),
            configuration_problems=self._live.problems if self._live else (),
            workers_wanted=service.workers_wanted if service else 0,
            reconciliation=self._reconciliation.report if self._reconciliation else None,
        )

    def _disconnected_for(self) -> float | None:
        """Seconds without the store, or the source of records; None before the store opens."""
        if self._store is None:
            return None
        records = self._service.records_disconnected_for() if self._service else 0.0
        return max(self._store.disconnected_for(), records)

    def _status(self, live: LiveDeployment) -> Status:
        """The status that this agent announces in the store."""
        found = self._health()
        is_wanted = found.state is not HealthState.DISABLED
        findings = bounded(found.findings) if is_wanted else ()
        return Status(
            enabled=self._service is not None,
            generation=live.generation,
            ports_served=self._service.ports_served if self._service else 0,
            state=found.state.value,
            findings=findings,
            problems=tuple(each.text for each in findings if each.level != "warning"),
        )

    async def _follow(self, store: Store, live: LiveDeployment) -> None:
        """Do what the configuration says, whenever something has changed."""
        self._systemd.ready()
        await self._ovsdb.lock_answered(LOCK_TIMEOUT)
        files = CertificateFiles(self._config)
        while not self._ending:
            self._changed.clear()
            deployment = await asyncio.to_thread(live.refresh)
            self._certificates = await asyncio.to_thread(files.read, live.current)
            if self._ovsdb.lock_taken:
                await self._stop_serving()
                self._idle(ANOTHER_AGENT, logging.ERROR)
            elif deployment is None:
                self._wait_for_configuration(live.problem)
            elif deployment.enabled:
                self._serve(store, deployment)
            else:
                await self._stop_serving(for_good=True)
                await self._remove_traces()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), REFRESH_INTERVAL)
            if self._service:
                self._service.check()

    def _serve(self, store: Store, deployment: Deployment) -> None:
        if self._service:
            self._service.apply(deployment)
            return
        LOG.info("enabled: serving the instances of this host")
        self._service = Service(
            self._config,
            store=store,
            systemd=self._systemd,
            ovsdb=self._ovsdb,
            deployment=deployment,
            statistics=self._statistics,
            on_end=self._changed.set,
        )
        self._service.start()
        self._idle_because = ""

    async def _stop_serving(self, *, for_good: bool = False) -> None:
        if self._service:
            await self._service.stop(for_good=for_good)
            self._service = None

    async def _remove_traces(self) -> None:
        """Remove all that the agent made on this host; retry what fails at the next look."""
        self._systemd.forget()  # a socket that is kept keeps its namespace, too
        try:
            if await asyncio.to_thread(cleanup.has_traces, self._config):
                await asyncio.to_thread(cleanup.remove_every_trace, self._config)
            self._idle(self._why_disabled())
        except (CleanupError, OvsdbUnreachable, OSError) as error:
            why = f"disabled, but the agent cannot remove all that it made on this host: {error}"
            self._idle(why, logging.ERROR)

    def _why_disabled(self) -> str:
        """What disables the agent, or how to enable it if nothing has decided that yet."""
        state = "the agent has no flows, port or namespace on this host"
        by = self._live.enabled_by if self._live else SCHEMA
        if by == SCHEMA:
            return (
                f"disabled: {state}; to enable all hosts: mn-conf set -t default '{ENABLED} : true'"
            )
        return f"disabled by {by}: {state}"

    def _wait_for_configuration(self, problem: str) -> None:
        if problem:
            self._idle(f"waiting for a usable configuration: {problem}", logging.ERROR)
        else:
            self._idle("waiting for the deployment's configuration from the store")

    def _idle(self, why: str, level: int = logging.INFO) -> None:
        """Log why the agent serves no guest, unless the last line gave the same reason."""
        if why != self._idle_because:
            LOG.log(level, "%s", why)
        self._idle_because = why
