"""What the agent does with the deployment's configuration as it changes. Its parts are played."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_support import NOWHERE

from lab.rig.process import until
from ovs_metadata.agent import agent as module
from ovs_metadata.agent.agent import Agent, AgentError
from ovs_metadata.agent.announcement import AnnouncedProblem
from ovs_metadata.agent.child_process import Child
from ovs_metadata.agent.config.deployment import Deployment
from ovs_metadata.agent.config.effective import SCHEMA
from ovs_metadata.agent.health import health
from ovs_metadata.agent.network import cleanup
from ovs_metadata.agent.network.cleanup import CleanupError
from ovs_metadata.agent.presence import Status
from ovs_metadata.agent.systemd import Systemd
from ovs_metadata.host.config import AdminOptions, Config
from ovs_metadata.host.listen import Listen, UnixSocket
from ovs_metadata.host.ovsdb import OvsdbUnreachable
from ovs_metadata.proxy.control.settings import Settings
from ovs_metadata.store.errors import StoreError
from ovs_metadata.store.reconciliation import NEVER

UNREPORTED = "the flow controller has not reported yet: new instances get no metadata"

ENABLED = Deployment(enabled=True, secret=b"secret", settings=Settings())
DISABLED = Deployment(enabled=False, secret=b"", settings=Settings())
STATE_DIR = Path("/nowhere/state")
ELSEWHERE = UnixSocket(Path("/nowhere/metrics.sock"))

CONFIG = replace(NOWHERE, state_dir=STATE_DIR, controller="child", admin_listen=ELSEWHERE)


class PlayedSystemd(Systemd):
    def __init__(self, events: list[str]) -> None:
        super().__init__("", {})
        self._events = events

    def ready(self) -> None:
        self._events.append("ready")

    def stopping(self) -> None:
        self._events.append("stopping")

    def forget(self) -> None:
        self._events.append("sockets are forgotten")


class Parts:
    """All around an agent: they note what it does, in order, and do what a test wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[str] = []
        self.deployment: Deployment | None = ENABLED
        self.problem = ""
        self.refreshes = 0
        self.services: list[PlayedService] = []
        self.traces = False
        self.lock_is_taken = False
        self.enabled_by = "template default"
        self.cleanup_fails: Exception | None = None
        self.listening: list[Listen | None] = []
        self.cannot_listen: set[Listen | None] = set()
        self.view: Callable[[], Any] = lambda: None
        self.status: Callable[[], Status]
        self.fail: Callable[[StoreError], None]
        self.wake: Callable[[], None]
        for name, part in {
            "open_configured_store": self._open_store,
            "LiveDeployment": self._live,
            "ReconciliationFollower": lambda _store: PlayedReconciliation(self),
            "WorldReadableSecretCheck": lambda *_: Closing(self, "secret check"),
            "Presence": self._presence,
            "AdminListener": self._listener,
            "OvsdbSession": lambda *_: PlayedSession(self),
            "Service": lambda _config, **parts: PlayedService(self, **parts),
        }.items():
            monkeypatch.setattr(module, name, part)
        monkeypatch.setattr(cleanup, "has_traces", lambda _: self.traces)
        monkeypatch.setattr(cleanup, "remove_every_trace", self._remove)
        self.agent = Agent(CONFIG, PlayedSystemd(self.events))

    def _open_store(self, config: Config, *, on_fatal: Any, **options: Any) -> Any:
        assert config is CONFIG
        assert options == {"wait": None, "snapshot": "agent"}
        self.fail = on_fatal
        return Closing(self, "store")

    def _live(self, _store: Any, host: str, wake: Callable[[], None]) -> Any:
        assert host == "hv1"
        self.wake = wake
        return PlayedLive(self)

    def _presence(self, _config: Config, _store: Any, status: Callable[[], Status]) -> Any:
        self.status = status
        return ClosingSoon(self, "presence")

    def _listener(self, _statistics: Any, view: Any) -> Any:
        self.view = view
        return PlayedListener(self)

    def problems(self) -> list[str]:
        return health(self.view()).problems

    def _remove(self, config: Config) -> None:
        assert config is CONFIG
        if self.cleanup_fails:
            raise self.cleanup_fails
        self.events.append("traces are removed")
        self.traces = False

    async def look(self, deployment: Deployment | None, problem: str = "") -> None:
        """Have the configuration change, and wait until the agent has done what it says."""
        self.deployment, self.problem = deployment, problem
        for _ in range(2):
            before = self.refreshes
            self.wake()
            await until(lambda before=before: self.refreshes > before)  # type: ignore[misc]


class Closing:
    def __init__(self, parts: Parts, name: str) -> None:
        self._parts = parts
        self._name = name

    def close(self) -> None:
        self._parts.events.append(f"{self._name} ends")

    def disconnected_for(self) -> float:
        return 0.0

    def server_certificate(self) -> None:
        return None


