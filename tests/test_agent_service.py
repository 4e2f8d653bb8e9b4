"""What serving does with what its parts report; the parts are played, and no process is started."""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from agent_support import NOWHERE

from lab.rig.process import until
from ovs_metadata.agent import service as module
from ovs_metadata.agent.admin.statistics import HostStatistics
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.agent.ovsdb_session import OvsdbSession
from ovs_metadata.agent.service import FLOWS_STOP_TIMEOUT, Service
from ovs_metadata.agent.systemd import Systemd
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.address import IpVersion
from ovs_metadata.host.config import Config
from ovs_metadata.host.join import HostPorts, ServedPort
from ovs_metadata.host.ovsdb import Bridge, OvsdbUnreachable
from ovs_metadata.host.port_watcher import HostState
from ovs_metadata.proxy.control.identity import Entry, Identity, Pending
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

PORT = "6f1a8f6e-0d1c-4d6b-9c8e-2f1f3a1b0c01"
RECORD = PortRecord(
    port_id=PORT,
    project_id="p1",
    device_id="b6f3c9e2-5a3b-4a51-9d52-6c1f5f7b7a11",
    device_owner="compute:nova",
    mac_address="fa:16:3e:00:00:01",
    fixed_ips=("10.0.0.5",),
    network_id=PORT,
    revision_number=1,
)
DEPLOYMENT = Deployment(enabled=True, secret=b"secret", settings=Settings())


def at(*ofports: int) -> HostPorts:
    return HostPorts(served={number: ServedPort(number, "tap1", RECORD) for number in ofports})


ALL = {"question", "plumbing", "watcher"}
"""What ends after the workers."""


