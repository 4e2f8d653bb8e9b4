"""Shows the agents in Neutron's list of agents, by what they announce in the store.

An agent that is alive is reported to Neutron as if it had sent a heartbeat itself; of one that is
not, Neutron misses the heartbeats. Each server that has a reporter reports, at other moments; it
leaves out the agents that another one has just reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

from ovs_metadata.publisher.repeated import Repeated
from ovs_metadata.store import layout
from ovs_metadata.store.interface import Announced
from ovs_metadata.store.record import MAX_DOCUMENT
from ovs_metadata.store.store import Store
from ovs_metadata.untrusted import UnreadableJson, parse_json

AGENT_TYPE = "OVS metadata agent"
BINARY = "ovs-metadata-agent"

MAX_HOST = 255
"""Characters of a host that Neutron's database takes."""

MAX_TEXT = 60
"""Characters of a text among the configurations, of which Neutron's database takes 4095."""

HEARTBEATS = 3
"""Heartbeats within the time after which Neutron takes an agent for dead."""


class NeutronAgents(Protocol):
    """Neutron's agents: what a core plugin knows of them."""

    def heartbeats(self) -> Mapping[str, datetime]:
        """The last heartbeat of each agent of our type, by host, in UTC without a zone."""

    def heartbeat(self, state: dict[str, Any]) -> None:
        """Take an agent's heartbeat, with its state."""


def state_of(announced: Announced) -> dict[str, Any]:
    """What Neutron is to know of an agent."""
    try:
        found = parse_json(announced.data, MAX_DOCUMENT)
    except UnreadableJson:
        found = None
    document = found if isinstance(found, dict) else {}
    shown: dict[str, Any] = {
        name: value[:MAX_TEXT]
        for name in ("version", "bridge")
        if isinstance(value := document.get(name), str)
    }
    for name, kind in (("enabled", bool), ("ports_served", int)):
        if type(document.get(name)) is kind:
            shown[name] = document[name]
    return {
        "agent_type": AGENT_TYPE,
        "binary": BINARY,
        "host": announced.name,
        "topic": "N/A",
        "configurations": shown,
    }


def due(
    announced: list[Announced], heartbeats: Mapping[str, datetime], now: datetime, interval: float
) -> list[dict[str, Any]]:
    """The states of the agents that are alive and have no recent heartbeat."""
    recent = now - timedelta(seconds=interval / 2)
    return [
        state_of(each)
        for each in announced
        if each.alive
        and _is_host(each.name)
        and not (each.name in heartbeats and heartbeats[each.name] > recent)
    ]


def _is_host(name: str) -> bool:
    """Whether every database of Neutron takes the name; one that is refused would end the turn."""
    return len(name) <= MAX_HOST and name.isascii() and name.isprintable()


class AgentReporter(Repeated):
    """Reports from `start` to `stop`.

    Args:
        open_store: opens the store, in the thread; it need not wait for a connection.
        neutron: Neutron's agents.
        down_time: seconds without a heartbeat after which Neutron takes an agent for dead.
        failures: what `neutron` raises when Neutron's database is away; tried again.
    """

    def __init__(
        self,
        open_store: Callable[[], Store],
        neutron: NeutronAgents,
        down_time: float,
        failures: tuple[type[Exception], ...] = (),
    ) -> None:
        super().__init__("report agents to Neutron", open_store, down_time / HEARTBEATS, failures)
        self._neutron = neutron

    def turn(self, store: Store) -> bool:
        """Report the agents that are alive."""
        announced = store.announced(layout.AGENTS)
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        for state in due(announced, self._neutron.heartbeats(), now, self.interval):
            if self.stopping.is_set():
                break
            self._neutron.heartbeat(state)
        return True
