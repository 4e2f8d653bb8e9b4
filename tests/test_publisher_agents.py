"""The agents in Neutron's list of agents: which are reported, with what, and when."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from lab.rig.process import wait_for
from ovs_metadata.publisher import repeated
from ovs_metadata.publisher.agents import AgentReporter, due, state_of
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import Announced
from ovs_metadata.store.layout import agent_path
from ovs_metadata.store.store import Store

NOW = datetime(2026, 11, 28, 12)
INTERVAL = 20.0

DOCUMENT = {
    "host": "hypervisor-1",
    "version": "0.1.0",
    "bridge": "br-int",
    "enabled": True,
    "ports_served": 3,
    "problems": ["the store is away"],
}
SHOWN = {"version": "0.1.0", "bridge": "br-int", "enabled": True, "ports_served": 3}


def announced(name: str, *, alive: bool = True, data: bytes | None = None) -> Announced:
    return Announced(name, json.dumps(DOCUMENT).encode() if data is None else data, 0.0, alive)


def test_an_agents_state_is_what_neutron_asks_for_and_shows() -> None:
    assert state_of(announced("hypervisor-1")) == {
        "agent_type": "OVS metadata agent",
        "binary": "ovs-metadata-agent",
        "host": "hypervisor-1",
        "topic": "N/A",
        "configurations": SHOWN,
    }


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", {}),
        (b"[]", {}),
        (b'{"version": 1, "bridge": null, "enabled": 1, "ports_served": true}', {}),
        (json.dumps({"version": "v" * 5000}).encode(), {"version": "v" * 60}),
    ],
)
def test_an_announcement_of_any_content_fits_neutrons_database(
    data: bytes, shown: dict[str, Any]
) -> None:
    assert state_of(announced("hypervisor-1", data=data))["configurations"] == shown


@pytest.mark.parametrize(
    ("agent", "age", "reported"),
    [
        (announced("one"), None, True),
        (announced("one"), 11.0, True),
        (announced("one"), 9.0, False),
        (announced("one", alive=False), None, False),
        (announced("one", alive=False), 11.0, False),
        (announced("o" * 256), None, False),
        (announced("hyperviseur-é"), None, False),
        (announced("one\0"), None, False),
    ],
    ids=["new", "due", "just reported", "dead", "dead and known", "long", "not ASCII", "control"],
)
def test_agents_that_are_alive_are_reported_unless_just_now(
    agent: Announced, age: float | None, *, reported: bool
) -> None:
    heartbeats = {} if age is None else {agent.name: NOW - timedelta(seconds=age)}
    assert bool(due([agent], heartbeats, NOW, INTERVAL)) is reported


class DatabaseGone(Exception):
    pass


class Agents:
    """Neutron's agents; fails as often as the test wants."""

    def __init__(self) -> None:
        self.reported: list[str] = []
        self.failures = 0

    def heartbeats(self) -> Mapping[str, datetime]:
        return {}

    def heartbeat(self, state: dict[str, Any]) -> None:
        if self.failures:
            self.failures -= 1
            raise DatabaseGone("the database is away")
        self.reported.append(state["host"])


Start = Callable[..., Agents]


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    started: list[AgentReporter] = []

    def make(down_time: float = 3600, failures: int = 0) -> Agents:
        agents = Agents()
        agents.failures = failures
        reporter = AgentReporter(lambda: open_store(url), agents, down_time, (DatabaseGone,))
        started.append(reporter)
        reporter.start()
        return agents

    yield make
    for reporter in started:
        reporter.stop()
        reporter.wait()


def announce(store: Store, host: str) -> Any:
    announcement = store.announce(agent_path(host), json.dumps(DOCUMENT).encode())
    wait_for(lambda: store.announced_at(agent_path(host)), "the announcement")
    return announcement


def test_agents_are_reported_as_long_as_they_are_alive(start: Start, store: Store) -> None:
    dying, living = announce(store, "dying"), announce(store, "living")
    agents = start(down_time=0.06)
    wait_for(lambda: agents.reported.count("dying") > 1, "an agent to be reported again")
    dying.close()
    wait_for(lambda: agents.reported[-3:] == ["living"] * 3, "the living alone to be reported")
    living.close()


def test_a_failure_of_the_database_is_logged_once_and_tried_again(
    start: Start, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(repeated, "RETRY_DELAY", 0.01)
    announcement = announce(store, "hypervisor-1")
    with caplog.at_level(logging.WARNING):
        agents = start(failures=2)
        wait_for(lambda: agents.reported == ["hypervisor-1"], "the report after the failures")
    assert caplog.text.count("cannot report agents to Neutron: the database is away") == 1
    announcement.close()