class Parts:
    """All around a service: they note what it does, in order, and do what a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, config: Config = NOWHERE) -> None:
        self.events: list[str] = []
        self.ended: set[str] = set()
        self.host_ports = at()
        self.left: frozenset[int] | None = frozenset()
        self.wake: Callable[[], None] = lambda: None
        self.making: Callable[[], None] = lambda: None
        self.revalidations: list[asyncio.Future[None]] = []
        self.tables: list[Mapping[str, Entry]] = []
        self.settings: list[Settings] = []
        self.statistics = HostStatistics()
        self.children: list[tuple[tuple[str, ...], bytes]] = []
        self.refusing_hooks: OSError | None = None
        self.reconciler: PlayedReconciler | None = None
        for name, part in {
            "PortWatcher": self._watcher,
            "HostPlumbing": lambda *_: PlayedPlumbing(self),
            "NetworkReconciler": lambda *_: PlayedReconciler(self),
            "Workers": lambda *arguments, **_: PlayedWorkers(self, *arguments),
            "revalidated": self._revalidated,
            "keep_running": self._keep_running,
            "start_child": self._start_child,
            "withdraw_hooks": self._withdraw_hooks,
        }.items():
            monkeypatch.setattr(module, name, part)
        self._config = config

    def service(self) -> Service:
        return Service(
            self._config,
            store=cast(Store, None),
            systemd=Systemd("", {}),
            ovsdb=PlayedSession(self),
            deployment=DEPLOYMENT,
            statistics=self.statistics,
            on_end=lambda: self.events.append("the end"),
        )

    def _watcher(
        self, connection: str, bridge: str, _records: Store, wake: Any, *, documents: Store | None
    ) -> "PlayedWatcher":
        assert documents is None
        assert (connection, bridge) == ("unix:/nowhere", "br-int")
        self.wake = wake
        self.making()
        return PlayedWatcher(self)

    def _revalidated(self, rundir: Path) -> asyncio.Future[None]:
        assert rundir == NOWHERE.rundir
        self.revalidations.append(asyncio.get_running_loop().create_future())
        return self.revalidations[-1]

    async def _keep_running(
        self, name: str, start: Callable[[], Awaitable[Any]], timeout: Callable[[], float], _: Any
    ) -> None:
        assert (name, timeout()) == ("flow controller", FLOWS_STOP_TIMEOUT)
        await start()
        try:
            await asyncio.Event().wait()
        finally:
            self.events.append("flows end")

    async def _start_child(self, _name: str, *command: str, pass_fds: list[int]) -> Any:
        os.write(pass_fds[0], b"")  # it is open
        self.children.append((command, str(pass_fds[0]).encode()))
        return PlayedProcess()

    def _withdraw_hooks(self, config: Config, _connections: Any) -> None:
        assert config is self._config
        self.events.append("hooks are removed")
        if self.refusing_hooks:
            raise self.refusing_hooks

    def changed(self, host_ports: HostPorts, left: frozenset[int] | None = frozenset()) -> None:
        self.host_ports, self.left = host_ports, left
        self.wake()

    def kind(self, address: str) -> type[Entry]:
        return type(self.tables[-1][address])

    def ends(self, part: str) -> None:
        """A part ends that the workers need until they have finished."""
        assert "workers end" in self.events or not self.tables
        self.ended.add(part)

    async def tables_sent(self, number: int) -> None:
        await until(lambda: len(self.tables) >= number)


class PlayedProcess:
    pid = 4711
    returncode = None


class PlayedSession(OvsdbSession):
    def __init__(self, parts: Parts) -> None:
        super().__init__("", {}, lambda: None)
        self._parts = parts

    def ask(self, on_answer: Callable[[bool], None]) -> None:
        on_answer(False)  # nothing has changed

    def drop_question(self) -> None:
        self._parts.ends("question")


class PlayedPlumbing:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def close(self) -> None:
        self._parts.ends("plumbing")


class PlayedWatcher:
    bridge: Bridge | None = None
    ovsdb = None

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def state(self) -> HostState:
        return HostState(None, self._parts.host_ports)

    def take_left(self) -> frozenset[int] | None:
        left, self._parts.left = self._parts.left, frozenset()
        return left

    def needs_store(self) -> bool:
        return False

    def close(self) -> None:
        self._parts.ends("watcher")


class PlayedReconciler:
    def __init__(self, parts: Parts) -> None:
        parts.reconciler = self
        self._parts = parts
        self.problems = ["there is no bridge br-int"]
        self.serves: Mapping[IpVersion, bool] = {4: True, 6: False}
        self.wakes = 0
        self.failing = asyncio.Event()

    def wake(self) -> None:
        self.wakes += 1

    async def run(self) -> None:
        try:
            await self.failing.wait()
            raise RuntimeError("the reconciler failed")
        finally:
            self._parts.events.append("reconciler ends")


class PlayedWorkers(Workers):
    def __init__(self, parts: Parts, user: str, settings: Settings, statistics: Any) -> None:
        super().__init__(user, settings, statistics)
        assert user == "nobody"
        self._parts = parts

    @property
    def wanted(self) -> int:
        return 2

    def update(self, table: Mapping[str, Entry]) -> None:
        super().update(table)
        self._parts.tables.append(dict(table))

    def apply(self, settings: Settings) -> None:
        self._parts.settings.append(settings)

    async def stop(self) -> None:
        before = len(self._parts.tables)
        self._parts.changed(at(9))
        await self._parts.tables_sent(before + 1)  # also while they finish their requests
        self._parts.events.append("workers end")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


def serve(
    parts: Parts, scenario: Callable[[Service], Awaitable[None]], *, for_good: bool = False
) -> None:
    """Serve until the scenario has ended; the tables have been sent once before it begins."""

    async def main() -> None:
        service = parts.service()
        service.start()
        await parts.tables_sent(1)
        await scenario(service)
        await service.stop(for_good=for_good)

    asyncio.run(main())


async def nothing(_service: Service) -> None:
    pass


async def fresh(parts: Parts) -> None:
    """Have all ofports revalidated for the first time."""
    await until(lambda: parts.revalidations)
    before = len(parts.tables)
    parts.revalidations[-1].set_result(None)
    await parts.tables_sent(before + 1)


def test_before_ovsdb_has_been_read_no_guest_is_served(parts: Parts) -> None:
    async def main() -> None:
        service = parts.service()
        assert service.network_problems() == ["the agent has not read OVSDB yet"]
        assert service.serves() == {}
        assert service.children() == []
        service.check()
        service._confirm(lambda: pytest.fail("there is nothing to confirm with yet"))

    asyncio.run(main())


def test_what_is_missing_is_known_of_the_network_and_of_the_workers(parts: Parts) -> None:
    async def scenario(service: Service) -> None:
        assert service.network_problems() == ["there is no bridge br-int"]
        assert service.workers_wanted == 2
        assert service.serves() == {4: True, 6: False}

    serve(parts, scenario)


def test_a_change_wakes_the_reconciler_and_reaches_the_workers(parts: Parts) -> None:
    async def scenario(service: Service) -> None:
        await fresh(parts)
        assert service.ports_served == 0
        refused = {"tap2": "it has the ofport of the service address"}
        parts.changed(dataclasses.replace(at(5), refused=refused))
        await until(lambda: service.ports_served)
        assert service.ports_served == 1
        assert parts.statistics.refused == refused
        assert parts.tables[-1].keys() == {"169.254.0.5", "fe80::a9fe:5"}
        assert parts.kind("169.254.0.5") is Identity
        assert parts.reconciler
        assert parts.reconciler.wakes

    serve(parts, scenario)
    assert parts.statistics.ports_by_state() == {"served": 0, "pending": 0, "refused": 0}


def test_no_ofport_has_an_identity_before_the_datapath_was_revalidated(parts: Parts) -> None:
    parts.host_ports = at(5)

    async def scenario(_service: Service) -> None:
        assert parts.kind("169.254.0.5") is Pending
        await fresh(parts)
        assert parts.kind("169.254.0.5") is Identity

    serve(parts, scenario)


def test_connections_of_an_ofport_that_another_port_had_are_closed(parts: Parts) -> None:
    async def scenario(_service: Service) -> None:
        await fresh(parts)
        parts.changed(at(5, 6), left=frozenset({5}))
        await until(lambda: len(parts.revalidations) == 2)
        assert parts.kind("169.254.0.5") is Pending
        assert parts.kind("169.254.0.6") is Identity
        await fresh(parts)
        # An address that leaves the table has its connections closed.
        without, with_it = parts.tables[-2:]
        assert without.keys() == {"169.254.0.6", "fe80::a9fe:6"}
        assert with_it.keys() == {*without, "169.254.0.5", "fe80::a9fe:5"}
        assert isinstance(with_it["169.254.0.5"], Identity)

    serve(parts, scenario)


def test_a_port_that_leaves_during_a_revalidation_waits_for_the_next(parts: Parts) -> None:
    async def scenario(_service: Service) -> None:
        await until(lambda: parts.revalidations)
        parts.changed(at(5), left=frozenset({5}))
        await parts.tables_sent(2)
        await fresh(parts)
        assert parts.kind("169.254.0.5") is Pending
        await until(lambda: len(parts.revalidations) == 2)
        await fresh(parts)
        assert parts.kind("169.254.0.5") is Identity

    serve(parts, scenario)


def test_workers_get_settings_that_differ_and_signatures_of_another_secret(parts: Parts) -> None:
    async def scenario(service: Service) -> None:
        await fresh(parts)
        parts.changed(at(5))
        await parts.tables_sent(3)
        first = parts.tables[-1]["169.254.0.5"]
        number = len(parts.tables)

        service.apply(dataclasses.replace(DEPLOYMENT))
        assert parts.settings == []
        settings = dataclasses.replace(DEPLOYMENT.settings, rate_limit=5)
        service.apply(dataclasses.replace(DEPLOYMENT, settings=settings))
        assert parts.settings == [settings]
        assert len(parts.tables) == number

        service.apply(Deployment(enabled=True, secret=b"another", settings=settings))
        await parts.tables_sent(number + 1)
        assert parts.settings == [settings]
        second = parts.tables[-1]["169.254.0.5"]
        assert isinstance(first, Identity)
        assert isinstance(second, Identity)
        assert first.signature != second.signature

    serve(parts, scenario)


def test_an_identity_is_not_made_again_for_another_port_or_the_same_secret(parts: Parts) -> None:
    async def scenario(service: Service) -> None:
        await fresh(parts)
        parts.changed(at(5))
        await parts.tables_sent(3)
        service.apply(dataclasses.replace(DEPLOYMENT, settings=Settings(rate_limit=5)))
        number = len(parts.tables)
        parts.changed(HostPorts(served={**parts.host_ports.served, **at(6).served}))
        await parts.tables_sent(number + 1)
        assert parts.tables[-1]["169.254.0.5"] is parts.tables[-2]["169.254.0.5"]

    serve(parts, scenario)


def test_a_confirmation_comes_after_what_had_changed_before_it(parts: Parts) -> None:
    async def scenario(service: Service) -> None:
        await fresh(parts)
        confirmed: list[int] = []
        parts.changed(at(5))
        await asyncio.sleep(0)  # the change wakes the loop before the confirmation does
        service._confirm(lambda: confirmed.append(len(parts.tables[-1])))
        await until(lambda: confirmed)
        assert confirmed == [2]

    serve(parts, scenario)


def test_at_the_end_the_workers_finish_before_what_they_need(parts: Parts) -> None:
    serve(parts, nothing)
    assert parts.events == ["reconciler ends", "workers end", "the end"]
    assert parts.ended == ALL
    assert "169.254.0.9" in parts.tables[-1]


def test_a_restart_leaves_the_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Parts(monkeypatch, dataclasses.replace(NOWHERE, controller="child"))

    async def scenario(_service: Service) -> None:
        await until(lambda: parts.children)

    serve(parts, scenario)
    assert "hooks are removed" not in parts.events
    # The flow controller keeps the switch up to date while the workers finish.
    assert parts.events.index("flows end") > parts.events.index("workers end")


@pytest.mark.parametrize("controller", ["child", "external"])
def test_serving_ends_for_good_with_the_hooks_before_the_workers(
    monkeypatch: pytest.MonkeyPatch, controller: str
) -> None:
    parts = Parts(monkeypatch, dataclasses.replace(NOWHERE, controller=controller))

    async def scenario(_service: Service) -> None:
        await until(lambda: parts.children or controller == "external")

    serve(parts, scenario, for_good=True)
    ending = parts.events
    ours = ["flows end", "hooks are removed"] if controller == "child" else []
    assert ending == [*("reconciler ends", *ours, "workers end", "the end")]
    assert parts.ended == ALL


def test_hooks_that_cannot_be_removed_do_not_keep_the_service(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(monkeypatch, dataclasses.replace(NOWHERE, controller="child"))
    parts.refusing_hooks = ConnectionRefusedError("no switch")

    async def scenario(_service: Service) -> None:
        await until(lambda: parts.children)

    serve(parts, scenario, for_good=True)
    assert parts.events[-2:] == ["workers end", "the end"]
    assert parts.ended == ALL
    assert "cannot remove the hooks first" in caplog.text
    assert "no switch" in caplog.text


@pytest.mark.parametrize("path", [None, Path("/etc/agent.conf")])
def test_the_flow_controller_is_a_child_with_the_agents_configuration(
    monkeypatch: pytest.MonkeyPatch, path: Path | None
) -> None:
    parts = Parts(monkeypatch, dataclasses.replace(NOWHERE, controller="child", path=path))

    async def scenario(service: Service) -> None:
        await until(service.children)
        (child,) = service.children()
        assert (child.name, child.pid, child.running) == ("flow controller", 4711, True)

    serve(parts, scenario)
    ((command, descriptor),) = parts.children
    assert command[-1].encode() == descriptor
    assert ("--config" in command) is (path is not None)
    assert (str(path) in command) is (path is not None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(int(descriptor))


def test_ovsdb_that_cannot_be_read_ends_the_service(parts: Parts) -> None:
    def refuse() -> None:
        raise OvsdbUnreachable("OVSDB at unix:/nowhere does not answer")

    parts.making = refuse

    async def main() -> None:
        service = parts.service()
        service.start()
        await until(lambda: parts.events)
        with pytest.raises(OvsdbUnreachable, match="does not answer"):
            service.check()
        await service.stop()

    asyncio.run(main())
    assert parts.events == ["the end"]


def test_a_part_that_fails_ends_the_others_and_its_reason_is_kept(parts: Parts) -> None:
    async def scenario(service: Service) -> None:
        service.check()
        assert parts.reconciler
        parts.reconciler.failing.set()
        await until(lambda: "the end" in parts.events)
        with pytest.raises(RuntimeError, match="the reconciler failed"):
            service.check()

    serve(parts, scenario)
    assert parts.events == [*("reconciler ends", "workers end", "the end")]
    assert parts.ended == ALL


def test_ovsdb_that_answers_after_the_end_is_closed(parts: Parts) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        begun = asyncio.Event()
        may_end = asyncio.Event()

        def wait() -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(may_end.wait(), loop).result(10)

        parts.making = wait
        service = parts.service()
        service.start()
        await begun.wait()
        stopping = asyncio.create_task(service.stop())
        await asyncio.sleep(0)
        may_end.set()
        await stopping

    asyncio.run(main())
    assert parts.events == ["the end"]
    assert parts.ended == {"watcher"}
    assert not parts.tables
