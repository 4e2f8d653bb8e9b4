"""Ending, killing and restarting, while guests ask without end: whose requests are lost.

The figures that a test logs, `pytest --log-cli-level=INFO` shows.
"""

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory

from lab.load.steady_load import REQUEST, Load, Summary
from lab.rig.guest import Guest
from lab.rig.guest_client import ANY_IPV4, accepted, begin
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, stopped_process, wait_for
from lab.rig.service_manager import ServiceManager

LOG = logging.getLogger(__name__)

CLIENTS = 4
WORKERS = 2
PATIENCE = 60.0
"""Seconds a restart may take on a machine that is busy with other things."""
WORKER = "ovs_metadata.proxy.main"


class Service:
    """The agent of a hypervisor, as a service of a service manager."""

    def __init__(self, hypervisor: Hypervisor, manager: ServiceManager) -> None:
        self._hypervisor = hypervisor
        self._manager = manager

    def start(self) -> Process:
        """Start it, and do not wait."""
        agent = self._manager.start(
            self._hypervisor.command("agent"),
            self._hypervisor.root / "agent.log",
            self._hypervisor.namespace,
        )
        self._hypervisor.processes["agent"] = agent
        return agent

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """End it as the signal does, and wait for that; returns its status."""
        agent = self._hypervisor.processes["agent"]
        agent.kill(signum)
        return agent.wait(PATIENCE)


@pytest.fixture
def service(lab_hypervisor: Factory) -> Iterator[tuple[Service, Hypervisor, list[Guest]]]:
    """A hypervisor with two guests that are served, and its agent as a service."""
    hypervisor = lab_hypervisor()
    hypervisor.start()
    hypervisor.configure(proxy={"workers": WORKERS})
    hypervisor.start_metadata_service()
    with ServiceManager(hypervisor.root) as manager:
        service = Service(hypervisor, manager)
        service.start()
        hypervisor.wait_until_serving()
        guests = [
            hypervisor.add_guest(f"guest{number}", mac=f"fa:16:3e:00:00:0{number}")
            for number in (1, 2)
        ]
        for guest in guests:
            hypervisor.wait_until_served(guest)
            assert guest.identity() == guest.instance_id
        wait_for(lambda: len(manager.stored) == WORKERS * 2, "the sockets to be stored")
        yield service, hypervisor, guests


@contextlib.contextmanager
def load(hypervisor: Hypervisor, guests: list[Guest]) -> Iterator[list[Summary]]:
    """Have the guests ask; on leaving, what became of that is in the list."""
    running: list[Load] = []
    begun = time.monotonic()
    summaries: list[Summary] = []
    try:
        for guest in guests:
            running.append(Load(guest, hypervisor.root, CLIENTS))
        yield summaries
    finally:
        summaries += [each.stop() for each in running]
    for summary in summaries:
        LOG.info("%s", summary)
        assert summary.strangers == 0
        # A load that hardly asks shows nothing. Each client waits while there is no agent.
        assert summary.answered > CLIENTS * (time.monotonic() - begun) / 2


def connected(guest: Guest) -> socket.socket:
    """A connection of the guest to the service address."""
    connection = begin(guest, ANY_IPV4)
    assert accepted([connection], 10) == [connection]
    connection.settimeout(PATIENCE)
    return connection


def assert_answered(connection: socket.socket) -> None:
    """Read the whole answer, which must be Nova's."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer


def test_restarting_the_agent_under_load_fails_no_request(
    service: tuple[Service, Hypervisor, list[Guest]],
) -> None:
    agent, hypervisor, guests = service
    ended, served = [], []
    with load(hypervisor, guests) as summaries:
        for _ in range(3):
            begun = time.monotonic()
            assert agent.end() == 0
            ended.append(f"{time.monotonic() - begun:.1f}")
            agent.start()
            for guest in guests:  # each has its own worker
                assert guest.curl("/latest/", timeout=PATIENCE)[0] == 200
            served.append(f"{time.monotonic() - begun:.1f}")
    longest = max(summary.longest for summary in summaries)
    LOG.info(
        "the agent had ended after %s s, both guests were served after %s s; the longest request "
        "took %.1f s",
        *(", ".join(ended), ", ".join(served), longest),
    )
    assert [summary.failed for summary in summaries] == [0, 0]
    assert "listening sockets of the previous run" in (hypervisor.root / "agent.log").read_text()


def test_a_connection_begun_while_there_is_no_agent_is_answered_by_the_next(
    service: tuple[Service, Hypervisor, list[Guest]],
) -> None:
    agent, _, guests = service
    assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    with connected(guests[0]) as connection:
        connection.sendall(REQUEST)
        agent.start()
        assert_answered(connection)


def test_with_another_number_of_workers_new_sockets_are_opened(
    service: tuple[Service, Hypervisor, list[Guest]],
) -> None:
    agent, hypervisor, guests = service
    assert agent.end() == 0
    hypervisor.configure(proxy={"workers": 1})
    agent.start()
    wait_for(lambda: guests[0].identity() == guests[0].instance_id, "an answer", PATIENCE)
    log = (hypervisor.root / "agent.log").read_text()
    assert "they do not fit this one" in log
    # Every connection gets to the one worker, none to a socket without a reader.
    for _ in range(8):
        assert guests[0].identity("--max-time", "2") == guests[0].instance_id


def test_killing_a_worker_under_load_costs_its_own_requests_at_most(
    service: tuple[Service, Hypervisor, list[Guest]],
) -> None:
    _, hypervisor, guests = service
    with load(hypervisor, guests) as summaries:
        for _ in range(2):
            worker = hypervisor.children()[WORKER]
            os.kill(worker, signal.SIGKILL)
            wait_for(
                lambda worker=worker: hypervisor.children().get(WORKER, worker) != worker,  # type: ignore[misc]
                "the next worker",
            )
            for guest in guests:
                wait_for(lambda guest=guest: guest.identity(), "an answer")  # type: ignore[misc]
    # No client has more than one request in flight.
    assert sum(summary.failed for summary in summaries) <= 2 * CLIENTS * len(guests)
    for summary in summaries:
        assert set(summary.statuses) <= {"200", "ConnectionResetError", "no whole answer"}


def test_a_request_in_flight_is_answered_before_the_agent_ends(
    service: tuple[Service, Hypervisor, list[Guest]],
) -> None:
    _, hypervisor, guests = service
    service_process = hypervisor.processes["metadata-service"]
    with connected(guests[0]) as connection:
        # Nova takes its time: it answers nothing before it continues.
        with stopped_process(service_process.pid):
            connection.sendall(REQUEST)
            wait_for(lambda: _asking(hypervisor), "the request to be on its way")
            hypervisor.processes["agent"].kill(signal.SIGTERM)
            log = hypervisor.root / "agent.log"
            wait_for(lambda: "stopping; open connections: 1" in log.read_text(), "the worker's end")
        assert_answered(connection)
    assert hypervisor.processes["agent"].wait(PATIENCE) == 0


def _asking(hypervisor: Hypervisor) -> bool:
    """Whether a connection to the metadata service holds bytes that it has not read."""
    table = Path(f"/proc/{hypervisor.processes['metadata-service'].pid}/net/tcp").read_text()
    lines = [line.split() for line in table.splitlines()[1:]]
    # Local address 127.0.0.1:8775, state ESTABLISHED, receive queue.
    return any(
        line[1] == "0100007F:2247" and line[3] == "01" and int(line[4].split(":")[1], 16)
        for line in lines
    )