class ClosingSoon(Closing):
    async def close(self) -> None:  # type: ignore[override]
        super().close()


class PlayedReconciliation(Closing):
    report = NEVER

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, "reconciliation")


class PlayedLive(Closing):
    generation = wanted = "g1"
    problems = ()

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, "configuration")

    @property
    def problem(self) -> str:
        return self._parts.problem

    @property
    def enabled_by(self) -> str:
        return self._parts.enabled_by

    @property
    def current(self) -> Deployment | None:
        return self._parts.deployment

    def refresh(self) -> Deployment | None:
        assert threading.current_thread() is not threading.main_thread()
        self._parts.refreshes += 1
        return self._parts.deployment


class PlayedSession:
    """The lock in OVSDB: taken by another agent, or not."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    @property
    def lock_taken(self) -> bool:
        return self._parts.lock_is_taken

    def start(self) -> None:
        pass

    def close(self) -> None:
        self._parts.events.append("session ends")

    async def lock_answered(self, timeout: float) -> None:
        assert timeout

    def silent_for(self) -> float:
        return 0.0


class PlayedListener(ClosingSoon):
    def __init__(self, parts: Parts) -> None:
        super().__init__(parts, "admin listener")

    def listen(self, place: Listen | None, _options: AdminOptions) -> None:
        if place in self._parts.cannot_listen:
            raise OSError("Address already in use")
        self._parts.listening.append(place)


class PlayedService:
    ports_served = 7

    def __init__(self, parts: Parts, *, deployment: Deployment, **others: Any) -> None:
        self._parts = parts
        self._on_end: Callable[[], None] = others["on_end"]
        self.applied = [deployment]
        self.failure: Exception | None = None
        parts.services.append(self)

    def start(self) -> None:
        self._parts.events.append("service starts")

    def apply(self, deployment: Deployment) -> None:
        self.applied.append(deployment)

    async def stop(self, *, for_good: bool = False) -> None:
        self._parts.events.append("service ends for good" if for_good else "service ends")

    def check(self) -> None:
        if self.failure:
            raise self.failure

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self._on_end()

    workers_wanted = 0

    def network_problems(self) -> list[str]:
        return ["there is no bridge br-int"]

    def children(self) -> list[Child]:
        return [Child("flow controller", 4711, running=True)]

    def records_disconnected_for(self) -> float:
        return 0.0

    def serves(self) -> Mapping[int, bool]:
        return {4: True}


CLOSED = (
    *("presence ends", "secret check ends", "reconciliation ends"),
    *("configuration ends", "store ends", "session ends"),
)
"""What ends after the service, in order, and before the admin listener."""


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


def run(parts: Parts, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run the agent until the scenario has ended, and end it by SIGTERM."""

    async def main() -> None:
        running = asyncio.create_task(parts.agent.run())
        await until(lambda: parts.refreshes or running.done())
        try:
            if not running.done():
                await scenario()
        finally:
            if not running.done():
                os.kill(os.getpid(), signal.SIGTERM)
            await running

    asyncio.run(main())


def test_enabled_it_serves_and_at_the_end_all_parts_end_in_order(parts: Parts) -> None:
    async def scenario() -> None:
        await until(lambda: parts.services)
        await parts.look(ENABLED)
        assert parts.status() == Status(
            enabled=True,
            generation="g1",
            ports_served=7,
            state="not serving",
            findings=(
                AnnouncedProblem("agent-not-ready", "error", "there is no bridge br-int"),
                AnnouncedProblem("agent-not-ready", "new", UNREPORTED),
            ),
            problems=("there is no bridge br-int", UNREPORTED),
        )
        assert parts.problems() == ["there is no bridge br-int", UNREPORTED]
        view = parts.view()
        assert (view.host, view.bridge, view.enabled, view.generation) == (
            *("hv1", "br-int", True, "g1"),
        )
        assert [child.name for child in view.children] == ["flow controller"]
        assert view.serves == {4: True}

    run(parts, scenario)
    assert parts.events == [
        *("ready", "service starts", "stopping", "service ends", *CLOSED, "admin listener ends")
    ]


def test_a_changed_configuration_goes_to_the_service_that_is_there(parts: Parts) -> None:
    changed = Deployment(enabled=True, secret=b"another", settings=Settings())

    async def scenario() -> None:
        await parts.look(changed)
        (service,) = parts.services
        assert service.applied[0] == ENABLED
        assert service.applied[-1] == changed

    run(parts, scenario)


