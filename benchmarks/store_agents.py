"""The simulated agents of `benchmarks.store`: many in one process, each with a session of its own.

Each has what an agent has of the store: a session, a follower of its ports, followers of the three
documents of its configuration, and an announcement. Processes are started by `AgentProcess`.
"""

import importlib
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from uuid import UUID

from lab.rig.process import wait_for
from lab.rig.usage import Usage
from ovs_metadata.store import open_store
from ovs_metadata.store.interface import PortState
from ovs_metadata.store.layout import (
    agent_path,
    config_assignment_path,
    config_node_path,
    config_template_path,
)
from ovs_metadata.store.record import PortRecord
from ovs_metadata.store.store import Store

PATIENCE = 300.0
"""Seconds all agents may take to know all their ports."""


def record(number: int, revision: int = 1) -> PortRecord:
    """The record of the deployment's port of that number; shards are filled evenly."""
    return PortRecord(
        port_id=str(UUID(int=(number % 256 << 120) + (number << 32) + 0xA9FE)),
        project_id=UUID(int=number % 1000).hex,
        device_id=str(UUID(int=number + 1)),
        device_owner="compute:nova",
        mac_address=f"fa:16:{number >> 24 & 255:02x}:{number >> 16 & 255:02x}:"
        f"{number >> 8 & 255:02x}:{number & 255:02x}",
        fixed_ips=(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",),
        network_id=str(UUID(int=number % 1000)),
        revision_number=revision,
    )


class CachedNode(dict[tuple[str, int], float]):
    """When each revision of a port arrived, by CLOCK_MONOTONIC, which all processes share."""

    def __call__(self, port_id: str, state: PortState) -> None:
        """Note the time of a record's arrival."""
        if isinstance(state, PortRecord):
            self[port_id, state.revision_number] = time.monotonic()


@dataclass(frozen=True)
class Started:
    """A process's agents know all their ports; memory of one of them in MiB."""

    seconds: float
    memory: float


class AgentProcess:
    """A process with agents; `ports` are the numbers of each one's ports."""

    def __init__(self, url: str, name: str, ports: Sequence[range]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(theirs, url, name, ports), daemon=True)
        self._process.start()
        theirs.close()

    def started(self) -> Started:
        """Wait until its agents know all their ports."""
        started: Started = self._pipe.recv()
        return started

    def known(self) -> dict[tuple[str, int], float]:
        """When each revision of a port arrived."""
        self._pipe.send("known")
        known: dict[tuple[str, int], float] = self._pipe.recv()
        return known

    def kill(self) -> None:
        """End it."""
        self._process.kill()
        self._process.join()


def _run(pipe: Connection, url: str, name: str, ports: Sequence[range]) -> None:
    # What is imported once is not an agent's.
    importlib.import_module("ovs_metadata.store.zookeeper.nodes")
    before = Usage.of(multiprocessing.current_process().pid or 0)
    start = time.monotonic()
    known = CachedNode()
    stores = [_agent(url, f"{name}-{number}", each, known) for number, each in enumerate(ports)]
    expected = sum(len(each) for each in ports)
    wait_for(lambda: len(known) >= expected, "all agents to know all their ports", PATIENCE)
    after = Usage.of(multiprocessing.current_process().pid or 0)
    seconds = time.monotonic() - start
    memory = (after.rss - before.rss) / len(stores)
    pipe.send(Started(seconds, memory))
    while pipe.recv() == "known":
        pipe.send(dict(known))


def _agent(url: str, host: str, ports: range, known: CachedNode) -> Store:
    store = open_store(url, wait=None)
    for path in (
        config_template_path("default"),
        config_node_path(host),
        config_assignment_path(host),
    ):
        store.follow_document(path, lambda _: None)
    store.announce(agent_path(host), b'{"version": "benchmark", "ports_served": 50}')
    store.follow(known).set_ports([record(number).port_id for number in ports])
    return store
