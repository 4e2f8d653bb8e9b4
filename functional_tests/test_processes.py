"""The agent's processes: unread logs, signals, and one of them that hangs."""

import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypervisor_fixtures import Factory

from lab.rig.guest import Guest
from lab.rig.hypervisor import Hypervisor
from lab.rig.process import Process, run, stopped_process, wait_for
from lab.stand_ins import echo_service
from ovs_metadata.signals import IGNORED

pytestmark = pytest.mark.timeout(120)


EXPECTED = (
    b"\nproxy worker 0: time=",  # the access log
    b" cause=no_endpoint\n",
    b" WARNING ovs_metadata.proxy.",
    b"flows sent, 0 deletions\n",
)
"""Log lines while no process reads them."""


def _echo(hypervisor: Hypervisor) -> Process:
    """A service that answers with the request's headers, where Nova should be."""
    service = hypervisor.spawn(
        "echo",
        *(sys.executable, "-m", "lab.stand_ins.echo_service", "127.0.0.1", "8775"),
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


def test_no_process_waits_for_the_reader_of_the_log(lab_hypervisor: Factory) -> None:
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
        output = _read_all(reader)

        def what_waited_is_logged() -> bool:
            nonlocal output
            output += _read_all(reader)
            return all(line in output for line in EXPECTED)

        wait_for(what_waited_is_logged, "what was logged meanwhile")
    os.close(reader)
    os.close(log)


def test_signals_that_other_daemons_take_end_no_process(serving: tuple[Hypervisor, Guest]) -> None:
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


CONTROLLER, WORKER = "ovs_metadata.flows.launcher", "ovs_metadata.proxy.main"

NAMES = {CONTROLLER: "flow controller", WORKER: "proxy worker 0"}

NOTICED_WITHIN, REPLACED_WITHIN = 10, 30
"""Seconds after a child was stopped."""


def _ask(hypervisor: Hypervisor, path: str) -> str:
    """What the admin listener answers; nothing if it does not."""
    url = f"http://127.0.0.1:9775{path}"
    command = ("ip", "netns", "exec", hypervisor.namespace, "curl", "--silent", "--max-time", "5")
    return run(*command, url, check=False)


def _problems(hypervisor: Hypervisor) -> list[str]:
    answer = json.loads(_ask(hypervisor, "/healthz/ready"))
    assert answer["ready"] is (answer["problems"] == [])
    return [str(problem) for problem in answer["problems"]]


def _status(hypervisor: Hypervisor) -> str:
    command = (Path(sys.executable).parent / "ovs-metadata", "--config", hypervisor.config)
    network = f"--net=/run/netns/{hypervisor.namespace}"
    return run("nsenter", network, *command, "status", check=False)


SPIN = signal.SIGRTMIN

SPINNING = """
import signal

def spin(*_):
    while True:
        pass

signal.signal(signal.SIGRTMIN, spin)
"""
"""What Python runs first in each process here: a signal has the main thread compute for ever."""


@pytest.fixture
def can_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is started from now on spin at SPIN. Agents hand PYTHONPATH on to their workers."""
    (tmp_path / "sitecustomize.py").write_text(SPINNING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.usefixtures("can_spin")
@pytest.mark.parametrize("number", [signal.SIGSTOP, SPIN], ids=["stopped", "spinning"])
@pytest.mark.alone
def test_children_that_hang_are_noticed_and_replaced(
    number: signal.Signals, serving: tuple[Hypervisor, Guest]
) -> None:
    hypervisor, guest = serving
    wait_for(lambda: _problems(hypervisor) == [], "the host to be ready")
    hanging = {module: hypervisor.children()[module] for module in (CONTROLLER, WORKER)}
    for child in hanging.values():
        os.kill(child, number)
    stopped = time.monotonic()
    expected = {f"{NAMES[module]}, pid {child}, hangs" for module, child in hanging.items()}
    wait_for(
        lambda: expected <= set(_problems(hypervisor)), "the agent to notice both", NOTICED_WITHIN
    )
    status = _status(hypervisor)
    assert [each for each in expected if each not in status] == []
    left = stopped + REPLACED_WITHIN - time.monotonic()
    wait_for(
        lambda: all(
            hypervisor.children().get(module, child) != child for module, child in hanging.items()
        ),
        "others in their places",
        left,
    )
    wait_for(lambda: _problems(hypervisor) == [], "the host to be ready", 30)
    assert guest.curl("/")[0] == 200
    counted = _ask(hypervisor, "/metrics").splitlines()
    for module in hanging:
        process = NAMES[module].split("proxy ")[-1].rstrip(" 0").replace(" ", "_")
        name = f'ovs_metadata_children_stood_still_total{{process="{process}"}}'
        assert f"{name} 1.0" in counted


MANY_LINES = 60
"""Each failure is logged when it begins, and not again while it lasts."""


def test_an_agent_without_file_descriptors_logs_that_and_recovers(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    agent, worker = hypervisor.processes["agent"], hypervisor.children()[WORKER]
    wait_for(lambda: _problems(hypervisor) == [], "the host to be ready")
    limits = resource.prlimit(agent.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        os.kill(worker, signal.SIGKILL)  # another one needs pipes
        hypervisor.store.delete(guest.port_id)  # the store's file has to be read
        wait_for(lambda: "open files" in agent.log.read_text(), "the agent's line")
        wait_for(lambda: WORKER not in hypervisor.children(), "the worker to end")
    finally:
        resource.prlimit(agent.pid, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: _problems(hypervisor) == [], "the host to be ready", 30)
    ports = {"served": 0, "pending": 1, "refused": 0}
    wait_for(lambda: json.loads(_ask(hypervisor, "/status"))["ports"] == ports, "it to be read")
    hypervisor.put(guest)
    hypervisor.wait_until_served(guest)
    assert agent.log.read_text().count("open files") < MANY_LINES


def test_workers_say_that_their_agent_stood_still_and_outlive_it(
    serving: tuple[Hypervisor, Guest],
) -> None:
    hypervisor, guest = serving
    agent, children = hypervisor.processes["agent"], hypervisor.children()
    worker = children[WORKER]
    guest.curl("/last")
    wait_for(lambda: 'path="/last"' in agent.log.read_text(), "all to be read that is logged")
    with stopped_process(agent.pid):
        # The agent reads it when it goes on.
        wait_for(lambda: _has_logged(worker), "the worker's line", 15)
    wait_for(lambda: "no heartbeat of the agent" in agent.log.read_text(), "the warning")
    wait_for(lambda: "the agent's heartbeat is back" in agent.log.read_text(), "its end")
    counted = re.compile(r"^ovs_metadata_agent_silent_seconds_total [1-9]", re.MULTILINE)
    wait_for(lambda: counted.search(_ask(hypervisor, "/metrics")), "the metric")
    assert guest.curl("/")[0] == 200
    assert hypervisor.children() == children


def _has_logged(pid: int) -> bool:
    """Whether anything in a process's standard error has not been read yet."""
    waiting = bytearray(4)
    with open(f"/proc/{pid}/fd/2", "rb", buffering=0, opener=_without_waiting) as pipe:
        fcntl.ioctl(pipe, termios.FIONREAD, waiting)
    return int.from_bytes(waiting, sys.byteorder) > 0


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
