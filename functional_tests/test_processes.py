"""The agent's processes when nobody reads their log, and when they get signals."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory

from lab import echo_service
from lab.guest import Guest
from lab.hypervisor import Hypervisor
from lab.process import Process, wait_for
from ovs_metadata.signals import IGNORED

pytestmark = pytest.mark.timeout(120)


EXPECTED = (
    b"\nproxy worker 0: time=",  # the access log
    b" cause=no_endpoint\n",
    b" WARNING ovs_metadata.proxy.",
    b"flows added, 0 deleted\n",
)
"""What is logged while nobody reads it."""


def _echo(hypervisor: Hypervisor) -> Process:
    """A service that answers with the request's headers, where Nova should be."""
    service = hypervisor.spawn(
        "echo",
        *(sys.executable, "-m", "lab.echo_service", "127.0.0.1", "8775"),
        PYTHONPATH=str(Path(__file__).parents[1] / "tools"),
    )
    wait_for(lambda: echo_service.READY in service.log.read_text(), "the echo service")
    return service


@contextlib.contextmanager
def _agent_with_log(hypervisor: Hypervisor, log: int) -> Iterator[int]:
    """The agent, with this descriptor as its standard error; its pid."""
    command = map(str, hypervisor.command("agent"))
    agent = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{hypervisor.namespace}", *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        hypervisor.wait_until_serving(60)
        yield agent.pid
    finally:
        agent.terminate()
        try:
            agent.wait(15)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()


def _fill(pipe: int) -> None:
    """Leave no room in a pipe, by a description of our own: the agent's may block."""
    own = os.open(f"/proc/self/fd/{pipe}", os.O_WRONLY | os.O_NONBLOCK)
    for size in (65536, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(own, b"." * size)
    os.close(own)


def _read_all(pipe: int) -> bytes:
    os.set_blocking(pipe, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(pipe, 1 << 20):
            data += chunk
    return data


def test_nobody_waits_for_whoever_reads_the_log(lab_hypervisor: Factory) -> None:
    hypervisor = lab_hypervisor()
    hypervisor.start()
    echo = _echo(hypervisor)
    reader, log = os.pipe()
    with _agent_with_log(hypervisor, log):
        guest = hypervisor.add_guest("guest")
        hypervisor.wait_until_served(guest)
        assert guest.curl("/")[0] == 200
        _fill(log)
        echo.stop()
        assert guest.curl("/", timeout=7.0)[0] == 503  # which a worker logs
        echo = _echo(hypervisor)
        wait_for(lambda: guest.curl("/", timeout=5.0)[0] == 200, "an answer", 20)
        for number in (6, 7):  # the flow controller logs that it adds flows
            mac, address = f"fa:16:3e:00:00:0{number}", f"10.0.0.{number}/24"
            hypervisor.wait_until_served(
                hypervisor.add_guest(f"late{number}", mac=mac, address=address)
            )
        said = _read_all(reader)

        def what_waited_is_logged() -> bool:
            nonlocal said
            said += _read_all(reader)
            return all(line in said for line in EXPECTED)

        wait_for(what_waited_is_logged, "what was logged meanwhile")
    os.close(reader)
    os.close(log)


def test_signals_that_other_daemons_take_end_nobody(serving: tuple[Hypervisor, Guest]) -> None:
    hypervisor, guest = serving
    agent, children = hypervisor.processes["agent"], hypervisor.children()
    assert len(children) == 2
    for number in IGNORED:
        for pid in (*children.values(), agent.pid):
            os.kill(pid, number)
    wait_for(lambda: "SIGHUP: reading" in agent.log.read_text(), "the agent to say what it does")
    assert guest.curl("/")[0] == 200
    assert agent.alive()
    assert hypervisor.children() == children
