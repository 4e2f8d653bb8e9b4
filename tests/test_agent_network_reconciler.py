"""What the reconciler of the metadata port does, look by look, on a host that is played."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from lab.rig.process import until
from ovs_metadata.agent.network.device import Device, Failure
from ovs_metadata.agent.network.listening import Opened
from ovs_metadata.agent.network.metadata_port import PlumbingError
from ovs_metadata.agent.network.namespaces import NamespaceError
from ovs_metadata.agent.network.reconciler import (
    DEVICE_GONE,
    LOOK_INTERVAL,
    MISSING_FOR,
    NO_BRIDGE,
    NO_DEVICE_YET,
    NetworkReconciler,
)
from ovs_metadata.agent.workers import Workers
from ovs_metadata.host.address import IpVersion
from ovs_metadata.host.join import Interface, by_name
from ovs_metadata.host.ovsdb import Bridge, MetadataPort, OvsdbRefused
from ovs_metadata.proxy.control.settings import Settings

BRIDGE = Bridge("br-int", metadata_port=MetadataPort(1, ours=True, isolated=True))
IN_ORDER = Device((4, 6))


class Host:
    """The host. What is set as a `failure` of a method is raised by it."""

    def __init__(self) -> None:
        self.namespace = 1
        self.device: Device | None = IN_ORDER
        self.not_listening: dict[IpVersion, OSError] = {}
        self.failures: dict[str, Exception] = {}
        self.calls: list[str] = []
        self.has_changed = False
        self.questions = 0

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.failures:
            raise self.failures[name]

    def ensure_namespace(self) -> int:
        self._called("ensure_namespace")
        return self.namespace

    def watch(self, namespace: int) -> None:
        assert namespace == self.namespace
        self.has_changed = False

    def changed(self) -> bool:
        self.questions += 1
        return self.has_changed

    def ensure_port(self, bridge: Bridge) -> None:
        assert bridge.name == "br-int"
        self._called("ensure_port")

    def remove_port(self) -> None:
        self._called("remove_port")

    def ensure_device(self) -> Device | None:
        self._called("ensure_device")
        return self.device

    def listen(self, namespace: int) -> Opened:
        assert namespace == self.namespace
        self._called("listen")
        return Opened([[]], dict(self.not_listening))

    def reopen(self, worker: int) -> list[socket.socket]:
        raise AssertionError(worker)

    def can_listen(self, versions: frozenset[IpVersion]) -> bool:
        return not versions & set(self.not_listening)


class PlayedWorkers(Workers):
    """Workers that are no processes."""

    def __init__(self) -> None:
        super().__init__("nobody", Settings())
        self.events: list[str] = []

    @property
    def started(self) -> bool:
        return self.events[-1:] == ["start"]

    def start(
        self,
        groups: Sequence[Sequence[socket.socket]],
        reopen: Callable[[int], Sequence[socket.socket]] | None = None,
    ) -> None:
        del groups
        assert reopen
        self.events.append("start")

    async def stop(self) -> None:
        self.events.append("stop")


class Played:
    """A reconciler with all around it played."""

    def __init__(self) -> None:
        self.host = Host()
        self.workers = PlayedWorkers()
        self.bridge: Bridge | None = BRIDGE
        self.reconciler = NetworkReconciler(self.host, self.workers, lambda: self.bridge)

    def problems(self) -> list[str]:
        return list(self.reconciler.problems)

    def look(self, times: int = 1) -> None:
        async def looks() -> None:
            for _ in range(times):
                await self.reconciler.look()

        asyncio.run(looks())


@pytest.fixture
def played() -> Played:
    return Played()


def test_a_host_in_order_has_no_problems(played: Played) -> None:
    assert played.problems()
    played.look(3)
    assert played.problems() == []
    assert played.reconciler.serves == {4: True, 6: True}
    assert played.workers.events == ["start"]


def test_the_port_is_not_made_again_at_the_first_look_that_misses_its_device(
    played: Played,
) -> None:
    played.host.device = None
    played.look(MISSING_FOR - 1)
    assert "remove_port" not in played.host.calls
    assert played.problems() == [DEVICE_GONE]
    assert played.reconciler.serves == {4: False, 6: False}
    played.look()
    assert played.host.calls.count("remove_port") == 1
    played.look(MISSING_FOR - 1)
    assert played.host.calls.count("remove_port") == 1


def test_looks_that_miss_the_device_count_only_in_a_row(played: Played) -> None:
    for _ in range(MISSING_FOR):
        played.host.device = None
        played.look(MISSING_FOR - 1)
        played.host.device = IN_ORDER
        played.look()
    assert "remove_port" not in played.host.calls


def test_a_new_namespace_has_the_workers_start_over(played: Played) -> None:
    played.look()
    played.host.namespace = 2
    played.look(2)
    assert played.workers.events == ["start", "stop", "start"]


def test_a_version_whose_device_is_not_complete_is_a_problem_and_the_other_is_served(
    played: Played,
) -> None:
    played.host.device = Device((4, 6), (Failure("address fe80::1", frozenset({6}), "no"),))
    played.look()
    assert played.problems() == ["the metadata port's device: address fe80::1: no"]
    assert played.reconciler.serves == {4: True, 6: False}
    assert played.workers.events == ["start"]


def test_a_version_that_is_switched_off_is_no_problem(played: Played) -> None:
    played.host.device = Device((4,))
    played.look()
    assert played.problems() == []
    assert played.reconciler.serves == {4: True}


def test_a_version_that_cannot_be_listened_on_is_tried_again(played: Played) -> None:
    played.host.not_listening = {6: OSError(98, "Address already in use")}
    played.look(2)
    assert played.problems() == [
        "no worker listens for guests over IPv6: [Errno 98] Address already in use",
    ]
    assert played.reconciler.serves == {4: True, 6: False}
    assert played.workers.events == ["start"]
    played.host.not_listening = {}
    played.look()
    assert played.problems() == []
    assert played.workers.events == ["start", "stop", "start"]


def test_the_device_is_kept_up_before_workers_can_listen(played: Played) -> None:
    played.host.failures["listen"] = OSError(24, "Too many open files")
    played.look()
    assert played.problems() == ["no worker listens for guests: [Errno 24] Too many open files"]
    assert played.reconciler.serves == {4: False, 6: False}
    assert "ensure_device" in played.host.calls
    del played.host.failures["listen"]
    played.look()
    assert played.problems() == []
    assert played.workers.events == ["start"]


def test_a_port_that_ovsdb_does_not_change_is_used_as_it_is(played: Played) -> None:
    played.host.failures["ensure_port"] = OvsdbRefused("read only")
    played.look()
    assert played.problems() == ["the metadata port is not set up: read only"]
    assert played.reconciler.serves == {4: True, 6: True}


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        (None, NO_DEVICE_YET),
        (MetadataPort(None, ours=True, isolated=True), NO_DEVICE_YET),
        (MetadataPort(1, ours=False, isolated=True), NO_DEVICE_YET),
        (MetadataPort(1, ours=True, isolated=False), NO_DEVICE_YET),
    ],
)
def test_no_device_is_touched_but_that_of_our_isolated_port(
    played: Played, port: MetadataPort | None, problem: str
) -> None:
    played.bridge = Bridge("br-int", metadata_port=port)
    played.look()
    assert played.problems() == [problem]
    assert "ensure_device" not in played.host.calls


def test_without_a_bridge_there_is_nothing_to_do(played: Played) -> None:
    played.bridge = None
    played.look()
    assert played.problems() == [NO_BRIDGE]
    assert played.host.calls == ["ensure_namespace", "listen"]


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("ensure_namespace", NamespaceError("no")),
        ("ensure_device", PlumbingError("no")),
        ("ensure_port", PlumbingError("no")),
    ],
)
def test_a_failure_is_logged_once_and_tried_again(
    played: Played, caplog: pytest.LogCaptureFixture, where: str, error: Exception
) -> None:
    played.host.failures[where] = error
    played.look(3)
    assert len([each for each in caplog.records if each.levelname == "ERROR"]) == 1
    assert "the metadata port is not set up: no; trying again" in caplog.text
    played.host.failures.clear()
    played.look()
    assert played.problems() == []


def test_waking_it_has_it_look_at_once(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ovs_metadata.agent.network.reconciler.CHECK_INTERVAL", 3600.0)

    async def scenario() -> None:
        running: asyncio.Task[Any] = asyncio.create_task(played.reconciler.run())
        await until(lambda: played.problems() == [])
        played.bridge = None
        played.reconciler.wake()
        await until(lambda: played.problems() == [NO_BRIDGE])
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())


def is_due(played: Played, later: float = 0.0) -> bool:
    async def ask() -> bool:
        return played.reconciler.is_due(asyncio.get_running_loop().time() + later)

    return asyncio.run(ask())


def test_a_look_is_due_while_something_is_missing(played: Played) -> None:
    assert is_due(played)
    played.host.device = None
    played.look()
    assert is_due(played)
    played.host.device = IN_ORDER
    played.look()
    assert not is_due(played)


def test_a_look_is_due_after_what_the_kernel_reports_and_after_some_time(played: Played) -> None:
    played.look()
    assert not is_due(played, LOOK_INTERVAL - 1)
    assert is_due(played, LOOK_INTERVAL + 1)
    played.host.has_changed = True
    assert is_due(played)
    played.look()
    assert not is_due(played)


def test_ports_of_instances_are_no_reason_to_look(played: Played) -> None:
    played.look()
    played.bridge = replace(BRIDGE, interfaces=by_name((Interface("tap1", 5),)))
    assert not is_due(played)
    for changed in (
        None,
        replace(BRIDGE, row=uuid4()),
        replace(BRIDGE, metadata_port=MetadataPort(2, ours=True, isolated=True)),
        replace(BRIDGE, metadata_port=MetadataPort(1, ours=True, isolated=False)),
    ):
        played.bridge = changed
        assert is_due(played)


def test_woken_without_a_change_it_asks_and_does_not_look(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ovs_metadata.agent.network.reconciler.CHECK_INTERVAL", 0.001)

    async def scenario() -> None:
        running: asyncio.Task[Any] = asyncio.create_task(played.reconciler.run())
        await until(lambda: played.host.questions > 20)
        looks = played.host.calls.count("ensure_namespace")
        assert looks == 1
        played.host.has_changed = True
        await until(lambda: played.host.calls.count("ensure_namespace") == 2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(scenario())