def test_disabled_it_removes_every_trace_and_logs_that_once(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def scenario() -> None:
        parts.traces = True
        await parts.look(DISABLED)
        assert parts.events[2:] == [
            *("service ends for good", "sockets are forgotten", "traces are removed"),
            "sockets are forgotten",
        ]
        assert parts.status() == Status(
            enabled=False, generation="g1", ports_served=0, state="disabled"
        )
        text = (
            "disabled by template default: the agent has no flows, port or namespace on this host"
        )
        assert parts.problems() == [text]
        assert caplog.messages.count(text) == 1
        assert (parts.view().enabled, parts.view().children, parts.view().serves) == (False, (), {})

        await parts.look(ENABLED)
        assert len(parts.services) == 2
        await parts.look(DISABLED)
        assert caplog.messages.count(text) == 2

    run(parts, scenario)


@pytest.mark.parametrize(
    "error", [CleanupError("the switch"), OvsdbUnreachable("OVSDB"), OSError("the namespace")]
)
def test_a_trace_that_cannot_be_removed_is_an_error_and_tried_again(
    parts: Parts, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    parts.deployment, parts.traces, parts.cleanup_fails = DISABLED, True, error

    async def scenario() -> None:
        await parts.look(DISABLED)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert f"cannot remove all that it made on this host: {error}" in record.getMessage()
        assert parts.problems() == [record.getMessage()]
        parts.cleanup_fails = None
        await parts.look(DISABLED)
        assert not parts.traces

    run(parts, scenario)


def test_without_a_configuration_it_changes_nothing_and_names_the_reason(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parts.deployment, parts.traces = None, True

    async def scenario() -> None:
        await parts.look(None)
        waiting = "waiting for the deployment's configuration from the store"
        assert parts.problems() == [waiting]
        assert parts.view().enabled is None
        await parts.look(None, "key nova_metadata_url is missing")
        unusable = "waiting for a usable configuration: key nova_metadata_url is missing"
        assert parts.problems() == [unusable]
        levels = {record.getMessage(): record.levelno for record in caplog.records}
        assert (levels[waiting], levels[unusable]) == (logging.INFO, logging.ERROR)

    run(parts, scenario)
    assert parts.traces
    assert not parts.services


def test_beside_another_agent_it_changes_nothing_and_takes_over_from_it(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    parts.lock_is_taken = True

    async def scenario() -> None:
        await parts.look(ENABLED)
        assert not parts.services
        await parts.look(DISABLED)
        assert parts.traces
        assert parts.problems() == [module.ANOTHER_AGENT]
        assert caplog.messages == [module.ANOTHER_AGENT]
        parts.lock_is_taken = False
        await parts.look(ENABLED)
        await until(lambda: parts.services)
        parts.lock_is_taken = True
        await parts.look(ENABLED)
        assert parts.events[-1] == "service ends"

    parts.traces = True
    run(parts, scenario)


def test_without_configuration_the_agent_says_how_to_enable_it(parts: Parts) -> None:
    async def scenario() -> None:
        await parts.look(DISABLED)
        (text,) = parts.problems()
        assert text.endswith(
            "to enable all hosts: mn-conf set -t default 'agent.openstack.metadata.enabled : true'"
        )

    parts.enabled_by = SCHEMA
    run(parts, scenario)


def test_sighup_has_the_configuration_read_again(parts: Parts) -> None:
    async def scenario() -> None:
        await until(lambda: parts.services)
        before = parts.refreshes
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: parts.refreshes > before)

    run(parts, scenario)


def test_the_configuration_is_read_again_without_any_event(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REFRESH_INTERVAL", 0.01)

    async def scenario() -> None:
        await until(lambda: parts.refreshes > 3)

    run(parts, scenario)
    assert len(parts.services) == 1


def test_a_service_that_failed_ends_the_agent_with_its_reason(parts: Parts) -> None:
    async def scenario() -> None:
        await until(lambda: parts.services)
        parts.services[0].fail(OvsdbUnreachable("OVSDB at unix:/nowhere does not answer"))
        await until(lambda: "admin listener ends" in parts.events)

    with pytest.raises(OvsdbUnreachable, match="unix:/nowhere does not answer"):
        run(parts, scenario)


def test_a_store_that_cannot_be_used_ends_the_agent_with_its_reason(parts: Parts) -> None:
    async def scenario() -> None:
        await until(lambda: parts.services)
        await asyncio.to_thread(parts.fail, StoreError("the store has layout 99"))
        await until(lambda: "admin listener ends" in parts.events)

    with pytest.raises(AgentError, match=r"^the store has layout 99$"):
        run(parts, scenario)
    assert parts.events[2:] == ["stopping", "service ends", *CLOSED, "admin listener ends"]


def test_guests_are_served_without_the_admin_listener(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    own = UnixSocket(STATE_DIR / "admin.sock")
    parts.cannot_listen = {own}

    async def scenario() -> None:
        await until(lambda: parts.services)
        assert parts.listening == [ELSEWHERE]

    run(parts, scenario)
    assert f"the admin listener cannot listen at {own}: Address already in use" in caplog.messages


def test_before_it_has_looked_it_is_starting(parts: Parts) -> None:
    assert parts.agent._health().problems == ["the agent is starting or stopping"]
    assert parts.agent._view().enabled is None
    assert parts.agent._view().generation == ""
